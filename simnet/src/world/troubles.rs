//! What befalls the world: sleep, cuts, slow links, bad disks. Crashes are in `arrivals`.

use std::time::Duration;

use p2pweights_protocol::time::Instant;

use super::{Happening, World};
use crate::cuts::NEVER;
use crate::network::HostId;
use crate::routes::Way;
use crate::scenario::{SiteId, Trouble};

/// Hosts that were cut off together.
#[derive(Debug, Clone)]
pub(super) enum Side {
    /// Those of a site.
    Site(SiteId),
    /// These.
    Hosts(Vec<HostId>),
}

impl World {
    pub(super) fn befall(&mut self, what: Trouble) {
        let now = self.now();
        match what {
            Trouble::Crash { host, away } => self.crash(host, away),
            Trouble::Sleep { host, lasts } => self.fall_asleep(host, lasts),
            Trouble::Partition { side, lasts, one_way } => {
                self.cuts.part(now, self.hosts.len(), &side, one_way, now + lasts);
                self.will_notice(Side::Hosts(side), lasts);
            }
            Trouble::SiteDown { site, lasts } => self.site_down(site, now + lasts),
            Trouble::Slow { host, permille, lasts } => {
                self.host(host).throttle(permille);
                self.host(host).slow_until = now + lasts;
                self.after(lasts, Happening::Quick(host));
            }
            Trouble::DiskFull { host, lasts } => self.host(host).drive.fill(now + lasts),
            Trouble::DiskFails { host, lasts } => self.host(host).drive.fail(now + lasts),
            Trouble::Rot { host, groups } => self.rot(host, groups),
        }
    }

    pub(super) fn quick(&mut self, host: HostId) {
        if self.hosts[host.0].slow_until <= self.now() {
            self.host(host).throttle(1000);
        }
    }

    /// A site's link goes down.
    pub(super) fn site_down(&mut self, site: SiteId, until: Instant) {
        let now = self.now();
        self.cuts.down(now, site, until);
        self.agenda.at(until, Happening::SiteUp(site));
        self.will_notice(Side::Site(site), until - now);
    }

    /// A site's link has carried all that it may.
    pub(super) fn used_up(&mut self, site: SiteId) {
        self.site_down(site, NEVER);
    }

    pub(super) fn site_up(&mut self, site: SiteId) {
        self.next_over(Way::OutOf(site));
        self.next_over(Way::Into(site));
    }

    /// A connection that stalls for a short time goes on afterwards; longer, and both ends notice that it is dead.
    fn will_notice(&mut self, side: Side, lasts: Duration) {
        let notice = self.scenario.timing.crash_notice;
        if lasts > notice {
            self.after(notice, Happening::Noticed(side));
        }
    }

    pub(super) fn noticed(&mut self, side: &Side) {
        let members = match side {
            Side::Site(site) => self.routes.members(*site).to_vec(),
            Side::Hosts(hosts) => hosts.clone(),
        };
        for here in members {
            let neighbours: Vec<HostId> = self.network.neighbours(here).collect();
            for there in neighbours {
                if self.cut(here, there).or_else(|| self.cut(there, here)).is_none() {
                    continue;
                }
                for (one, other) in [(here, there), (there, here)] {
                    if let Some(connection) = self.network.view(one, other) {
                        self.gone(one, other, connection);
                    }
                }
            }
        }
    }

    fn fall_asleep(&mut self, here: HostId, lasts: Duration) {
        let until = self.now() + lasts;
        if !self.hosts[here.0].up || until <= self.hosts[here.0].asleep_until {
            return;
        }
        self.host(here).asleep_until = until;
        self.all_awake_at = self.all_awake_at.max(until);
        let notice = self.scenario.timing.crash_notice;
        if lasts <= notice {
            return;
        }
        let neighbours: Vec<HostId> = self.network.neighbours(here).collect();
        for there in neighbours {
            if let Some(connection) = self.network.view(there, here) {
                self.after(notice, Happening::Gone { here: there, there: here, connection });
            }
            // The sleeper learns of it by the answer to the first thing that it sends.
            if let Some(connection) = self.network.view(here, there) {
                let answered = until + self.latency(here, there) * 2;
                self.agenda.at(answered, Happening::Gone { here, there, connection });
            }
        }
    }

    /// Until when whoever this happens to sleeps.
    pub(super) fn sleeps_through(&mut self, happening: &Happening) -> Option<Instant> {
        let now = self.now();
        let whom = match happening {
            Happening::Wake(host)
            | Happening::Fact(host, ..)
            | Happening::Sync(host, _)
            | Happening::Beat(host, _)
            | Happening::LookedUp(host, ..)
            | Happening::BlockOut(host, ..)
            | Happening::BlockSent(host, ..)
            | Happening::Stalled(host, ..)
            | Happening::Written(host, ..)
            | Happening::Resumes(host, _)
            | Happening::LooksAround(host, _)
            | Happening::Leaves(host) => *host,
            Happening::DialFails { from, .. } | Happening::DialAnswered { from, .. } => *from,
            Happening::Gone { here, .. } => *here,
            Happening::Arrives { to, .. } => *to,
            Happening::FirstByte(id) | Happening::LastByte(id) => {
                let (id, block) = (*id, self.transfers.find(*id)?.block);
                let until = self.hosts[block.to.0].asleep_until;
                if until <= now || self.queues(id) {
                    return None;
                }
                if self.network.view(block.from, block.to) != Some(block.connection)
                    && let Some(transfer) = self.transfers.find_mut(id)
                {
                    // The sender has given up: what it had sent was never taken in.
                    transfer.cut.get_or_insert(now);
                }
                return Some(until);
            }
            _ => return None,
        };
        Some(self.hosts[whom.0].asleep_until).filter(|until| *until > now)
    }
}
