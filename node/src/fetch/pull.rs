//! The blobs of a plan on their way: which are complete, how fast it goes, why it can't go on.

use std::collections::{BTreeMap, BTreeSet};

use p2pweights_protocol::engine::{Order, Want};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::span_set::SpanSet;
use tokio::time::Instant;

use super::watched::Watched;
use super::{Fetching, File, Plan};
use crate::driver::{BlobLook, Look};
use crate::node::blocking;
use crate::report::{Failure, FailureKind, FetchEvent, FileProgress};
use crate::speed::Speed;
use crate::store::Store;

/// The files of a plan on their way.
pub(super) struct Pull<'a> {
    fetching: &'a Fetching<'a>,
    files: &'a [File],
    /// The distinct blobs, in order.
    blobs: Vec<BlobHash>,
    /// Which of them each file needs.
    blob_of: Vec<usize>,
    sizes: Vec<u64>,
    waiting: BTreeSet<usize>,
    told: Vec<u64>,
    speed: Speed,
    last_bytes: u64,
    last_news: Instant,
}

impl<'a> Pull<'a> {
    /// Joins the swarm for all blobs that are not complete yet.
    pub(super) async fn new(fetching: &'a Fetching<'a>, plan: &'a Plan, watched: &Watched<'_>) -> Result<Pull<'a>, Failure> {
        let mut index_of = BTreeMap::new();
        let (mut blobs, mut sizes) = (Vec::new(), Vec::new());
        let mut blob_of = Vec::new();
        for file in &plan.files {
            let index = *index_of.entry(file.blob).or_insert_with(|| {
                blobs.push(file.blob);
                sizes.push(file.bytes);
                blobs.len() - 1
            });
            blob_of.push(index);
        }
        watched.add(&blobs).await?;
        let (store, asked) = (fetching.core.store.clone(), blobs.clone());
        let known = sizes.clone();
        let order = if fetching.request.in_order { Order::Stream } else { Order::RarestFirst };
        let wants = blocking(move || wants(&store, &asked, &known, order)).await?;
        if !wants.is_empty() {
            fetching.join(wants).await?;
        }
        let files = &plan.files;
        Ok(Self {
            fetching,
            files,
            waiting: (0..files.len()).collect(),
            told: vec![0; files.len()],
            blobs,
            blob_of,
            sizes,
            speed: Speed::default(),
            last_bytes: 0,
            last_news: Instant::now(),
        })
    }

    /// A look at every blob; one that is not fetched (any more) is looked up in the store.
    pub(super) async fn look(&mut self) -> Result<Look, Failure> {
        // The store first: whatever it holds was reported to the driver before.
        let store = &self.fetching.core.store;
        let in_store: Vec<bool> = self.blobs.iter().map(|blob| store.blob(*blob).is_some_and(|status| status.complete)).collect();
        let mut look = self.fetching.look(self.blobs.clone()).await?;
        for ((in_store, size), state) in in_store.into_iter().zip(&self.sizes).zip(&mut look.blobs) {
            if !state.stored && in_store {
                *state = BlobLook { stored: true, complete: true, verified: *size, ..*state };
            }
            if state.complete {
                state.verified = *size;
            }
        }
        let bytes = look.blobs.iter().map(|blob| blob.verified).sum();
        if bytes != self.last_bytes {
            (self.last_bytes, self.last_news) = (bytes, Instant::now());
        }
        self.speed.record(Instant::now().into_std(), bytes);
        Ok(look)
    }

    pub(super) fn is_stored(&self, look: &Look, file: usize) -> bool {
        look.blobs[self.blob_of[file]].stored
    }

    /// Files that have become complete since the last time.
    pub(super) fn take_complete(&mut self, look: &Look) -> Vec<usize> {
        let complete: Vec<usize> = self.waiting.iter().copied().filter(|file| look.blobs[self.blob_of[*file]].complete).collect();
        self.waiting.retain(|file| !complete.contains(file));
        complete
    }

    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn progress(&mut self, look: &Look) -> FetchEvent {
        let mut files = Vec::new();
        let (mut bytes, mut total) = (0, 0);
        for (index, file) in self.files.iter().enumerate() {
            let verified = look.blobs[self.blob_of[index]].verified;
            (bytes, total) = (bytes + verified, total + file.bytes);
            if std::mem::replace(&mut self.told[index], verified) != verified {
                files.push(FileProgress { file: index, bytes: verified });
            }
        }
        let rate = self.speed.bytes_per_s();
        let eta_s = (total - bytes).checked_div(rate);
        FetchEvent::Progress { bytes, total, rate, eta_s, sources: look.busy, files }
    }

    /// Says why it cannot go on, if it cannot.
    pub(super) fn check(&self, look: &Look) -> Result<(), Failure> {
        if let Some(paused) = &look.paused {
            let message = format!("{}; everything verified is kept, run it again to go on", paused.message);
            return Err(Failure::new(FailureKind::Disk, message));
        }
        let waited = self.last_news.elapsed();
        if waited < self.fetching.timeout() {
            return Ok(());
        }
        let missing: u64 = self.sizes.iter().zip(&look.blobs).map(|(size, blob)| size - blob.verified.min(*size)).sum();
        let providers = look.blobs.iter().map(|blob| blob.providers).max().unwrap_or(0);
        let disputed = look.blobs.iter().filter_map(|blob| blob.disputed).next();
        let reason = match (disputed, providers) {
            (Some(claimed), _) => {
                format!("a provider holds a file with {claimed} bytes, which is not what the manifest says")
            }
            (None, 0) => "no connected peer provides any of it".to_owned(),
            (None, _) => {
                let unavailable: u32 = look.blobs.iter().map(|blob| blob.unavailable).sum();
                format!("{providers} providers are connected, {unavailable} pieces are held by none of them")
            }
        };
        let message = format!(
            "nothing arrived for {} s with {missing} bytes missing: {reason}; what is verified is kept, run it again to go on",
            waited.as_secs()
        );
        let kind = if self.last_bytes == 0 && providers == 0 { FailureKind::NotFound } else { FailureKind::Incomplete };
        Err(Failure::new(kind, message))
    }
}

/// What is to be asked of the swarm: blobs that are not complete. Empty ones are made here.
fn wants(store: &Store, blobs: &[BlobHash], sizes: &[u64], order: Order) -> Result<Vec<Want>, Failure> {
    let mut wants = Vec::new();
    for (blob, size) in blobs.iter().zip(sizes) {
        if *size == 0 {
            store.put_bytes(b"")?;
            continue;
        }
        match store.blob(*blob) {
            Some(status) if status.complete => (),
            status => {
                // Another size than the manifest's: whatever is held belongs to the blob, so the manifest is wrong.
                if let Some(status) = status.as_ref().filter(|status| status.size != *size && !status.held.is_empty()) {
                    let message = format!("{blob} has {} bytes, the manifest says {size}", status.size);
                    return Err(Failure::new(FailureKind::Refused, message));
                }
                let held = status.map_or_else(SpanSet::new, |status| status.held);
                wants.push(Want { blob: *blob, size: Some(*size), held, order });
            }
        }
    }
    Ok(wants)
}
