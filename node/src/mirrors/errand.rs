//! One errand: a range of a mirror's file, braided with the parents that prove it, lands where a peer's answer would.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use p2pweights_protocol::engine::FetchOutcome;
use p2pweights_protocol::geometry::Geometry;
use p2pweights_protocol::ids::PeerId;
use p2pweights_protocol::verify::{Parents, write_outboard};
use p2pweights_protocol::wire::BulkRequest;
use p2pweights_protocol::{limits, manifest::MirrorUrl};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use url::Url;

use super::MirrorNews;
use super::proofs::{ProofError, Proofs, Sidecar};
use super::verdict::Verdict;
use crate::failure::phrase;
use crate::origin::{Answer, ByteRange, OriginClient, OriginError};
use crate::store::StoreError;
use crate::transfer::{BUFFER_BYTES, BlockingReader, Bonds, Fact, Filled, Landed, Landing, Pool, buffer_channel};

/// Up to this size a blob is fetched and hashed whole: a lie costs as little as that, and a look for its parents would cost as much.
const WHOLE_BYTES: u64 = limits::BLOCK_MIN_BYTES as u64;

/// How long an errand that could not even begin takes before it is reported.
const BROKEN_PAUSE: Duration = Duration::from_millis(500);

/// See the module's text.
pub(super) struct Errand {
    pub client: OriginClient,
    pub proofs: Arc<Proofs>,
    pub base: MirrorUrl,
    /// The file's address.
    pub file: String,
    pub request: BulkRequest,
    /// Only to prove the span.
    pub probe: bool,
    /// Peers that hold what the proof is about.
    pub holders: Vec<PeerId>,
    pub landing: Arc<Landing>,
    pub bonds: Bonds,
    /// Ends it before its time.
    pub stop: CancellationToken,
}

/// Why nothing landed.
enum Fault {
    Origin(OriginError),
    /// The bytes are not this blob's.
    Lacks,
    /// They may be, but nothing proves them a span at a time.
    Unproved,
    Store(StoreError),
    /// A twin was faster.
    Needless,
    /// It ended before its time, or a thread of ours did.
    Broken,
}

impl From<OriginError> for Fault {
    fn from(error: OriginError) -> Self {
        Self::Origin(error)
    }
}

impl Errand {
    /// Runs it to its end, which is reported once.
    pub async fn run(self) {
        let landed = match self.go().await {
            Ok(landed) => landed,
            Err(fault) => self.judge(fault).await,
        };
        let (landing, request) = (self.landing, self.request);
        // Reports block until the driver has room for them.
        let _ = tokio::task::spawn_blocking(move || landing.report(&request, landed)).await;
    }

    async fn go(&self) -> Result<Landed, Fault> {
        let BulkRequest { blob, size, span, .. } = self.request;
        let geometry = Geometry::of(size);
        let whole = geometry.whole() == Some(span);
        if whole && size <= WHOLE_BYTES {
            return self.go_whole().await;
        }
        let (landing, sidecar) = (Arc::clone(&self.landing), self.sidecar());
        let writer =
            tokio::task::spawn_blocking(move || landing.writers().writer(blob, size)).await.map_err(|_| Fault::Broken)?;
        let writer = writer.map_err(|error| match error {
            StoreError::AlreadyComplete(_) => Fault::Needless,
            error => Fault::Store(error),
        })?;
        let finding = self.proofs.parents(sidecar, &self.holders, &self.bonds.facts, &writer, span);
        let parents = match self.stop.run_until_cancelled(finding).await.ok_or(Fault::Needless)? {
            Ok(parents) => parents,
            // Alone it proves itself.
            Err(ProofError::None) if whole => return self.go_whole().await,
            Err(ProofError::None) => return Err(Fault::Unproved),
            Err(ProofError::Origin(error)) => return Err(error.into()),
            Err(ProofError::Store(error)) => return Err(Fault::Store(error)),
        };
        self.go_braided(parents).await
    }

    /// Bytes are proved as they come.
    async fn go_braided(&self, parents: Parents) -> Result<Landed, Fault> {
        let answer = self.stop.run_until_cancelled(self.ask()).await.ok_or(Fault::Needless)??;
        let pool = Pool::default();
        let (filled, buffers) = buffer_channel();
        let reader = BlockingReader::new(buffers, pool.clone());
        let (landing, request, probe) = (Arc::clone(&self.landing), self.request, self.probe);
        let decoding = self.bonds.tasks.spawn_blocking(move || {
            let mut braid = parents.braid(request.span, reader);
            landing.land(&request, probe, &mut braid)
        });
        let moved = tokio::select! {
            moved = self.pump(answer, filled, &pool) => moved,
            // What has come is kept.
            () = self.stop.cancelled() => Ok(()),
        };
        // What came before it broke counts.
        if let Err(error) = moved {
            debug!(error = phrase(&error), "mirror broke off");
        }
        decoding.await.map_err(|_| Fault::Broken)
    }

    /// All of it is fetched, and hashed as a whole.
    async fn go_whole(&self) -> Result<Landed, Fault> {
        let size = self.request.size as usize;
        let _share = self.bonds.budget.take(size).await;
        let bytes = self.stop.run_until_cancelled(self.collect(size)).await.ok_or(Fault::Needless)??;
        let (landing, request, probe) = (Arc::clone(&self.landing), self.request, self.probe);
        let landed = tokio::task::spawn_blocking(move || {
            let geometry = Geometry::of(request.size);
            let mut outboard = Vec::new();
            let right = write_outboard(&bytes[..], None, &mut outboard).is_ok_and(|(hash, _)| hash == request.blob);
            let parents = Parents::check(request.blob, geometry, request.span, vec![(0, outboard)]);
            match parents.ok().filter(|_| right) {
                Some(parents) => landing.land(&request, probe, &mut parents.braid(request.span, &bytes[..])),
                None => Landed { outcome: FetchOutcome::BadBytes, verified_groups: 0, is_whole: false },
            }
        });
        landed.await.map_err(|_| Fault::Broken)
    }

    /// The span's bytes, all of them.
    async fn collect(&self, size: usize) -> Result<Vec<u8>, Fault> {
        let mut answer = self.ask().await?;
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            let Some(chunk) = answer.chunk().await? else { return Err(Fault::Broken) };
            self.bonds.cap.pass(chunk.len()).await;
            bytes.extend_from_slice(&chunk[..chunk.len().min(size - bytes.len())]);
        }
        Ok(bytes)
    }

    /// Asks for the span's bytes; what comes is the right part of a file of the right size, as far as the origin says.
    async fn ask(&self) -> Result<Answer, Fault> {
        let url = Url::parse(&self.file).map_err(|_| Fault::Lacks)?;
        let bytes = Geometry::of(self.request.size).byte_range(self.request.span);
        let range = ByteRange { first: bytes.start, last: Some(bytes.end - 1) };
        let answer = self.client.get(&url, Some(range), None).await?;
        let part = answer.part(range)?;
        let wanted = bytes.end - bytes.start;
        let other = part.size.is_some_and(|size| size != self.request.size) || part.bytes.is_some_and(|bytes| bytes < wanted);
        if other {
            debug!(file = self.file, ?part, "not what was asked for");
            return Err(Fault::Lacks);
        }
        // One that ignores ranges would send all that lies before, each time.
        if part.first != range.first {
            return Err(Fault::Unproved);
        }
        Ok(answer)
    }

    /// Moves the span's bytes to the thread that proves them.
    async fn pump(&self, mut answer: Answer, filled: mpsc::Sender<Filled>, pool: &Pool) -> Result<(), OriginError> {
        let mut left = Geometry::of(self.request.size).bytes_in(self.request.span);
        let turn = self.bonds.cap.turn_bytes().min(BUFFER_BYTES);
        while left > 0 {
            let Some(chunk) = answer.chunk().await? else { return Ok(()) };
            let mut chunk: Bytes = chunk.slice(..chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            left -= chunk.len() as u64;
            while !chunk.is_empty() {
                let portion = chunk.split_to(chunk.len().min(turn));
                self.bonds.cap.pass(portion.len()).await;
                let share = self.bonds.budget.take(portion.len()).await;
                let mut buffer = pool.take();
                buffer.extend_from_slice(&portion);
                if filled.send((buffer, share)).await.is_err() {
                    return Ok(()); // A lie, or a full disk.
                }
            }
        }
        Ok(())
    }

    fn sidecar(&self) -> Sidecar<'_> {
        Sidecar { client: &self.client, mirror: self.landing.provider(), base: &self.base }
    }

    /// What follows for the mirror, and for the engine.
    async fn judge(&self, fault: Fault) -> Landed {
        let news = match fault {
            Fault::Origin(error) => {
                debug!(mirror = self.base.as_str(), error = phrase(&error), "errand in vain");
                match Verdict::of(&error) {
                    Verdict::Broken => {
                        // The engine counts a second's breaks as one, and would ask a closed port hundreds of times.
                        self.stop.run_until_cancelled(tokio::time::sleep(BROKEN_PAUSE)).await;
                        return lost();
                    }
                    Verdict::Busy(wait) => MirrorNews::Busy(wait),
                    Verdict::Lacks => MirrorNews::Lacks(self.request.blob),
                    Verdict::Useless(why) => MirrorNews::Useless(why),
                }
            }
            Fault::Lacks => MirrorNews::Lacks(self.request.blob),
            Fault::Unproved => MirrorNews::Unproved(self.request.blob),
            Fault::Needless => return Landed::nothing(FetchOutcome::Cancelled),
            Fault::Broken => return lost(),
            Fault::Store(error) => {
                let landing = Arc::clone(&self.landing);
                let _ = tokio::task::spawn_blocking(move || landing.store_failed(&error)).await;
                return Landed::nothing(FetchOutcome::StoreFailed);
            }
        };
        let fact = Fact::Mirror { mirror: self.landing.provider(), news };
        // Fails only when the driver has gone.
        let _ = self.bonds.facts.send(fact).await;
        Landed::nothing(FetchOutcome::Cancelled)
    }
}

fn lost() -> Landed {
    Landed::nothing(FetchOutcome::Lost)
}
