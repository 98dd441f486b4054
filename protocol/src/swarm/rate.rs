//! How fast and how steady: a rate over a sliding time, and service times as TCP keeps them.

use std::time::Duration;

use crate::limits;
use crate::time::Instant;

/// Time constant of the rate: long enough to span several blocks at home, short enough to follow a link.
const RATE_WINDOW: Duration = Duration::from_secs(2);

/// A rate watched for less than this is not trusted more than one watched for so long.
const RATE_WATCHED_MIN: Duration = Duration::from_millis(100);

/// Bytes a second, smoothed exponentially over two seconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rate {
    bytes_per_s: f64,
    since: Option<Instant>,
    first: Instant,
}

impl Rate {
    /// So many bytes have just gone through.
    pub fn record(&mut self, now: Instant, bytes: u64) {
        let Some(since) = self.since else {
            self.since = Some(now);
            self.first = now;
            self.bytes_per_s = bytes as f64 / RATE_WINDOW.as_secs_f64();
            return;
        };
        let kept = (-(now - since).as_secs_f64() / RATE_WINDOW.as_secs_f64()).exp();
        self.bytes_per_s = self.bytes_per_s * kept + bytes as f64 / RATE_WINDOW.as_secs_f64();
        self.since = Some(now);
    }

    /// Bytes a second, as of now.
    pub fn bytes_per_s(&self, now: Instant) -> u64 {
        let Some(since) = self.since else { return 0 };
        let kept = (-(now - since).as_secs_f64() / RATE_WINDOW.as_secs_f64()).exp();
        // What has been watched for less than the window shows less than the rate.
        let watched = (now - self.first).max(RATE_WATCHED_MIN).as_secs_f64() / RATE_WINDOW.as_secs_f64();
        (self.bytes_per_s * kept / (1.0 - (-watched).exp())) as u64
    }
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
