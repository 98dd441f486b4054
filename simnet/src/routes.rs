//! Where everybody is attached, and what lies between two hosts: which shared links, how long it takes, how much is lost. Follows from
//! the scenario alone and never changes; knows nothing of queues, faults or engines.

use std::time::Duration;

use p2pweights_protocol::engine::PeerClass;

use crate::link::Link;
use crate::network::HostId;
use crate::scenario::{Nat, Scenario, SiteId};

/// Most of a path's packets that can be lost, of a million: beyond that nothing would ever arrive.
const LOSS_MAX: u64 = 900_000;

/// What a block passes between two access links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Path {
    /// Nothing that is shared.
    #[default]
    Direct,
    /// The links of sites.
    Crossing,
    /// The relay, and the links of sites.
    Relayed,
}

/// A shared link in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Out of a site.
    OutOf(SiteId),
    /// Into a site.
    Into(SiteId),
    /// Through the relay.
    Relay,
}

/// How one host is attached.
#[derive(Debug, Clone, Copy)]
struct Spot {
    site: Option<SiteId>,
    lan: bool,
    metered: bool,
    behind_nat: bool,
    /// To its site, or to the middle.
    latency: Duration,
    /// From its site to the middle.
    beyond: Duration,
    loss: u64,
    loss_beyond: u64,
}

/// Where everybody is attached.
#[derive(Debug)]
pub struct Routes {
    spots: Vec<Spot>,
    members: Vec<Vec<HostId>>,
    /// Some hosts are in a site or behind a NAT: otherwise every path is direct.
    special: bool,
    /// Some link loses packets.
    lossy: bool,
    relay: Option<Link>,
    punch_permille: u64,
    seed: u64,
}

impl Routes {
    /// As the scenario says.
    pub fn new(scenario: &Scenario) -> Self {
        let spots: Vec<Spot> = scenario
            .hosts
            .iter()
            .map(|plan| {
                let site = plan.site.and_then(|site| scenario.sites.get(site.0));
                Spot {
                    site: plan.site,
                    lan: site.is_some_and(|site| site.lan),
                    metered: site.is_some_and(|site| site.metered),
                    behind_nat: plan.nat == Nat::Cone,
                    latency: plan.link.latency,
                    beyond: site.map_or(Duration::ZERO, |site| site.link.latency),
                    loss: plan.link.loss_ppm.into(),
                    loss_beyond: site.map_or(0, |site| site.link.loss_ppm.into()),
                }
            })
            .collect();
        let mut members = vec![Vec::new(); scenario.sites.len()];
        for (host, site) in spots.iter().enumerate().filter_map(|(host, spot)| Some((host, spot.site?))) {
            members[site.0].push(HostId(host));
        }
        let special = spots.iter().any(|spot| spot.site.is_some() || spot.behind_nat);
        let lossy_relay = scenario.relay.is_some_and(|relay| relay.loss_ppm > 0);
        let lossy = lossy_relay || spots.iter().any(|spot| spot.loss + spot.loss_beyond > 0);
        Self {
            special,
            lossy,
            members,
            spots,
            relay: scenario.relay,
            punch_permille: scenario.punch_permille,
            seed: scenario.seed,
        }
    }

    /// The hosts of a site.
    pub fn members(&self, site: SiteId) -> &[HostId] {
        self.members.get(site.0).map_or(&[], Vec::as_slice)
    }

    /// Whether a host is in a local network.
    pub fn is_in_lan(&self, host: HostId) -> bool {
        self.spots[host.0].lan
    }

    /// Whether both are in the same local network.
    pub fn share_lan(&self, one: HostId, other: HostId) -> bool {
        let (one, other) = (&self.spots[one.0], &self.spots[other.0]);
        one.lan && one.site == other.site
    }

    /// What lies between two hosts; `None` if they cannot meet.
    pub fn path(&self, from: HostId, to: HostId) -> Option<Path> {
        if !self.special {
            return Some(Path::Direct);
        }
        let (a, b) = (&self.spots[from.0], &self.spots[to.0]);
        if a.behind_nat && b.behind_nat && !self.share_lan(from, to) && !self.punches(from, to) {
            return self.relay.map(|_| Path::Relayed);
        }
        Some(if a.site == b.site { Path::Direct } else { Path::Crossing })
    }

    /// Whether a pair behind NATs can punch a hole: decided once and for all by the seed.
    fn punches(&self, one: HostId, other: HostId) -> bool {
        let pair = (one.0.min(other.0) as u64) << 32 | one.0.max(other.0) as u64;
        // The finalizer of SplitMix64: every bit of the pair and the seed counts.
        let mut mixed = pair.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.seed;
        for multiplier in [0xbf58_476d_1ce4_e5b9_u64, 0x94d0_49bb_1331_11eb] {
            mixed = (mixed ^ mixed >> 30).wrapping_mul(multiplier);
        }
        (mixed ^ mixed >> 31) % 1000 < self.punch_permille
    }

    /// One way between two hosts.
    pub fn latency(&self, from: HostId, to: HostId) -> Duration {
        let (a, b) = (&self.spots[from.0], &self.spots[to.0]);
        let near = a.latency + b.latency;
        match self.path(from, to) {
            None | Some(Path::Direct) => near,
            Some(Path::Crossing) => near + a.beyond + b.beyond,
            Some(Path::Relayed) => near + a.beyond + b.beyond + self.relay_latency() * 2,
        }
    }

    /// How long a dial takes to arrive. Holes are punched, and hosts behind a NAT called back, by a message through somebody else.
    pub fn dial_latency(&self, from: HostId, to: HostId) -> Duration {
        let called = self.spots[to.0].behind_nat && !self.share_lan(from, to);
        self.latency(from, to) * if called { 3 } else { 1 }
    }

    /// How `here` sees `there`.
    pub fn class(&self, here: HostId, there: HostId) -> PeerClass {
        let (a, b) = (&self.spots[here.0], &self.spots[there.0]);
        match self.path(here, there) {
            _ if self.share_lan(here, there) => PeerClass::Lan,
            Some(Path::Relayed) => PeerClass::Relay,
            _ if a.metered && a.site != b.site => PeerClass::Metered,
            _ => PeerClass::Wan,
        }
    }

    /// Packets lost between two hosts, of a million.
    pub fn loss_ppm(&self, from: HostId, to: HostId) -> u64 {
        if !self.lossy {
            return 0;
        }
        let (a, b) = (&self.spots[from.0], &self.spots[to.0]);
        let beyond = match self.path(from, to) {
            None | Some(Path::Direct) => 0,
            Some(Path::Crossing) => a.loss_beyond + b.loss_beyond,
            Some(Path::Relayed) => a.loss_beyond + b.loss_beyond + self.relay.map_or(0, |relay| relay.loss_ppm.into()),
        };
        (a.loss + b.loss + beyond).min(LOSS_MAX)
    }

    /// The first shared link on a path that is not direct.
    pub fn first_way(&self, from: HostId, to: HostId, path: Path) -> Option<Way> {
        self.spots[from.0].site.map(Way::OutOf).or_else(|| self.middle_way(to, path))
    }

    /// The shared link after this one.
    pub fn next_way(&self, to: HostId, path: Path, way: Way) -> Option<Way> {
        match way {
            Way::OutOf(_) => self.middle_way(to, path),
            Way::Relay => self.spots[to.0].site.map(Way::Into),
            Way::Into(_) => None,
        }
    }

    fn middle_way(&self, to: HostId, path: Path) -> Option<Way> {
        if path == Path::Relayed { Some(Way::Relay) } else { self.spots[to.0].site.map(Way::Into) }
    }

    /// From one shared link to the next; `None` stands for the access links at both ends.
    pub fn leg(&self, from: HostId, to: HostId, after: Option<Way>, before: Option<Way>) -> Duration {
        let after = match after {
            None => self.spots[from.0].latency,
            Some(Way::OutOf(_)) => self.spots[from.0].beyond,
            Some(Way::Relay) => self.relay_latency(),
            Some(Way::Into(_)) => self.spots[to.0].beyond,
        };
        let before = match before {
            None => self.spots[to.0].latency,
            Some(Way::Relay) => self.relay_latency(),
            Some(Way::OutOf(_) | Way::Into(_)) => Duration::ZERO,
        };
        after + before
    }

    fn relay_latency(&self) -> Duration {
        self.relay.map_or(Duration::ZERO, |relay| relay.latency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Site;

    fn scenario() -> Scenario {
        let mut scenario = Scenario::new(1).blob(1);
        for (lan, metered) in [(true, true), (false, false)] {
            let link = Link { loss_ppm: 500, ..Link::mbit(2, 2, 300) };
            scenario.sites.push(Site { name: String::new(), link, lan, metered, outages: Vec::new(), quota: None });
        }
        let link = Link { loss_ppm: 10, ..Link::mbit(10, 10, 5) };
        for site in [Some(0), Some(0), Some(1), Some(1), None, None] {
            scenario = scenario.add("all", 1, link, |plan| (plan.site, plan.nat) = (site.map(SiteId), Nat::Cone));
        }
        scenario
    }

    #[test]
    fn legs_add_up_to_the_latency_and_classes_depend_on_who_looks() {
        let mut relayed = scenario();
        (relayed.punch_permille, relayed.relay) = (0, Some(Link::mbit(1, 1, 40)));
        for (scenario, far) in [(scenario(), 610), (relayed, 690)] {
            let routes = Routes::new(&scenario);
            for (from, to) in (0..6).flat_map(|from| (0..6).map(move |to| (HostId(from), HostId(to)))).filter(|(a, b)| a != b) {
                let path = routes.path(from, to).unwrap();
                let (mut way, mut sum, mut last) = (routes.first_way(from, to, path), Duration::ZERO, None);
                if path == Path::Direct {
                    way = None;
                }
                loop {
                    sum += routes.leg(from, to, last, way);
                    let Some(now) = way else { break };
                    (last, way) = (way, routes.next_way(to, path, now));
                }
                assert_eq!(sum, routes.latency(from, to), "{from:?} {to:?}");
            }
            assert_eq!(routes.latency(HostId(0), HostId(2)), Duration::from_millis(far));
            assert_eq!(routes.latency(HostId(0), HostId(1)), Duration::from_millis(10));
            assert_eq!(routes.class(HostId(0), HostId(1)), PeerClass::Lan);
            assert_eq!(routes.loss_ppm(HostId(0), HostId(4)), 520);
        }
        let routes = Routes::new(&scenario());
        let class = |here, there| routes.class(HostId(here), HostId(there));
        assert_eq!([class(0, 4), class(4, 0), class(2, 3)], [PeerClass::Metered, PeerClass::Wan, PeerClass::Wan]);
    }

    #[test]
    fn so_many_of_a_thousand_pairs_punch_a_hole_whoever_begins() {
        let mut crowd = Scenario::new(7).blob(1).add("all", 200, Link::mbit(1, 1, 1), |plan| plan.nat = Nat::Cone);
        crowd.punch_permille = 700;
        let routes = Routes::new(&crowd);
        let mut met = 0;
        for (one, other) in (0..200).flat_map(|one| (one + 1..200).map(move |other| (HostId(one), HostId(other)))) {
            assert_eq!(routes.path(one, other), routes.path(other, one));
            met += u64::from(routes.path(one, other).is_some());
        }
        assert!((13_600..14_260).contains(&met), "{met} of 19,900");
    }
}
