//! How the rest of the node speaks to the driver, and what it is told: messages, no locks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use p2pweights_protocol::engine::{BlobProgress, Command};
use p2pweights_protocol::ids::{BlobHash, PeerId, SwarmId};
use p2pweights_protocol::manifest::MirrorUrl;
use tokio::sync::{mpsc, oneshot, watch};

use crate::mirrors::Catalogue;
use crate::origin::OriginClient;
use crate::tally::Tally;
use crate::transfer::PathLook;

/// A look at some blobs being fetched.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// How far each blob asked about is.
    pub blobs: Vec<BlobLook>,
    /// Peers connected.
    pub connected: usize,
    /// Peers known to provide the swarm, connected or not.
    pub providers: usize,
    /// Verified bytes by source, over these blobs, since they were first watched.
    pub sources: BTreeMap<PeerId, u64>,
}

/// What has changed of the blobs that are watched.
#[derive(Debug, Clone, Default)]
pub struct News {
    /// To be asked with the next time.
    pub until: u64,
    /// How far each blob is that has changed, whoever watches it. Of what else [`BlobLook`] says only what was known at that time.
    pub changed: Vec<(BlobHash, BlobLook)>,
    /// Sources of which something is asked now.
    pub busy: usize,
    /// Why fetching is paused, if it is.
    pub paused: Option<Paused>,
    /// Warnings since the start, with their numbers.
    pub warnings: Vec<(u64, String)>,
}

/// Why fetching is paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paused {
    /// What the store said.
    pub message: String,
    /// Whether there is no room.
    pub full: bool,
}

/// How far one blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlobLook {
    /// Its size, once proved or given.
    pub size: Option<u64>,
    /// Verified bytes.
    pub verified: u64,
    /// Bytes asked for and not yet here.
    pub in_flight: u64,
    /// Connected peers that hold some of it.
    pub providers: usize,
    /// Pieces still missing that no connected peer holds.
    pub unavailable: u32,
    /// Every group is verified and written.
    pub complete: bool,
    /// Every group is durable, too.
    pub stored: bool,
    /// A provider holds it with another size than the manifest says.
    pub disputed: Option<u64>,
}

/// What the driver knows of a swarm being fetched.
#[derive(Debug, Clone)]
pub struct SwarmLook {
    /// The swarm.
    pub swarm: SwarmId,
    /// Sum over its unfinished blobs.
    pub progress: BlobProgress,
}

/// The state of all that the driver drives.
#[derive(Debug, Clone, Default)]
pub struct Overview {
    /// Swarms being fetched.
    pub swarms: Vec<SwarmLook>,
    /// Why fetching is paused, if it is.
    pub paused: Option<Paused>,
    /// Verified bytes received from peers since the start.
    pub received: Tally,
    /// Bytes sent to peers since the start.
    pub sent: Tally,
    /// The paths on which each peer has been asked for payload.
    pub paths: BTreeMap<PeerId, Vec<PathLook>>,
    /// Strikes against each of these peers.
    pub strikes: BTreeMap<PeerId, u32>,
}

/// What the driver can be asked.
pub(super) enum Order {
    Engine(Command),
    Enter { swarm: SwarmId },
    Leave { swarm: SwarmId },
    Look { swarm: SwarmId, blobs: Vec<BlobHash>, reply: oneshot::Sender<Look> },
    News { since: u64, reply: oneshot::Sender<News> },
    Mirrors { swarm: SwarmId, urls: Vec<MirrorUrl>, files: Arc<Catalogue>, client: OriginClient },
    Watch { blobs: Vec<BlobHash> },
    Unwatch { blobs: Vec<BlobHash> },
    Overview { reply: oneshot::Sender<Overview> },
    Release { blobs: Vec<BlobHash> },
    Providers { blob: BlobHash, reply: oneshot::Sender<Vec<PeerId>> },
    Copies { blobs: Vec<BlobHash>, reply: oneshot::Sender<usize> },
}

/// Speaks to the driver.
#[derive(Debug, Clone)]
pub struct DriverHandle {
    orders: mpsc::Sender<Order>,
    changes: watch::Receiver<u64>,
    arrivals: watch::Receiver<u64>,
    activity: Arc<AtomicU64>,
}

/// The driver has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node is shutting down")]
pub struct Stopped;

impl DriverHandle {
    pub(super) fn new(
        orders: mpsc::Sender<Order>,
        changes: watch::Receiver<u64>,
        arrivals: watch::Receiver<u64>,
        activity: Arc<AtomicU64>,
    ) -> Self {
        Self { orders, changes, arrivals, activity }
    }

    /// Grows whenever payload has gone in or out: whether others want the disk.
    pub fn activity(&self) -> u64 {
        self.activity.load(Ordering::Relaxed)
    }

    /// Passes a command to the engine.
    pub async fn command(&self, command: Command) -> Result<(), Stopped> {
        self.orders.send(Order::Engine(command)).await.map_err(|_| Stopped)
    }

    /// One more fetch of this swarm begins.
    pub async fn enter(&self, swarm: SwarmId) -> Result<(), Stopped> {
        self.orders.send(Order::Enter { swarm }).await.map_err(|_| Stopped)
    }

    /// A fetch of this swarm has ended; with the last one the swarm is left.
    pub async fn leave(&self, swarm: SwarmId) -> Result<(), Stopped> {
        self.orders.send(Order::Leave { swarm }).await.map_err(|_| Stopped)
    }

    /// The files of a swarm also lie below these addresses, the preferred ones first; until the swarm is left.
    pub async fn mirrors(
        &self,
        swarm: SwarmId,
        urls: Vec<MirrorUrl>,
        files: Arc<Catalogue>,
        client: OriginClient,
    ) -> Result<(), Stopped> {
        self.orders.send(Order::Mirrors { swarm, urls, files, client }).await.map_err(|_| Stopped)
    }

    /// From now on, until [`unwatch`](Self::unwatch), takes note of what becomes of these blobs and who delivers them.
    pub async fn watch(&self, blobs: Vec<BlobHash>) -> Result<(), Stopped> {
        self.orders.send(Order::Watch { blobs }).await.map_err(|_| Stopped)
    }

    /// Looks at these watched blobs of a swarm.
    pub async fn look(&self, swarm: SwarmId, blobs: Vec<BlobHash>) -> Result<Look, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Look { swarm, blobs, reply }).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// What has changed of watched blobs since the news that ended with this number; 0: ever.
    pub async fn news(&self, since: u64) -> Result<News, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::News { since, reply }).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// No longer watches these blobs.
    pub async fn unwatch(&self, blobs: Vec<BlobHash>) -> Result<(), Stopped> {
        self.orders.send(Order::Unwatch { blobs }).await.map_err(|_| Stopped)
    }

    /// Syncs and closes what is open of these blobs.
    pub async fn release(&self, blobs: Vec<BlobHash>) -> Result<(), Stopped> {
        self.orders.send(Order::Release { blobs }).await.map_err(|_| Stopped)
    }

    /// Whom the DHT names as providers of a blob; answered when its look-up is over.
    pub async fn providers(&self, blob: BlobHash) -> Result<Vec<PeerId>, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Providers { blob, reply }).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// How many connected peers say that they hold all of each of these blobs, of the one that the fewest hold.
    pub async fn copies(&self, blobs: Vec<BlobHash>) -> Result<usize, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Copies { blobs, reply }).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// The state of everything.
    pub async fn overview(&self) -> Result<Overview, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Overview { reply }).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Changes whenever groups were verified and written, of whatever blob: when a reader that waits does well to look again.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.clone()
    }

    /// Changes whenever a blob is complete, a size is proved or fetching is paused: when it is worth looking again.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}
