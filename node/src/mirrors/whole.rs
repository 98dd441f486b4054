//! A file of a mirror for which nobody has proofs: fetched from front to back, kept apart, and believed when all of it hashes to its name.

use std::time::Duration;

use p2pweights_protocol::ids::{BlobHash, PeerId};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use url::Url;

use super::MirrorNews;
use super::verdict::Verdict;
use crate::failure::phrase;
use crate::origin::{Answer, ByteRange, OriginClient, OriginError};
use crate::store::{Store, StoreError, Unproved};
use crate::transfer::{Bonds, Fact, store_failed};

/// Bytes handed to the disk at a time.
const STEP_BYTES: usize = 1 << 20;
/// Attempts in a row that bring nothing before the file is given up.
const ATTEMPTS: u32 = 5;
/// Pause after the first of them; doubled each time, unless the mirror says how long.
const PAUSE: Duration = Duration::from_secs(2);
/// Longest pause that is waited for here.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// See the module's text.
pub(super) struct Whole {
    pub client: OriginClient,
    pub mirror: PeerId,
    /// The file's address.
    pub file: String,
    pub blob: BlobHash,
    pub size: u64,
    pub store: Store,
    pub bonds: Bonds,
    /// Ends it before its time.
    pub stop: CancellationToken,
}

enum Fault {
    Origin(OriginError),
    /// The file has another size.
    OtherSize,
    Store(StoreError),
    /// A thread of ours failed.
    Thread,
}

impl From<OriginError> for Fault {
    fn from(error: OriginError) -> Self {
        Self::Origin(error)
    }
}

impl Whole {
    /// Runs it to its end, which is told once, unless it was stopped.
    pub async fn run(self) {
        let stop = self.stop.clone();
        let Some(result) = stop.run_until_cancelled(self.go()).await else { return };
        let (blob, size) = (self.blob, self.size);
        let news = match result {
            Ok(true) => MirrorNews::Whole { blob, size },
            Ok(false) => MirrorNews::Useless(format!("its file {} is not what its name says", self.file)),
            Err(Fault::Origin(error)) => match Verdict::of(&error) {
                Verdict::Useless(why) => MirrorNews::Useless(why),
                Verdict::Broken | Verdict::Busy(_) | Verdict::Lacks => {
                    info!(file = self.file, error = phrase(&error), "file given up");
                    MirrorNews::Lacks(blob)
                }
            },
            // Somebody else was faster.
            Err(Fault::Store(StoreError::AlreadyComplete(_))) => MirrorNews::Lacks(blob),
            // There is no room for it a second time, beside what is promised to the fetch: it may still come from somebody with proofs.
            Err(Fault::Store(error @ StoreError::OverQuota { .. })) => {
                warn!(file = self.file, error = phrase(&error), "file not fetched whole, which is the only way without proofs");
                MirrorNews::Lacks(blob)
            }
            Err(Fault::Store(error)) => {
                // Fails only when the driver has gone.
                let _ = self.bonds.facts.send(store_failed(&error)).await;
                MirrorNews::Lacks(blob)
            }
            Err(Fault::OtherSize | Fault::Thread) => MirrorNews::Lacks(blob),
        };
        let _ = self.bonds.facts.send(Fact::Mirror { mirror: self.mirror, news }).await;
    }

    async fn go(&self) -> Result<bool, Fault> {
        let (store, blob, size) = (self.store.clone(), self.blob, self.size);
        let mut unproved = on_a_thread(move || store.unproved(blob, size)).await?;
        let (mut failed, mut reached) = (0, 0);
        while unproved.bytes() < size {
            let (back, result) = self.attempt(unproved).await?;
            unproved = back;
            let Err(error) = result else { continue };
            failed = if unproved.bytes() > reached { 1 } else { failed + 1 };
            reached = unproved.bytes();
            let asked = match Verdict::of(&error) {
                Verdict::Broken => None,
                Verdict::Busy(wait) => wait,
                Verdict::Lacks | Verdict::Useless(_) => return Err(error.into()),
            };
            if failed >= ATTEMPTS || asked.is_some_and(|wait| wait > PAUSE_MAX) {
                return Err(error.into());
            }
            let pause = asked.unwrap_or(PAUSE * 2u32.pow(failed - 1));
            debug!(file = self.file, error = phrase(&error), ?pause, "goes on in a while");
            tokio::time::sleep(pause).await;
        }
        on_a_thread(move || unproved.finish()).await
    }

    /// Takes what comes from where it stands on; what broke it off, if anything did.
    async fn attempt(&self, mut unproved: Unproved) -> Result<(Unproved, Result<(), OriginError>), Fault> {
        let Ok(url) = Url::parse(&self.file) else { return Err(Fault::OtherSize) };
        let range = ByteRange { first: unproved.bytes(), last: None };
        let asked = match self.client.get(&url, Some(range), None).await {
            Ok(answer) => answer.part(range).map(|part| (answer, part)),
            Err(error) => Err(error),
        };
        let (mut answer, part) = match asked {
            Ok(asked) => asked,
            Err(error) => return Ok((unproved, Err(error))),
        };
        if part.size.is_some_and(|size| size != self.size) {
            return Err(Fault::OtherSize);
        }
        // One that ignores ranges begins at the beginning.
        let mut skip = unproved.bytes() - part.first;
        let _share = self.bonds.budget.take(2 * STEP_BYTES).await;
        loop {
            let (bytes, result) = self.step(&mut answer, &mut skip, self.size - unproved.bytes()).await;
            let (over, came) = (bytes.is_empty(), unproved.bytes() + bytes.len() as u64);
            unproved = on_a_thread(move || unproved.push(&bytes).map(|()| unproved)).await?;
            if !over {
                let news = MirrorNews::Came(self.blob);
                let _ = self.bonds.facts.send(Fact::Mirror { mirror: self.mirror, news }).await;
            }
            if result.is_err() || over || came == self.size {
                return Ok((unproved, result));
            }
        }
    }

    /// The next bytes, about so many as go to the disk at a time and at most `left`; none at the end.
    async fn step(&self, answer: &mut Answer, skip: &mut u64, left: u64) -> (Vec<u8>, Result<(), OriginError>) {
        let mut bytes = Vec::with_capacity(STEP_BYTES);
        while bytes.len() < STEP_BYTES && (bytes.len() as u64) < left {
            let chunk = match answer.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => return (bytes, Err(error)),
            };
            self.bonds.cap.pass(chunk.len()).await;
            let past = usize::try_from(*skip).unwrap_or(usize::MAX).min(chunk.len());
            *skip -= past as u64;
            let room = usize::try_from(left - bytes.len() as u64).unwrap_or(usize::MAX);
            bytes.extend_from_slice(&chunk[past..][..room.min(chunk.len() - past)]);
        }
        (bytes, Ok(()))
    }
}

async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Fault::Thread)?.map_err(Fault::Store)
}
