//! How fast and how steady: a rate over a sliding time, and service times as TCP keeps them.

use std::time::Duration;

use crate::limits;
use crate::time::Instant;

/// Length of a slot.
const SLOT: Duration = Duration::from_millis(250);
/// Slots remembered: four seconds span several blocks at home and follow a link soon enough.
const SLOTS: usize = 16;
/// A rate watched for less than this is not trusted more than one watched for so long.
const RATE_WATCHED_MIN: Duration = Duration::from_millis(100);

/// Bytes a second over the last four seconds. Integers only: the same on every machine and in every build.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rate {
    slots: [u64; SLOTS],
    /// The slot that is being filled, counted from the start of time.
    current: u64,
    first: Option<Instant>,
}

impl Rate {
    /// So many bytes have just gone through.
    pub fn record(&mut self, now: Instant, bytes: u64) {
        self.first.get_or_insert(now);
        let slot = slot_of(now);
        let passed = slot.saturating_sub(self.current).min(SLOTS as u64);
        for step in 0..passed {
            self.slots[((slot - step) % SLOTS as u64) as usize] = 0;
        }
        self.current = self.current.max(slot);
        self.slots[(self.current % SLOTS as u64) as usize] += bytes;
    }

    /// How long it has been watched.
    pub fn watched(&self, now: Instant) -> Duration {
        self.first.map_or(Duration::ZERO, |first| now - first)
    }

    /// Bytes a second, as of now.
    pub fn bytes_per_s(&self, now: Instant) -> u64 {
        let Some(first) = self.first else { return 0 };
        let oldest = (slot_of(now) + 1).saturating_sub(SLOTS as u64);
        let bytes: u64 = (oldest..=self.current).rev().take(SLOTS).map(|slot| self.slots[(slot % SLOTS as u64) as usize]).sum();
        let began = Instant::START + SLOT * u32::try_from(oldest).unwrap_or(u32::MAX);
        let watched = (now - first.max(began)).max(RATE_WATCHED_MIN);
        u64::try_from(u128::from(bytes) * 1_000_000_000 / watched.as_nanos()).unwrap_or(u64::MAX)
    }
}

fn slot_of(at: Instant) -> u64 {
    at.0 / SLOT.as_nanos() as u64
}

/// Mean and deviation of a duration, with the weights of RFC 6298 (1/8 and 1/4).
#[derive(Debug, Clone, Copy, Default)]
pub struct ServiceTime {
    mean: Option<Duration>,
    deviation: Duration,
}

impl ServiceTime {
    /// One more sample.
    pub fn record(&mut self, sample: Duration) {
        match self.mean {
            None => {
                self.mean = Some(sample);
                self.deviation = sample / 2;
            }
            Some(mean) => {
                self.deviation = self.deviation * 3 / 4 + mean.abs_diff(sample) / 4;
                self.mean = Some(mean * 7 / 8 + sample / 8);
            }
        }
    }

    /// The mean, once there is a sample.
    pub fn mean(&self) -> Option<Duration> {
        self.mean
    }

    /// How long to wait for the next one: mean + 4 deviations, within the limits; `unknown` before there is a sample.
    pub fn patience(&self, unknown: Duration) -> Duration {
        let patience = self.mean.map_or(unknown, |mean| mean + self.deviation * 4);
        patience.clamp(limits::DEADLINE_MIN, limits::DEADLINE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_shows_its_rate_and_silence_lets_it_fade() {
        let mut rate = Rate::default();
        let mut now = Instant::START;
        for _ in 0..1000 {
            now = now + Duration::from_millis(10);
            rate.record(now, 10_000);
        }
        let steady = rate.bytes_per_s(now);
        assert!((950_000..1_050_000).contains(&steady), "{steady}");
        assert!(rate.bytes_per_s(now + Duration::from_secs(10)) < steady / 100);
    }

    #[test]
    fn patience_follows_the_spread_within_its_limits() {
        let mut times = ServiceTime::default();
        assert_eq!(times.patience(Duration::from_secs(9)), Duration::from_secs(9));
        (0..50).for_each(|_| times.record(Duration::from_millis(100)));
        assert_eq!(times.patience(Duration::from_secs(9)), limits::DEADLINE_MIN);
        (0..50).for_each(|step| times.record(Duration::from_secs(if step % 2 == 0 { 1 } else { 9 })));
        assert!(times.patience(Duration::from_secs(9)) > Duration::from_secs(12));
        times.record(Duration::from_secs(3600));
        assert_eq!(times.patience(Duration::from_secs(9)), limits::DEADLINE_MAX);
    }
}
