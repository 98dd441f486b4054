//! Fetching from one provider: requests go out over one long-lived bulk stream, answers come back in whatever order, each proved as it
//! arrives and written where it belongs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use p2pweights_protocol::engine::{FetchOutcome, Input};
use p2pweights_protocol::ids::RequestId;
use p2pweights_protocol::limits;
use p2pweights_protocol::verify::Feed;
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
use super::landing::{Landed, Landing};
use super::{Bonds, Fact, locked};
use crate::net::{BulkConnector, BulkIo, BulkStream, Carrier, Sealed};

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
    pub fn start(opens: Instant, connector: BulkConnector, landing: Landing, bonds: Bonds) -> Self {
        let (tasks, stop) = (bonds.tasks.clone(), bonds.stop.clone());
        let (requests, queue) = mpsc::channel(QUEUE);
        let open = Open::default();
        let receiver = Self { requests, open: Arc::clone(&open), stop: stop.clone() };
        let task = Task { open, landing, bonds };
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

struct Task {
    open: Open,
    landing: Landing,
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
        let provider = self.landing.provider();
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
                Ok(Err(error)) => return debug!(peer = %self.landing.provider(), %error, "bulk stream broke"),
                Err(_) if locked(&self.open).is_empty() => continue,
                Err(_) => return warn!(peer = %self.landing.provider(), "bulk stream silent for too long"),
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
            let landed = match response.status {
                BulkStatus::NoCredit => Landed::nothing(FetchOutcome::NoCredit),
                BulkStatus::NotHeld => Landed::nothing(FetchOutcome::NotHeld),
                BulkStatus::Cancelled => Landed::nothing(FetchOutcome::Cancelled),
                BulkStatus::Data => self.landing.land(&request, probe, &mut feed),
            };
            locked(&self.open).remove(&request.request);
            self.landing.report(&request, landed);
            if !landed.is_whole {
                return;
            }
        }
    }

    fn malformed(&self) {
        let peer = self.landing.provider();
        warn!(%peer, "answer to nothing we asked");
        self.landing.tell(Fact::Engine(Input::Malformed { peer }));
    }

    /// The stream is over: so is all that was asked on it.
    async fn end_all(&self, queue: &mut mpsc::Receiver<BulkRequest>) {
        queue.close();
        let ours = self.landing.has_failed();
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
