//! Congestion control for bulk over QUIC, after BBR (draft-ietf-ccwg-bbr): it goes by the rate at which bytes arrive and by the shortest
//! round trip, and not by single losses, which on wireless and far links mean nothing.
//!
//! Quinn paces at 1.25 windows a round trip whatever a controller says, so the window alone decides: it is the product of rate and round
//! trip, times a gain that is a little above 1, larger in every eighth round to see whether the link carries more, smaller after it. BBR's
//! own window of twice the product would keep a queue as long as the link: on home routers that is where packets are dropped.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

/// Packets that a new connection sends before it hears anything: what content networks do, three times RFC 9002's ten.
const FIRST_PACKETS: u64 = 32;
/// Packets that may always be on their way.
const LEAST_PACKETS: u64 = 4;
/// Rounds over which the highest rate counts (BBR: 10). Longer than one turn of the gains.
const RATE_ROUNDS: u64 = 10;
/// After so long without a round trip as short as the shortest, the queue is drained to see whether the link has changed (BBR: 10 s).
const SHORTEST_LASTS: Duration = Duration::from_secs(10);
/// Permille of the product that is kept on its way. What is above 1,000 makes up for losses of up to 9 %, at the price of a short queue.
const CRUISE: u64 = 1_100;
/// Likewise in the round that looks for more.
const PROBE: u64 = 1_250;
/// Likewise in the round after it.
const RELAX: u64 = 950;
/// Likewise when the start is over, or the shortest round trip is measured anew: the queue is to be gone after a round.
const DRAIN: u64 = 750;
/// Rounds from one probe to the next (BBR: 8).
const TURN: u64 = 8;
/// Growth of the rate in permille below which a round has not brought more (BBR: 25 % in its start).
const GROWTH: u64 = 1_250;
/// Growth in permille with which a probe has found something: it goes on.
const FOUND: u64 = 1_120;
/// Rounds in a row without growth after which the start is over (BBR: 3).
const STALE_ROUNDS: u32 = 3;
/// Permille lost in a round above which it is no random loss: the start ends, and a probe has found nothing (BBR: 2 %).
const HEAVY_LOSS: u64 = 200;
/// Heaps of arrivals that are provided for: as much as comes in this time (BBR: 100 ms), or in a round trip if that is shorter.
const HEAP: Duration = Duration::from_millis(100);
/// How long no round trip may be about as short as the shortest, besides an eighth of that, before the start ends: a queue has formed. Longer
/// than arrivals are held back on Wi-Fi.
const QUEUED: Duration = Duration::from_millis(12);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The window doubles each round.
    Start { best: u64, stale: u32 },
    /// In this round of a turn.
    Steady { round: u64 },
    /// The queue drains, until a round is over.
    Drain,
}

/// One round trip: it is over when something sent in it has arrived.
#[derive(Debug, Clone)]
struct Round {
    began: Instant,
    delivered: u64,
    lost: u64,
    limited: bool,
    /// When the first and the last packet were sent of those that arrived in it.
    sent: Option<(Instant, Instant)>,
    shortest: Duration,
    over: bool,
}

impl Round {
    fn new(began: Instant) -> Self {
        Self { began, delivered: 0, lost: 0, limited: false, sent: None, shortest: Duration::MAX, over: false }
    }

    /// More is lost than chance explains; a few packets say nothing.
    fn is_heavy(&self, packet: u64) -> bool {
        self.lost > FIRST_PACKETS * packet && self.lost * 1000 > (self.lost + self.delivered) * HEAVY_LOSS
    }
}

/// The window of one connection.
#[derive(Debug, Clone)]
pub(super) struct DeliveryRate {
    packet: u64,
    window: u64,
    phase: Phase,
    round: Round,
    rounds: u64,
    /// Rates of late rounds, in bytes a second, with their numbers.
    rates: VecDeque<(u64, u64)>,
    /// The shortest round trip, and when it was last seen.
    shortest: Option<(Duration, Instant)>,
    /// When a round trip was last about as short as the shortest.
    unqueued: Instant,
    /// Arrivals that come in heaps: since when, how much.
    heap: (Instant, u64),
    /// The largest heaps beyond the rate, in bytes, with the numbers of their rounds.
    heaps: VecDeque<(u64, u64)>,
}

impl DeliveryRate {
    /// A new connection with packets of this size.
    pub fn new(now: Instant, packet: u64) -> Self {
        Self {
            packet,
            window: FIRST_PACKETS * packet,
            phase: Phase::Start { best: 0, stale: 0 },
            round: Round::new(now),
            rounds: 0,
            rates: VecDeque::new(),
            shortest: None,
            unqueued: now,
            heap: (now, 0),
            heaps: VecDeque::new(),
        }
    }

    /// Bytes a second that the link carries, as far as is known.
    fn rate(&self) -> u64 {
        self.rates.iter().map(|(_, rate)| *rate).max().unwrap_or(0)
    }

    /// Bytes arrived that were sent at this time. `limited`: there was no more to send.
    pub fn arrived(&mut self, now: Instant, sent: Instant, bytes: u64, limited: bool) {
        let round_trip = now.saturating_duration_since(sent);
        if self.shortest.is_none_or(|(shortest, _)| round_trip <= shortest) {
            self.shortest = Some((round_trip, now));
        }
        let round = &mut self.round;
        round.delivered += bytes;
        round.limited |= limited;
        round.shortest = round.shortest.min(round_trip);
        round.over |= sent >= round.began;
        let (first, last) = round.sent.unwrap_or((sent, sent));
        round.sent = Some((first.min(sent), last.max(sent)));
        if self.shortest.is_some_and(|(shortest, _)| round_trip <= shortest + shortest / 4 + Duration::from_millis(4)) {
            self.unqueued = now;
        }
        if matches!(self.phase, Phase::Start { .. }) && !limited {
            self.window += bytes;
        }
        self.heap_up(now, bytes);
    }

    /// Bytes were lost. `all`: nothing has arrived for so long that the link is another one now.
    pub fn lost(&mut self, now: Instant, bytes: u64, all: bool) {
        self.round.lost += bytes;
        if all {
            *self = Self { shortest: self.shortest, ..Self::new(now, self.packet) };
        }
    }

    /// All arrivals that one message told of have been told.
    pub fn settle(&mut self, now: Instant) {
        // The start doubles: what it overshoots by is dropped, so that it ends in the middle of a round.
        let queued = self.shortest.is_some_and(|(shortest, _)| now > self.unqueued + QUEUED + shortest / 8);
        let overshot = matches!(self.phase, Phase::Start { .. }) && (queued || self.round.is_heavy(self.packet));
        if !self.round.over && !overshot {
            return;
        }
        let round = std::mem::replace(&mut self.round, Round::new(now));
        self.rounds += 1;
        let took = now.saturating_duration_since(round.began);
        let sending = round.sent.map_or(Duration::ZERO, |(first, last)| last - first);
        let rate = per_second(round.delivered, took.max(sending));
        let before = self.rate();
        let heavy = round.is_heavy(self.packet);
        if rate > before || heavy {
            // What seemed a heap was the rate, or a queue that overflows.
            self.heaps.clear();
        }
        // Heaps are short; over many rounds, a rate that is a little too low would add up to one.
        self.heap = (now, 0);
        if !round.limited || rate > before {
            self.rates.push_back((self.rounds, rate));
        }
        let oldest = self.rounds.saturating_sub(RATE_ROUNDS);
        // One is kept: a connection that was idle goes on from where it was.
        while self.rates.len() > 1 && self.rates.front().is_some_and(|(number, _)| *number <= oldest) {
            self.rates.pop_front();
        }
        while self.heaps.front().is_some_and(|(number, _)| *number <= oldest) {
            self.heaps.pop_front();
        }
        self.turn(now, &round, rate, before, heavy, queued);
        self.set_window();
    }

    /// What the next round is for.
    fn turn(&mut self, now: Instant, round: &Round, rate: u64, before: u64, heavy: bool, queued: bool) {
        let Some((_, seen)) = self.shortest else { return };
        self.phase = match self.phase {
            // Nothing was learned, except that nothing is in the way.
            Phase::Start { .. } if round.limited => self.phase,
            Phase::Start { best, stale } => {
                let grown = rate * 1000 >= best * GROWTH;
                let stale = if grown { 0 } else { stale + 1 };
                if stale >= STALE_ROUNDS || queued || heavy { Phase::Drain } else { Phase::Start { best: best.max(rate), stale } }
            }
            Phase::Drain => {
                // Whatever it is now, it is what the link has.
                if now.saturating_duration_since(seen) > SHORTEST_LASTS {
                    self.shortest = Some((round.shortest, now));
                }
                Phase::Steady { round: 2 }
            }
            Phase::Steady { .. } if now.saturating_duration_since(seen) > SHORTEST_LASTS => Phase::Drain,
            Phase::Steady { round: 0 } if rate * 1000 >= before * FOUND && !heavy => Phase::Steady { round: 0 },
            Phase::Steady { round } => Phase::Steady { round: (round + 1) % TURN },
        };
    }

    fn set_window(&mut self) {
        let Some((shortest, _)) = self.shortest else { return };
        let gain = match self.phase {
            Phase::Start { .. } => return,
            Phase::Drain => DRAIN,
            Phase::Steady { round: 1 } => RELAX,
            Phase::Steady { round: 0 } => PROBE,
            Phase::Steady { .. } => CRUISE,
        };
        let product = self.product(shortest);
        let heap = self.heaps.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0).min(product).min(self.product(HEAP));
        self.window = (product * gain / 1000 + heap).max(LEAST_PACKETS * self.packet);
    }

    fn product(&self, shortest: Duration) -> u64 {
        let bytes = u128::from(self.rate()) * shortest.as_micros() / 1_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX / 2)
    }

    /// Where arrivals are told of in heaps, as on Wi-Fi, as much more must be on its way, or the link runs empty between two (BBR's
    /// `extra_acked`).
    fn heap_up(&mut self, now: Instant, bytes: u64) {
        let (since, arrived) = self.heap;
        let expected = u128::from(self.rate()) * now.saturating_duration_since(since).as_micros() / 1_000_000;
        let expected = u64::try_from(expected).unwrap_or(u64::MAX);
        if arrived <= expected {
            self.heap = (now, bytes);
            return;
        }
        self.heap.1 = arrived + bytes;
        let beyond = self.heap.1 - expected;
        match self.heaps.back_mut() {
            Some((number, most)) if *number == self.rounds => *most = beyond.max(*most),
            _ => self.heaps.push_back((self.rounds, beyond)),
        }
    }
}

fn per_second(bytes: u64, took: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000 / took.as_micros().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

impl Controller for DeliveryRate {
    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, _rtt: &RttEstimator) {
        self.arrived(now, sent, bytes, app_limited);
    }

    fn on_end_acks(&mut self, now: Instant, _in_flight: u64, _app_limited: bool, _largest_packet_num_acked: Option<u64>) {
        self.settle(now);
    }

    fn on_congestion_event(&mut self, now: Instant, _sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.lost(now, lost_bytes, is_persistent_congestion);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.packet = new_mtu.into();
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        FIRST_PACKETS * self.packet
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Makes a [`DeliveryRate`] for each connection.
#[derive(Debug)]
pub(super) struct DeliveryRates;

impl ControllerFactory for DeliveryRates {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(DeliveryRate::new(now, current_mtu.into()))
    }
}

#[cfg(test)]
mod tests {
    use p2pweights_protocol::random::Random;

    use super::*;

    const PACKET: u64 = 1_400;

    /// A link in virtual time, and a sender that paces as Quinn does.
    struct World {
        control: DeliveryRate,
        began: Instant,
        bytes_per_s: u64,
        delay: Duration,
        loss_permille: u64,
        queue: Duration,
        /// Arrivals are told of at multiples of this.
        heaps: Duration,
        random: Random,
        free_at: Duration,
        /// When it is heard of, when it was sent, whether it arrived.
        flying: VecDeque<(Duration, Duration, bool)>,
        longest_queue: Duration,
        dropped: u64,
    }

    impl World {
        fn new(mbit_per_s: u64, rtt_ms: u64, loss_permille: u64) -> Self {
            let began = Instant::now();
            Self {
                control: DeliveryRate::new(began, PACKET),
                began,
                bytes_per_s: mbit_per_s * 125_000,
                delay: Duration::from_millis(rtt_ms),
                loss_permille,
                queue: Duration::from_millis(100),
                heaps: Duration::from_nanos(1),
                random: Random::new(1),
                free_at: Duration::ZERO,
                flying: VecDeque::new(),
                longest_queue: Duration::ZERO,
                dropped: 0,
            }
        }

        /// Bytes that arrive from one time to another.
        fn run(&mut self, from: Duration, to: Duration) -> u64 {
            let (mut now, mut arrived, mut next_send) = (from, 0, from);
            let mut smoothed = self.delay;
            while now < to {
                let in_flight = self.flying.len() as u64 * PACKET;
                let may_send = in_flight + PACKET <= self.control.window;
                let heard = self.flying.front().map(|(at, ..)| *at);
                if may_send && heard.is_none_or(|heard| next_send.max(now) < heard) {
                    now = now.max(next_send);
                    let spacing = smoothed.as_nanos() as u64 * PACKET * 4 / 5 / self.control.window;
                    next_send = now + Duration::from_nanos(spacing);
                    self.send(now);
                    continue;
                }
                let Some((at, sent, reached)) = self.flying.pop_front() else { break };
                now = at.max(now);
                if reached {
                    smoothed = (smoothed * 7 + (at - sent)) / 8;
                    arrived += PACKET;
                    self.control.arrived(self.began + now, self.began + sent, PACKET, false);
                } else {
                    self.control.lost(self.began + now, PACKET, false);
                }
                self.control.settle(self.began + now);
            }
            arrived
        }

        fn send(&mut self, now: Duration) {
            let start = self.free_at.max(now);
            let queued = start - now;
            let dropped = queued > self.queue;
            if !dropped {
                self.free_at = start + Duration::from_nanos(PACKET * 1_000_000_000 / self.bytes_per_s);
                self.longest_queue = self.longest_queue.max(queued);
            }
            self.dropped += u64::from(dropped);
            let lost = dropped || self.random.below(1000) < self.loss_permille;
            let behind = if dropped { start } else { self.free_at };
            let heard = (behind + self.delay).as_nanos().next_multiple_of(self.heaps.as_nanos());
            self.flying.push_back((Duration::from_nanos(heard as u64), now, !lost));
        }

        /// Permille of the link used between two times, in seconds.
        fn used(&mut self, from: u64, to: u64) -> u64 {
            let bytes = self.run(Duration::from_secs(from), Duration::from_secs(to));
            bytes * 1000 / (self.bytes_per_s * (to - from))
        }
    }

    #[test]
    fn lossy_links_are_filled() {
        for (mbit, rtt, loss, at_least) in [
            (100, 20, 0, 970),
            (100, 100, 0, 960),
            (100, 100, 10, 950),
            (100, 100, 30, 920),
            (100, 600, 10, 900),
            (100, 600, 30, 880),
            (2, 600, 20, 880),
            (1_000, 50, 1, 950),
        ] {
            let mut world = World::new(mbit, rtt, loss);
            let start = world.used(0, 10);
            let steady = world.used(10, 40);
            assert!(
                steady >= at_least,
                "{mbit} Mbit/s, {rtt} ms, {loss} permille lost: {steady} permille used, {start} at first"
            );
        }
    }

    #[test]
    fn the_queue_stays_short_and_drops_nothing_once_started() {
        let mut world = World::new(100, 100, 10);
        world.used(0, 5);
        (world.longest_queue, world.dropped) = (Duration::ZERO, 0);
        world.used(5, 35);
        assert_eq!(world.dropped, 0);
        assert!(world.longest_queue < Duration::from_millis(50), "{:?}", world.longest_queue);
    }

    #[test]
    fn the_start_overshoots_once_and_by_no_more_than_it_must() {
        // It hears of a full link a round trip late, and has doubled meanwhile.
        for (rtt, at_most) in [(20, 0), (100, 850), (600, 11_000)] {
            let mut world = World::new(100, rtt, 10);
            world.used(0, 40);
            assert!(world.dropped <= at_most, "{rtt} ms: {} packets dropped", world.dropped);
        }
    }

    #[test]
    fn arrivals_in_heaps_leave_neither_gaps_nor_long_queues() {
        for (rtt, heaps, at_most) in [(20, 20, 0), (100, 40, 0), (600, 40, 20_000)] {
            let mut world = World::new(100, rtt, 10);
            world.heaps = Duration::from_millis(heaps);
            world.used(0, 10);
            let used = world.used(10, 60);
            assert!(used > 900, "{rtt} ms in heaps of {heaps} ms: {used} permille used");
            assert!(world.dropped <= at_most, "{rtt} ms in heaps of {heaps} ms: {} packets dropped", world.dropped);
        }
    }

    #[test]
    fn a_link_that_widens_is_found_out_and_one_that_narrows_too() {
        let mut world = World::new(20, 100, 10);
        world.used(0, 10);
        world.bytes_per_s = 100 * 125_000;
        world.used(10, 12);
        let used = world.used(12, 18);
        assert!(used > 900, "{used} permille of what it became");
        world.bytes_per_s = 10 * 125_000;
        world.used(18, 25);
        (world.longest_queue, world.dropped) = (Duration::ZERO, 0);
        assert!(world.used(25, 35) > 900);
        assert_eq!(world.dropped, 0, "still sending more than it carries");
    }

    #[test]
    fn a_longer_way_is_noticed() {
        let mut world = World::new(100, 20, 0);
        world.used(0, 10);
        world.delay = Duration::from_millis(120);
        world.used(10, 35);
        let used = world.used(35, 60);
        assert!(used > 900, "{used} permille");
    }

    #[test]
    fn after_an_outage_it_starts_again() {
        let mut world = World::new(100, 100, 0);
        world.used(0, 10);
        let before = world.control.window;
        world.control.lost(world.began + Duration::from_secs(70), before, true);
        assert_eq!(world.control.window, FIRST_PACKETS * PACKET);
        assert!(before > 10 * world.control.window);
    }

    #[test]
    fn a_pause_of_the_sender_does_not_count_against_the_link() {
        let mut world = World::new(100, 100, 0);
        world.used(0, 10);
        let window = world.control.window;
        for number in 0..50 {
            let sent = world.began + Duration::from_millis(10_100 + number * 200);
            world.control.arrived(sent + Duration::from_millis(100), sent, PACKET, true);
            world.control.settle(sent + Duration::from_millis(100));
        }
        assert!(world.control.window >= window * 5 / 10, "{} of {window}", world.control.window);
    }
}
