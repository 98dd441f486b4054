//! What cuts hosts off from one another for a while: partitions, and sites whose link is down. Knows which pairs are cut and until when;
//! what becomes of their connections is `world`'s.

use std::time::Duration;

use p2pweights_protocol::time::Instant;

use crate::network::HostId;
use crate::scenario::SiteId;

/// The end of what never ends: later than any world.
pub const NEVER: Instant = Instant(100 * 365 * 24 * 3600 * 1_000_000_000);

/// Nothing passes between some hosts and all others.
#[derive(Debug)]
struct Partition {
    inside: Vec<bool>,
    one_way: bool,
    until: Instant,
}

/// All cuts.
#[derive(Debug)]
pub struct Cuts {
    partitions: Vec<Partition>,
    sites: Vec<Instant>,
    /// When the last one is over: most of the time there is none.
    over_at: Instant,
    /// When which site's link was down.
    downs: Vec<(SiteId, Instant, Instant)>,
}

impl Cuts {
    /// None.
    pub fn new(sites: usize) -> Self {
        Self { partitions: Vec::new(), sites: vec![Instant::START; sites], over_at: Instant::START, downs: Vec::new() }
    }

    /// Some hosts are cut off.
    pub fn part(&mut self, now: Instant, hosts: usize, side: &[HostId], one_way: bool, until: Instant) {
        let mut inside = vec![false; hosts];
        side.iter().for_each(|host| inside[host.0] = true);
        self.partitions.retain(|partition| partition.until > now);
        self.partitions.push(Partition { inside, one_way, until });
        self.over_at = self.over_at.max(until);
    }

    /// A site's link goes down.
    pub fn down(&mut self, now: Instant, site: SiteId, until: Instant) {
        let Some(down) = self.sites.get_mut(site.0) else { return };
        *down = until.max(*down);
        self.over_at = self.over_at.max(until);
        self.downs.push((site, now, until));
    }

    /// Whether there is none.
    pub fn is_quiet(&self, now: Instant) -> bool {
        self.over_at <= now
    }

    /// Until when nothing passes in this direction between two hosts, in these sites.
    pub fn between(&self, now: Instant, from: (HostId, Option<SiteId>), to: (HostId, Option<SiteId>)) -> Option<Instant> {
        let parted = |partition: &&Partition| {
            let (a, b) = (partition.inside[from.0.0], partition.inside[to.0.0]);
            a != b && (a || !partition.one_way)
        };
        let parted = self.partitions.iter().filter(parted).map(|partition| partition.until).max();
        let crossed = [from.1, to.1].into_iter().flatten().filter(|_| from.1 != to.1);
        let down = crossed.map(|site| self.sites[site.0]).max();
        parted.max(down).filter(|until| *until > now)
    }

    /// Whether a site's link is down.
    pub fn is_down(&self, now: Instant, site: SiteId) -> bool {
        self.sites[site.0] > now
    }

    /// How long a site's link was down until then.
    pub fn down_time(&self, site: SiteId, until: Instant) -> Duration {
        let mut downs: Vec<_> =
            self.downs.iter().filter(|down| down.0 == site).map(|(_, from, to)| (*from, until.min(*to))).collect();
        downs.sort();
        let (mut sum, mut counted_to) = (Duration::ZERO, Instant::START);
        for (from, to) in downs {
            sum += to - from.max(counted_to).min(to);
            counted_to = counted_to.max(to);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_way_cut_lets_things_in() {
        let mut cuts = Cuts::new(0);
        cuts.part(Instant(0), 3, &[HostId(1)], true, Instant(9));
        let between = |now, from, to| cuts.between(Instant(now), (HostId(from), None), (HostId(to), None));
        assert_eq!(
            [between(1, 1, 0), between(1, 0, 1), between(1, 0, 2), between(9, 1, 0)],
            [Some(Instant(9)), None, None, None]
        );
        assert!(!cuts.is_quiet(Instant(8)) && cuts.is_quiet(Instant(9)));
    }

    #[test]
    fn overlapping_outages_count_once() {
        let (mut cuts, site) = (Cuts::new(1), SiteId(0));
        cuts.down(Instant(10), site, Instant(30));
        cuts.down(Instant(20), site, Instant(25));
        let here = (HostId(0), Some(site));
        assert_eq!(cuts.between(Instant(12), here, (HostId(1), None)), Some(Instant(30)));
        assert_eq!(cuts.between(Instant(12), here, (HostId(1), Some(site))), None, "within the site");
        cuts.down(Instant(50), site, NEVER);
        let time = |until| cuts.down_time(site, Instant(until)).as_nanos();
        assert_eq!([time(5), time(15), time(40), time(60)], [0, 5, 20, 30]);
    }
}
