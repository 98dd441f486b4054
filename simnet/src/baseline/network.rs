//! The network of all models: requests travel, wait at an uplink that serves its receivers in turn, one block each (what many equal
//! connections come to), pass the shared links of sites and the relay, and are taken in by a downlink. Integer nanoseconds, a total order
//! of what happens. Knows blocks, rates and delays; not who wants what.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use p2pweights_protocol::time::Instant;

use crate::agenda::Agenda;
use crate::link::{Downlink, Link, time_for};
use crate::network::HostId;
use crate::routes::{Path, Routes, Way};
use crate::scenario::Scenario;

/// One host's request for one block of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Who sends it.
    pub from: HostId,
    /// Who receives it.
    pub to: HostId,
    /// What.
    pub block: u32,
}

/// What a model hears of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<N> {
    /// A block has arrived, whole.
    Arrived(Ask),
    /// What a model wanted to be told about at this time.
    Note(N),
}

#[derive(Debug, Clone, Copy)]
enum Due<N> {
    /// A request has come to the uplink.
    Queue(Ask),
    /// A cancellation has.
    Cancel(Ask),
    /// An uplink has sent a block.
    Sent(HostId),
    /// A block's first byte has come to a shared link, or past all of them; its last one comes later.
    Byte {
        ask: Ask,
        bytes: u64,
        path: Path,
        way: Option<Way>,
        last_at: Instant,
    },
    /// A block is there.
    There(Ask),
    Note(N),
}

/// The sending side of a host: a queue for each receiver, served in turn.
#[derive(Debug, Default)]
struct Uplink {
    rate: u64,
    busy: bool,
    queues: BTreeMap<HostId, VecDeque<u32>>,
    turns: VecDeque<HostId>,
}

impl Uplink {
    fn push(&mut self, ask: Ask) {
        let queue = self.queues.entry(ask.to).or_default();
        if queue.is_empty() {
            self.turns.push_back(ask.to);
        }
        queue.push_back(ask.block);
    }

    fn pop(&mut self) -> Option<(HostId, u32)> {
        let to = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&to)?;
        let block = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&to);
        } else {
            self.turns.push_back(to);
        }
        Some((to, block))
    }

    /// Takes what waits for a receiver and matches.
    fn take(&mut self, to: HostId, matches: impl Fn(u32) -> bool) -> Vec<u32> {
        let Some(queue) = self.queues.remove(&to) else { return Vec::new() };
        let (taken, kept): (VecDeque<u32>, VecDeque<u32>) = queue.into_iter().partition(|block| matches(*block));
        if kept.is_empty() {
            self.turns.retain(|other| *other != to);
        } else {
            self.queues.insert(to, kept);
        }
        taken.into()
    }
}

/// A shared link in one direction. What meets an outage waits, or goes on after it: nothing is lost.
#[derive(Debug)]
struct Shared {
    rate: u64,
    free_at: Instant,
    outages: Vec<(Instant, Instant)>,
}

impl Shared {
    fn new(rate: u64, outages: &[(Duration, Duration)]) -> Self {
        let mut outages: Vec<_> = outages.iter().map(|(from, to)| (Instant::START + *from, Instant::START + *to)).collect();
        outages.sort();
        Self { rate, free_at: Instant::START, outages }
    }

    /// When the first byte leaves it, and when the last one does.
    fn carry(&mut self, now: Instant, bytes: u64, last_at: Instant) -> (Instant, Instant) {
        let mut start = self.free_at.max(now);
        let mut end = start + time_for(bytes, self.rate);
        for (from, to) in self.outages.iter().copied().filter(|(from, to)| from < to) {
            if from <= start && start < to {
                (start, end) = (to, to + (end - start));
            } else if start < from && from < end {
                end = end + (to - from);
            }
        }
        self.free_at = end;
        (start, end.max(last_at))
    }
}

/// All links, and what is on its way.
#[derive(Debug)]
pub struct Network<N> {
    agenda: Agenda<Due<N>>,
    routes: Routes,
    uplinks: Vec<Uplink>,
    downlinks: Vec<Downlink>,
    rates: Vec<(u64, u64)>,
    out_of: Vec<Shared>,
    into: Vec<Shared>,
    relay: Option<Shared>,
    payload: Vec<u64>,
    wire: Vec<u64>,
    under_way: u64,
    sent: Vec<u64>,
    transfers: u64,
}

impl<N> Network<N> {
    /// Idle links; the sizes of blocks, and of blocks on the wire.
    pub fn new(scenario: &Scenario, payload: Vec<u64>, wire: Vec<u64>) -> Self {
        let rates: Vec<(u64, u64)> = scenario.hosts.iter().map(|plan| goodput(&plan.link)).collect();
        let shared = |out: bool| {
            let rate = |link: &Link| if out { goodput(link).0 } else { goodput(link).1 };
            scenario.sites.iter().map(|site| Shared::new(rate(&site.link), &site.outages)).collect()
        };
        Self {
            agenda: Agenda::new(),
            routes: Routes::new(scenario),
            uplinks: rates.iter().map(|(up, _)| Uplink { rate: *up, ..Uplink::default() }).collect(),
            downlinks: rates.iter().map(|(_, down)| Downlink::new(*down)).collect(),
            out_of: shared(true),
            into: shared(false),
            relay: scenario.relay.map(|link| Shared::new(link.up_bytes_per_s.min(link.down_bytes_per_s), &[])),
            sent: vec![0; rates.len()],
            rates,
            payload,
            wire,
            under_way: 0,
            transfers: 0,
        }
    }

    /// The present.
    pub fn now(&self) -> Instant {
        self.agenda.now()
    }

    /// Whether two hosts can meet.
    pub fn can_meet(&self, one: HostId, other: HostId) -> bool {
        self.routes.path(one, other).is_some()
    }

    /// Requests that neither were answered nor taken back.
    pub fn under_way(&self) -> u64 {
        self.under_way
    }

    /// Payload bytes that left each host, and in how many blocks.
    pub fn into_sent(self) -> (Vec<u64>, u64) {
        (self.sent, self.transfers)
    }

    /// So many blocks keep the path between two hosts busy: what fits into a round trip at the slower side's rate, one that is being sent
    /// and one that waits; at most 64. For models whose pipeline is as deep as the path needs, such as a TCP or QUIC stream.
    pub fn window(&self, from: HostId, to: HostId) -> usize {
        let rate = self.rates[from.0].0.min(self.rates[to.0].1);
        let block = self.wire.first().copied().unwrap_or(1).max(1);
        let round_trip = self.routes.latency(from, to) * 2;
        let fits = round_trip.as_nanos() * u128::from(rate) / 1_000_000_000 / u128::from(block);
        2 + usize::try_from(fits).unwrap_or(62).min(62)
    }

    /// Wants to be told at a time.
    pub fn note(&mut self, at: Instant, note: N) {
        self.agenda.at(at, Due::Note(note));
    }

    /// A request sets out.
    pub fn ask(&mut self, ask: Ask) {
        self.under_way += 1;
        let latency = self.routes.latency(ask.to, ask.from);
        self.agenda.at(self.now() + latency, Due::Queue(ask));
    }

    /// A cancellation sets out: the block is not sent if it still waits when that arrives.
    pub fn cancel(&mut self, ask: Ask) {
        let latency = self.routes.latency(ask.to, ask.from);
        self.agenda.at(self.now() + latency, Due::Cancel(ask));
    }

    /// A sender drops what waits for a receiver; returns it.
    pub fn drop_waiting(&mut self, from: HostId, to: HostId) -> Vec<u32> {
        let dropped = self.uplinks[from.0].take(to, |_| true);
        self.under_way -= dropped.len() as u64;
        dropped
    }

    /// What happens next.
    pub fn next(&mut self) -> Option<Event<N>> {
        while let Some(due) = self.agenda.pop() {
            match due {
                Due::Note(note) => return Some(Event::Note(note)),
                Due::There(ask) => {
                    self.under_way -= 1;
                    return Some(Event::Arrived(ask));
                }
                Due::Queue(ask) => {
                    self.uplinks[ask.from.0].push(ask);
                    self.send(ask.from);
                }
                Due::Cancel(ask) => {
                    let taken = self.uplinks[ask.from.0].take(ask.to, |block| block == ask.block);
                    self.under_way -= taken.len() as u64;
                }
                Due::Sent(host) => {
                    self.uplinks[host.0].busy = false;
                    self.send(host);
                }
                Due::Byte { ask, bytes, path, way, last_at } => self.pass(ask, bytes, path, way, last_at),
            }
        }
        None
    }

    fn send(&mut self, from: HostId) {
        let uplink = &mut self.uplinks[from.0];
        if uplink.busy {
            return;
        }
        let Some((to, block)) = uplink.pop() else { return };
        uplink.busy = true;
        let bytes = self.wire[block as usize];
        let time = time_for(bytes, uplink.rate);
        self.sent[from.0] += self.payload[block as usize];
        self.transfers += 1;
        let now = self.now();
        self.agenda.at(now + time, Due::Sent(from));
        let path = self.routes.path(from, to).unwrap_or_default();
        let way = if path == Path::Direct { None } else { self.routes.first_way(from, to, path) };
        let leg = self.routes.leg(from, to, None, way);
        let ask = Ask { from, to, block };
        self.agenda.at(now + leg, Due::Byte { ask, bytes, path, way, last_at: now + time + leg });
    }

    fn pass(&mut self, ask: Ask, bytes: u64, path: Path, way: Option<Way>, last_at: Instant) {
        let now = self.now();
        let Some(passed) = way else {
            let (_, end) = self.downlinks[ask.to.0].take_in(now, bytes, last_at);
            return self.agenda.at(end, Due::There(ask));
        };
        let shared = match passed {
            Way::OutOf(site) => self.out_of.get_mut(site.0),
            Way::Into(site) => self.into.get_mut(site.0),
            Way::Relay => self.relay.as_mut(),
        };
        let (first, last) = shared.map_or((now, last_at), |shared| shared.carry(now, bytes, last_at));
        let way = self.routes.next_way(ask.to, path, passed);
        let leg = self.routes.leg(ask.from, ask.to, Some(passed), way);
        self.agenda.at(first + leg, Due::Byte { ask, bytes, path, way, last_at: last + leg });
    }
}

/// Rates up and down of a link that sends again what it loses.
fn goodput(link: &Link) -> (u64, u64) {
    let kept = 1_000_000 - u128::from(link.loss_ppm.min(1_000_000));
    let of = |rate: u64| u64::try_from(u128::from(rate) * kept / 1_000_000).unwrap_or(u64::MAX);
    (of(link.up_bytes_per_s), of(link.down_bytes_per_s))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Site, SiteId};

    fn arrivals(network: &mut Network<()>) -> Vec<(u64, usize, u32)> {
        let mut seen = Vec::new();
        while let Some(event) = network.next() {
            if let Event::Arrived(ask) = event {
                seen.push((network.now().0 / 1_000_000, ask.to.0, ask.block));
            }
        }
        seen
    }

    fn ask(to: usize, block: u32) -> Ask {
        Ask { from: HostId(0), to: HostId(to), block }
    }

    #[test]
    fn receivers_are_served_in_turn() {
        let scenario = Scenario::new(1).blob(1).seeds(1, Link::mbit(8, 8, 0)).fetchers(2, Link::mbit(8, 8, 0));
        let mut network = Network::new(&scenario, vec![1_000_000; 9], vec![1_000_000; 9]);
        [ask(1, 0), ask(1, 1), ask(1, 2), ask(2, 0), ask(2, 1)].into_iter().for_each(|ask| network.ask(ask));
        network.cancel(ask(2, 1));
        assert_eq!(arrivals(&mut network), [(1000, 1, 0), (2000, 1, 1), (3000, 2, 0), (4000, 1, 2)]);
        assert_eq!((network.under_way(), network.into_sent()), (0, (vec![4_000_000, 0, 0], 4)));
    }

    #[test]
    fn an_outage_is_waited_for() {
        let mut scenario = Scenario::new(1).blob(1).seeds(1, Link::mbit(800, 800, 0));
        let outages = vec![(Duration::from_millis(1500), Duration::from_millis(1700))];
        scenario.sites.push(Site { name: "v".into(), link: Link::mbit(8, 8, 5), lan: true, metered: true, outages, quota: None });
        let scenario = scenario.add("v", 1, Link::mbit(800, 800, 0), |plan| plan.site = Some(SiteId(0)));
        let mut network = Network::new(&scenario, vec![1_000_000; 9], vec![1_000_000; 9]);
        [ask(1, 0), ask(1, 1)].into_iter().for_each(|ask| network.ask(ask));
        assert_eq!(arrivals(&mut network), [(1010, 1, 0), (2210, 1, 1)]);
        assert_eq!(network.window(HostId(0), HostId(1)), 3, "10 ms at 100 MB/s: one block");
    }
}
