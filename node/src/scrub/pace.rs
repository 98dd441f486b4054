//! How long the scrub rests between two steps: pure, time is an argument.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// While payload goes in or out, the scrub takes this part of its rate: it must not stop for good on a node that is never idle.
const BUSY_PART: u32 = 4;
/// Without a rate it still rests so many times as long as a step took while others want the disk.
const BUSY_REST: u32 = 3;
/// How long after the last payload the disk counts as wanted.
const BUSY: Duration = Duration::from_secs(1);
/// Longest rest, so that a slow rate is kept and a stopped one noticed.
const REST_MAX: Duration = Duration::from_secs(60);

/// Keeps to a rate, and to less of it while others want the disk.
#[derive(Debug)]
pub struct Pace {
    rate: Option<NonZeroU64>,
    activity: u64,
    busy_until: Option<Instant>,
}

impl Pace {
    /// For this rate, in bytes a second.
    pub fn new(rate: Option<NonZeroU64>) -> Self {
        Self { rate, activity: 0, busy_until: None }
    }

    /// How long to rest after so many bytes, which took so long. `activity` grows with every payload that goes in or out.
    pub fn pause(&mut self, now: Instant, bytes: u64, took: Duration, activity: u64) -> Duration {
        if activity != self.activity {
            self.activity = activity;
            self.busy_until = Some(now + BUSY);
        }
        let busy = self.busy_until.is_some_and(|until| now < until);
        let due = match self.rate {
            Some(rate) => {
                let alone = Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
                if busy { alone * BUSY_PART } else { alone }
            }
            None if busy => took * (1 + BUSY_REST),
            None => Duration::ZERO,
        };
        due.saturating_sub(took).min(REST_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_and_a_quarter_of_it_while_others_work() {
        let (start, millis) = (Instant::now(), Duration::from_millis);
        let mut pace = Pace::new(NonZeroU64::new(1000));
        assert_eq!(pace.pause(start, 100, millis(30), 0), millis(70));
        assert_eq!(pace.pause(start, 100, millis(300), 0), millis(0), "slower than that anyway");
        assert_eq!(pace.pause(start, 100, millis(30), 1), millis(370));
        assert_eq!(pace.pause(start + millis(999), 100, millis(30), 1), millis(370), "it was just now");
        assert_eq!(pace.pause(start + millis(1000), 100, millis(30), 1), millis(70));
        let mut free = Pace::new(None);
        assert_eq!(free.pause(start, 100, millis(30), 0), millis(0));
        assert_eq!(free.pause(start, 100, millis(30), 9), millis(90));
        assert_eq!(Pace::new(NonZeroU64::new(1)).pause(start, 1 << 40, millis(1), 0), REST_MAX);
    }
}
