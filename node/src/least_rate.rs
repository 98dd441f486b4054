//! Whether the other side of a connection brings, or takes, anything to speak of. A byte now and then keeps as much here as silence does.

use std::time::Duration;

/// So many bytes must pass in twice the patience, spent waiting: with a patience of a minute 4 kbit/s, less than any link that is used for
/// models brings.
const LEAST_BYTES: u64 = 64 * 1024;

/// Judges by the time that is spent waiting for the other side; what takes time here does not count.
#[derive(Debug)]
pub struct LeastRate {
    patience: Duration,
    /// How long was waited, and what passed, since it was fast enough last.
    waited: Duration,
    bytes: u64,
}

impl LeastRate {
    /// Nothing has been waited for yet. Longer silence than `patience` is for the caller to notice.
    pub fn new(patience: Duration) -> Self {
        Self { patience, waited: Duration::ZERO, bytes: 0 }
    }

    /// So many bytes passed after such a wait. An error, how long was waited for how little, when that is too slow.
    pub fn passed(&mut self, waited: Duration, bytes: u64) -> Result<(), Duration> {
        self.waited += waited;
        self.bytes += bytes;
        if self.bytes >= LEAST_BYTES {
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        }
        if self.waited >= 2 * self.patience { Err(self.waited) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_at_a_time_is_borne_as_long_as_it_adds_up() {
        let (second, mut rate) = (Duration::from_secs(1), LeastRate::new(Duration::from_secs(10)));
        assert!((0..1000).all(|_| rate.passed(second, LEAST_BYTES / 19).is_ok()));
        let mut rate = LeastRate::new(10 * second);
        let slow = (1..).find_map(|_| rate.passed(second, LEAST_BYTES / 21).err());
        assert_eq!(slow, Some(20 * second));
        let mut rate = LeastRate::new(10 * second);
        assert!((0..1000).all(|_| rate.passed(Duration::ZERO, 1).is_ok()), "what is not waited for is not slow");
    }
}
