//! Files on their way because somebody reads them: one fetch a file, however many read it, and word to the engine of where they are.
//!
//! When its last reader has gone, a file goes on being fetched for [`LINGER`]: clients that lost a connection come back for the rest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2pweights_protocol::engine::Command;
use p2pweights_protocol::geometry::GROUP_BYTES;
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::link::Link;
use tokio::sync::{Notify, SemaphorePermit, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::turns::{Lingers, Turns};
use crate::fetch;
use crate::node::Core;
use crate::report::{Failure, FailureKind};
use crate::store::locked;

/// How long a file goes on being fetched when nobody reads it any more.
const LINGER: Duration = Duration::from_secs(60);
/// And how long while others wait for its turn: a client that reads a file in ranges is back by then.
const LINGER_CROWDED: Duration = Duration::from_secs(2);
/// Files fetched for readers at a time; others wait for their turn. Several clients that load eight files each; every one costs open files.
const AT_A_TIME: usize = 64;
/// A fetch that brings nothing for so many seconds has failed, and its readers' connections are cut; they may ask again.
const PATIENCE_S: u64 = 60;
/// A reader that moved by so many groups is told of anew: 1 MiB.
const STEP_GROUPS: u64 = 1024 * 1024 / GROUP_BYTES;
/// How often the store is asked without word from the driver: somebody may have published the file here.
const LOOK: Duration = Duration::from_millis(500);

/// How a fetch ended; `None` until it has.
type Ended = watch::Receiver<Option<Result<(), Failure>>>;

/// All files on their way.
pub struct Arrivals {
    core: Arc<Core>,
    files: Mutex<BTreeMap<BlobHash, Arriving>>,
    turns: Turns,
}

/// A file on its way.
struct Arriving {
    /// Where each reader is: a group.
    readers: BTreeMap<u64, u64>,
    next_reader: u64,
    moved: Arc<Notify>,
    ended: Ended,
}

/// Somebody who reads a file that is not complete. Dropping it takes its demand back.
pub struct Waiter {
    arrivals: Arc<Arrivals>,
    blob: BlobHash,
    id: u64,
    told: u64,
    ended: Ended,
    arrived: watch::Receiver<u64>,
}

impl Arrivals {
    /// None yet.
    pub fn new(core: Arc<Core>) -> Self {
        let turns = Turns::new(AT_A_TIME, Lingers { usually: LINGER, crowded: LINGER_CROWDED });
        Self { core, files: Mutex::default(), turns }
    }

    /// Somebody reads a file of the model behind this link, from a group on. Starts its fetch, or joins one.
    pub fn read(self: &Arc<Self>, link: &Link, blob: BlobHash, size: u64, group: u64) -> Waiter {
        let mut files = locked(&self.files);
        let arriving = files.entry(blob).or_insert_with(|| self.start(link.clone(), blob, size));
        let id = arriving.next_reader;
        arriving.next_reader += 1;
        arriving.readers.insert(id, group);
        arriving.moved.notify_one();
        let (ended, arrived) = (arriving.ended.clone(), self.core.driver.arrivals());
        Waiter { arrivals: Arc::clone(self), blob, id, told: group, ended, arrived }
    }

    fn start(self: &Arc<Self>, link: Link, blob: BlobHash, size: u64) -> Arriving {
        let (done, ended) = watch::channel(None);
        let moved = Arc::new(Notify::new());
        let (arrivals, news) = (Arc::clone(self), Arc::clone(&moved));
        self.core.tasks.spawn(async move {
            info!(%blob, size, "fetched for a reader");
            let turn = arrivals.turn(blob, &news).await;
            let result = match &turn {
                Ok(_) => arrivals.carry(&link, blob, size, &news).await,
                Err(failure) => Err(failure.clone()),
            };
            arrivals.forget(blob, &news);
            // Fails only when the driver has stopped. The turn ends after this: the engine knows of no more files than there are turns.
            let _ = arrivals.tell(blob).await;
            drop(turn);
            if let Err(failure) = &result {
                debug!(%blob, error = failure.message, "not fetched to the end");
            }
            // Nobody may wait any more.
            let _ = done.send(Some(result));
        });
        Arriving { readers: BTreeMap::new(), next_reader: 0, moved, ended }
    }

    /// Waits for a turn, as long as a fetch may bring nothing and somebody reads the file.
    async fn turn(&self, blob: BlobHash, moved: &Arc<Notify>) -> Result<SemaphorePermit<'_>, Failure> {
        let turn = tokio::select! {
            turn = self.turns.take(Duration::from_secs(PATIENCE_S)) => turn,
            () = self.core.stop.cancelled() => return Err(Failure::new(FailureKind::Interrupted, "the node is shutting down")),
        };
        let full = || Failure::new(FailureKind::Incomplete, format!("{AT_A_TIME} other files are being read; ask again later"));
        let turn = turn.ok_or_else(full)?;
        if self.forget_unread(blob, moved) {
            return Err(Failure::new(FailureKind::Interrupted, "nobody reads it any more"));
        }
        Ok(turn)
    }

    /// Fetches a file to its end, or until nobody has read it for a while.
    async fn carry(&self, link: &Link, blob: BlobHash, size: u64, moved: &Arc<Notify>) -> Result<(), Failure> {
        let unwanted = CancellationToken::new();
        let fetch = fetch::blob(&self.core, link, blob, size, PATIENCE_S, unwanted.clone());
        tokio::pin!(fetch);
        loop {
            tokio::select! {
                result = &mut fetch => return result,
                news = self.turns.news(moved) => match news {
                    true => self.tell(blob).await?,
                    false if self.forget_unread(blob, moved) => unwanted.cancel(),
                    false => (),
                },
            }
        }
    }

    /// Tells the engine where the readers of a file are now.
    async fn tell(&self, blob: BlobHash) -> Result<(), Failure> {
        let at = locked(&self.files).get(&blob).map(|file| file.readers.values().copied().collect());
        let command = Command::Read { blob, at: at.unwrap_or_default() };
        self.core.driver.command(command).await.map_err(|error| Failure::internal(&error))
    }

    /// Takes a file out, so that a reader who comes from now on starts anew; `false` if somebody reads it.
    fn forget_unread(&self, blob: BlobHash, moved: &Arc<Notify>) -> bool {
        let mut files = locked(&self.files);
        match files.get(&blob).filter(|file| Arc::ptr_eq(&file.moved, moved)) {
            Some(file) if !file.readers.is_empty() => false,
            Some(_) => files.remove(&blob).is_some(),
            // It was started anew; nobody waits for this one.
            None => true,
        }
    }

    /// Takes a file out unless it has been started anew.
    fn forget(&self, blob: BlobHash, moved: &Arc<Notify>) {
        let mut files = locked(&self.files);
        if files.get(&blob).is_some_and(|file| Arc::ptr_eq(&file.moved, moved)) {
            files.remove(&blob);
        }
    }
}

impl Waiter {
    /// Waits until the group is proved; gives how many from it on are.
    pub async fn wait_for(&mut self, group: u64) -> Result<u64, Failure> {
        self.move_to(group);
        loop {
            self.arrived.mark_unchanged();
            let ended = self.ended.borrow_and_update().clone();
            let groups = self.arrivals.core.store.readable(self.blob, group);
            if groups > 0 {
                return Ok(groups);
            }
            match ended {
                Some(Err(failure)) => return Err(failure),
                Some(Ok(())) => return Err(Failure::new(FailureKind::Incomplete, "what was fetched is damaged already")),
                None => (),
            }
            let news = async {
                tokio::select! {
                    _ = self.arrived.changed() => (),
                    _ = self.ended.changed() => (),
                }
            };
            // Either way it is worth a look.
            let _ = timeout(LOOK, news).await;
        }
    }

    /// Changes what is known of this reader, unless its fetch has ended: another may have begun since, with readers of its own.
    fn with_file(&self, change: impl FnOnce(&mut Arriving, u64)) {
        let mut files = locked(&self.arrivals.files);
        if let Some(file) = files.get_mut(&self.blob).filter(|file| file.ended.same_channel(&self.ended)) {
            change(file, self.id);
            file.moved.notify_one();
        }
    }

    /// The reader is here now.
    pub fn move_to(&mut self, group: u64) {
        if group.abs_diff(self.told) >= STEP_GROUPS {
            self.told = group;
            self.with_file(|file, id| {
                file.readers.insert(id, group);
            });
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.with_file(|file, id| {
            file.readers.remove(&id);
        });
    }
}
