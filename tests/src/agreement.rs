//! The same swarm twice: in simnet, and with real nodes on loopback whose links are made of caps. Both run the same engine; what differs
//! is everything around it, so how far their times agree says how far simnet can be believed.

use std::num::NonZeroU64;
use std::time::Duration;

use p2pweights_node::config::{NodeConfig, RateLimits};
use p2pweights_node::report::FetchEvent;
use p2pweights_simnet::{Link, Scenario, World as SimulatedWorld};
use tokio::time::Instant;

use crate::content::write_model;
use crate::heartbeat::Heartbeat;
use crate::nodes::{Fetch, TCP, TestNode, World, request};
use crate::wait::eventually;

/// Bytes a second of one Mbit/s.
pub const MBIT: u64 = 1_000_000 / 8;
/// When the fetchers of the simulated swarm begin: its source has been announced by then, as the real one has.
const BEGIN: Duration = Duration::from_secs(2);
/// On loopback a look-up asks one node, an announcement tells one: a few milliseconds each, most of them ours.
const LOOKUP: Duration = Duration::from_millis(10);

/// One source with a model of one large file, and fetchers who all begin at once; every link is the same.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// How many fetch.
    pub fetchers: usize,
    /// Bytes a second out of each node.
    pub up_bytes_per_s: u64,
    /// Bytes a second into each node.
    pub down_bytes_per_s: u64,
    /// Size of the file.
    pub bytes: usize,
}

/// How long a swarm took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Until the first fetcher held everything, durably.
    pub first: Duration,
    /// Until the last one did.
    pub last: Duration,
}

/// The same swarm twice.
#[derive(Debug, Clone, Copy)]
pub struct Agreement {
    /// What no protocol can beat.
    pub bound: Duration,
    /// In simnet.
    pub simulated: Times,
    /// With real nodes.
    pub real: Times,
    /// Of a thousand parts of the real run, how many this machine gave to others for so long at a time that no cap could catch up: if there
    /// are more than a few, the real time says something about the machine.
    pub stalled_permille: u64,
}

impl Agreement {
    /// The real time of the last against the simulated one, in thousandths.
    pub fn ratio_permille(&self) -> u64 {
        u64::try_from(self.real.last.as_nanos() * 1000 / self.simulated.last.as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    /// Whether the machine could hold the caps, so that the ratio means something.
    pub fn is_fair(&self) -> bool {
        self.stalled_permille <= 20
    }
}

impl Case {
    /// Runs it both ways.
    pub async fn run(&self) -> Agreement {
        let scenario = self.scenario();
        let bound = scenario.bound().saturating_sub(BEGIN);
        let simulated = simulated(scenario);
        let (real, stalled_permille) = self.real().await;
        Agreement { bound, simulated, real, stalled_permille }
    }

    fn scenario(&self) -> Scenario {
        let link = Link { up_bytes_per_s: self.up_bytes_per_s, down_bytes_per_s: self.down_bytes_per_s, ..Link::mbit(0, 0, 0) };
        Scenario::new(1)
            .blob(self.bytes as u64)
            .seeds(1, link)
            .fetchers(self.fetchers, link)
            .starting_at(BEGIN)
            .timing(|timing| (timing.lookup, timing.announce) = (LOOKUP, LOOKUP))
            .check_every(100)
    }

    async fn real(&self) -> (Times, u64) {
        let world = World::new();
        write_model(&world.path("model"), 1, &[self.bytes]);
        let source = TestNode::start(self.config(&world, "source", &[])).await;
        let published = source.publish(&world.path("model")).await;
        let mut nodes = Vec::new();
        for index in 0..self.fetchers {
            let node = TestNode::start(self.config(&world, &format!("fetcher-{index}"), &[&source.address])).await;
            eventually("a connection to the source", async || node.is_connected(&source.peer_id).await.then_some(())).await;
            nodes.push(node);
        }
        let heartbeat = Heartbeat::start();
        let fetches = nodes.iter().enumerate().map(|(index, node)| {
            let fetch = node.start_fetch(request(&published.hash, Some(world.path(&format!("out-{index}")))));
            fetched(node, fetch)
        });
        let fetched = futures::future::join_all(fetches.collect::<Vec<_>>()).await;
        // Simnet's fetchers know the sizes of what they want: the manifest, which tells them, is left out of the time.
        let began = fetched.iter().map(|(planned, _)| *planned).min().unwrap_or_else(Instant::now);
        let finishes: Vec<Duration> = fetched.iter().map(|(_, finished)| *finished - began).collect();
        let stalled_permille = heartbeat.stalled_permille();
        for node in nodes {
            node.stop().await;
        }
        source.stop().await;
        let (first, last) = (finishes.iter().min().copied(), finishes.iter().max().copied());
        (Times { first: first.unwrap_or_default(), last: last.unwrap_or_default() }, stalled_permille)
    }

    fn config(&self, world: &World, name: &str, bootstrap: &[&str]) -> NodeConfig {
        NodeConfig {
            max_upload: RateLimits { total: NonZeroU64::new(self.up_bytes_per_s), ..RateLimits::default() },
            max_download: RateLimits { total: NonZeroU64::new(self.down_bytes_per_s), ..RateLimits::default() },
            ..world.config(name, TCP, bootstrap)
        }
    }
}

/// When a fetch knew what to fetch, and when all of it was durable.
async fn fetched(node: &TestNode, mut fetch: Fetch) -> (Instant, Instant) {
    fetch.until("its plan", |event| matches!(event, FetchEvent::Plan { .. }).then_some(())).await;
    let planned = Instant::now();
    fetch.done().await;
    // The manifest, the large file, and the small one beside it.
    eventually("all is durable", async || (node.status().await.blobs == 3).then_some(())).await;
    (planned, Instant::now())
}

fn simulated(scenario: Scenario) -> Times {
    let report = SimulatedWorld::run(scenario);
    assert!(report.all_finished() && report.violations.is_empty(), "{:?}", report.violations);
    let finishes = || report.fetchers.iter().filter_map(|host| report.hosts[host.0].finished_at);
    let after_begin =
        |at: p2pweights_protocol::time::Instant| (at - p2pweights_protocol::time::Instant::START).saturating_sub(BEGIN);
    Times {
        first: finishes().min().map(after_begin).unwrap_or_default(),
        last: finishes().max().map(after_begin).unwrap_or_default(),
    }
}
