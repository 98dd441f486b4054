//! L1 to L4, L7: whether things go on, as it shows from outside. In small worlds it is looked at now and then while they run, once nothing
//! has befallen them for a while; in all worlds, at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use p2pweights_protocol::engine::Engine;
use p2pweights_protocol::limits;
use p2pweights_protocol::time::Instant;

use super::World;
use crate::check::Rule;
use crate::hostile::Vice;
use crate::network::HostId;
use crate::scenario::{HostPlan, Nat, Stay, Trouble};

/// Between two looks at who idles and who starves.
const PAUSE: Duration = Duration::from_secs(1);
/// Whatever befell a world is not over before this time: peers are dialled again after a minute at most.
const HEALING: Duration = Duration::from_secs(60);
/// How long a pair may idle that need not: a peer that let credits expire is passed over for five seconds, then ten, twenty and so on.
const IDLE: Duration = Duration::from_secs(60);
/// And at so many looks in a row: in worlds that last long they are rare.
const LOOKS: u32 = 15;
/// How long a host may go without, whatever others get.
const HUNGRY: Duration = Duration::from_secs(30);
/// So many trips count as one look: on long ways everything takes longer.
const TRIPS: u32 = 20;
/// All must have finished a minute after 1.25 of the bound.
const LATE: Duration = Duration::from_secs(60);
/// When all is over, everything that was given a time has run out of it after this.
const QUIET: Duration = Duration::from_secs(2 * limits::DEADLINE_MAX.as_secs());

/// What was seen at the last looks.
#[derive(Debug, Default)]
pub(super) struct Looks {
    next: Instant,
    /// Since when a pair has idled that need not, what the one who lacks something had received by then, and looks since.
    idle: BTreeMap<(HostId, HostId), (Instant, u64, u32)>,
}

impl World {
    /// Looks at who idles and who starves.
    pub(super) fn look(&mut self) {
        let now = self.now();
        if now < self.looks.next {
            return;
        }
        self.looks.next = now + PAUSE;
        let healed = self.healed_at().is_some_and(|healed| now >= healed + HEALING);
        let hungry = self.hosts.iter().filter(|host| host.plan.fetches && host.report.finished_at.is_none()).count() as u64;
        for there in (0..self.hosts.len()).map(HostId) {
            let givers = if healed && self.is_in_good_company(there) { self.givers(there) } else { Vec::new() };
            self.look_at_pairs(there, &givers);
            if givers.is_empty() {
                self.checker.content(now, there);
                continue;
            }
            let own = self.hosts[there.0].plan.link.down_bytes_per_s.max(1);
            let block = Duration::from_nanos(u64::from(limits::BLOCK_MAX_BYTES) * 1_000_000_000 / own);
            if self.checker.is_starving(now, there, hungry, HUNGRY + block * 10) {
                self.checker.blame(now, there, Rule::L4, "was given nothing while others were".into());
                self.checker.content(now, there);
            }
        }
    }

    /// Whether a host has yet to finish, and nobody can keep it from that. Who knows no sizes has them proved by one peer after the other:
    /// a silent one may hold it up for as long as a request may take, several of them for as many times that.
    fn is_in_good_company(&self, host: HostId) -> bool {
        let plan = &self.hosts[host.0].plan;
        self.hosts[host.0].is_awaited() && (plan.knows_sizes || self.hosts.iter().all(|other| other.is_honest()))
    }

    /// Neighbours that hold something which a host lacks, and could send it.
    fn givers(&self, there: HostId) -> Vec<HostId> {
        let shares_lan = self.routes.is_in_lan(there);
        let neighbours = self.network.neighbours(there).filter(|here| {
            let host = &self.hosts[here.0];
            let deals = !self.has_banned(*here, there) && !self.has_banned(there, *here);
            // Members of a local network each ask for their own; who asks for what is for them to say.
            let free = !shares_lan || self.routes.share_lan(*here, there);
            let connected = self.network.view(*here, there).is_some();
            host.up && host.is_honest() && connected && deals && free && self.could_send(*here, there, false)
        });
        neighbours.collect()
    }

    fn has_banned(&self, one: HostId, other: HostId) -> bool {
        self.hosts[one.0].report.banned.contains_key(&other)
    }

    fn look_at_pairs(&mut self, there: HostId, givers: &[HostId]) {
        let now = self.now();
        self.looks.idle.retain(|(_, other), _| *other != there || !givers.is_empty());
        for &here in givers {
            let idles = self.hosts[here.0].uplink.is_idle() && self.could_send(here, there, true);
            if !idles {
                self.looks.idle.remove(&(here, there));
                continue;
            }
            let received = self.hosts[there.0].report.received;
            let (since, before, looks) = self.looks.idle.entry((here, there)).or_insert((now, received, 0));
            *looks += 1;
            let (since, before, looks) = (*since, *before, *looks);
            if looks > LOOKS && now - since >= IDLE + self.latency(here, there) * 2 * TRIPS {
                self.looks.idle.remove(&(here, there));
                // Whoever has its hands full with others need not take from all.
                let could = u128::from(self.hosts[there.0].plan.link.down_bytes_per_s) * (now - since).as_millis() / 1000;
                if u128::from(received - before) * 4 >= could {
                    continue;
                }
                let in_flight = self.hosts[there.0].engine.as_ref().map_or(0, Engine::in_flight_bytes);
                let what = format!("idles though {there:?} lacks what it has and waits for {in_flight} bytes only");
                self.checker.blame(now, here, Rule::L2, what);
            }
        }
    }

    /// When the last of what befalls the world is over; `None`: never, or nobody can tell.
    fn healed_at(&self) -> Option<Instant> {
        let ends = self.scenario.faults.iter().map(|fault| {
            let lasts = match &fault.what {
                Trouble::Crash { away, .. } => (*away)?,
                Trouble::Sleep { lasts, .. }
                | Trouble::Partition { lasts, .. }
                | Trouble::SiteDown { lasts, .. }
                | Trouble::Slow { lasts, .. }
                | Trouble::DiskFull { lasts, .. }
                | Trouble::DiskFails { lasts, .. } => *lasts,
                Trouble::Rot { .. } => Duration::ZERO,
            };
            Some(fault.at + lasts)
        });
        let outages = self.scenario.sites.iter().flat_map(|site| &site.outages).map(|(_, to)| Some(*to));
        let starts = self.scenario.hosts.iter().map(|plan| Some(plan.starts_at));
        let ends: Option<Vec<Duration>> = ends.chain(outages).chain(starts).collect();
        Some(Instant::START + ends?.into_iter().max().unwrap_or_default())
    }

    /// Whether the bound is one for this world: everybody can meet, nobody leaves, nothing is used up, and no leech takes what others need.
    fn is_bounded(&self) -> bool {
        let stays = |plan: &HostPlan| plan.stay == Stay::Forever && plan.nat == Nat::Open && plan.vice != Some(Vice::Leech);
        self.scenario.relay.is_none()
            && self.scenario.sites.iter().all(|site| site.quota.is_none())
            && self.scenario.hosts.iter().all(stays)
    }

    /// What can be said of a world once it is over.
    pub(super) fn look_back(&mut self) {
        let (now, honest) = (self.now(), self.hosts.iter().all(|host| host.is_honest()));
        if let Some(healed) = self.healed_at().filter(|_| self.is_bounded() && self.gone_pieces.is_empty()) {
            let limit = healed + self.scenario.bound() * 5 / 4 + LATE;
            let gone = !self.copies.gone().is_empty();
            for here in (0..self.hosts.len()).map(HostId) {
                let host = &self.hosts[here.0];
                if !host.plan.knows_sizes && !honest {
                    continue;
                }
                if host.is_awaited() && now > limit && gone {
                    self.checker.blame(now, here, Rule::L7, "cannot finish, and nothing says why".into());
                } else if host.is_awaited() && now > limit {
                    self.checker.blame(now, here, Rule::L1, format!("has not finished by {limit:?}"));
                } else if let Some(at) = host.report.finished_at.filter(|at| *at > limit) {
                    self.checker.blame(at, here, Rule::L1, format!("finished later than {limit:?}"));
                }
            }
        }
        if honest && self.awaited == 0 && self.done_at.is_some_and(|at| now - at >= QUIET) {
            self.look_for_leaks();
        }
    }

    /// All is over and quiet: nothing is owed to anybody.
    fn look_for_leaks(&mut self) {
        let now = self.now();
        for here in (0..self.hosts.len()).map(HostId) {
            let host = &self.hosts[here.0];
            let Some(engine) = host.engine.as_ref().filter(|_| host.up) else { continue };
            let (owed, in_flight) = (engine.owed(), engine.in_flight_bytes());
            let quiet = host.fetching.values().next().is_none() && host.serving.iter().next().is_none();
            if owed > 0 || in_flight > 0 || !quiet || !self.checker.is_at_rest(here) {
                self.checker.blame(now, here, Rule::L3, format!("{owed} credits and blocks out, {in_flight} bytes in flight"));
            }
        }
    }
}
