//! Whether this machine has time for us: a beat that is late by more than a cap can catch up with is time that no node had.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Time between two beats.
const BEAT: Duration = Duration::from_millis(10);
/// What a cap catches up with, with a reserve.
const HARMLESS: Duration = Duration::from_millis(80);

/// Beats until it is dropped.
#[derive(Debug)]
pub struct Heartbeat {
    began: Instant,
    stalled_ms: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Heartbeat {
    /// Begins to beat.
    pub fn start() -> Self {
        let stalled_ms = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&stalled_ms);
        let task = tokio::spawn(async move {
            let mut beats = interval(BEAT);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut last = Instant::now();
            loop {
                beats.tick().await;
                let late = last.elapsed().saturating_sub(BEAT + HARMLESS);
                count.fetch_add(late.as_millis() as u64, Ordering::Relaxed);
                last = Instant::now();
            }
        });
        Self { began: Instant::now(), stalled_ms, task }
    }

    /// Of a thousand parts of the time since it began, how many were lost in stalls.
    pub fn stalled_permille(&self) -> u64 {
        let passed = self.began.elapsed().as_millis().max(1) as u64;
        self.stalled_ms.load(Ordering::Relaxed) * 1000 / passed
    }
}
