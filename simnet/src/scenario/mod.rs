//! A world before it begins: who is there, how they are attached, what they hold and want, and what befalls them. A plain description;
//! everything that is left to chance follows from its seed.

mod bound;
mod fault;
mod host;
mod site;

use std::collections::BTreeMap;
use std::time::Duration;

use p2pweights_protocol::engine::{EngineConfig, Order};
use p2pweights_protocol::ids::{BlobHash, Prefix};

pub use fault::{Fault, Trouble};
pub use host::{Disk, Holding, HostPlan, Nat, Stay};
pub use site::{Site, SiteId};

use crate::hostile::Vice;
use crate::link::Link;
use crate::network::HostId;

/// How long things take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From the first write to the sync that makes it and all others until then durable.
    pub sync_delay: Duration,
    /// A look-up in the directory.
    pub lookup: Duration,
    /// From an announcement until look-ups find it.
    pub announce: Duration,
    /// Until the peers of a host that crashed notice.
    pub crash_notice: Duration,
    /// Until a dial to a host that is away fails.
    pub dial_timeout: Duration,
    /// A beat of a scripted character.
    pub beat: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            sync_delay: Duration::from_millis(100),
            lookup: Duration::from_millis(300),
            announce: Duration::from_millis(200),
            crash_notice: Duration::from_secs(3),
            dial_timeout: Duration::from_secs(5),
            beat: Duration::from_millis(50),
        }
    }
}

/// The one network that Sybils are in, unless told otherwise.
const SYBILS: Prefix = Prefix(u64::MAX);

/// A world before it begins.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// All that is left to chance.
    pub seed: u64,
    /// The blobs of each swarm, by name and size; a swarm is named by its first blob.
    pub swarms: Vec<Vec<(BlobHash, u64)>>,
    /// What kinds of hosts there are, by name.
    pub groups: Vec<String>,
    /// Places whose hosts share a link.
    pub sites: Vec<Site>,
    /// Everybody.
    pub hosts: Vec<HostPlan>,
    /// Of a thousand pairs of hosts behind NATs, how many can punch a hole; the others need the relay.
    pub punch_permille: u64,
    /// The relay's link, which all relayed blocks share; `None`: no relay, such pairs cannot meet.
    pub relay: Option<Link>,
    /// What befalls them.
    pub faults: Vec<Fault>,
    /// How long things take.
    pub timing: Timing,
    /// The engines' settings.
    pub engine: EngineConfig,
    /// The world ends at this time, if not before.
    pub until: Duration,
    /// The world goes on for so long after every fetcher has finished.
    pub linger: Duration,
    /// The world ends after so many events: a storm must not run for ever.
    pub max_events: u64,
    /// Every so many steps of a host its engine's invariants are checked.
    pub check_every: u64,
    /// The checker keeps books of every so many hosts.
    pub books_every: usize,
    /// So many lines of what happened last are kept.
    pub keep_lines: usize,
    /// Where the hosts added last begin.
    last: usize,
}

impl Scenario {
    /// An empty world.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            swarms: Vec::new(),
            groups: Vec::new(),
            sites: Vec::new(),
            hosts: Vec::new(),
            punch_permille: 1000,
            relay: None,
            faults: Vec::new(),
            timing: Timing::default(),
            engine: EngineConfig::default(),
            until: Duration::from_secs(600),
            linger: Duration::ZERO,
            max_events: 5_000_000,
            check_every: 1,
            books_every: 1,
            keep_lines: 0,
            last: 0,
        }
    }

    /// A swarm around one blob. Hosts added afterwards are part of it.
    pub fn blob(self, size: u64) -> Self {
        self.manifest(&[size])
    }

    /// A swarm around several blobs; the first stands for the manifest.
    pub fn manifest(mut self, sizes: &[u64]) -> Self {
        let swarm = self.swarms.len();
        let name = |index| BlobHash::of(format!("swarm {swarm} blob {index}").as_bytes());
        self.swarms.push(sizes.iter().enumerate().map(|(index, size)| (name(index), *size)).collect());
        self
    }

    /// Hosts that hold everything.
    pub fn seeds(self, count: usize, link: Link) -> Self {
        self.add("seeds", count, link, |plan| plan.holding = Holding::All)
    }

    /// Hosts that hold what is drawn (`#`) and fetch nothing.
    pub fn partial(self, drawing: &str, link: Link) -> Self {
        self.add("partial", 1, link, |plan| plan.holding = Holding::Drawn(drawing.into()))
    }

    /// Hosts that want everything.
    pub fn fetchers(self, count: usize, link: Link) -> Self {
        self.add("fetchers", count, link, |plan| plan.fetches = true)
    }

    /// Hosts with a vice, who say they hold everything; leeches hold nothing and fetch.
    pub fn hostile(self, vice: Vice, count: usize, link: Link) -> Self {
        self.add("hostile", count, link, |plan| {
            plan.vice = Some(vice);
            match vice {
                Vice::Leech => plan.fetches = true,
                Vice::Sybil => (plan.holding, plan.prefix) = (Holding::All, SYBILS),
                _ => plan.holding = Holding::All,
            }
        })
    }

    /// Adds hosts that hold and fetch nothing but for what `change` says. Groups of one name are one group.
    pub fn add(mut self, group: &str, count: usize, link: Link, change: impl Fn(&mut HostPlan)) -> Self {
        self.last = self.hosts.len();
        let known = self.groups.iter().position(|name| name == group);
        let group = known.unwrap_or_else(|| {
            self.groups.push(group.into());
            self.groups.len() - 1
        });
        for _ in 0..count {
            let mut plan = HostPlan {
                group,
                link,
                site: None,
                nat: Nat::Open,
                // Each host in a network of its own, unless told otherwise.
                prefix: Prefix(1 + self.hosts.len() as u64),
                disk: Disk::default(),
                holding: Holding::Nothing,
                fetches: false,
                order: Order::default(),
                vice: None,
                starts_at: Duration::ZERO,
                stay: Stay::Forever,
                knows_sizes: true,
                swarms: (0..self.swarms.len()).collect(),
            };
            change(&mut plan);
            self.hosts.push(plan);
        }
        self
    }

    /// The hosts added last hold what is drawn.
    pub fn holding(self, drawing: &str) -> Self {
        self.last_group(|plan| plan.holding = Holding::Drawn(drawing.into()))
    }

    /// The hosts added last begin later.
    pub fn starting_at(self, at: Duration) -> Self {
        self.last_group(|plan| plan.starts_at = at)
    }

    /// The hosts added last know hashes, but no sizes.
    pub fn without_sizes(self) -> Self {
        self.last_group(|plan| plan.knows_sizes = false)
    }

    /// The hosts added last are part of one swarm only.
    pub fn in_swarm(self, swarm: usize) -> Self {
        self.last_group(|plan| plan.swarms = vec![swarm])
    }

    fn last_group(mut self, change: impl Fn(&mut HostPlan)) -> Self {
        self.hosts[self.last..].iter_mut().for_each(change);
        self
    }

    /// A host crashes, and comes back after a while.
    pub fn crash(mut self, at: Duration, host: usize, away: Duration) -> Self {
        self.faults.push(Fault { at, what: Trouble::Crash { host: HostId(host), away: Some(away) } });
        self
    }

    /// A host crashes for good.
    pub fn die(mut self, at: Duration, host: usize) -> Self {
        self.faults.push(Fault { at, what: Trouble::Crash { host: HostId(host), away: None } });
        self
    }

    /// The world ends at this time, if not before.
    pub fn until(mut self, until: Duration) -> Self {
        self.until = until;
        self
    }

    /// The world goes on for so long after the last fetcher has finished.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// How long things take.
    pub fn timing(mut self, change: impl FnOnce(&mut Timing)) -> Self {
        change(&mut self.timing);
        self
    }

    /// The engines' settings.
    pub fn engine(mut self, change: impl FnOnce(&mut EngineConfig)) -> Self {
        change(&mut self.engine);
        self
    }

    /// The engines' invariants are checked every so many steps: in large worlds each step would cost too much.
    pub fn check_every(mut self, steps: u64) -> Self {
        self.check_every = steps.max(1);
        self
    }

    /// The checker keeps books of every so many hosts only: in the largest worlds, those of all would cost too much memory.
    pub fn books_every(mut self, hosts: usize) -> Self {
        self.books_every = hosts.max(1);
        self
    }

    /// So many lines of what happened last are kept in the report.
    pub fn keep_lines(mut self, lines: usize) -> Self {
        self.keep_lines = lines;
        self
    }

    /// The blobs that a host deals with.
    pub fn blobs_of(&self, host: HostId) -> Vec<(BlobHash, u64)> {
        self.hosts[host.0].swarms.iter().flat_map(|swarm| self.swarms[*swarm].iter().copied()).collect()
    }

    /// The members of each local network.
    pub fn lans(&self) -> BTreeMap<SiteId, Vec<HostId>> {
        let mut lans: BTreeMap<SiteId, Vec<HostId>> = BTreeMap::new();
        for (index, plan) in self.hosts.iter().enumerate() {
            if let Some(site) = plan.site.filter(|site| self.sites[site.0].lan) {
                lans.entry(site).or_default().push(HostId(index));
            }
        }
        lans
    }

    /// The true size of a blob; 0 if the world has no such blob.
    pub fn size_of(&self, blob: BlobHash) -> u64 {
        self.swarms.iter().flatten().find(|(name, _)| *name == blob).map_or(0, |(_, size)| *size)
    }
}

/// Payload and its proof: 64 bytes a parent, about one parent a group.
pub fn wire_bytes(payload: u64) -> u64 {
    payload + payload.div_ceil(p2pweights_protocol::geometry::GROUP_BYTES) * 64
}
