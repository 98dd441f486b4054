//! Caps on payload, one for each direction, shared by all streams whatever carries them. A stream asks before each few bytes and is told
//! when they may pass: who asked first passes first, so streams take turns. Only the stream's own task waits, and dropping it ends the
//! wait.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::locked;

/// Bytes that pass at a time take about this long: much longer than a timer is late by, short enough that streams take turns smoothly.
const TURN: Duration = Duration::from_millis(20);
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

    fn turn_bytes(&self) -> u64 {
        let bytes = u128::from(self.bytes_per_s.get()) * TURN.as_nanos() / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX).max(TURN_BYTES_MIN)
    }
}

/// A cap that all streams of one direction share, or none.
#[derive(Debug, Clone, Default)]
pub struct Cap(Option<Arc<Mutex<Bucket>>>);

impl Cap {
    /// A cap of so many bytes a second; `None`: whatever the link gives.
    pub fn new(bytes_per_s: Option<NonZeroU64>) -> Self {
        Self(bytes_per_s.map(|rate| Arc::new(Mutex::new(Bucket::new(rate)))))
    }

    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// The most bytes that may be asked for at a time.
    pub fn turn_bytes(&self) -> usize {
        self.0.as_ref().map_or(usize::MAX, |bucket| usize::try_from(locked(bucket).turn_bytes()).unwrap_or(usize::MAX))
    }

    /// Waits until so many bytes may pass.
    pub async fn pass(&self, bytes: usize) {
        let Some(bucket) = &self.0 else { return };
        let now = tokio::time::Instant::now().into_std();
        let at = locked(bucket).take(now, bytes as u64);
        if at > now {
            tokio::time::sleep_until(at.into()).await;
        }
    }
}

/// The caps of a node.
#[derive(Debug, Clone, Default)]
pub struct Caps {
    /// On what goes out.
    pub upload: Cap,
    /// On what comes in.
    pub download: Cap,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures::FutureExt;

    use super::*;

    /// Streams that have more to send than may pass, for so long, each waking late by what `late` says; returns the bytes of each.
    fn busy(rate: u64, streams: usize, seconds: u64, mut late: impl FnMut(usize) -> Duration) -> Vec<u64> {
        let mut bucket = Bucket::new(NonZeroU64::new(rate).unwrap());
        let start = Instant::now();
        let turn = bucket.turn_bytes();
        let mut bytes = vec![0; streams];
        // When each stream next asks.
        let mut asking: BTreeSet<(Instant, usize)> = (0..streams).map(|stream| (start, stream)).collect();
        while let Some((now, stream)) = asking.pop_first() {
            let at = bucket.take(now, turn);
            // A timer rings no earlier than it should; what need not wait is not late.
            let passes = if at > now { at + late(stream) } else { now };
            if passes < start + Duration::from_secs(seconds) {
                bytes[stream] += turn;
                asking.insert((passes, stream));
            }
        }
        bytes
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

    #[tokio::test]
    async fn only_who_asks_waits_and_a_wait_can_be_given_up() {
        let cap = Cap::new(NonZeroU64::new(1_000_000));
        let began = Instant::now();
        assert!(cap.pass(300_000).now_or_never().is_some(), "the first may pass at once");
        assert!(cap.pass(1).now_or_never().is_none(), "a third of a second is spent already");
        cap.pass(1).await;
        assert!(began.elapsed() >= Duration::from_millis(299));
        let none = Cap::new(None);
        assert!(none.pass(usize::MAX).now_or_never().is_some());
        assert_eq!((none.is_set(), none.turn_bytes()), (false, usize::MAX));
    }
}
