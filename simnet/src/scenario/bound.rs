//! What no protocol can beat in a scenario: lower bounds on when its hosts can have finished, from rates and sizes alone.

use std::time::Duration;

use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::span_set::SpanSet;

use super::{Holding, HostPlan, Scenario, SiteId, wire_bytes};
use crate::link::{Link, time_for};
use crate::network::HostId;

impl Scenario {
    /// The hosts that are to finish: those that fetch and have no vice.
    pub fn awaited(&self) -> Vec<HostId> {
        (0..self.hosts.len()).map(HostId).filter(|host| self.is_fetcher(*host)).collect()
    }

    /// The size of all that a host deals with.
    pub fn bytes_wanted(&self, host: HostId) -> u64 {
        self.blobs_of(host).iter().map(|(_, size)| size).sum()
    }

    /// The time, from the beginning of the world, that no protocol can beat: the longest of
    ///
    /// - each fetcher: from its start, what it lacks over its own downlink;
    /// - the sources: from the first fetcher's start, one copy of what a fetcher lacks over the uplinks of all that hold something;
    /// - everybody: all that all fetchers lack over all uplinks, each from its host's start;
    /// - each site: from the start of its first fetcher, one copy of what a fetcher in it lacks and no host in it holds over its downlink,
    ///   or the like over its uplink for those outside, while the link is not down by plan.
    ///
    /// Proofs and lost packets are counted in. Latency, disks, NATs, the relay, quotas, faults and hosts that leave are not: all of them
    /// can only make it longer.
    pub fn bound(&self) -> Duration {
        let fetchers = self.awaited();
        let Some(first_start) = fetchers.iter().map(|host| self.hosts[host.0].starts_at).min() else { return Duration::ZERO };
        let lacks: Vec<u64> = fetchers.iter().map(|host| self.lacks(*host)).collect();
        let own =
            fetchers.iter().zip(&lacks).map(|(host, lacks)| self.hosts[host.0].starts_at + self.own_time(*host, *lacks)).max();
        let once = lacks.iter().copied().max().unwrap_or(0);
        let sources = first_start + time_for(once, self.source_rate());
        let sites = (0..self.sites.len()).map(|site| self.site_bound(SiteId(site), &fetchers)).max();
        let all = lacks.iter().sum();
        [own.unwrap_or_default(), sources, self.all_uplinks(first_start, all), sites.unwrap_or_default()]
            .into_iter()
            .max()
            .unwrap_or_default()
    }

    /// The time, from its own start, that each host needs at least, zero if it fetches nothing: what it lacks over its own downlink; and,
    /// if all fetchers start at the same time, as long as the sources need for one copy and all uplinks for everybody's, when all are
    /// served alike.
    pub fn bounds(&self) -> Vec<Duration> {
        let together = self.together();
        let bound = |host: HostId| self.own_time(host, self.lacks(host)).max(together);
        (0..self.hosts.len()).map(|host| if self.hosts[host].fetches { bound(HostId(host)) } else { Duration::ZERO }).collect()
    }

    /// What all fetchers need together if they start at the same time; otherwise nothing is known.
    fn together(&self) -> Duration {
        let mut starts = self.hosts.iter().filter(|plan| plan.fetches && plan.vice.is_none()).map(|plan| plan.starts_at);
        let Some(first) = starts.next().filter(|first| starts.all(|start| start == *first)) else { return Duration::ZERO };
        let lacks: Vec<u64> = self.awaited().into_iter().map(|host| self.lacks(host)).collect();
        let sources = time_for(lacks.iter().copied().max().unwrap_or(0), self.source_rate());
        sources.max(self.all_uplinks(first, lacks.iter().sum()).saturating_sub(first))
    }

    fn is_fetcher(&self, host: HostId) -> bool {
        self.hosts[host.0].fetches && self.hosts[host.0].vice.is_none()
    }

    /// Bytes on the wire of what a host lacks.
    fn lacks(&self, host: HostId) -> u64 {
        let plan = &self.hosts[host.0];
        self.blobs_of(host).into_iter().map(|(_, size)| missing(size, &[&plan.holding])).sum()
    }

    fn own_time(&self, host: HostId, bytes: u64) -> Duration {
        let link = self.hosts[host.0].link;
        time_for(bytes, goodput(link.down_bytes_per_s, &link))
    }

    fn honest(&self) -> impl Iterator<Item = &HostPlan> {
        self.hosts.iter().filter(|plan| plan.vice.is_none())
    }

    fn source_rate(&self) -> u64 {
        let sources = self.honest().filter(|plan| plan.holding != Holding::Nothing);
        sources.map(|plan| goodput(plan.link.up_bytes_per_s, &plan.link)).sum()
    }

    /// When all uplinks together can have sent so much, each from its host's start and none before `first`.
    fn all_uplinks(&self, first: Duration, bytes: u64) -> Duration {
        let mut starts: Vec<(Duration, u64)> =
            self.honest().map(|plan| (plan.starts_at.max(first), goodput(plan.link.up_bytes_per_s, &plan.link))).collect();
        starts.sort();
        let (mut at, mut rate, mut left) = (first, 0_u64, u128::from(bytes) * 1_000_000_000);
        for (start, more) in starts {
            let sent = u128::from(rate) * (start - at).as_nanos();
            if sent >= left {
                break;
            }
            (left, at, rate) = (left - sent, start, rate + more);
        }
        let nanos = left.div_ceil(u128::from(rate.max(1)));
        at + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// When one copy of what is on the wrong side of a site's link can have crossed it, at best.
    fn site_bound(&self, site: SiteId, fetchers: &[HostId]) -> Duration {
        let link = self.sites[site.0].link;
        let into = self.one_copy(site, true, fetchers, goodput(link.down_bytes_per_s, &link));
        let out = self.one_copy(site, false, fetchers, goodput(link.up_bytes_per_s, &link));
        into.max(out)
    }

    fn one_copy(&self, site: SiteId, inside: bool, fetchers: &[HostId], rate: u64) -> Duration {
        let here = |plan: &HostPlan| (plan.site == Some(site)) == inside;
        let theirs: Vec<HostId> = fetchers.iter().copied().filter(|host| here(&self.hosts[host.0])).collect();
        let Some(start) = theirs.iter().map(|host| self.hosts[host.0].starts_at).min() else { return Duration::ZERO };
        let holders: Vec<&HostPlan> = self.honest().filter(|plan| here(plan) && plan.holding != Holding::Nothing).collect();
        let swarm_of = |blob: BlobHash| self.swarms.iter().position(|swarm| swarm.iter().any(|(other, _)| *other == blob));
        let lacks = |host: &HostId| -> u64 {
            let blobs = self.blobs_of(*host).into_iter();
            let held = |blob| holders.iter().filter(move |plan| swarm_of(blob).is_some_and(|swarm| plan.swarms.contains(&swarm)));
            blobs.map(|(blob, size)| missing(size, &held(blob).map(|plan| &plan.holding).collect::<Vec<_>>())).sum()
        };
        // Hosts that want the same lack the same: one of each kind is enough.
        let mut kinds: Vec<HostId> = theirs;
        kinds.sort_by(|a, b| self.hosts[a.0].swarms.cmp(&self.hosts[b.0].swarms));
        kinds.dedup_by(|a, b| self.hosts[a.0].swarms == self.hosts[b.0].swarms);
        match kinds.iter().map(lacks).max() {
            None | Some(0) => Duration::ZERO,
            Some(bytes) => self.up_time(site, start, time_for(bytes, rate)),
        }
    }

    /// When a site's link has been up for so long since a start, by plan.
    fn up_time(&self, site: SiteId, start: Duration, needs: Duration) -> Duration {
        let mut outages = self.sites[site.0].outages.clone();
        outages.sort();
        let mut end = start + needs;
        let mut counted = start;
        for (from, to) in outages {
            let from = from.max(counted);
            if from < end && to > from {
                end += to - from;
                counted = to;
            }
        }
        end
    }
}

/// Bytes on the wire of what none of these hold of a blob.
fn missing(size: u64, holdings: &[&Holding]) -> u64 {
    if holdings.iter().any(|holding| **holding == Holding::All) {
        return 0;
    }
    let geometry = Geometry::of(size);
    let held: SpanSet = holdings.iter().flat_map(|holding| holding.of(geometry)).collect();
    let held: u64 = held.runs().map(|run: Span| geometry.bytes_in(run)).sum();
    wire_bytes(size - held)
}

/// What a rate comes to when some packets are lost and sent again.
fn goodput(bytes_per_s: u64, link: &Link) -> u64 {
    bytes_per_s - u64::try_from(u128::from(bytes_per_s) * u128::from(link.loss_ppm.min(1_000_000)) / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Site;

    fn link(up: u64, down: u64) -> Link {
        Link::mbit(up, down, 1)
    }

    /// So many Mbit on the wire.
    fn mbit(mbit: u64) -> Scenario {
        let payload = mbit * 125_000 * 16_384 / 16_448;
        Scenario::new(1).blob(payload)
    }

    #[test]
    fn the_bound_is_the_tightest_of_three() {
        let bound = |source, fetcher| Scenario::new(1).blob(125_000_000).seeds(1, source).fetchers(4, fetcher).bound().as_secs();
        assert_eq!(bound(link(100, 100), link(1000, 1000)), 10, "the source sends everything once");
        assert_eq!(bound(link(1000, 1000), link(1000, 50)), 20, "the slowest downlink");
        assert_eq!(bound(link(100, 1000), link(1, 1000)), 38, "all uplinks together");
    }

    #[test]
    fn late_hosts_and_what_is_held_count() {
        let secs = Duration::from_secs;
        let late = mbit(100).seeds(1, link(10, 10)).fetchers(1, link(10, 10)).starting_at(secs(30));
        assert_eq!(late.bound().as_secs(), 40);
        assert_eq!(late.bounds()[1].as_secs(), 10);
        let helped = mbit(100).seeds(1, link(10, 10)).fetchers(3, link(0, 1000)).seeds(1, link(10, 10)).starting_at(secs(10));
        assert_eq!(helped.bound().as_secs(), 20, "3 × 10 s: ten of one, then ten of two");
        let half = mbit(100).seeds(1, link(10, 10)).fetchers(1, link(10, 10)).holding("#.");
        assert_eq!(half.bound().as_millis() / 500, 9, "a little less than five seconds: the first half is the larger one");
    }

    #[test]
    fn one_copy_crosses_a_sites_link_while_it_is_up() {
        let secs = Duration::from_secs;
        let village = |outages: &[(u64, u64)], lossy, reverse: bool| {
            let mut scenario = mbit(100).seeds(1, link(1000, 1000));
            let link = Link { loss_ppm: lossy, ..link(1, 2) };
            let outages = outages.iter().map(|(from, to)| (secs(*from), secs(*to))).collect();
            scenario.sites.push(Site { name: "v".into(), link, lan: true, metered: true, outages, quota: None });
            scenario.hosts[0].site = reverse.then_some(SiteId(0));
            scenario.add("v", 5, Link::mbit(1000, 1000, 1), |plan| {
                (plan.fetches, plan.site) = (true, (!reverse).then_some(SiteId(0)))
            })
        };
        assert_eq!(village(&[], 0, false).bound().as_secs(), 50);
        assert_eq!(village(&[], 0, true).bound().as_secs(), 100, "the source is inside");
        assert_eq!(village(&[], 500_000, false).bound().as_secs(), 100, "half is lost");
        assert_eq!(village(&[(40, 90), (60, 70), (95, 96), (500, 600)], 0, false).bound().as_secs(), 101);
    }
}
