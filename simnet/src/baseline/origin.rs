//! Our model of one HTTP origin, or of several mirrors of it.
//!
//! Every fetcher downloads the whole file from the hosts that hold something from the beginning and fetch nothing; fetchers serve nobody.
//! Each opens one connection to each of up to 16 of them (`-x` of aria2c goes as far) and asks each for the next block that it lacks, in
//! order, as deep as the path needs. Connections share an uplink equally. No caches or proxies in between, no failures, no TLS.

use std::collections::BTreeMap;

use super::BaselineReport;
use super::network::Ask;
use super::swarm::{Model, Swarm, run};
use crate::network::HostId;
use crate::scenario::Scenario;

/// Mirrors that one download uses at once, at most.
const MIRRORS: usize = 16;

/// See the file.
#[derive(Debug, Default)]
struct Origin {
    /// The mirrors of each fetcher, and how much is asked of each.
    mirrors: BTreeMap<HostId, Vec<(HostId, usize)>>,
}

/// Runs it.
pub fn model(scenario: &Scenario) -> BaselineReport {
    run(scenario, &mut Origin::default())
}

impl Origin {
    fn fill(&mut self, swarm: &mut Swarm, host: HostId) {
        let Some(mirrors) = self.mirrors.get_mut(&host) else { return };
        // One block of each at a time, so that the first mirror does not get them all.
        let mut more = true;
        while std::mem::take(&mut more) {
            for (mirror, asked) in mirrors.iter_mut() {
                if *asked < swarm.window(*mirror, host)
                    && let Some(block) = swarm.first_open(*mirror, host)
                {
                    swarm.ask(*mirror, host, block);
                    (*asked, more) = (*asked + 1, true);
                }
            }
        }
    }
}

impl Model for Origin {
    fn started(&mut self, swarm: &mut Swarm, hosts: &[HostId]) {
        let (sources, fetchers): (Vec<HostId>, Vec<HostId>) = hosts.iter().partition(|host| swarm.member(**host).source);
        for host in fetchers {
            let mut mirrors: Vec<HostId> = swarm
                .present()
                .iter()
                .copied()
                .filter(|peer| swarm.member(*peer).source && swarm.can_meet(host, *peer))
                .collect();
            swarm.shuffle(&mut mirrors);
            self.mirrors.insert(host, mirrors.into_iter().take(MIRRORS).map(|mirror| (mirror, 0)).collect());
            self.fill(swarm, host);
        }
        // Mirrors that come late are found by those who are still downloading.
        for source in sources {
            for host in self.mirrors.keys().copied().collect::<Vec<_>>() {
                let can_meet = swarm.can_meet(host, source);
                if let Some(mirrors) = self.mirrors.get_mut(&host).filter(|mirrors| can_meet && mirrors.len() < MIRRORS)
                    && mirrors.iter().all(|(mirror, _)| *mirror != source)
                {
                    mirrors.push((source, 0));
                    self.fill(swarm, host);
                }
            }
        }
    }

    fn arrived(&mut self, swarm: &mut Swarm, ask: Ask, _fresh: bool) {
        let mirrors = self.mirrors.get_mut(&ask.to).into_iter().flatten();
        mirrors.filter(|(mirror, _)| *mirror == ask.from).for_each(|(_, asked)| *asked -= 1);
        self.fill(swarm, ask.to);
    }
}
