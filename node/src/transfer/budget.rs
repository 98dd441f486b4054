//! Memory for payload on its way in: one allowance for all sources together. Who finds it spent does not read, so the network waits for
//! the disk and not the memory for both.
//!
//! A share is held only while bytes flow: a source that is silent for a moment gives it back, so the slow cannot keep the fast from it.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted at a time.
const UNIT: usize = 64 * 1024;

/// The allowance, shared.
#[derive(Debug, Clone)]
pub struct Budget {
    free: Arc<Semaphore>,
    units: u32,
}

/// A part of the allowance; dropping it gives it back.
#[derive(Debug)]
pub struct Share {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// An allowance of so many bytes.
    pub fn new(bytes: u64) -> Self {
        let units =
            u32::try_from(bytes / UNIT as u64).unwrap_or(u32::MAX).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize) as u32);
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Waits for so much to be free; never for more than there is in all. Who asked first is served first.
    pub async fn take(&self, bytes: usize) -> Share {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.units);
        // The semaphore is never closed.
        Share { _permit: Arc::clone(&self.free).acquire_many_owned(units).await.ok() }
    }

    /// The same, on a thread that may block.
    pub fn take_blocking(&self, bytes: usize, runtime: &Handle) -> Share {
        runtime.block_on(self.take(bytes))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_is_spent_is_waited_for_in_turn() {
        let budget = Budget::new(4 * UNIT as u64);
        let first = budget.take(3 * UNIT).await;
        let mut large = Box::pin(budget.take(2 * UNIT));
        assert!((&mut large).now_or_never().is_none());
        // There would be room for this one, but the large one asked before.
        let mut small = Box::pin(budget.take(1));
        assert!((&mut small).now_or_never().is_none());
        drop(first);
        assert!((&mut large).now_or_never().is_some() && small.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_wish_beyond_everything_gets_everything() {
        let budget = Budget::new(1);
        let all = budget.take(usize::MAX).await;
        assert!(budget.take(1).now_or_never().is_none());
        drop(all);
        assert!(budget.take(1).now_or_never().is_some());
    }
}
