//! Serving one bulk stream: requests come in, the engine answers each, what it grants is read, proved and sent in order.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2pweights_protocol::engine::{Command, Input, ServeOutcome};
use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::{BlobHash, PeerId, RequestId};
use p2pweights_protocol::limits;
use p2pweights_protocol::wire::{BULK_REQUEST_BYTES, BulkRequest, BulkResponse, BulkStatus};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::buffers::{self, BlockingWriter, Marked, Pool};
use super::outlet::SocketOutlet;
use super::{Bonds, Cap, Fact, Facts, locked};
use crate::net::{BulkIo, BulkStream, Carrier, Sealed};
use crate::store::{BlobReader, ReadError, Store, StoreError};
use crate::tally::Tally;

/// How long a peer may let a filled buffer lie before it counts as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Answers that may wait for their turn on one stream: as many as there may be requests, refusals included.
const ORDERS: usize = 2 * limits::REQUESTS_PER_PEER;

/// Tells the streams of one peer apart.
type StreamId = u64;

/// The stream on which a request waits for its answer.
type Answerer = (StreamId, mpsc::WeakSender<Order>);

/// Where a thread writes answers to.
trait Outlet: Write {
    /// Nothing more belongs to this span. Gives it back if its last byte has gone by now; else somebody else says so in time.
    fn end(&mut self, span: SpanEnd) -> io::Result<Option<SpanEnd>>;
}

impl Outlet for BlockingWriter<SpanEnd> {
    fn end(&mut self, span: SpanEnd) -> io::Result<Option<SpanEnd>> {
        self.hand_over(Some(span)).map(|()| None)
    }
}

impl Outlet for SocketOutlet {
    fn end(&mut self, span: SpanEnd) -> io::Result<Option<SpanEnd>> {
        self.flush().map(|()| Some(span))
    }
}

/// The end of a span on its way out.
#[derive(Debug, Clone, Copy)]
struct SpanEnd {
    request: RequestId,
    bytes: u64,
}

/// The engine's answer to a request.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// Send the span.
    Serve {
        /// The peer's name for the request.
        request: RequestId,
        /// The blob.
        blob: BlobHash,
        /// The groups.
        span: Span,
    },
    /// Say no.
    Refuse {
        /// The peer's name for the request.
        request: RequestId,
        /// For want of a credit, or because it is not held.
        no_credit: bool,
    },
}

/// Requests that wait for the engine's answer, and where it is to go; what has been cancelled; what has been sent.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Weak, so that a stream which ends does not wait for answers that never come.
    streams: Mutex<BTreeMap<(PeerId, RequestId), Answerer>>,
    cancelled: Mutex<BTreeSet<(PeerId, RequestId)>>,
    serving: Mutex<BTreeMap<(PeerId, RequestId), StreamId>>,
    sent: Mutex<Tally>,
    next_stream: AtomicU64,
}

impl Waiting {
    /// Passes the engine's answer on to the stream on which the request came; `false` if that is gone.
    pub fn order(&self, peer: PeerId, request: RequestId, order: Order) -> bool {
        let Some((id, stream)) = locked(&self.streams).remove(&(peer, request)) else { return false };
        let Some(stream) = stream.upgrade() else { return false };
        if let Order::Serve { .. } = order {
            locked(&self.serving).insert((peer, request), id);
        }
        let sent = stream.try_send(order).is_ok();
        // If the stream ended in between, it may have reported the request already: then the entry is gone.
        sent || matches!(order, Order::Serve { .. }) && locked(&self.serving).remove(&(peer, request)).is_none()
    }

    /// The peer no longer needs an answer.
    pub fn cancel(&self, peer: PeerId, request: RequestId) {
        // Only what is being served can be cancelled, so this cannot grow.
        if locked(&self.serving).contains_key(&(peer, request)) {
            locked(&self.cancelled).insert((peer, request));
        }
    }

    /// Bytes sent to peers.
    pub fn sent(&self) -> Tally {
        locked(&self.sent).clone()
    }

    fn ended(&self, peer: PeerId, request: RequestId, bytes: u64) {
        locked(&self.serving).remove(&(peer, request));
        locked(&self.cancelled).remove(&(peer, request));
        locked(&self.sent).count(peer, bytes);
    }

    fn unserved(&self, stream: StreamId) -> Vec<RequestId> {
        locked(&self.serving).iter().filter(|(_, on)| **on == stream).map(|((_, request), _)| *request).collect()
    }
}

/// Serves a stream until it ends.
pub fn start(peer: PeerId, stream: BulkStream, store: Store, waiting: Arc<Waiting>, bonds: Bonds) {
    let Bonds { facts, cap, tasks, stop, .. } = bonds;
    let id = waiting.next_stream.fetch_add(1, Ordering::Relaxed);
    let server = Arc::new(Server { peer, id, store, waiting, facts });
    let tracker = tasks.clone();
    tasks.spawn(async move {
        let (carrier, _permit) = stream.into_parts();
        let encoding = match carrier {
            Carrier::Sealed(sealed) => Arc::clone(&server).exchange_directly(*sealed, cap, stop, &tracker).await,
            Carrier::Other(stream) => Arc::clone(&server).exchange_by_task(stream, cap, stop, &tracker).await,
        };
        // Both ends of the encoder's channels are gone, so it comes to its end.
        if let Some(encoding) = encoding {
            let _ = encoding.await;
        }
        server.end_all().await;
    });
}

struct Server {
    peer: PeerId,
    id: StreamId,
    store: Store,
    waiting: Arc<Waiting>,
    facts: Facts,
}

impl Server {
    /// One thread does everything that is done to payload, from the disk to the socket.
    async fn exchange_directly(
        self: Arc<Self>,
        sealed: Sealed,
        cap: Cap,
        stop: CancellationToken,
        tasks: &TaskTracker,
    ) -> Option<JoinHandle<()>> {
        let _closer = sealed.closer().ok()?;
        let Sealed { reader, writer } = sealed;
        let (orders, queue) = mpsc::channel(ORDERS);
        let encoder = Arc::clone(&self);
        let out = SocketOutlet::new(writer.blocking(), cap, stop.clone(), WRITE_TIMEOUT);
        let mut encoding = tasks.spawn_blocking(move || encoder.encode(queue, out));
        tokio::select! {
            () = self.read_requests(reader, orders) => (),
            _ = &mut encoding => return None,
            () = stop.cancelled() => (),
        }
        Some(encoding)
    }

    /// A task moves buffers from a thread to the stream.
    async fn exchange_by_task(
        self: Arc<Self>,
        stream: Box<dyn BulkIo>,
        cap: Cap,
        stop: CancellationToken,
        tasks: &TaskTracker,
    ) -> Option<JoinHandle<()>> {
        let (reader, writer) = tokio::io::split(stream);
        let pool = Pool::default();
        let (filled, buffers) = buffers::channel();
        let (orders, queue) = mpsc::channel(ORDERS);
        let encoder = Arc::clone(&self);
        let out = BlockingWriter::new(filled, pool.clone());
        let mut encoding = tasks.spawn_blocking(move || encoder.encode(queue, out));
        tokio::select! {
            () = self.read_requests(reader, orders) => (),
            () = self.write_answers(writer, buffers, pool, cap) => (),
            _ = &mut encoding => return None,
            () = stop.cancelled() => (),
        }
        Some(encoding)
    }

    async fn read_requests(&self, mut reader: impl AsyncRead + Unpin, orders: mpsc::Sender<Order>) {
        let peer = self.peer;
        let mut header = [0; BULK_REQUEST_BYTES];
        while reader.read_exact(&mut header).await.is_ok() {
            let input = match BulkRequest::decode(&header) {
                Ok(BulkRequest { request, blob, size, span }) => {
                    let taken = locked(&self.waiting.streams).insert((peer, request), (self.id, orders.downgrade())).is_some();
                    if taken || orders.capacity() == 0 {
                        warn!(peer = %peer, "requests beyond every limit");
                        Input::Malformed { peer }
                    } else {
                        Input::Requested { peer, request, blob, size, span }
                    }
                }
                Err(error) => {
                    warn!(peer = %peer, %error, "bad request");
                    Input::Malformed { peer }
                }
            };
            let bad = matches!(input, Input::Malformed { .. });
            if self.facts.send(Fact::Engine(input)).await.is_err() || bad {
                return;
            }
        }
    }

    /// Reads and proves what was ordered, one after the other.
    fn encode(&self, mut orders: mpsc::Receiver<Order>, mut out: impl Outlet) {
        let mut last: Option<BlobReader> = None;
        while let Some(order) = orders.blocking_recv() {
            let (request, status) = match order {
                Order::Refuse { request, no_credit: true } => (request, BulkStatus::NoCredit),
                Order::Refuse { request, no_credit: false } => (request, BulkStatus::NotHeld),
                Order::Serve { request, blob, span } => {
                    if locked(&self.waiting.cancelled).contains(&(self.peer, request)) {
                        self.not_sent(request, ServeOutcome::Cancelled);
                        (request, BulkStatus::Cancelled)
                    } else {
                        match self.reader(&mut last, blob) {
                            None => {
                                self.not_sent(request, ServeOutcome::Damaged);
                                (request, BulkStatus::NotHeld)
                            }
                            Some(reader) if self.serve(reader, request, span, &mut out) => continue,
                            Some(_) => return,
                        }
                    }
                }
            };
            let header = BulkResponse { request, status }.encode();
            if out.write_all(&header).and_then(|()| out.flush()).is_err() {
                return;
            }
        }
    }

    /// The reader of a blob, which is most often that of the last request; `None` if it cannot be read any more.
    fn reader<'a>(&self, last: &'a mut Option<BlobReader>, blob: BlobHash) -> Option<&'a BlobReader> {
        if last.as_ref().is_none_or(|reader| reader.hash() != blob) {
            match self.store.reader(blob) {
                Ok(reader) => *last = Some(reader),
                Err(error) => {
                    warn!(%blob, error = crate::failure::phrase(&error), "blob cannot be served any more");
                    if !matches!(error, StoreError::Io { .. }) {
                        self.tell(Input::Command(Command::Withdraw { blob }));
                    }
                    return None;
                }
            }
        }
        last.as_ref()
    }

    /// Sends one span; `false` if the stream is of no use any more.
    fn serve(&self, reader: &BlobReader, request: RequestId, span: Span, out: &mut impl Outlet) -> bool {
        let blob = reader.hash();
        let header = BulkResponse { request, status: BulkStatus::Data }.encode();
        let sent = out.write_all(&header).map_err(ReadError::Write).and_then(|()| {
            reader.encode_span(span, out)?;
            let bytes = Geometry::of(reader.geometry().size()).bytes_in(span);
            out.end(SpanEnd { request, bytes }).map_err(ReadError::Write)
        });
        match sent {
            Ok(Some(end)) => {
                self.waiting.ended(self.peer, end.request, end.bytes);
                self.tell(Input::ServeEnded { peer: self.peer, request: end.request, outcome: ServeOutcome::Sent });
                true
            }
            Ok(None) => true,
            Err(error) => {
                warn!(peer = %self.peer, %blob, ?span, error = crate::failure::phrase(&error), "span not served");
                let outcome = match error {
                    ReadError::Damaged { span } => {
                        // The store tells of what is lost.
                        match self.store.suspect(blob, span) {
                            Ok(()) => (),
                            Err(StoreError::Changed { .. }) => self.tell(Input::Command(Command::Withdraw { blob })),
                            Err(error) => {
                                warn!(%blob, error = crate::failure::phrase(&error), "damage could not be recorded");
                            }
                        }
                        ServeOutcome::Damaged
                    }
                    ReadError::Changed { .. } => {
                        self.tell(Input::Command(Command::Withdraw { blob }));
                        ServeOutcome::Damaged
                    }
                    ReadError::NotHeld { .. } | ReadError::Io(_) => ServeOutcome::Damaged,
                    ReadError::Write(_) => ServeOutcome::Lost,
                };
                self.not_sent(request, outcome);
                false
            }
        }
    }

    fn not_sent(&self, request: RequestId, outcome: ServeOutcome) {
        self.waiting.ended(self.peer, request, 0);
        self.tell(Input::ServeEnded { peer: self.peer, request, outcome });
    }

    fn tell(&self, input: Input) {
        // Fails only when the driver has gone.
        let _ = self.facts.blocking_send(Fact::Engine(input));
    }

    /// Moves buffers to the stream. A span has been sent once its last byte went into the stream, not when it was read: the engine would
    /// take an uplink for idle that has seconds of work before it, and promise more.
    async fn write_answers(
        &self,
        mut writer: WriteHalf<Box<dyn BulkIo>>,
        mut filled: mpsc::Receiver<Marked<SpanEnd>>,
        pool: Pool,
        cap: Cap,
    ) {
        while let Some((buffer, end)) = filled.recv().await {
            for turn in buffer.chunks(cap.turn_bytes()) {
                // Waiting for the cap is not the peer's fault, and not counted against it.
                cap.pass(turn.len()).await;
                let written = async {
                    writer.write_all(turn).await?;
                    if cap.is_set() || filled.is_empty() { writer.flush().await } else { Ok(()) }
                };
                match timeout(WRITE_TIMEOUT, written).await {
                    Ok(Ok(())) => (),
                    Ok(Err(error)) => return debug!(%error, "peer stopped reading"),
                    Err(_) => return debug!("peer does not read"),
                }
            }
            pool.give_back(buffer);
            if let Some(SpanEnd { request, bytes }) = end {
                self.waiting.ended(self.peer, request, bytes);
                let input = Input::ServeEnded { peer: self.peer, request, outcome: ServeOutcome::Sent };
                if self.facts.send(Fact::Engine(input)).await.is_err() {
                    return;
                }
            }
        }
    }

    /// The stream is over: what it left unserved has ended.
    async fn end_all(&self) {
        locked(&self.waiting.streams).retain(|_, (stream, _)| *stream != self.id);
        for request in self.waiting.unserved(self.id) {
            self.waiting.ended(self.peer, request, 0);
            let input = Input::ServeEnded { peer: self.peer, request, outcome: ServeOutcome::Lost };
            if self.facts.send(Fact::Engine(input)).await.is_err() {
                return;
            }
        }
    }
}
