//! One host: an engine, its disk, its link, and what is under way between them. The state that a driver keeps; what is done with it
//! lies in `world`.

use std::collections::{BTreeMap, BTreeSet};

use p2pweights_protocol::engine::{Command, Engine, EngineConfig, Want};
use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::{BlobHash, PeerId, RequestId, SwarmId};
use p2pweights_protocol::span_set::SpanSet;
use p2pweights_protocol::time::Instant;

use crate::drive::Drive;
use crate::hostile::Vice;
use crate::link::{Downlink, Uplink};
use crate::network::{ConnectionId, HostId};
use crate::report::HostReport;
use crate::scenario::{HostPlan, Stay};
use crate::small_map::SmallMap;
use crate::store::Store;
use crate::transfers::Block;

/// A request that has not ended.
#[derive(Debug, Clone, Copy)]
pub struct Fetching {
    /// Whom it was asked of.
    pub provider: HostId,
    /// Over which connection.
    pub connection: ConnectionId,
    /// The blob.
    pub blob: BlobHash,
    /// The groups.
    pub span: Span,
    /// Whether its bytes are only to be proved, not written.
    pub probe: bool,
}

/// One host.
#[derive(Debug)]
pub struct Host {
    /// Its name.
    pub peer: PeerId,
    /// How it was meant.
    pub plan: HostPlan,
    /// Its engine while it runs; a scripted host has none.
    pub engine: Option<Engine>,
    /// Whether it is there.
    pub up: bool,
    /// How many times it has begun.
    pub incarnation: u64,
    /// Its disk.
    pub store: Store,
    /// Its sending side.
    pub uplink: Uplink<Block>,
    /// Its receiving side.
    pub downlink: Downlink,
    /// What it has asked for.
    pub fetching: SmallMap<RequestId, Fetching>,
    /// What it is serving: for whom, under which name, over which connection.
    pub serving: SmallMap<(HostId, RequestId), ConnectionId>,
    /// The wake-up that counts; others are stale.
    pub wake_at: Option<Instant>,
    /// Whether a sync is due.
    pub sync_due: bool,
    /// How its disk behaves.
    pub drive: Drive,
    /// Its engine was told to ask for nothing until then.
    pub paused_until: Option<Instant>,
    /// Nothing happens to it until then.
    pub asleep_until: Instant,
    /// Its link is slowed down until then.
    pub slow_until: Instant,
    /// It has gone for good.
    pub gone: bool,
    /// The bytes sent with which it goes for good.
    pub leaves_at_sent: u64,
    /// Blobs that its engine says it could leave without loss.
    pub safe: BTreeSet<BlobHash>,
    /// Blocks that it has begun to serve.
    pub served: u64,
    /// What it had verified and then lost.
    pub lost: BTreeMap<BlobHash, SpanSet>,
    /// Sizes proved to a host that knew none.
    pub sizes_known: BTreeSet<BlobHash>,
    /// What is noted for the report.
    pub report: HostReport,
}

impl Host {
    /// A host that has not begun.
    pub fn new(id: HostId, plan: HostPlan) -> Self {
        let peer = PeerId(BlobHash::of(format!("host {}", id.0).as_bytes()).0);
        Self {
            peer,
            engine: None,
            up: false,
            incarnation: 0,
            store: Store::default(),
            uplink: Uplink::new(plan.link.up_bytes_per_s),
            downlink: Downlink::new(plan.link.down_bytes_per_s),
            fetching: SmallMap::new(),
            serving: SmallMap::new(),
            wake_at: None,
            sync_due: false,
            drive: Drive::new(plan.disk),
            paused_until: None,
            asleep_until: Instant::START,
            slow_until: Instant::START,
            gone: false,
            leaves_at_sent: u64::MAX,
            safe: BTreeSet::new(),
            served: 0,
            lost: BTreeMap::new(),
            sizes_known: BTreeSet::new(),
            report: HostReport { group: plan.group, ..HostReport::default() },
            plan,
        }
    }

    /// Whether it plays by the rules.
    pub fn is_honest(&self) -> bool {
        self.plan.vice.is_none()
    }

    /// Whether the others can have what it holds.
    pub fn gives(&self) -> bool {
        self.plan.vice.is_none_or(Vice::gives)
    }

    /// Whether it is to finish, and has not.
    pub fn is_awaited(&self) -> bool {
        self.plan.fetches && self.is_honest() && !self.gone && self.report.finished_at.is_none()
    }

    /// It has finished, or had nothing to fetch: from now on its stay may end with what it sends.
    pub fn count_down(&mut self, held_bytes: u64, piece_bytes: u64) {
        self.leaves_at_sent = match self.plan.stay {
            Stay::Sent(permille) => u64::try_from(u128::from(held_bytes) * u128::from(permille) / 1000).unwrap_or(u64::MAX),
            Stay::ExtraPieces(pieces) => self.report.sent + pieces * piece_bytes,
            Stay::Forever | Stay::LeaveSafe | Stay::After(_) => u64::MAX,
        };
    }

    /// It had verified this and has lost it.
    pub fn lose(&mut self, blob: BlobHash, span: Span) {
        self.lost.entry(blob).or_default().insert(span);
    }

    /// Whether a group has been asked for and not come yet.
    pub fn asked_for(&self, blob: BlobHash, group: u64) -> bool {
        let of_blob = self.fetching.values().filter(|fetching| fetching.blob == blob && !fetching.probe);
        of_blob.map(|fetching| fetching.span).any(|span| (span.start()..span.end()).contains(&group))
    }

    /// Begins, with a new engine; returns what its owner orders.
    pub fn begin(&mut self, config: &EngineConfig, seed: u64, swarms: &[Vec<(BlobHash, u64)>]) -> Vec<Command> {
        self.up = true;
        self.incarnation += 1;
        if self.plan.vice.is_some_and(Vice::is_scripted) {
            return Vec::new();
        }
        let config = EngineConfig { me: Some(self.peer), ..config.clone() };
        self.engine = Some(Engine::new(config, self.engine_seed(seed)));
        let mut commands = Vec::new();
        for swarm in self.plan.swarms.iter().map(|swarm| &swarms[*swarm]) {
            let wants = self.wants(swarm, &mut commands);
            if let (Some((name, _)), false) = (swarm.first(), wants.is_empty()) {
                commands.push(Command::Join { swarm: SwarmId(*name), wants, providers: Vec::new() });
            }
        }
        commands
    }

    /// The seed of the engine that it has now, in a world with this seed.
    pub fn engine_seed(&self, world: u64) -> u64 {
        let seed = BlobHash::of(format!("{world} {:?} {}", self.peer, self.incarnation).as_bytes());
        u64::from_le_bytes(seed.0[..8].try_into().expect("eight bytes"))
    }

    fn wants(&self, swarm: &[(BlobHash, u64)], commands: &mut Vec<Command>) -> Vec<Want> {
        let mut wants = Vec::new();
        for &(blob, size) in swarm {
            let complete = self.store.is_complete(blob, size);
            if self.plan.fetches && !complete {
                wants.push(self.want(blob, size));
            } else if let Some((size, held)) = self.claim(blob, size) {
                commands.push(Command::Offer { blob, size, held });
            }
        }
        wants
    }

    /// What it wants of a blob, with what it knows and holds.
    pub fn want(&self, blob: BlobHash, size: u64) -> Want {
        let known = self.plan.knows_sizes || self.sizes_known.contains(&blob);
        let held = if known { self.store.durable(blob).runs().collect() } else { SpanSet::new() };
        Want { blob, size: known.then_some(size), held, order: self.plan.order }
    }

    /// What it says it holds of a blob, and with what size.
    fn claim(&self, blob: BlobHash, size: u64) -> Option<(u64, SpanSet)> {
        let size = if self.plan.vice == Some(Vice::SizeLiar) { size * 2 + 1 } else { size };
        let held: SpanSet = match self.plan.vice {
            None | Some(Vice::Leech) => self.store.durable(blob).runs().collect(),
            Some(_) => Geometry::of(size).whole().into_iter().collect(),
        };
        (!held.is_empty()).then_some((size, held))
    }

    /// Stops at once: memory and what was not synced are gone.
    pub fn crash(&mut self) -> u64 {
        self.up = false;
        self.engine = None;
        self.wake_at = None;
        self.sync_due = false;
        self.fetching.clear();
        self.serving.clear();
        self.paused_until = None;
        self.asleep_until = Instant::START;
        self.safe.clear();
        self.drive.crash();
        self.report.uplink_busy += self.uplink.busy_time();
        let (up, down) = (self.uplink.permille(), self.downlink.permille());
        self.uplink = Uplink::new(self.plan.link.up_bytes_per_s);
        self.downlink = Downlink::new(self.plan.link.down_bytes_per_s);
        self.throttle(up.min(down));
        for (blob, span) in self.store.pending() {
            self.lose(blob, span);
        }
        self.store.crash()
    }

    /// Its link carries only so many thousandths of its rate from now on.
    pub fn throttle(&mut self, permille: u64) {
        self.uplink.throttle(permille);
        self.downlink.throttle(permille);
    }
}
