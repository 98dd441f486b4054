//! Fetching from one provider: requests go out over one long-lived bulk stream, answers come back in whatever order, each proved as it
//! arrives and written where it belongs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use p2pweights_protocol::engine::{FetchOutcome, Input};
use p2pweights_protocol::geometry::Geometry;
use p2pweights_protocol::ids::{PeerId, RequestId};
use p2pweights_protocol::limits;
use p2pweights_protocol::verify::{DecodeError, Feed, SpanSink, decode_span};
use p2pweights_protocol::wire::{BULK_RESPONSE_BYTES, BulkRequest, BulkResponse, BulkStatus};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::buffers::{self, BUFFER_BYTES, BlockingReader, Filled, Pool};
use super::feed::SocketFeed;
use super::sync::{SyncHandle, store_failed};
use super::{Bonds, Fact, Writers, locked};
use crate::net::{BulkConnector, BulkIo, BulkStream, Carrier, Sealed};
use crate::store::{Receipt, ReceiveError, StoreError};

/// Time without a byte, while something is asked for, after which the stream is given up. The engine's deadlines are shorter; this one
/// only guards against a stream that hangs for good.
const SILENCE: Duration = Duration::from_secs(90);
/// Requests handed over and not yet written. The engine has at most so many open per peer, abandoned ones aside.
const QUEUE: usize = 4 * limits::REQUESTS_PER_PEER;

/// Bytes of a buffer that waits for a stream to say something.
const FIRST_BYTES: usize = 4096;

type Open = Arc<Mutex<BTreeMap<RequestId, (BulkRequest, bool)>>>;

/// One provider's stream.
#[derive(Debug)]
pub struct Receiver {
    requests: mpsc::Sender<BulkRequest>,
    open: Open,
    stop: CancellationToken,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Receiver {
    /// Opens the stream in the background, at that time.
    pub fn start(
        provider: PeerId,
        opens: Instant,
        connector: BulkConnector,
        writers: Arc<Writers>,
        syncer: SyncHandle,
        bonds: Bonds,
    ) -> Self {
        let (tasks, stop) = (bonds.tasks.clone(), bonds.stop.clone());
        let (requests, queue) = mpsc::channel(QUEUE);
        let open = Open::default();
        let receiver = Self { requests, open: Arc::clone(&open), stop: stop.clone() };
        let task = Task { provider, open, store_failed: AtomicBool::new(false), writers, syncer, bonds };
        let tracker = tasks.clone();
        tasks.spawn(async move { task.run(opens, connector, queue, stop, tracker).await });
        receiver
    }

    /// Whether requests can still be asked on it.
    pub fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Asks; `false` if the stream does not take it, and nothing will be reported.
    pub fn ask(&self, request: BulkRequest, probe: bool) -> bool {
        locked(&self.open).insert(request.request, (request, probe));
        let sent = self.requests.try_send(request).is_ok();
        // If the task ended in between, it may have reported the request already: then the entry is gone.
        sent || locked(&self.open).remove(&request.request).is_none()
    }
}

/// Keeps nothing: for proofs whose bytes are fetched again with the rest.
struct Nowhere;

impl SpanSink for Nowhere {
    fn parent(&mut self, _outboard_offset: u64, _pair: &[u8; 64]) -> std::io::Result<()> {
        Ok(())
    }

    fn leaf(&mut self, _offset: u64, _bytes: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

struct Task {
    provider: PeerId,
    open: Open,
    /// Our own store failed: the provider is not to blame for what is lost with the stream.
    store_failed: AtomicBool,
    writers: Arc<Writers>,
    syncer: SyncHandle,
    bonds: Bonds,
}

impl Task {
    async fn run(
        self,
        opens: Instant,
        connector: BulkConnector,
        mut queue: mpsc::Receiver<BulkRequest>,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) {
        let provider = self.provider;
        let opening = async {
            sleep_until(opens.into()).await;
            connector.open(provider).await
        };
        let stream = tokio::select! {
            stream = opening => stream,
            () = stop.cancelled() => return self.end_all(&mut queue).await,
        };
        match stream {
            Ok(stream) => self.exchange(stream, queue, stop, tasks).await,
            Err(error) => {
                debug!(peer = %provider, %error, "no bulk stream");
                self.end_all(&mut queue).await;
            }
        }
    }

    async fn exchange(
        self,
        stream: BulkStream,
        mut queue: mpsc::Receiver<BulkRequest>,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) {
        let task = Arc::new(self);
        let (carrier, _permit) = stream.into_parts();
        let decoding = match carrier {
            Carrier::Sealed(sealed) => Arc::clone(&task).exchange_directly(*sealed, &mut queue, stop, &tasks).await,
            Carrier::Other(stream) => Arc::clone(&task).exchange_by_task(stream, &mut queue, stop, &tasks).await,
        };
        // Its source is gone, so the decoder comes to its end; what it has begun it reports itself.
        if let Some(decoding) = decoding {
            let _ = decoding.await;
        }
        task.end_all(&mut queue).await;
    }

    /// One thread does everything that is done to payload, from the socket to the disk.
    async fn exchange_directly(
        self: Arc<Self>,
        sealed: Sealed,
        queue: &mut mpsc::Receiver<BulkRequest>,
        stop: CancellationToken,
        tasks: &TaskTracker,
    ) -> Option<JoinHandle<()>> {
        let _closer = sealed.closer().ok()?;
        let Sealed { reader, mut writer } = sealed;
        let open = Arc::clone(&self.open);
        let is_busy = move || !locked(&open).is_empty();
        let feed = SocketFeed::new(reader.blocking(), self.bonds.clone(), SILENCE, is_busy);
        let mut decoding = tasks.spawn_blocking(move || self.decode(feed));
        tokio::select! {
            () = write_requests(&mut writer, queue) => (),
            _ = &mut decoding => return None,
            () = stop.cancelled() => (),
        }
        Some(decoding)
    }

    /// A task moves buffers from the stream to a thread.
    async fn exchange_by_task(
        self: Arc<Self>,
        stream: Box<dyn BulkIo>,
        queue: &mut mpsc::Receiver<BulkRequest>,
        stop: CancellationToken,
        tasks: &TaskTracker,
    ) -> Option<JoinHandle<()>> {
        let (reader, mut writer) = tokio::io::split(stream);
        let pool = Pool::default();
        let (filled, buffers) = buffers::channel();
        let blocking = BlockingReader::new(buffers, pool.clone());
        let decoder = Arc::clone(&self);
        let mut decoding = tasks.spawn_blocking(move || decoder.decode(blocking));
        tokio::select! {
            () = write_requests(&mut writer, queue) => (),
            () = self.read_answers(reader, filled, pool) => (),
            _ = &mut decoding => return None,
            () = stop.cancelled() => (),
        }
        Some(decoding)
    }

    /// Moves bytes from the stream to the decoder, as many at a time as are there and may pass. What may not yet pass is not read, so that
    /// the sender learns of it.
    async fn read_answers(&self, mut reader: ReadHalf<Box<dyn BulkIo>>, filled: mpsc::Sender<Filled>, pool: Pool) {
        let most = self.bonds.cap.turn_bytes().min(BUFFER_BYTES);
        // A stream that is silent holds no more than this.
        let mut first = vec![0; most.min(FIRST_BYTES)];
        loop {
            let count = match timeout(SILENCE, reader.read(&mut first)).await {
                Ok(Ok(0)) => return,
                Ok(Ok(count)) => count,
                Ok(Err(error)) => return debug!(peer = %self.provider, %error, "bulk stream broke"),
                Err(_) if locked(&self.open).is_empty() => continue,
                Err(_) => return warn!(peer = %self.provider, "bulk stream silent for too long"),
            };
            let share = self.bonds.budget.take(2 * BUFFER_BYTES).await;
            let mut buffer = pool.take();
            buffer.extend_from_slice(&first[..count]);
            while buffer.len() < most {
                match (&mut reader).take((most - buffer.len()) as u64).read_buf(&mut buffer).now_or_never() {
                    Some(Ok(1..)) => (),
                    // An end or error shows again at the next read.
                    _ => break,
                }
            }
            self.bonds.cap.pass(buffer.len()).await;
            if filled.send((buffer, share)).await.is_err() {
                return;
            }
        }
    }

    /// Proves and writes the answers; ends with the stream, or with the first answer that is not what was asked for.
    fn decode(&self, mut feed: impl Feed) {
        while let Ok(header) = feed.take(BULK_RESPONSE_BYTES) {
            let header = header.try_into().expect("as many bytes as were asked for");
            let Ok(response) = BulkResponse::decode(header) else { return self.malformed() };
            let known = locked(&self.open).get(&response.request).copied();
            let Some((request, probe)) = known else { return self.malformed() };
            let (outcome, verified_groups, go_on) = match response.status {
                BulkStatus::NoCredit => (FetchOutcome::NoCredit, 0, true),
                BulkStatus::NotHeld => (FetchOutcome::NotHeld, 0, true),
                BulkStatus::Cancelled => (FetchOutcome::Cancelled, 0, true),
                BulkStatus::Data if probe => self.prove(&request, &mut feed),
                BulkStatus::Data => self.store(&request, &mut feed),
            };
            locked(&self.open).remove(&request.request);
            self.report(Input::FetchEnded { request: request.request, outcome, verified_groups });
            // Told first, synced then: who delivered is counted before anybody can see the blob complete.
            if verified_groups > 0 {
                match self.writers.opened(request.blob) {
                    Some(writer) => self.syncer.written(&writer),
                    None => self.syncer.arrived(),
                }
            }
            if !go_on {
                return;
            }
        }
    }

    fn prove(&self, request: &BulkRequest, feed: &mut impl Feed) -> (FetchOutcome, u64, bool) {
        let geometry = Geometry::of(request.size);
        let (verified, outcome) = decode_span(request.blob, geometry, request.span, feed, &mut Nowhere);
        match outcome {
            Ok(()) => (FetchOutcome::Delivered, verified, true),
            Err(DecodeError::BadBytes { .. }) => (FetchOutcome::BadBytes, verified, false),
            Err(_) => (FetchOutcome::Lost, verified, false),
        }
    }

    fn store(&self, request: &BulkRequest, feed: &mut impl Feed) -> (FetchOutcome, u64, bool) {
        let Receipt { verified_groups, outcome } = match self.writers.receive(request, feed) {
            Ok(receipt) => receipt,
            // A twin was faster: check what comes, so that the stream goes on, and keep nothing.
            Err(StoreError::AlreadyComplete(_)) => return self.prove(request, feed),
            Err(error) => {
                self.store_failed(&error);
                return (FetchOutcome::StoreFailed, 0, false);
            }
        };
        match outcome {
            Ok(()) => (FetchOutcome::Delivered, verified_groups, true),
            Err(ReceiveError::BadBytes { group }) => {
                warn!(peer = %self.provider, blob = %request.blob, group, "bytes do not match the hash");
                (FetchOutcome::BadBytes, verified_groups, false)
            }
            Err(ReceiveError::Store(error)) => {
                self.store_failed(&error);
                (FetchOutcome::StoreFailed, verified_groups, false)
            }
            Err(ReceiveError::Ended | ReceiveError::Read(_)) => (FetchOutcome::Lost, verified_groups, false),
        }
    }

    fn store_failed(&self, error: &StoreError) {
        if let StoreError::OverQuota { .. } = error {
            // What a fetch wants has its room. This comes late, for one that has ended, and is nobody's trouble.
            return debug!(%error, "not kept");
        }
        self.store_failed.store(true, Ordering::Relaxed);
        self.tell(store_failed(error));
    }

    fn malformed(&self) {
        warn!(peer = %self.provider, "answer to nothing we asked");
        self.report(Input::Malformed { peer: self.provider });
    }

    fn report(&self, input: Input) {
        self.tell(Fact::Engine(input));
    }

    fn tell(&self, fact: Fact) {
        // Fails only when the driver has gone.
        let _ = self.bonds.facts.blocking_send(fact);
    }

    /// The stream is over: so is all that was asked on it.
    async fn end_all(&self, queue: &mut mpsc::Receiver<BulkRequest>) {
        queue.close();
        let ours = self.store_failed.load(Ordering::Relaxed);
        let outcome = if ours { FetchOutcome::Cancelled } else { FetchOutcome::Lost };
        let lost = std::mem::take(&mut *locked(&self.open));
        for request in lost.into_keys() {
            let input = Input::FetchEnded { request, outcome, verified_groups: 0 };
            if self.bonds.facts.send(Fact::Engine(input)).await.is_err() {
                return;
            }
        }
    }
}

async fn write_requests(writer: &mut (impl AsyncWrite + Unpin), queue: &mut mpsc::Receiver<BulkRequest>) {
    while let Some(request) = queue.recv().await {
        let mut bytes = request.encode().to_vec();
        while let Ok(more) = queue.try_recv() {
            bytes.extend(more.encode());
        }
        let written = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        if !matches!(timeout(SILENCE, written).await, Ok(Ok(()))) {
            return;
        }
    }
}
