//! A host's access link: an uplink that sends one block after the other, a downlink that takes them in, and a one-way delay. Integer
//! arithmetic in bytes and nanoseconds; knows nothing of peers.

use std::collections::VecDeque;
use std::time::Duration;

use p2pweights_protocol::time::Instant;

/// How a host is attached. The delay between two hosts is the sum of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Bytes a second out.
    pub up_bytes_per_s: u64,
    /// Bytes a second in.
    pub down_bytes_per_s: u64,
    /// One way to the middle of the network.
    pub latency: Duration,
    /// Of a million packets, how many are lost and sent again: as much goodput is lost, and now and then a round trip.
    pub loss_ppm: u32,
}

impl Link {
    /// A link of so many Mbit/s up and down and so many milliseconds to the middle of the network.
    pub fn mbit(up: u64, down: u64, latency_ms: u64) -> Self {
        let bytes = 1_000_000 / 8;
        Self {
            up_bytes_per_s: up * bytes,
            down_bytes_per_s: down * bytes,
            latency: Duration::from_millis(latency_ms),
            loss_ppm: 0,
        }
    }
}

/// The time that so many bytes take, rounded up to a nanosecond.
pub fn time_for(bytes: u64, bytes_per_s: u64) -> Duration {
    let nanos = (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(bytes_per_s.max(1)));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn throttled(bytes_per_s: u64, permille: u64) -> u64 {
    (bytes_per_s * permille / 1000).max(1)
}

/// The sending side: blocks wait for their turn; control messages slip in between and delay the next block.
#[derive(Debug)]
pub struct Uplink<J> {
    rate: u64,
    permille: u64,
    busy: bool,
    queue: VecDeque<J>,
    control_bytes: u64,
    busy_time: Duration,
}

impl<J> Uplink<J> {
    /// An idle uplink.
    pub fn new(bytes_per_s: u64) -> Self {
        Self {
            rate: bytes_per_s,
            permille: 1000,
            busy: false,
            queue: VecDeque::new(),
            control_bytes: 0,
            busy_time: Duration::ZERO,
        }
    }

    /// It carries only so many thousandths of its rate from the next block on.
    pub fn throttle(&mut self, permille: u64) {
        self.permille = permille.min(1000);
    }

    /// Thousandths of its rate that it carries.
    pub fn permille(&self) -> u64 {
        self.permille
    }

    fn now_rate(&self) -> u64 {
        if self.permille == 1000 { self.rate } else { throttled(self.rate, self.permille) }
    }

    /// A block waits.
    pub fn enqueue(&mut self, job: J) {
        self.queue.push_back(job);
    }

    /// Takes waiting blocks out.
    pub fn take(&mut self, mut wanted: impl FnMut(&J) -> bool) -> Vec<J> {
        let (taken, kept): (VecDeque<J>, VecDeque<J>) = std::mem::take(&mut self.queue).into_iter().partition(|job| wanted(job));
        self.queue = kept;
        taken.into()
    }

    /// A control message goes out; returns how long it takes to leave.
    pub fn control(&mut self, bytes: u64) -> Duration {
        self.control_bytes += bytes;
        time_for(bytes, self.now_rate())
    }

    /// The next block, if the uplink is free: occupies it.
    pub fn start(&mut self) -> Option<J> {
        if self.busy {
            return None;
        }
        let job = self.queue.pop_front()?;
        self.busy = true;
        Some(job)
    }

    /// How long the block just started occupies the uplink; a `limit` slows it down.
    pub fn occupy(&mut self, bytes: u64, limit: Option<u64>) -> Duration {
        let bytes = bytes + std::mem::take(&mut self.control_bytes);
        let time = time_for(bytes, limit.map_or(self.now_rate(), |limit| limit.min(self.now_rate())));
        self.busy_time += time;
        time
    }

    /// The block is out.
    pub fn done(&mut self) {
        self.busy = false;
    }

    /// Whether nothing is being sent and nothing waits.
    pub fn is_idle(&self) -> bool {
        !self.busy && self.queue.is_empty()
    }

    /// The time it has spent sending.
    pub fn busy_time(&self) -> Duration {
        self.busy_time
    }
}

/// The receiving side: blocks are taken in one after the other, each as fast as it comes or as the downlink allows.
#[derive(Debug)]
pub struct Downlink {
    rate: u64,
    permille: u64,
    free_at: Instant,
}

impl Downlink {
    /// An idle downlink.
    pub fn new(bytes_per_s: u64) -> Self {
        Self { rate: bytes_per_s, permille: 1000, free_at: Instant::START }
    }

    /// It carries only so many thousandths of its rate from the next block on.
    pub fn throttle(&mut self, permille: u64) {
        self.permille = permille.min(1000);
    }

    /// Thousandths of its rate that it carries.
    pub fn permille(&self) -> u64 {
        self.permille
    }

    /// The first byte of a block is here now, its last one leaves the network at `last_at`: when it is taken in, from and to.
    pub fn take_in(&mut self, now: Instant, bytes: u64, last_at: Instant) -> (Instant, Instant) {
        let start = self.free_at.max(now);
        let rate = if self.permille == 1000 { self.rate } else { throttled(self.rate, self.permille) };
        self.free_at = start + time_for(bytes, rate);
        (start, self.free_at.max(last_at))
    }

    /// How far it is behind.
    pub fn backlog(&self, now: Instant) -> Duration {
        self.free_at - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_side_decides_and_blocks_queue_up() {
        let mut down = Downlink::new(1_000_000);
        let first = down.take_in(Instant(0), 1_000_000, Instant(500_000_000));
        assert_eq!(first, (Instant(0), Instant(1_000_000_000)), "the downlink is slower");
        let second = down.take_in(Instant(0), 1_000_000, Instant(5_000_000_000));
        assert_eq!(second, (Instant(1_000_000_000), Instant(5_000_000_000)), "the uplink is slower");
        assert_eq!(down.backlog(Instant(0)), Duration::from_secs(2));
    }

    #[test]
    fn control_messages_delay_the_next_block() {
        let mut up = Uplink::new(1000);
        up.enqueue('a');
        up.enqueue('b');
        assert_eq!(up.control(10), Duration::from_millis(10));
        assert_eq!((up.start(), up.start()), (Some('a'), None));
        assert_eq!(up.occupy(1000, None), Duration::from_millis(1010));
        up.done();
        assert_eq!(up.start(), Some('b'));
        assert_eq!(up.occupy(1000, Some(100)), Duration::from_secs(10));
    }
}
