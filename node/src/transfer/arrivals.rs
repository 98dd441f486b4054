//! Durability of small blobs in the background: all that have arrived are synced together, and only then reported as stored.
//!
//! The first one after a while is synced at once, since somebody may wait for it; while a sync is under way, and for a while after it, the
//! next ones gather.

use p2pweights_protocol::engine::Input;
use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

use super::sync::{SyncHandle, pause_after, store_failed};
use super::{Fact, Facts};
use crate::store::{SmallSync, Store};

/// The owner of the task that syncs small blobs.
#[derive(Debug)]
pub struct Arrivals(CancellationToken);

impl Arrivals {
    /// Starts the task.
    pub fn start(store: Store, facts: Facts, syncer: SyncHandle, tasks: &TaskTracker) -> Self {
        let stop = CancellationToken::new();
        tasks.spawn(run(store, facts, syncer, stop.clone()));
        Self(stop)
    }

    /// Syncs everything and ends the task.
    pub fn stop(&self) {
        self.0.cancel();
    }
}

async fn run(store: Store, facts: Facts, syncer: SyncHandle, stop: CancellationToken) {
    let mut due = Instant::now();
    while !stop.is_cancelled() {
        tokio::select! {
            () = syncer.next_arrival() => (),
            () = stop.cancelled() => break,
        }
        tokio::select! {
            () = sleep_until(due) => (),
            () = stop.cancelled() => break,
        }
        let began = Instant::now();
        sync(&store, &facts).await;
        due = Instant::now() + pause_after(began.elapsed());
    }
    sync(&store, &facts).await;
}

async fn sync(store: &Store, facts: &Facts) {
    let store = store.clone();
    let Ok(synced) = tokio::task::spawn_blocking(move || store.sync_small()).await else {
        return error!("the sync thread panicked");
    };
    let SmallSync { stored, lost, error } = synced;
    let whole = |(blob, size): (BlobHash, u64)| Some((blob, size, Geometry::of(size).whole()?));
    let stored = stored.into_iter().filter_map(whole).map(|(blob, size, span)| Input::SpanStored { blob, size, span });
    let lost = lost.into_iter().filter_map(whole).map(|(blob, _, span): (_, _, Span)| Input::SpanLost { blob, span });
    for input in stored.chain(lost) {
        if facts.send(Fact::Engine(input)).await.is_err() {
            return;
        }
    }
    if let Some(error) = error {
        let _ = facts.send(store_failed(&error)).await;
    }
}
