//! The world: everybody's state, the agenda, and the loop that moves from one happening to the next. What an engine's wishes become
//! lies in `acts`, what a happening becomes for an engine in `arrivals`, connections in `meetings`, blocks in `blocks`, the links they
//! share in `crossings`, disks in `disks`, what befalls the world in `troubles`, who goes in `leaving`, how it looks in `moments`.

mod acts;
mod arrivals;
mod blocks;
mod crossings;
mod disks;
mod leaving;
mod looks;
mod meetings;
mod moments;
mod progress;
mod sampling;
mod troubles;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use p2pweights_protocol::engine::{Engine, Input};
use p2pweights_protocol::geometry::Span;
use p2pweights_protocol::ids::{BlobHash, PeerId, RequestId};
use p2pweights_protocol::random::Random;
use p2pweights_protocol::time::Instant;
use p2pweights_protocol::wire::Message;

use crate::agenda::Agenda;
use crate::check::{Checker, Rule};
use crate::copies::Copies;
use crate::cuts::Cuts;
use crate::directory::Directory;
use crate::host::Host;
use crate::names::Names;
use crate::network::{ConnectionId, HostId, Network};
use crate::recording::Recording;
use crate::report::{Report, Traffic};
use crate::routes::{Routes, Way};
use crate::scenario::{Fault, Scenario, SiteId};
use crate::sites::Sites;
use crate::trace::Trace;
use crate::transfers::{Block, Transfers};
use crossings::Crossing;
use disks::Writing;
use looks::Looks;
use moments::Moments;
use progress::PROGRESS_EVERY;
use troubles::Side;

pub use progress::Progress;

/// Violations after which a world ends early.
const VIOLATIONS: usize = 5;

/// Something that is going to happen. Much of it waits at a time, so what is long lies elsewhere.
#[derive(Debug, Clone)]
enum Happening {
    Begin(HostId),
    Fault(Box<Fault>),
    Wake(HostId),
    /// A fact that arises within a host, for the engine it was meant for.
    Fact(HostId, u64, Box<Input>),
    Sync(HostId, u64),
    Beat(HostId, u64),
    Sample,
    /// The directory learns of a provider, or that it is none any more.
    Recorded(HostId, Box<BlobHash>, bool),
    LookedUp(HostId, u64, Box<BlobHash>),
    DialArrives {
        from: HostId,
        to: HostId,
    },
    DialFails {
        from: HostId,
        to: HostId,
    },
    DialAnswered {
        from: HostId,
        to: HostId,
        connection: ConnectionId,
    },
    Gone {
        here: HostId,
        there: HostId,
        connection: ConnectionId,
    },
    Arrives {
        from: HostId,
        to: HostId,
        connection: ConnectionId,
        what: Box<Parcel>,
    },
    /// A block's last byte leaves the uplink.
    BlockOut(HostId, u64, u64),
    /// The receiver has taken a block in as far as its sender can tell.
    BlockSent(HostId, u64, u64),
    FirstByte(u64),
    LastByte(u64),
    /// A shared link is free for the next block.
    WayFree(Way),
    /// A block that could not leave tries again.
    Stalled(HostId, u64, Box<Block>),
    /// A block is on a slow disk.
    Written(HostId, u64, Box<Writing>),
    /// A host's owner lets it go on after its disk failed.
    Resumes(HostId, u64),
    SiteDown(SiteId, Instant),
    SiteUp(SiteId),
    /// Connections across a cut are noticed to be dead.
    Noticed(Side),
    /// A host's link has its rate again.
    Quick(HostId),
    Leaves(HostId),
    /// A host looks for others on its local network.
    LooksAround(HostId, u64),
    Moment,
}

/// What travels over a connection, payload left out.
#[derive(Debug, Clone)]
enum Parcel {
    Message(Message),
    Babble,
    Request {
        request: RequestId,
        blob: BlobHash,
        size: u64,
        span: Span,
    },
    Refusal {
        request: RequestId,
        no_credit: bool,
    },
    /// The sender could not go on.
    Broken {
        request: RequestId,
    },
    /// Where others can be reached.
    Introduction {
        blob: BlobHash,
        others: Vec<PeerId>,
    },
}

/// A running world.
#[derive(Debug)]
pub struct World {
    scenario: Scenario,
    agenda: Agenda<Happening>,
    hosts: Vec<Host>,
    names: Names,
    sizes: BTreeMap<BlobHash, u64>,
    network: Network,
    transfers: Transfers,
    directory: Directory,
    random: Random,
    checker: Checker,
    trace: Trace,
    traffic: Traffic,
    events_per_second: Vec<u64>,
    /// What engines are told, if that is to be kept.
    recording: Option<Recording>,
    routes: Routes,
    sites: Sites,
    crossings: BTreeMap<u64, Crossing>,
    cuts: Cuts,
    copies: Copies,
    moments: Moments,
    /// Fetchers that have not finished and may yet.
    awaited: usize,
    /// When the last sleeper wakes up.
    all_awake_at: Instant,
    /// Pieces that are gone while somebody wants them, once nothing else can be done.
    gone_pieces: Vec<(BlobHash, u32)>,
    /// What idles, and since when.
    looks: Looks,
    /// When there was nothing left to wait for.
    done_at: Option<Instant>,
}

impl World {
    /// Runs a scenario to its end.
    pub fn run(scenario: Scenario) -> Report {
        Self::run_with(scenario, &mut |_| ControlFlow::Continue(()))
    }

    /// Runs a scenario to its end, or until whoever is told how far it is wants no more.
    pub fn run_with(scenario: Scenario, watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>) -> Report {
        let mut world = Self::new(scenario);
        world.proceed(watch);
        world.report()
    }

    /// Runs a scenario to its end, and keeps what the engines of every so many hosts are told.
    pub fn record(scenario: Scenario, every: usize) -> (Report, Recording) {
        let recording = Recording::new(scenario.engine.clone(), every, scenario.hosts.len());
        let mut world = Self::new(scenario);
        world.recording = Some(recording);
        world.proceed(&mut |_| ControlFlow::Continue(()));
        let recording = world.recording.take().expect("put there above");
        (world.report(), recording)
    }

    fn proceed(&mut self, watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>) {
        let mut happened = 0_u32;
        while let Some(next) = self.agenda.next_at() {
            happened = happened.wrapping_add(1);
            if happened.is_multiple_of(PROGRESS_EVERY) && watch(&self.progress()).is_break() {
                break;
            }
            let until = Instant::START + self.scenario.until;
            if next > until || self.trace.events() >= self.scenario.max_events {
                break;
            }
            if self.done_at.is_some_and(|at| next > at + self.scenario.linger) || self.checker.violations().len() >= VIOLATIONS {
                break;
            }
            let Some(happening) = self.agenda.pop() else { break };
            self.happen(happening);
            if self.done_at.is_none() && (self.awaited == 0 || !self.gone_pieces.is_empty()) {
                self.done_at = Some(self.now());
            }
        }
    }

    fn new(scenario: Scenario) -> Self {
        let hosts: Vec<Host> =
            scenario.hosts.iter().enumerate().map(|(index, plan)| Host::new(HostId(index), plan.clone())).collect();
        let sizes: BTreeMap<BlobHash, u64> = scenario.swarms.iter().flatten().copied().collect();
        let mut world = Self {
            agenda: Agenda::new(),
            names: hosts.iter().enumerate().map(|(index, host)| (host.peer, HostId(index))).collect(),
            checker: Checker::new(hosts.len(), scenario.books_every, sizes.clone(), scenario.lans()),
            hosts,
            sizes,
            network: Network::default(),
            transfers: Transfers::default(),
            directory: Directory::default(),
            random: Random::new(scenario.seed),
            trace: Trace::new(scenario.keep_lines),
            traffic: Traffic::default(),
            events_per_second: Vec::new(),
            recording: None,
            routes: Routes::new(&scenario),
            sites: Sites::new(&scenario.sites, scenario.relay),
            crossings: BTreeMap::new(),
            cuts: Cuts::new(scenario.sites.len()),
            copies: Copies::new(scenario.swarms.iter().flatten().copied()),
            moments: Moments::new(scenario.bound()),
            awaited: 0,
            all_awake_at: Instant::START,
            gone_pieces: Vec::new(),
            looks: Looks::default(),
            done_at: None,
            scenario,
        };
        world.prepare();
        world
    }

    fn prepare(&mut self) {
        for (index, plan) in self.scenario.hosts.iter().enumerate() {
            let host = HostId(index);
            self.agenda.at(Instant::START + plan.starts_at, Happening::Begin(host));
            for (blob, size) in self.scenario.blobs_of(host) {
                for span in plan.holding.of(p2pweights_protocol::geometry::Geometry::of(size)) {
                    if plan.vice.is_none() {
                        self.checker.place(host, blob, span);
                    }
                    self.hosts[index].store.place(blob, span);
                    if let Some(site) = plan.site {
                        self.sites.sees(site, blob, size, span, false);
                    }
                }
            }
            self.awaited += usize::from(self.hosts[index].is_awaited());
        }
        // A world in which nobody fetches goes on until its time is over.
        self.awaited += usize::from(self.awaited == 0);
        (0..self.hosts.len()).for_each(|index| self.count_copies(HostId(index), |count| count.lasting += 1));
        for (index, site) in self.scenario.sites.iter().enumerate() {
            for (from, to) in &site.outages {
                self.agenda.at(Instant::START + *from, Happening::SiteDown(SiteId(index), Instant::START + *to));
            }
        }
        for fault in self.scenario.faults.clone() {
            self.agenda.at(Instant::START + fault.at, Happening::Fault(Box::new(fault)));
        }
        self.agenda.now_too(Happening::Sample);
        self.after(self.moments.step(), Happening::Moment);
    }

    fn now(&self) -> Instant {
        self.agenda.now()
    }

    fn after(&mut self, delay: Duration, happening: Happening) {
        self.agenda.at(self.agenda.now() + delay, happening);
    }

    fn host(&mut self, host: HostId) -> &mut Host {
        &mut self.hosts[host.0]
    }

    /// One way between two hosts.
    fn latency(&self, from: HostId, to: HostId) -> Duration {
        self.routes.latency(from, to)
    }

    /// Until when nothing passes in this direction.
    fn cut(&self, from: HostId, to: HostId) -> Option<Instant> {
        if self.cuts.is_quiet(self.now()) {
            return None;
        }
        let place = |host: HostId| (host, self.hosts[host.0].plan.site);
        self.cuts.between(self.now(), place(from), place(to))
    }

    /// Gives an engine a fact, checks what must hold, and acts on its wishes.
    fn feed(&mut self, id: HostId, input: Input) {
        let now = self.now();
        self.trace.note(now, id, &input);
        let second = usize::try_from(now.0 / 1_000_000_000).unwrap_or(usize::MAX);
        if second >= self.events_per_second.len() {
            self.events_per_second.resize(second + 1, 0);
        }
        self.events_per_second[second] += 1;
        let host = &mut self.hosts[id.0];
        let honest = host.is_honest();
        let Some(engine) = &mut host.engine else { return };
        if let Some(recording) = &mut self.recording {
            recording.told(id, now, &input);
        }
        host.report.steps += 1;
        host.report.wakeups += u64::from(matches!(input, Input::Tick));
        if honest {
            self.checker.input(now, id, &input);
        }
        let stored = if let Input::SpanStored { blob, span, .. } = input { Some((blob, span)) } else { None };
        engine.handle(now, input);
        let check = host.report.steps.is_multiple_of(self.scenario.check_every);
        if check {
            engine.check_invariants();
        }
        if let (true, Some(stored)) = (honest, stored) {
            self.checker.offers(now, id, engine, stored, check);
        }
        let wake_at = engine.next_wakeup();
        if let Some(at) = wake_at.filter(|at| *at <= now) {
            self.checker.blame(now, id, Rule::I8, format!("wants to be woken at {at:?} again and again"));
        } else if wake_at != host.wake_at {
            host.wake_at = wake_at;
            wake_at.into_iter().for_each(|at| self.agenda.at(at, Happening::Wake(id)));
        }
        // What is done about a wish comes back as a fact of its own, later: the engine is not touched in between.
        while let Some(output) = self.hosts[id.0].engine.as_mut().and_then(Engine::poll_output) {
            self.trace.note(now, id, &output);
            if honest {
                self.checker.output(now, id, &output);
            }
            self.act(id, output);
        }
    }

    fn report(mut self) -> Report {
        self.look_back();
        let mut bad_groups_kept = 0;
        let sites = self.site_reports();
        let bounds = self.scenario.bounds();
        for (index, host) in self.hosts.iter_mut().enumerate() {
            host.report.bound = bounds[index];
            if host.is_honest() {
                let blobs = host.plan.swarms.iter().flat_map(|swarm| &self.scenario.swarms[*swarm]);
                let bad = |blob| self.checker.bad_groups(HostId(index), blob, host.store.durable(blob));
                bad_groups_kept += blobs.map(|(blob, _)| bad(*blob)).sum::<u64>();
            }
            host.report.uplink_busy += host.uplink.busy_time();
            let Some(engine) = &host.engine else { continue };
            let blobs = host.plan.swarms.iter().flat_map(|swarm| &self.scenario.swarms[*swarm]);
            host.report.unavailable =
                blobs.filter_map(|(blob, _)| engine.progress(*blob)).map(|progress| progress.unavailable).sum();
        }
        Report {
            ended_at: self.agenda.now(),
            bound: self.scenario.bound(),
            copy_bytes: self.scenario.awaited().into_iter().map(|host| self.scenario.bytes_wanted(host)).max().unwrap_or(0),
            fetchers: self.scenario.awaited(),
            gone_pieces: self.gone_pieces,
            bad_groups_kept,
            sites,
            moments: self.moments.into_moments(),
            traffic: self.traffic,
            ran_out_of_events: self.trace.events() >= self.scenario.max_events,
            events: self.trace.events(),
            digest: self.trace.digest(),
            lines: self.trace.into_lines(),
            violations: self.checker.into_violations(),
            events_per_second: self.events_per_second,
            groups: self.scenario.groups,
            hosts: self.hosts.into_iter().map(|host| host.report).collect(),
        }
    }
}
