//! The only place that calls the engine: one loop that turns what happens into facts and wishes into deeds.
//!
//! It owns the engine and all bookkeeping about it; others ask it by message and never wait on a lock. It touches neither disk nor
//! payload.

mod flight;
mod handle;
mod looks;
mod mirrors;
mod questions;
mod watched;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use p2pweights_protocol::engine::{Command, Engine, EngineConfig, Event, HangupReason, Input, Misdeed, Output};
use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::{BlobHash, PeerId, RequestId, SwarmId};
use p2pweights_protocol::time::Instant;
use p2pweights_protocol::wire::{BulkRequest, Contact, Message, ParentsRequest};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::flight::FlightLog;
pub use self::flight::{FlightError, FlightFile};
use self::handle::Order;
pub use self::handle::{DriverHandle, Look, News, Paused, Stopped};
use self::questions::Questions;
use self::watched::Watches;
use crate::clock::Clock;
use crate::mirrors::Mirrors;
use crate::net::{Net, NetEvent};
use crate::peer_name::peer_name;
use crate::tally::Tally;
use crate::transfer::{Fact, Transfers};

/// Orders that may wait for the driver.
const ORDERS: usize = 256;
/// How long fetching pauses after the store failed, before it is tried again.
const STORE_RETRY: Duration = Duration::from_secs(10);
/// How often a full disk is looked at for room.
const ROOM_LOOK: Duration = Duration::from_secs(2);
/// Warnings kept for those who watch; older ones are only in the log.
const WARNINGS: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Asked {
    provider: PeerId,
    blob: BlobHash,
    size: u64,
    span: Span,
}

/// The loop's state.
pub struct Driver {
    engine: Engine,
    flight: Option<FlightLog>,
    clock: Clock,
    net: Net,
    transfers: Transfers,
    orders: mpsc::Receiver<Order>,
    changes: watch::Sender<u64>,
    /// Grows whenever groups were verified and written.
    arrivals: watch::Sender<u64>,
    /// Grows whenever payload has gone in or out.
    activity: Arc<AtomicU64>,
    /// Facts that came about while acting on a wish.
    inputs: VecDeque<Input>,
    asked: BTreeMap<RequestId, Asked>,
    watched: Watches,
    /// Fetches under way by swarm: several may want different files of one model.
    fetches: BTreeMap<SwarmId, usize>,
    received: Tally,
    banned: BTreeMap<Instant, PeerId>,
    paused: Option<(Paused, Instant)>,
    warnings: VecDeque<(u64, String)>,
    warned: u64,
    questions: Questions,
    mirrors: Mirrors,
}

impl Driver {
    /// A driver and its handle. `me` is this node's name; `seed` decides all the engine's choices, which are written down if there is a
    /// file for it.
    pub fn new(
        clock: Clock,
        net: Net,
        transfers: Transfers,
        me: PeerId,
        seed: u64,
        flight: Option<FlightFile>,
    ) -> (Self, DriverHandle) {
        let config = EngineConfig { me: Some(me), ..EngineConfig::default() };
        let (sender, orders) = mpsc::channel(ORDERS);
        let (changes, changed) = watch::channel(0);
        let (arrivals, arrived) = watch::channel(0);
        let activity = Arc::new(AtomicU64::new(0));
        let mirrors = Mirrors::new(net.parents_connector());
        let driver = Self {
            flight: flight.map(|file| FlightLog::start(file, &config, seed)),
            engine: Engine::new(config, seed),
            clock,
            net,
            transfers,
            orders,
            changes,
            arrivals,
            activity: Arc::clone(&activity),
            inputs: VecDeque::new(),
            asked: BTreeMap::new(),
            watched: Watches::default(),
            fetches: BTreeMap::new(),
            received: Tally::default(),
            banned: BTreeMap::new(),
            paused: None,
            warnings: VecDeque::new(),
            warned: 0,
            questions: Questions::default(),
            mirrors,
        };
        (driver, DriverHandle::new(sender, changed, arrived, activity))
    }

    /// Runs until stopped; then ends all transfers and makes durable what has arrived.
    pub async fn run(mut self, mut facts: mpsc::Receiver<Fact>, mut events: mpsc::Receiver<NetEvent>, stop: CancellationToken) {
        loop {
            let wake = self.next_wakeup();
            tokio::select! {
                // Facts before orders: who asks how far a blob is sees all that was reported before he asked.
                biased;
                () = stop.cancelled() => break,
                Some(fact) = facts.recv() => self.on_fact(fact),
                Some(event) = events.recv() => self.on_net_event(event),
                Some(order) = self.orders.recv() => self.on_order(order),
                () = sleep_until(wake.map(|wake| self.clock.at(wake))) => self.on_wakeup(),
            }
            while let Some(input) = self.inputs.pop_front() {
                self.handle(input);
            }
        }
        // Transfers report to the end; somebody has to listen, or they would wait.
        let drain = async { while facts.recv().await.is_some() {} };
        tokio::select! {
            () = self.transfers.shutdown() => (),
            () = drain => (),
        }
        if let Some(flight) = self.flight {
            flight.finish().await;
        }
    }

    fn next_wakeup(&self) -> Option<Instant> {
        let unban = self.banned.keys().next().copied();
        let retry = self.paused.as_ref().map(|(_, until)| *until);
        [self.engine.next_wakeup(), unban, retry, self.mirrors.next_wakeup()].into_iter().flatten().min()
    }

    fn on_wakeup(&mut self) {
        let now = self.clock.now();
        while let Some(peer) = self.banned.first_key_value().filter(|(until, _)| **until <= now).map(|(_, peer)| *peer) {
            self.banned.pop_first();
            self.network(peer, "unban", Net::unban);
        }
        if let Some((paused, until)) = self.paused.as_mut().filter(|(_, until)| *until <= now) {
            if paused.full {
                *until = now + ROOM_LOOK;
                self.transfers.look_for_room();
            } else {
                self.resume();
            }
        }
        self.inputs.extend(self.mirrors.review(now));
        self.mirrors.fetch_whole(&self.transfers);
        self.handle(Input::Tick);
    }

    fn handle(&mut self, input: Input) {
        let now = self.clock.now();
        let recorded = self.flight.as_ref().is_some_and(FlightLog::is_open).then(|| input.clone());
        self.engine.handle(now, input);
        let outputs: Vec<Output> = std::iter::from_fn(|| self.engine.poll_output()).collect();
        if let (Some(flight), Some(input)) = (&mut self.flight, recorded) {
            flight.record(now, input, outputs.clone());
        }
        outputs.into_iter().for_each(|output| self.act(output));
    }

    fn on_fact(&mut self, fact: Fact) {
        match fact {
            Fact::Engine(input) => {
                if matches!(input, Input::FetchEnded { .. } | Input::ServeEnded { .. }) {
                    self.activity.fetch_add(1, Ordering::Relaxed);
                }
                if let Input::FetchEnded { request, outcome, verified_groups } = input {
                    self.count(request, verified_groups);
                    self.transfers.ended(request, outcome);
                    self.inputs.extend(self.mirrors.ended(self.clock.now(), request, outcome));
                    if verified_groups > 0 {
                        self.arrivals.send_modify(|generation| *generation += 1);
                    }
                }
                if let Input::SpanLost { blob, .. } = input {
                    self.watched.change(blob);
                }
                self.handle(input);
            }
            Fact::StoreFailed { message, full } => {
                if self.paused.is_none() {
                    warn!(message, "fetching pauses");
                    if !full {
                        self.warn(message.clone());
                    }
                }
                let retry = if full { ROOM_LOOK } else { STORE_RETRY };
                self.paused = Some((Paused { message, full }, self.clock.now() + retry));
                self.changed();
                self.handle(Input::Command(Command::Pause { paused: true }));
            }
            Fact::RoomFound if self.paused.as_ref().is_some_and(|(paused, _)| paused.full) => self.resume(),
            Fact::RoomFound => (),
            Fact::Mirror { mirror, news } => self.on_mirror_news(mirror, news),
        }
    }

    fn resume(&mut self) {
        info!("fetching goes on");
        self.paused = None;
        self.changed();
        self.handle(Input::Command(Command::Pause { paused: false }));
    }

    /// Counts what a source has delivered.
    fn count(&mut self, request: RequestId, verified_groups: u64) {
        let Some(asked) = self.asked.remove(&request) else { return };
        let Some(span) = Span::new(asked.span.start(), asked.span.start() + verified_groups) else { return };
        let bytes = Geometry::of(asked.size).bytes_in(span);
        self.received.count(asked.provider, bytes);
        if let Some(watched) = self.watched.change(asked.blob) {
            *watched.sources.entry(asked.provider).or_default() += bytes;
        }
    }

    fn on_net_event(&mut self, event: NetEvent) {
        let input = match event {
            NetEvent::PeerConnected { peer, class, prefix } => {
                self.transfers.meet(peer, class);
                Input::PeerConnected { peer, class, prefix }
            }
            NetEvent::PeerGone { peer } => {
                self.transfers.forget(peer);
                Input::PeerGone { peer }
            }
            NetEvent::DialFailed { peer } => Input::DialFailed { peer },
            NetEvent::Message { peer, message: Message::Peers { blob, contacts } } => {
                return self.on_contacts(peer, blob, contacts);
            }
            NetEvent::Message { peer, message } => Input::Message { peer, message },
            NetEvent::Malformed { peer } => Input::Malformed { peer },
            NetEvent::ProvidersFound { blob, providers, finished } => {
                self.questions.found(blob, &providers, finished);
                Input::ProvidersFound { blob, providers, finished }
            }
            NetEvent::Bulk { peer, stream } => return self.transfers.accept(peer, stream),
            NetEvent::Parents { peer, asked } => {
                let ParentsRequest { blob, size, span } = asked.request;
                return self.transfers.give_parents(peer, asked, self.engine.offers(blob, size, span));
            }
        };
        self.handle(input);
    }

    /// A peer tells of others. Who wants nothing of the kind does not even keep the addresses: a stranger could fill the book with them.
    fn on_contacts(&self, from: PeerId, blob: BlobHash, contacts: Vec<Contact>) {
        if self.engine.swarms().any(|(swarm, wants)| swarm.0 == blob && !wants.is_empty() || wants.contains(&blob)) {
            self.network(contacts, "learn contacts", |net, contacts| net.learn(from, blob, contacts));
        }
    }

    fn on_order(&mut self, order: Order) {
        match order {
            Order::Engine(command) => self.handle(Input::Command(command)),
            Order::Enter { swarm } => *self.fetches.entry(swarm).or_default() += 1,
            Order::Leave { swarm } => {
                let left = self.fetches.get(&swarm).map_or(0, |fetches| fetches.saturating_sub(1));
                if left > 0 {
                    self.fetches.insert(swarm, left);
                } else {
                    self.fetches.remove(&swarm);
                    self.handle(Input::Command(Command::Leave { swarm }));
                    self.inputs.extend(self.mirrors.leave(swarm));
                }
            }
            Order::Look { swarm, blobs, reply } => {
                // The asker may have gone; then nobody needs the answer.
                let _ = reply.send(self.look(swarm, &blobs));
            }
            Order::News { since, reply } => {
                let _ = reply.send(self.news(since));
            }
            Order::Mirrors { swarm, urls, files, client } => {
                self.inputs.extend(self.mirrors.add(self.clock.now(), swarm, urls, &files, client));
            }
            Order::Watch { blobs } => blobs.into_iter().for_each(|blob| self.watched.watch(blob)),
            Order::Unwatch { blobs } => blobs.into_iter().for_each(|blob| self.watched.unwatch(blob)),
            Order::Release { blobs } => self.transfers.release(blobs),
            Order::Providers { blob, reply } => {
                self.questions.ask(blob, reply);
                self.network(blob, "find providers", Net::find_providers);
            }
            Order::Copies { blobs, reply } => {
                let _ = reply.send(blobs.iter().map(|blob| self.engine.copies(*blob)).min().unwrap_or(0));
            }
            Order::Overview { reply } => {
                let _ = reply.send(self.overview());
            }
        }
    }

    fn act(&mut self, output: Output) {
        let Some(output) = self.act_on_mirror(output) else { return };
        match output {
            Output::Send { peer, message } => {
                if let Err(error) = self.net.send(peer, &message) {
                    debug!(peer = %peer_name(peer), %error, "message not sent");
                }
            }
            Output::Fetch { request, provider, blob, size, span, probe } => {
                if !probe {
                    self.asked.insert(request, Asked { provider, blob, size, span });
                }
                self.transfers.fetch(provider, BulkRequest { request, blob, size, span }, probe);
            }
            // The engine has told the peer; whatever still comes is welcome.
            Output::Cancel { .. } => (),
            Output::Serve { peer, request, blob, span } => self.transfers.serve(peer, request, blob, span),
            Output::Refuse { peer, request, no_credit } => self.transfers.refuse(peer, request, no_credit),
            Output::StopServing { peer, request } => self.transfers.stop_serving(peer, request),
            Output::Dial { peer } => {
                if let Err(error) = self.net.dial(peer, Vec::new()) {
                    debug!(peer = %peer_name(peer), %error, "not dialled");
                    self.inputs.push_back(Input::DialFailed { peer });
                }
            }
            Output::Hangup { peer, reason } => {
                info!(peer = %peer_name(peer), ?reason, "hanging up");
                self.transfers.forget(peer);
                let deed = match reason {
                    HangupReason::Banned => Net::ban,
                    HangupReason::Unresponsive => Net::hangup,
                    // It was told just now where else to go.
                    HangupReason::Full => Net::farewell,
                };
                self.network(peer, "hang up", deed);
            }
            Output::FindProviders { blob } => self.network(blob, "find providers", Net::find_providers),
            Output::Announce { blob } => self.network(blob, "announce", Net::announce),
            Output::Unannounce { blob } => self.network(blob, "unannounce", Net::unannounce),
            Output::Introduce { peer, blob, others } => {
                self.network(others, "introduce", |net, others| net.introduce(peer, blob, others));
            }
            Output::Notify(event) => self.on_event(event),
        }
    }

    fn network<T>(&self, what: T, deed: &str, call: impl Fn(&Net, T) -> Result<(), crate::net::NetError>) {
        if let Err(error) = call(&self.net, what) {
            warn!(%error, deed, "the network did not take it");
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::SizeProved { blob, size } => {
                if let Some(watched) = self.watched.change(blob) {
                    watched.look.size = Some(size);
                }
                self.changed();
            }
            Event::BlobVerified { blob } => {
                let verified = self.engine.progress(blob).map(|progress| progress.verified);
                if let Some(watched) = self.watched.change(blob) {
                    watched.look.complete = true;
                    watched.look.verified = verified.or(watched.look.size).unwrap_or(watched.look.verified);
                }
                self.changed();
            }
            Event::BlobStored { blob } => {
                if let Some(watched) = self.watched.change(blob) {
                    watched.look.stored = true;
                    watched.look.complete = true;
                }
                self.changed();
            }
            Event::SizeDisputed { blob, peer, claimed } => {
                warn!(peer = %peer_name(peer), %blob, claimed, "provider holds the blob with another size than the manifest says");
                if let Some(watched) = self.watched.change(blob) {
                    watched.look.disputed = Some(claimed);
                }
            }
            Event::Struck { peer, misdeed: Misdeed::Unsolicited, .. } => {
                debug!(peer = %peer_name(peer), "asked without credit");
            }
            Event::Struck { peer, misdeed, blob } => {
                warn!(peer = %peer_name(peer), ?misdeed, blob = blob.map(|blob| blob.short()), "strike");
            }
            Event::Banned { peer, until } => {
                let lasts = until.since(self.clock.now());
                warn!(peer = %peer_name(peer), ?lasts, "banned");
                self.warn(format!("peer {} is banned: it broke its promises; the others go on", peer_name(peer)));
                let mut at = until;
                while self.banned.contains_key(&at) {
                    at = at + Duration::from_nanos(1);
                }
                self.banned.insert(at, peer);
            }
            Event::LeaveSafe { blob } => debug!(%blob, "others hold all that this node holds of it"),
            Event::Damaged { blob, span } => warn!(%blob, ?span, "damaged"),
        }
    }

    fn warn(&mut self, message: String) {
        self.warned += 1;
        self.warnings.push_back((self.warned, message));
        if self.warnings.len() > WARNINGS {
            self.warnings.pop_front();
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|generation| *generation += 1);
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
