//! One node's decisions: all swarms, whom to ask, whom to serve, whom to trust. Sans I/O: facts in, wishes out, time as an argument.
//!
//! It speaks of spans, never of bytes; it never waits, and bad input from a peer is a strike, never an error. This file holds the state
//! and the dispatch; what is done about each cause lies in `connections`, `news`, `fetching`, `reading`, `serving` and `discovery`.

mod chatter;
mod claims;
mod config;
mod connections;
mod discovery;
mod fetching;
mod hunger;
mod injection;
mod injections;
mod introductions;
mod io;
mod mirrors;
mod mutant;
mod neediest;
mod news;
mod peer;
mod reading;
mod reputation;
mod serving;
mod taker;
mod uploads;
mod view;
mod watching;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use config::EngineConfig;
pub use io::{Command, Event, FetchOutcome, HangupReason, Input, Misdeed, Order, Output, PeerClass, ServeOutcome, Want};
#[cfg(feature = "mutants")]
pub use mutant::Mutant;
pub use view::BlobProgress;

use crate::geometry::{Geometry, Piece, Span};
use crate::have_map::HaveMap;
use crate::ids::{BlobHash, PeerId, RequestId, SwarmId};
use crate::random::Random;
use crate::span_set::SpanSet;
use crate::swarm::download::Download;
use crate::swarm::holders::Holders;
use crate::swarm::ledger::Ledger;
use crate::swarm::rate::{Rate, ServiceTime};
use crate::swarm::readers::Readers;
use crate::time::Instant;
use claims::Ours;
use discovery::Swarm;
use injections::Injections;
use mirrors::Shares;
use peer::Peer;
use reputation::Reputation;
use uploads::Uploads;

/// What is held of a blob, and therefore served.
#[derive(Debug, Clone)]
struct Offer {
    geometry: Geometry,
    held: SpanSet,
    map: HaveMap,
    announced: bool,
    /// Pieces in the order in which they became whole: what is news to whom is where each peer stands in it.
    log: Vec<Piece>,
    /// Who else holds what, while this node holds the whole blob.
    holders: Holders,
    /// It was said that leaving is safe.
    leave_safe: bool,
}

/// Causes that need the engine woken at a time of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    News,
    Rescue,
    Discovery,
    Mirrors,
}

/// One node's decisions.
///
/// Call [`handle`](Self::handle) with each fact, drain [`poll_output`](Self::poll_output) to `None`, then sleep until the next fact or
/// [`next_wakeup`](Self::next_wakeup), whichever comes first; a wake-up is told as [`Input::Tick`].
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    random: Random,
    now: Instant,
    outputs: VecDeque<Output>,
    alarms: BTreeMap<Alarm, Instant>,

    peers: BTreeMap<PeerId, Peer>,
    reputation: Reputation,
    swarms: BTreeMap<SwarmId, Swarm>,
    dialing: BTreeSet<PeerId>,

    downloads: BTreeMap<BlobHash, Download>,
    /// Downloads of which something can be asked for, by order.
    open: BTreeSet<(u64, BlobHash)>,
    ledger: Ledger,
    /// Sources that may be able to ask for something since the last time they were looked at.
    ready: BTreeSet<PeerId>,
    /// Blobs that peers are to be told we no longer want.
    dropped: BTreeSet<BlobHash>,
    /// Where somebody reads in what is being fetched.
    readers: Readers,
    /// What this node is to ask outside its local network for, where it has company there.
    ours: BTreeMap<BlobHash, Ours>,
    /// Not before this are leases looked at again.
    next_review: Instant,
    /// When something last came from outside.
    brought_at: Instant,
    down_rate: Rate,
    /// Of that, what peers bring and what mirrors do.
    shares: Shares,
    /// The shortest time that a request takes, over the sources in use.
    path_time: ServiceTime,
    /// Bytes that the widest path from one source holds.
    widest_path: u64,
    /// Not before this do we say again that we run empty.
    next_cry: Instant,
    paused: bool,
    /// Something was not asked for because as much as may be was in flight.
    held_back: bool,

    offers: BTreeMap<BlobHash, Offer>,
    /// What goes out once before anything twice, of blobs that this node holds whole and several peers fetch.
    injections: Injections,
    /// Offers with pieces that not everybody was told of.
    fresh: BTreeSet<BlobHash>,
    /// This step is a wake-up: time alone may have changed what is to be done.
    woken: bool,
    /// Size of the largest piece on offer, in bytes.
    largest_piece: u64,
    uploads: Uploads,
    /// What is being served under which name.
    serving: BTreeMap<(PeerId, RequestId), (BlobHash, Span)>,

    next_request: u64,
    next_order: u64,
}

impl Engine {
    /// A node that knows nobody and holds nothing. All its choices come from the seed.
    pub fn new(config: EngineConfig, seed: u64) -> Self {
        Self {
            config,
            random: Random::new(seed),
            now: Instant::START,
            outputs: VecDeque::new(),
            alarms: BTreeMap::new(),
            peers: BTreeMap::new(),
            reputation: Reputation::default(),
            swarms: BTreeMap::new(),
            dialing: BTreeSet::new(),
            downloads: BTreeMap::new(),
            open: BTreeSet::new(),
            ledger: Ledger::default(),
            ready: BTreeSet::new(),
            dropped: BTreeSet::new(),
            readers: Readers::default(),
            ours: BTreeMap::new(),
            next_review: Instant::START,
            brought_at: Instant::START,
            down_rate: Rate::default(),
            shares: Shares::default(),
            path_time: ServiceTime::default(),
            widest_path: 0,
            next_cry: Instant::START,
            paused: false,
            held_back: false,
            offers: BTreeMap::new(),
            injections: Injections::default(),
            fresh: BTreeSet::new(),
            woken: false,
            largest_piece: 0,
            uploads: Uploads::default(),
            serving: BTreeMap::new(),
            next_request: 0,
            next_order: 0,
        }
    }

    /// Takes note of a fact and decides what follows. Time never runs backwards: an earlier `now` counts as the last one.
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.now = self.now.max(now);
        self.woken = matches!(input, Input::Tick);
        match input {
            Input::PeerConnected { peer, class, prefix } => self.on_connected(peer, class, prefix),
            Input::PeerGone { peer } => self.on_gone(peer),
            Input::DialFailed { peer } => self.on_dial_failed(peer),
            Input::Message { peer, message } => self.on_message(peer, message),
            Input::Malformed { peer } => self.strike(peer, Misdeed::BadMessage, None),
            Input::Requested { peer, request, blob, size, span } => self.on_requested(peer, request, blob, size, span),
            Input::ServeEnded { peer, request, outcome } => self.on_serve_ended(peer, request, outcome),
            Input::FetchEnded { request, outcome, verified_groups } => self.on_fetch_ended(request, outcome, verified_groups),
            Input::SpanStored { blob, size, span } => self.on_stored(blob, size, span),
            Input::SpanLost { blob, span } => self.on_lost(blob, span),
            Input::ProvidersFound { blob, providers, finished: _ } => self.on_providers(blob, providers),
            Input::Command(command) => self.on_command(command),
            Input::Tick => (),
        }
        self.settle();
    }

    /// The next wish; `None` when there is none left.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`handle`](Self::handle) again if nothing happens before.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let alarm = self.alarms.values().min().copied();
        let uploads = [self.uploads.next_resumed(self.now), self.uploads.next_expiry(), self.uploads.next_stuck(self.now)];
        [alarm, self.ledger.next_deadline()].into_iter().chain(uploads).flatten().min()
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Offer { blob, size, held } => self.offer(blob, size, &held),
            Command::Withdraw { blob } => self.withdraw(blob),
            Command::Join { swarm, wants, providers } => self.join(swarm, wants, providers),
            Command::Leave { swarm } => self.leave(swarm),
            Command::Pause { paused } => self.pause(paused),
            Command::Survey { blobs, ends } => self.survey(&blobs, ends),
            Command::Read { blob, at } => self.read(blob, at),
        }
    }

    /// What follows from the state and the time, whatever the cause: local work first, then work for peers.
    fn settle(&mut self) {
        self.give_up_overdue();
        if self.due(Alarm::Discovery) {
            self.discover();
        }
        if self.due(Alarm::Rescue) {
            self.look_for_rescues();
        }
        if self.due(Alarm::News) {
            self.tell_news();
        }
        if self.due(Alarm::Mirrors) {
            self.mark_mirrors_ready();
        }
        self.ask_sources();
        self.expire_credits();
        self.grant();
    }

    fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn notify(&mut self, event: Event) {
        self.emit(Output::Notify(event));
    }

    /// Sets an alarm unless it will ring earlier anyway.
    fn wake_in(&mut self, alarm: Alarm, delay: std::time::Duration) {
        let at = self.now + delay;
        let slot = self.alarms.entry(alarm).or_insert(at);
        *slot = at.min(*slot);
    }

    fn due(&mut self, alarm: Alarm) -> bool {
        let due = self.alarms.get(&alarm).is_some_and(|at| *at <= self.now);
        if due {
            self.alarms.remove(&alarm);
        }
        due
    }
}
