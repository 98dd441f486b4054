//! Our model of a sequential downloader, iroh-blobs-like.
//!
//! A fetcher asks one provider after another for all that it still lacks, in order, as one stream; the next one only when the present one
//! has nothing more (`execute_get` in n0-computer/iroh-blobs `src/api/downloader.rs`: "fully sequential, so there will only be one request
//! in flight at a time"; the next provider is tried only when the present one fails, with what is there counted in. Splitting goes by the
//! children of a hash sequence, never within a blob.) A slow provider that lives is never left.
//!
//! Assumed: content discovery knows who holds everything, picks at random among those, and a host announces itself once it has the
//! whole blob. The protocol can serve partial blobs, but nothing in the crate announces or picks partial holders; we measured that its
//! downloaders do not trade. So in a flash crowd this is an origin, and better than one only for those who come late.

use std::collections::BTreeMap;

use super::BaselineReport;
use super::network::Ask;
use super::swarm::{Model, Swarm, run};
use crate::network::HostId;
use crate::scenario::Scenario;

/// See the file.
#[derive(Debug, Default)]
struct Sequential {
    /// Those who are found: sources, and fetchers that have finished.
    providers: Vec<HostId>,
    /// Whom each fetcher is being served by, and how much is asked of it.
    streams: BTreeMap<HostId, Stream>,
    /// Fetchers whom nobody can serve at present.
    idle: Vec<HostId>,
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    provider: HostId,
    asked: usize,
}

/// Runs it.
pub fn model(scenario: &Scenario) -> BaselineReport {
    run(scenario, &mut Sequential::default())
}

impl Sequential {
    fn next_provider(&mut self, swarm: &mut Swarm, host: HostId) {
        let useful = |provider: &HostId| swarm.can_meet(host, *provider) && swarm.has_open(*provider, host);
        let mut found: Vec<HostId> = self.providers.iter().copied().filter(useful).collect();
        // Those who hold the most of what is lacking come first: complete ones, where there are any.
        let held = |provider: &HostId| swarm.member(*provider).held.count_both(&swarm.member(host).open);
        let most = found.iter().map(held).max().unwrap_or(0);
        found.retain(|provider| held(provider) == most);
        if found.is_empty() {
            self.streams.remove(&host);
            self.idle.push(host);
            return;
        }
        let provider = found[swarm.random.below(found.len() as u64) as usize];
        self.streams.insert(host, Stream { provider, asked: 0 });
        self.fill(swarm, host);
    }

    fn fill(&mut self, swarm: &mut Swarm, host: HostId) {
        let Some(stream) = self.streams.get_mut(&host) else { return };
        while stream.asked < swarm.window(stream.provider, host)
            && let Some(block) = swarm.first_open(stream.provider, host)
        {
            swarm.ask(stream.provider, host, block);
            stream.asked += 1;
        }
        if stream.asked == 0 && !swarm.is_complete(host) {
            self.next_provider(swarm, host);
        }
    }

    fn announced(&mut self, swarm: &mut Swarm, providers: &[HostId]) {
        self.providers.extend(providers);
        for host in std::mem::take(&mut self.idle) {
            self.next_provider(swarm, host);
        }
    }
}

impl Model for Sequential {
    fn started(&mut self, swarm: &mut Swarm, hosts: &[HostId]) {
        let (complete, fetchers): (Vec<HostId>, Vec<HostId>) = hosts.iter().partition(|host| swarm.is_complete(**host));
        self.announced(swarm, &complete);
        fetchers.into_iter().for_each(|host| self.next_provider(swarm, host));
    }

    fn arrived(&mut self, swarm: &mut Swarm, ask: Ask, _fresh: bool) {
        if let Some(stream) = self.streams.get_mut(&ask.to) {
            stream.asked -= 1;
        }
        self.fill(swarm, ask.to);
        if swarm.is_complete(ask.to) {
            self.streams.remove(&ask.to);
            self.announced(swarm, &[ask.to]);
        }
    }
}
