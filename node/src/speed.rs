//! A rate for people: bytes over the last few seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Over how long the rate is taken: steady enough to read, quick enough to show a change.
const WINDOW: Duration = Duration::from_secs(4);

/// Measures a growing count of bytes.
#[derive(Debug, Default)]
pub struct Speed(VecDeque<(Instant, u64)>);

impl Speed {
    /// So many bytes by now, in total.
    pub fn record(&mut self, now: Instant, bytes: u64) {
        self.0.push_back((now, bytes));
        while self.0.len() > 2 && now.duration_since(self.0[1].0) >= WINDOW {
            self.0.pop_front();
        }
    }

    /// Bytes a second.
    pub fn bytes_per_s(&self) -> u64 {
        let (Some((from, before)), Some((to, after))) = (self.0.front(), self.0.back()) else { return 0 };
        let seconds = to.duration_since(*from).as_secs_f64();
        if seconds > 0.0 { (after.saturating_sub(*before) as f64 / seconds) as u64 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_the_last_seconds() {
        let (mut speed, start) = (Speed::default(), Instant::now());
        assert_eq!(speed.bytes_per_s(), 0);
        for second in 0..20 {
            let rate = if second < 10 { 1_000 } else { 5_000 };
            let bytes = if second < 10 { second * rate } else { 10_000 + (second - 10) * rate };
            speed.record(start + Duration::from_secs(second), bytes);
        }
        assert_eq!(speed.bytes_per_s(), 5_000);
    }
}
