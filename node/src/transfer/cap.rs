//! Caps on payload for each direction: over all peers, over those of the local network, over the others. They are shared by all streams
//! whatever carries them. A stream asks before each few bytes and is told when they may pass: who asked first passes first, so streams
//! take turns. Only the stream's own task or thread waits; dropping the task or stopping the thread ends the wait.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use p2pweights_protocol::engine::PeerClass;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::locked;
use crate::config::RateLimits;

/// Bytes that pass at a time take about this long: much longer than a timer is late by, short enough that streams take turns smoothly.
const TURN: Duration = Duration::from_millis(20);
/// The same under two caps. What one cap let pass and the other holds back comes on top once the other has room, one turn for each
/// stream: with fifty streams a quarter of a second's worth, which is a fortieth of ten seconds.
const TURN_UNDER_TWO: Duration = Duration::from_millis(5);
/// Fewest bytes of a turn; fewer are mostly headers.
const TURN_BYTES_MIN: u64 = 1024;
/// How far what passes may lag behind the cap and still catch up. A task that wakes late must not lose its share; over ten seconds this is
/// one hundredth.
const CATCH_UP: Duration = Duration::from_millis(100);

/// The arithmetic of a cap, in whole nanoseconds: time is an argument.
#[derive(Debug)]
struct Bucket {
    bytes_per_s: NonZeroU64,
    /// When everything promised will have passed; `None` before the first.
    free_at: Option<Instant>,
}

impl Bucket {
    fn new(bytes_per_s: NonZeroU64) -> Self {
        Self { bytes_per_s, free_at: None }
    }

    /// When so many bytes may pass, after all those promised before.
    fn take(&mut self, now: Instant, bytes: u64) -> Instant {
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        let at = self.free_at.map_or(now, |free_at| free_at.max(earliest));
        self.free_at = Some(at + self.time_for(bytes));
        at
    }

    fn time_for(&self, bytes: u64) -> Duration {
        let nanos = (u128::from(bytes) * 1_000_000_000).div_ceil(self.bytes_per_s.get().into());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// What passes in this time.
    fn bytes_in(&self, turn: Duration) -> u64 {
        let bytes = u128::from(self.bytes_per_s.get()) * turn.as_nanos() / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX).max(TURN_BYTES_MIN)
    }
}

type Shared = Arc<Mutex<Bucket>>;

/// What the streams of one direction to peers of one class keep to: up to two caps, or none.
#[derive(Debug, Clone, Default)]
pub struct Cap {
    /// The narrower first: what has passed the last one goes at once, so that one holds to the byte.
    buckets: Vec<Shared>,
}

impl Cap {
    fn new(buckets: impl IntoIterator<Item = Option<Shared>>) -> Self {
        Self { buckets: buckets.into_iter().flatten().collect() }
    }

    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        !self.buckets.is_empty()
    }

    /// The most bytes that may be asked for at a time.
    pub fn turn_bytes(&self) -> usize {
        let turn = if self.buckets.len() > 1 { TURN_UNDER_TWO } else { TURN };
        let least = self.buckets.iter().map(|bucket| locked(bucket).bytes_in(turn)).min();
        least.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX)
    }

    /// Waits until so many bytes may pass.
    pub async fn pass(&self, bytes: usize) {
        for bucket in &self.buckets {
            let now = tokio::time::Instant::now().into_std();
            let at = locked(bucket).take(now, bytes as u64);
            if at > now {
                tokio::time::sleep_until(at.into()).await;
            }
        }
    }

    /// The same for a thread of its own; `false` if it was stopped.
    pub fn pass_blocking(&self, bytes: usize, runtime: &Handle, stop: &CancellationToken) -> bool {
        !self.is_set() || runtime.block_on(stop.run_until_cancelled(self.pass(bytes))).is_some()
    }
}

/// The caps of one direction.
#[derive(Debug, Clone, Default)]
pub struct Caps {
    lan: Cap,
    wan: Cap,
}

impl Caps {
    /// Caps that hold to these limits.
    pub fn new(limits: RateLimits) -> Self {
        let bucket = |rate: Option<NonZeroU64>| rate.map(|rate| Arc::new(Mutex::new(Bucket::new(rate))));
        let total = bucket(limits.total);
        Self { lan: Cap::new([bucket(limits.lan), total.clone()]), wan: Cap::new([bucket(limits.wan), total]) }
    }

    /// What a stream keeps to whose peer is this near.
    pub fn of(&self, class: PeerClass) -> &Cap {
        match class {
            PeerClass::Lan => &self.lan,
            PeerClass::Wan | PeerClass::Metered | PeerClass::Relay | PeerClass::Mirror => &self.wan,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures::FutureExt;

    use super::*;

    /// A stream in virtual time that has more to send than may pass, from one moment to another.
    #[derive(Clone)]
    struct Stream {
        buckets: Vec<Shared>,
        from: Duration,
        to: Duration,
    }

    fn bucket(rate: u64) -> Shared {
        Arc::new(Mutex::new(Bucket::new(NonZeroU64::new(rate).unwrap())))
    }

    /// What passes, when and of which stream, in order; each stream wakes late by what `late` says.
    fn run(streams: &[Stream], mut late: impl FnMut(usize) -> Duration) -> Vec<(Duration, usize, u64)> {
        let start = Instant::now();
        let turns: Vec<u64> = streams.iter().map(|stream| Cap { buckets: stream.buckets.clone() }.turn_bytes() as u64).collect();
        let mut passed = Vec::new();
        // When each stream next asks, and of which of its buckets.
        let mut asking: BTreeSet<(Instant, usize, usize)> =
            streams.iter().enumerate().map(|(stream, of)| (start + of.from, stream, 0)).collect();
        while let Some((now, stream, nth)) = asking.pop_first() {
            let Stream { buckets, to, .. } = &streams[stream];
            let at = locked(&buckets[nth]).take(now, turns[stream]);
            // A timer rings no earlier than it should; what need not wait is not late.
            let passes = if at > now { at + late(stream) } else { now };
            let next = (nth + 1) % buckets.len();
            if next == 0 && passes < start + *to {
                passed.push((passes - start, stream, turns[stream]));
            }
            if passes < start + *to {
                asking.insert((passes, stream, next));
            }
        }
        passed.sort();
        passed
    }

    /// Streams under one cap, for so long; returns the bytes of each.
    fn busy(rate: u64, streams: usize, seconds: u64, late: impl FnMut(usize) -> Duration) -> Vec<u64> {
        let stream = Stream { buckets: vec![bucket(rate)], from: Duration::ZERO, to: Duration::from_secs(seconds) };
        let mut bytes = vec![0; streams];
        for (_, stream, turn) in run(&vec![stream; streams], late) {
            bytes[stream] += turn;
        }
        bytes
    }

    /// The most that passes in any ten seconds.
    fn most_in_ten_seconds(passed: &[(Duration, usize, u64)], counts: impl Fn(usize) -> bool) -> u64 {
        let counted: Vec<_> = passed.iter().filter(|(_, stream, _)| counts(*stream)).collect();
        let (mut first, mut sum, mut most) = (0, 0, 0);
        for (at, _, bytes) in &counted {
            sum += bytes;
            while *at - counted[first].0 >= Duration::from_secs(10) {
                sum -= counted[first].2;
                first += 1;
            }
            most = most.max(sum);
        }
        most
    }

    fn assert_held(rate: u64, seconds: u64, bytes: &[u64]) {
        let (sum, exact) = (bytes.iter().sum::<u64>(), rate * seconds);
        assert!(sum.abs_diff(exact) * 20 <= exact, "{sum} bytes at {rate} bytes/s in {seconds} s");
    }

    #[test]
    fn a_cap_holds_within_a_twentieth_at_any_rate() {
        for rate in [32 * 1024, 250_000, 5_000_000, 125_000_000, 12_500_000_000] {
            for streams in [1, 3, 50] {
                assert_held(rate, 10, &busy(rate, streams, 10, |_| Duration::from_millis(1)));
            }
        }
    }

    #[test]
    fn tasks_that_wake_late_catch_up_but_idleness_is_not_saved() {
        let mut step: u64 = 0;
        let late = |_| {
            step = step.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Duration::from_millis(step >> 33 & 31)
        };
        assert_held(5_000_000, 10, &busy(5_000_000, 4, 10, late));
        let mut bucket = Bucket::new(NonZeroU64::new(1_000_000).unwrap());
        let start = Instant::now();
        bucket.take(start, 100_000);
        let later = start + Duration::from_secs(60);
        bucket.take(later, 100_000);
        assert_eq!(bucket.take(later, 1), later, "a tenth of a second was saved, no minute");
        assert!(bucket.take(later, 1) > later);
    }

    #[test]
    fn streams_take_turns() {
        let bytes = busy(5_000_000, 8, 10, |stream| Duration::from_millis(stream as u64));
        let (least, most) = (bytes.iter().min().unwrap(), bytes.iter().max().unwrap());
        assert!(most - least <= most / 20, "{bytes:?}");
    }

    /// Fifty peers near and fifty far, who come and go so that now one cap is the narrow one, now another.
    #[test]
    fn near_far_and_all_hold_at_once_in_every_ten_seconds() {
        for (total, lan, wan) in
            [(10_000_000, 9_000_000, 9_000_000), (10_000_000, 2_000_000, 50_000_000), (3_000_000, 2_000_000, 2_000_000)]
        {
            let (all, near, far) = (bucket(total), bucket(lan), bucket(wan));
            let seconds = |from: u64, to: u64| (Duration::from_secs(from), Duration::from_secs(to));
            let mut streams = Vec::new();
            for nth in 0..100 {
                let is_near = nth % 2 == 0;
                let own = if is_near { &near } else { &far };
                let (from, to) = if is_near { seconds(0, 60) } else { seconds(15, 35) };
                streams.push(Stream { buckets: vec![Arc::clone(own), Arc::clone(&all)], from, to });
            }
            let passed = run(&streams, |stream| Duration::from_micros(100 * (stream as u64 % 20)));
            let held = |cap: u64, counts: fn(usize) -> bool| {
                let most = most_in_ten_seconds(&passed, counts);
                assert!(most * 20 <= cap * 10 * 21, "{most} bytes under {cap} bytes/s; all three: {total} {lan} {wan}");
            };
            held(total, |_| true);
            held(lan, |stream| stream % 2 == 0);
            held(wan, |stream| stream % 2 == 1);
            // What is allowed is used: by the near alone at first, by both later.
            let between = |from: u64, to: u64| {
                let (from, to) = seconds(from, to);
                passed.iter().filter(|(at, ..)| (from..to).contains(at)).map(|(.., bytes)| bytes).sum::<u64>()
            };
            let full = [(between(0, 10), total.min(lan)), (between(20, 30), total.min(lan + wan))];
            for (bytes, cap) in full {
                assert!(bytes * 20 >= cap * 10 * 19, "{bytes} bytes where {cap} bytes/s may pass");
            }
        }
    }

    #[test]
    fn a_thread_waits_as_a_task_does_until_it_is_stopped() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("a runtime");
        let (runtime, stop) = (runtime.handle(), CancellationToken::new());
        let caps = Caps::new(RateLimits { lan: NonZeroU64::new(1_000_000), ..RateLimits::default() });
        let cap = caps.of(PeerClass::Lan);
        let began = Instant::now();
        assert!(cap.pass_blocking(100_000, runtime, &stop) && cap.pass_blocking(1_000_000_000, runtime, &stop));
        assert!(began.elapsed() >= Duration::from_millis(99));
        assert!(caps.of(PeerClass::Wan).pass_blocking(usize::MAX, runtime, &stop), "no cap there");
        let waiting = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| cap.pass_blocking(1, runtime, &stop));
            stop.cancel();
            waiting.join().unwrap()
        });
        assert!(!waiting, "it would wait a quarter of an hour");
    }

    #[tokio::test]
    async fn only_who_asks_waits_and_a_wait_can_be_given_up() {
        let cap = Cap::new([Some(bucket(1_000_000))]);
        let began = Instant::now();
        assert!(cap.pass(300_000).now_or_never().is_some(), "the first may pass at once");
        assert!(cap.pass(1).now_or_never().is_none(), "a third of a second is spent already");
        cap.pass(1).await;
        assert!(began.elapsed() >= Duration::from_millis(299));
        let none = Cap::default();
        assert!(none.pass(usize::MAX).now_or_never().is_some());
        assert_eq!((none.is_set(), none.turn_bytes()), (false, usize::MAX));
    }
}
