//! The data plane: payload between bulk streams and the store, checked on both sides. It decides nothing: the engine's wishes come in
//! as orders, what became of them goes back as facts.
//!
//! Network tasks move buffers; hashing and disk are done on blocking threads, one a stream, with a few reused buffers between the two.

mod arrivals;
mod budget;
mod buffers;
mod cap;
mod feed;
mod landing;
mod outlet;
mod parents;
mod paths;
mod receive;
mod send;
mod sync;
mod writers;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use p2pweights_protocol::engine::{FetchOutcome, Input, PeerClass, ServeOutcome};
use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::{BlobHash, PeerId, RequestId};
use p2pweights_protocol::wire::{BulkRequest, ParentsStatus};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::mirrors::MirrorNews;
use crate::net::{BulkConnector, BulkPath, BulkStream, ParentsAsked};
use crate::store::Store;
use crate::tally::Tally;
use arrivals::Arrivals;
pub use budget::Budget;
pub(crate) use buffers::{BUFFER_BYTES, BlockingReader, Filled, Pool, channel as buffer_channel};
pub use cap::{Cap, Caps};
pub(crate) use landing::{Landed, Landing};
use parents::Askers;
pub use paths::PathLook;
use paths::Paths;
use receive::Receiver;
use send::{Order, Waiting};
use sync::Syncer;
pub(crate) use sync::store_failed;
pub use writers::Writers;

/// Longest pause before a stream that broke is opened again. One that breaks them off would be asked hundreds of times a second until the
/// engine, which counts a second's breaks as one, has had enough.
const REOPEN_MAX: Duration = Duration::from_secs(1);
/// The first such pause; each is twice the one before. What is asked meanwhile waits for it, so it begins small: most breaks have an
/// end.
const REOPEN_MIN: Duration = Duration::from_millis(50);

/// Room that makes a full disk one to write to again, in bytes: some blocks for each of some sources. With less it would be full at once.
const ROOM_TO_GO_ON: u64 = 16 * 1024 * 1024;

/// What the data plane reports.
#[derive(Debug)]
pub enum Fact {
    /// A fact for the engine.
    Engine(Input),
    /// The store refused or failed: nothing more should be asked for until it recovers.
    StoreFailed {
        /// What it said.
        message: String,
        /// Whether there is no room.
        full: bool,
    },
    /// There is room again.
    RoomFound,
    /// An errand found something out about its mirror.
    Mirror {
        /// Which.
        mirror: PeerId,
        /// What.
        news: MirrorNews,
    },
}

/// The sender of facts. Bounded; the driver never waits for the data plane, so it always drains.
pub type Facts = mpsc::Sender<Fact>;

/// What binds a stream to its node.
#[derive(Debug, Clone)]
pub(crate) struct Bonds {
    /// Who is told what became of it.
    pub facts: Facts,
    /// How fast it may go, together with others.
    pub cap: Cap,
    /// How much memory payload on its way in may take, together with others.
    pub budget: Budget,
    /// Who waits for its end.
    pub tasks: TaskTracker,
    /// Who ends it.
    pub stop: CancellationToken,
}

/// A lock taken even if another thread panicked with it: every change under these locks is complete.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One peer's stream on one path.
struct Line {
    receiver: Receiver,
    /// Knows which path the stream took in the end.
    connector: BulkConnector,
    /// When the stream was to be opened.
    opens: Instant,
    /// How long that was put off.
    pause: Duration,
}

/// All transfers of a node.
pub struct Transfers {
    connector: BulkConnector,
    store: Store,
    facts: Facts,
    upload: Caps,
    download: Caps,
    budget: Budget,
    /// How near each connected peer is.
    classes: BTreeMap<PeerId, PeerClass>,
    tasks: TaskTracker,
    stop: CancellationToken,
    writers: Arc<Writers>,
    syncer: Syncer,
    arrivals: Arrivals,
    paths: Paths,
    receivers: BTreeMap<(PeerId, BulkPath), Line>,
    /// Requests under way, and where.
    asked: BTreeMap<RequestId, (PeerId, BulkPath, u64)>,
    waiting: Arc<Waiting>,
    askers: Askers,
}

impl Transfers {
    /// No transfers yet; all of them together keep within the caps on what goes out and what comes in, and within the budget.
    pub fn new(connector: BulkConnector, store: Store, facts: Facts, upload: Caps, download: Caps, budget: Budget) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let writers = Arc::new(Writers::new(store.clone()));
        let syncer = Syncer::start(Arc::clone(&writers), facts.clone(), &tasks);
        let arrivals = Arrivals::start(store.clone(), facts.clone(), syncer.handle(), &tasks);
        Self {
            paths: Paths::new(connector.allowed()),
            connector,
            store,
            facts,
            upload,
            download,
            budget,
            classes: BTreeMap::new(),
            tasks,
            stop,
            writers,
            syncer,
            arrivals,
            receivers: BTreeMap::new(),
            asked: BTreeMap::new(),
            waiting: Arc::new(Waiting::default()),
            askers: Askers::default(),
        }
    }

    /// Looks whether there is room to go on, and reports it if there is.
    pub fn look_for_room(&self) {
        let (store, facts) = (self.store.clone(), self.facts.clone());
        self.tasks.spawn_blocking(move || {
            if store.room().is_ok_and(|room| room >= ROOM_TO_GO_ON) {
                // Fails only when the node has ended.
                let _ = facts.blocking_send(Fact::RoomFound);
            }
        });
    }

    /// A peer is connected.
    pub fn meet(&mut self, peer: PeerId, class: PeerClass) {
        self.classes.insert(peer, class);
        self.paths.met(peer, class);
    }

    /// Asks a provider for a span. Ends with exactly one [`Input::FetchEnded`], of which [`ended`](Self::ended) is to be told.
    pub fn fetch(&mut self, provider: PeerId, request: BulkRequest, probe: bool) {
        let now = Instant::now();
        let path = self.paths.take(provider, self.connector.round_trip(provider), now);
        let bytes = Geometry::of(request.size).bytes_in(request.span);
        self.asked.insert(request.request, (provider, path, bytes));
        let line = self.receivers.get(&(provider, path));
        if !line.is_some_and(|line| line.receiver.is_open()) {
            // One that lasted is as good as new.
            let broken = line.filter(|line| now < line.opens + REOPEN_MAX);
            let pause = broken.map_or(Duration::ZERO, |line| (2 * line.pause).clamp(REOPEN_MIN, REOPEN_MAX));
            let opens = now + pause;
            let connector = self.connector.on(path);
            let bonds = self.bonds(provider, &self.download);
            let receiver = Receiver::start(opens, connector.clone(), self.landing(provider), bonds);
            self.receivers.insert((provider, path), Line { receiver, connector, opens, pause });
        }
        let asked = self.receivers.get(&(provider, path)).is_some_and(|line| line.receiver.ask(request, probe));
        if !asked {
            let input = Input::FetchEnded { request: request.request, outcome: FetchOutcome::Lost, verified_groups: 0 };
            self.report(Fact::Engine(input));
        }
    }

    /// What binds an errand to a mirror, and takes what it brings.
    pub(crate) fn for_mirror(&self, mirror: PeerId) -> (Landing, Bonds) {
        (self.landing(mirror), self.bonds(mirror, &self.download))
    }

    /// Where blobs go.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// A request that nobody can be asked for any more has ended.
    pub fn not_asked(&self, request: RequestId) {
        self.report(Fact::Engine(Input::FetchEnded { request, outcome: FetchOutcome::Cancelled, verified_groups: 0 }));
    }

    /// A request is over: what that says of its path.
    pub fn ended(&mut self, request: RequestId, outcome: FetchOutcome) {
        let Some((peer, path, bytes)) = self.asked.remove(&request) else { return };
        let now = Instant::now();
        let taken = self.receivers.get(&(peer, path)).and_then(|line| line.connector.taken());
        let delivered = if outcome == FetchOutcome::Delivered { bytes } else { 0 };
        self.paths.ended(peer, path, delivered, now);
        if taken.is_some_and(|taken| taken != path) {
            self.paths.unreachable(peer, path, now);
        } else if outcome == FetchOutcome::Lost {
            self.paths.broke(peer, path, now);
        }
    }

    /// The paths to each peer.
    pub fn paths(&self) -> BTreeMap<PeerId, Vec<PathLook>> {
        self.paths.look()
    }

    /// A peer opened a bulk stream: serve it.
    pub fn accept(&self, peer: PeerId, stream: BulkStream) {
        send::start(peer, stream, self.store.clone(), Arc::clone(&self.waiting), self.bonds(peer, &self.upload));
    }

    /// A peer asks for parents: `offered` says whether we hold what is below them.
    pub fn give_parents(&mut self, peer: PeerId, asked: ParentsAsked, offered: bool) {
        if !offered {
            self.tasks.spawn(asked.refuse(ParentsStatus::NotHeld));
        } else if !self.askers.may_ask(peer, Instant::now()) {
            self.tasks.spawn(asked.refuse(ParentsStatus::Busy));
        } else {
            self.tasks.spawn(parents::answer(asked, self.store.clone(), self.bonds(peer, &self.upload)));
        }
    }

    /// Serves a request.
    pub fn serve(&self, peer: PeerId, request: RequestId, blob: BlobHash, span: Span) {
        if !self.waiting.order(peer, request, Order::Serve { request, blob, span }) {
            self.report(Fact::Engine(Input::ServeEnded { peer, request, outcome: ServeOutcome::Lost }));
        }
    }

    /// Refuses a request.
    pub fn refuse(&self, peer: PeerId, request: RequestId, no_credit: bool) {
        self.waiting.order(peer, request, Order::Refuse { request, no_credit });
    }

    /// The peer no longer needs this.
    pub fn stop_serving(&self, peer: PeerId, request: RequestId) {
        self.waiting.cancel(peer, request);
    }

    /// The peer is gone: its streams are of no use any more.
    pub fn forget(&mut self, peer: PeerId) {
        self.classes.remove(&peer);
        self.receivers.retain(|(of, _), _| *of != peer);
        self.paths.forget(peer);
        self.askers.forget(peer);
    }

    /// Bytes sent to peers since the start.
    pub fn sent(&self) -> Tally {
        self.waiting.sent()
    }

    /// Lets go of the writers of blobs that are not fetched any more; what they hold is synced first.
    pub fn release(&self, blobs: Vec<BlobHash>) {
        self.syncer.release(blobs);
    }

    /// Ends all transfers and makes durable what has arrived.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        self.receivers.clear();
        self.syncer.stop();
        self.arrivals.stop();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn landing(&self, provider: PeerId) -> Landing {
        Landing::new(provider, Arc::clone(&self.writers), self.syncer.handle(), self.facts.clone())
    }

    fn bonds(&self, peer: PeerId, caps: &Caps) -> Bonds {
        Bonds {
            facts: self.facts.clone(),
            cap: caps.of(self.classes.get(&peer).copied().unwrap_or(PeerClass::Wan)).clone(),
            budget: self.budget.clone(),
            tasks: self.tasks.clone(),
            stop: self.stop.child_token(),
        }
    }

    fn report(&self, fact: Fact) {
        // The driver is the only caller and the only reader: it must not wait for itself.
        let facts = self.facts.clone();
        if let Err(mpsc::error::TrySendError::Full(fact)) = self.facts.try_send(fact) {
            self.tasks.spawn(async move {
                // Fails only when the driver has gone, and then nobody cares.
                let _ = facts.send(fact).await;
            });
        }
    }
}
