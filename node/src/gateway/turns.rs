//! How many files are fetched for readers at a time, and how long one that nobody reads keeps its turn. Knows no file.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// All turns.
#[derive(Debug)]
pub struct Turns {
    free: Semaphore,
    /// How many wait for one.
    waiting: AtomicUsize,
    /// One more waits.
    crowded: Notify,
    lingers: Lingers,
}

/// How long a file that nobody reads keeps its turn.
#[derive(Debug, Clone, Copy)]
pub struct Lingers {
    /// While nobody waits.
    pub usually: Duration,
    /// While somebody does.
    pub crowded: Duration,
}

impl Turns {
    /// So many.
    pub fn new(limit: usize, lingers: Lingers) -> Self {
        Self { free: Semaphore::new(limit), waiting: AtomicUsize::new(0), crowded: Notify::new(), lingers }
    }

    /// Waits for a turn; `None` if there is none for so long.
    pub async fn take(&self, patience: Duration) -> Option<SemaphorePermit<'_>> {
        if let Ok(turn) = self.free.try_acquire() {
            return Some(turn);
        }
        let _waits = Waits::begin(self);
        timeout(patience, self.free.acquire()).await.ok()?.ok()
    }

    /// Waits for news of a file's readers; `false` if there was none for so long that the file gives up its turn, if nobody reads it.
    pub async fn news(&self, readers: &Notify) -> bool {
        loop {
            // In this order, so that nobody who begins to wait is missed.
            let crowded = self.crowded.notified();
            let Lingers { usually, crowded: shorter } = self.lingers;
            let linger = if self.waiting.load(Ordering::SeqCst) > 0 { shorter } else { usually };
            tokio::select! {
                news = timeout(linger, readers.notified()) => return news.is_ok(),
                () = crowded => (),
            }
        }
    }
}

/// While it is there, one more waits.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn begin(turns: &'a Turns) -> Self {
        turns.waiting.fetch_add(1, Ordering::SeqCst);
        turns.crowded.notify_waiters();
        Self(&turns.waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn turns() -> Turns {
        Turns::new(1, Lingers { usually: 2 * PATIENCE, crowded: Duration::from_millis(10) })
    }

    /// The holder of the turn hears of nothing, and gives it up when it is to.
    async fn give_way(turns: &Turns, readers: &Notify, held: SemaphorePermit<'_>) {
        assert!(!turns.news(readers).await);
        drop(held);
    }

    #[tokio::test]
    async fn what_nobody_reads_gives_way_to_what_waits() {
        let (turns, readers) = (turns(), Notify::new());
        // Whoever was there first, and whoever came first.
        let held = turns.take(PATIENCE).await.expect("it is free");
        let (taken, ()) = tokio::join!(turns.take(PATIENCE), give_way(&turns, &readers, held));
        let held = taken.expect("it was given up");
        let ((), taken) = tokio::join!(give_way(&turns, &readers, held), turns.take(PATIENCE));
        assert!(taken.is_some());
        assert_eq!(turns.waiting.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn readers_are_heard_of_and_who_waits_does_so_for_a_time_only() {
        let (turns, readers) = (turns(), Notify::new());
        let _held = turns.take(PATIENCE).await.expect("it is free");
        readers.notify_one();
        assert!(turns.news(&readers).await);
        assert!(turns.take(Duration::from_millis(10)).await.is_none());
        assert_eq!(turns.waiting.load(Ordering::SeqCst), 0);
    }
}
