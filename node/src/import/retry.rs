//! How long to wait before an origin is asked again, and when not to any more. Pure.

use std::time::Duration;

use crate::origin::Retry;

/// The first pause; each further one is twice as long ...
const FIRST: Duration = Duration::from_millis(250);
/// ... up to this.
const LONGEST: Duration = Duration::from_secs(30);
/// Longest wait that an origin is granted when it names one: hubs count requests over five minutes.
const GRANTED: Duration = Duration::from_secs(600);
/// Attempts without progress after which it is given up: some minutes of trouble, or an hour of being told to wait.
const TRIES: u32 = 7;

/// Pauses between attempts.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    failed: u32,
}

impl Pauses {
    /// The pause after one more attempt that failed; `None`: give up.
    pub(super) fn next(&mut self, retry: Retry) -> Option<Duration> {
        let Retry::After(asked) = retry else { return None };
        self.failed += 1;
        if self.failed >= TRIES {
            return None;
        }
        let own = FIRST * 2_u32.pow(self.failed - 1);
        Some(asked.unwrap_or(Duration::ZERO).min(GRANTED).max(own.min(LONGEST)))
    }

    /// Something came: the count begins anew.
    pub(super) fn progress(&mut self) {
        self.failed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let mut pauses = Pauses::default();
        let all: Vec<u128> = std::iter::from_fn(|| pauses.next(Retry::After(None))).map(|pause| pause.as_millis()).collect();
        assert_eq!(all, [250, 500, 1000, 2000, 4000, 8000]);
        assert_eq!(pauses.next(Retry::After(None)), None);
        pauses.progress();
        assert_eq!(pauses.next(Retry::After(Some(Duration::from_secs(7)))), Some(Duration::from_secs(7)));
        assert_eq!(pauses.next(Retry::After(Some(Duration::from_secs(7000)))), Some(GRANTED));
        assert_eq!(pauses.next(Retry::Never), None);
    }
}
