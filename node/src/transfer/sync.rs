//! Durability in the background: what has been written is synced in batches, and only then reported as stored.
//!
//! A batch is 64 MiB of a blob, or what arrived in a tenth of a second: a piece can be passed on only once it is synced, and a swarm is as
//! slow as its news. A disk that takes long for a batch gets longer batches, up to a second's worth.

use std::sync::Arc;
use std::time::Duration;

use p2pweights_protocol::engine::Input;
use p2pweights_protocol::ids::BlobHash;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

use super::{Fact, Facts, Writers};
use crate::store::{BlobWriter, StoreError};

/// Unsynced bytes of one blob at which it is synced at once.
const BATCH_BYTES: u64 = 64 * 1024 * 1024;
/// Time that something written waits for its sync to begin, at least: on a disk that syncs at once.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// And at most.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// In between, the pause is so many times what the last batch took: a disk spends about a tenth of its time on syncing.
const PAUSE_FACTOR: u32 = 9;
/// Orders that may wait; each is a hint, so a lost one only costs a pause.
const ORDERS: usize = 1024;

#[derive(Debug)]
enum Order {
    /// Something of this blob was written.
    Written(BlobHash),
    /// These are not fetched any more: sync and close them.
    Release(Vec<BlobHash>),
    Stop,
}

/// The owner of the sync task.
#[derive(Debug)]
pub struct Syncer(SyncHandle);

/// Tells the sync task that there is work.
#[derive(Debug, Clone)]
pub struct SyncHandle {
    orders: mpsc::Sender<Order>,
    /// Something was written since the last batch began.
    written: Arc<Notify>,
    /// A small blob has arrived.
    arrived: Arc<Notify>,
}

impl Syncer {
    /// Starts the task.
    pub fn start(writers: Arc<Writers>, facts: Facts, tasks: &TaskTracker) -> Self {
        let (orders, queue) = mpsc::channel(ORDERS);
        let written = Arc::new(Notify::new());
        tasks.spawn(run(writers, facts, queue, Arc::clone(&written)));
        Self(SyncHandle { orders, written, arrived: Arc::default() })
    }

    /// A handle for those who write.
    pub fn handle(&self) -> SyncHandle {
        self.0.clone()
    }

    /// Syncs and closes these blobs' writers.
    pub fn release(&self, blobs: Vec<BlobHash>) {
        self.0.order(Order::Release(blobs));
    }

    /// Syncs everything and ends the task.
    pub fn stop(&self) {
        self.0.order(Order::Stop);
    }
}

impl SyncHandle {
    /// A small blob has arrived whole, and has no writer.
    pub fn arrived(&self) {
        self.arrived.notify_one();
    }

    /// Waits until one has.
    pub(super) async fn next_arrival(&self) {
        self.arrived.notified().await;
    }

    /// Something of this blob was written.
    pub fn written(&self, writer: &BlobWriter) {
        let whole = writer.verified().groups() == writer.geometry().groups();
        if whole || writer.unsynced_bytes() >= BATCH_BYTES {
            self.order(Order::Written(writer.hash()));
        }
        self.written.notify_one();
    }

    fn order(&self, order: Order) {
        if let Err(mpsc::error::TrySendError::Full(order)) = self.orders.try_send(order) {
            debug!(?order, "sync queue full, left to the clock");
        }
    }
}

async fn run(writers: Arc<Writers>, facts: Facts, mut orders: mpsc::Receiver<Order>, written: Arc<Notify>) {
    let mut pause = PAUSE_MIN;
    let mut due: Option<Instant> = None;
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            () = written.notified(), if due.is_none() => {
                due = Some(Instant::now() + pause);
                continue;
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                due = None;
                let began = Instant::now();
                for writer in writers.all().into_iter().filter(|writer| writer.unsynced_bytes() > 0) {
                    sync(&writers, &writer, &facts).await;
                }
                pause = pause_after(began.elapsed());
                continue;
            }
        };
        match order {
            Some(Order::Written(blob)) => {
                if let Some(writer) = writers.opened(blob) {
                    sync(&writers, &writer, &facts).await;
                }
            }
            Some(Order::Release(blobs)) => {
                for blob in blobs {
                    if let Some(writer) = writers.opened(blob) {
                        sync(&writers, &writer, &facts).await;
                        writers.close(blob);
                    }
                }
            }
            Some(Order::Stop) | None => break,
        }
    }
    for writer in writers.all() {
        sync(&writers, &writer, &facts).await;
        writers.close(writer.hash());
    }
}

/// How long the next batch is collected, after one that took so long.
pub(super) fn pause_after(took: Duration) -> Duration {
    (took * PAUSE_FACTOR).clamp(PAUSE_MIN, PAUSE_MAX)
}

async fn sync(writers: &Writers, writer: &Arc<BlobWriter>, facts: &Facts) {
    let (blob, size) = (writer.hash(), writer.geometry().size());
    let syncing = Arc::clone(writer);
    let joined = tokio::task::spawn_blocking(move || {
        let before = syncing.verified();
        let synced = syncing.sync();
        (before, synced, syncing.verified())
    })
    .await;
    let Ok((before, synced, after)) = joined else {
        error!(%blob, "the sync thread panicked");
        return;
    };
    match synced {
        Ok(durable) => {
            if writer.is_complete() {
                writers.close(blob);
            }
            for span in durable.runs() {
                if facts.send(Fact::Engine(Input::SpanStored { blob, size, span })).await.is_err() {
                    return;
                }
            }
        }
        Err(error) => {
            // What arrived since the last good sync is gone: it has to be fetched again.
            for run in before.runs() {
                for span in after.gaps(run) {
                    let _ = facts.send(Fact::Engine(Input::SpanLost { blob, span })).await;
                }
            }
            let _ = facts.send(store_failed(&error)).await;
        }
    }
}

/// The fact that the store failed.
pub fn store_failed(error: &StoreError) -> Fact {
    Fact::StoreFailed { message: crate::failure::phrase(error), full: matches!(error, StoreError::DiskFull { .. }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_disk_gets_longer_batches_within_limits() {
        let millis = Duration::from_millis;
        for (took, pause) in [(0, 100), (5, 100), (20, 180), (111, 999), (5000, 1000)] {
            assert_eq!(pause_after(millis(took)), millis(pause));
        }
    }
}
