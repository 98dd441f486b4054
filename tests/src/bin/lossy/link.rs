//! One direction of a link: a rate, a delay, random loss, a queue that drops what does not fit. Time and seed are arguments.

use std::time::Duration;

use p2pweights_protocol::random::Random;

/// What a link is like; both directions alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkKind {
    /// Megabits a second, IP headers included.
    pub mbit_per_s: u64,
    /// Round trip of an idle link in milliseconds.
    pub rtt_ms: u64,
    /// Packets lost at random, in percent.
    pub loss_percent: f64,
    /// Bytes that wait at most for the link.
    pub queue_bytes: u64,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It comes out of the other end at this time.
    Delivered(Duration),
    /// Lost at random.
    Lost,
    /// The queue was full.
    Dropped,
}

/// One direction, with what is on its way.
#[derive(Debug)]
pub struct Link {
    kind: LinkKind,
    free_at: Duration,
    random: Random,
}

impl Link {
    /// An idle link; the seed decides what is lost.
    pub fn new(kind: LinkKind, seed: u64) -> Self {
        Self { kind, free_at: Duration::ZERO, random: Random::new(seed) }
    }

    /// A packet goes in. Times are since any fixed moment, and never go back.
    pub fn send(&mut self, now: Duration, bytes: usize) -> Fate {
        let lost = (self.random.below(1_000_000) as f64) < self.kind.loss_percent * 10_000.0;
        let start = self.free_at.max(now);
        if start - now > self.takes(self.kind.queue_bytes) {
            return Fate::Dropped;
        }
        // A lost packet has taken its time on the link: it is lost behind it.
        self.free_at = start + self.takes(bytes as u64);
        if lost { Fate::Lost } else { Fate::Delivered(self.free_at + Duration::from_millis(self.kind.rtt_ms) / 2) }
    }

    fn takes(&self, bytes: u64) -> Duration {
        Duration::from_nanos(bytes * 8000 / self.kind.mbit_per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: LinkKind = LinkKind { mbit_per_s: 8, rtt_ms: 100, loss_percent: 0.0, queue_bytes: 10_000 };

    #[test]
    fn packets_follow_one_another_at_the_links_rate() {
        let mut link = Link::new(KIND, 1);
        let at = Duration::from_millis;
        assert_eq!(link.send(at(0), 1000), Fate::Delivered(at(51)));
        assert_eq!(link.send(at(0), 1000), Fate::Delivered(at(52)));
        assert_eq!(link.send(at(10), 1000), Fate::Delivered(at(61)));
    }

    #[test]
    fn a_full_queue_drops() {
        let mut link = Link::new(KIND, 1);
        let fates: Vec<Fate> = (0..20).map(|_| link.send(Duration::ZERO, 1000)).collect();
        assert_eq!(fates.iter().filter(|fate| **fate == Fate::Dropped).count(), 9, "10,000 bytes wait, one packet is under way");
        assert!(matches!(link.send(Duration::from_millis(5), 1000), Fate::Delivered(_)), "room again");
    }

    #[test]
    fn loss_is_as_frequent_as_told_and_the_same_for_the_same_seed() {
        let kind = LinkKind { loss_percent: 3.0, ..KIND };
        let lost = |seed| {
            let mut link = Link::new(kind, seed);
            let fates = (0..100_000).map(|number| link.send(Duration::from_millis(number * 2), 100));
            fates.map(|fate| fate == Fate::Lost).collect::<Vec<bool>>()
        };
        let count = lost(7).into_iter().filter(|lost| *lost).count();
        assert!((2_800..3_200).contains(&count), "{count} of 100,000");
        assert_eq!(lost(7), lost(7));
        assert_ne!(lost(7), lost(8));
    }
}
