//! How others distribute a file, run in the same worlds as our engine: simple models, each in a file with the parameters it took from
//! where. What they have in common, what they leave out, and why they must not be compared with anybody's production figures:
//! `docs/simnet.md`. Floors: `bits` ← `blocks network` ← `swarm` ← `graph` ← the models.

mod bits;
mod bittorrent;
mod blocks;
mod graph;
mod kraken;
mod network;
mod origin;
mod pull;
mod sequential;
mod swarm;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::scenario::{Holding, Scenario, Stay};

/// A model of how others distribute a file.
#[derive(Debug, Clone, Copy)]
pub struct Baseline {
    /// Its name on a command line.
    pub name: &'static str,
    /// What a plot calls it.
    pub label: &'static str,
    /// Runs it in a world.
    pub run: fn(&Scenario) -> BaselineReport,
}

/// How a model fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaselineReport {
    /// When each fetcher held all it wanted, from the beginning of the world, in the order of [`Scenario::awaited`]; `None`: never.
    pub finished_at: Vec<Option<Duration>>,
    /// Payload bytes that left each host.
    pub sent: Vec<u64>,
    /// Blocks that left a host.
    pub transfers: u64,
}

impl BaselineReport {
    /// When so many thousandths of the fetchers had finished; `None`: they never had.
    pub fn finished_by(&self, permille: usize) -> Option<Duration> {
        let mut times: Vec<Duration> = self.finished_at.iter().copied().flatten().collect();
        times.sort();
        let count = (self.finished_at.len() * permille).div_ceil(1000);
        if count == 0 { Some(Duration::ZERO) } else { times.get(count - 1).copied() }
    }

    /// When the last fetcher had finished; `None` if one never did.
    pub fn last_finish(&self) -> Option<Duration> {
        self.finished_by(1000)
    }
}

/// All models, from the least to the most that receivers do for one another.
pub fn all() -> &'static [Baseline] {
    &[
        Baseline { name: "origin", label: "our model of one HTTP origin", run: origin::model },
        Baseline { name: "sequential", label: "our model of sequential providers (iroh-like)", run: sequential::model },
        Baseline {
            name: "sticky-pull",
            label: "our model of rarest-first pull that keeps its sources",
            run: pull::model_with_kept_sources,
        },
        Baseline { name: "pull", label: "our model of uncoordinated rarest-first pull", run: pull::model },
        Baseline { name: "kraken", label: "our model of Kraken", run: kraken::model },
        Baseline { name: "kraken-rarest", label: "our model of Kraken, rarest first", run: kraken::model_with_rarest_first },
        Baseline { name: "bittorrent", label: "our model of classic BitTorrent", run: bittorrent::model },
    ]
}

/// What is in a world that all models leave out, always in their favour: to be said wherever their figures stand beside ours.
pub fn ignored(scenario: &Scenario) -> Vec<&'static str> {
    let any = |says: fn(&crate::scenario::HostPlan) -> bool| scenario.hosts.iter().any(says);
    [
        (!scenario.faults.is_empty(), "faults"),
        (any(|plan| plan.stay != Stay::Forever), "hosts that leave"),
        (any(|plan| plan.vice.is_some()), "hostile hosts"),
        (any(|plan| plan.disk.bytes_per_s.is_some() || plan.disk.capacity.is_some()), "disks"),
        (scenario.sites.iter().any(|site| site.quota.is_some()), "quotas"),
        (any(|plan| matches!(plan.holding, Holding::Drawn(_))), "blocks held in part"),
    ]
    .into_iter()
    .filter_map(|(there, what)| there.then_some(what))
    .collect()
}
