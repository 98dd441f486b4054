//! The blobs of a plan on their way: which are complete, how fast it goes, why it can't go on. A look costs what has changed, not what
//! there is: a model may have thousands of files.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use p2pweights_protocol::engine::{Order, Want};
use p2pweights_protocol::ids::{BlobHash, PeerId};
use p2pweights_protocol::span_set::SpanSet;
use tokio::time::Instant;

use super::watched::Watched;
use super::{Fetching, File, Plan};
use crate::driver::News;
use crate::node::blocking;
use crate::report::{Failure, FailureKind, FetchEvent, FileProgress};
use crate::sharing::Sharing;
use crate::speed::Speed;
use crate::store::Store;

/// How often the store is asked about blobs that are not complete: somebody else may have published them here.
const STORE_PAUSE: Duration = Duration::from_secs(2);

/// One distinct blob of a plan.
struct Blob {
    hash: BlobHash,
    size: u64,
    /// The files that have these bytes.
    files: Vec<usize>,
    verified: u64,
    /// Every group is verified and written.
    complete: bool,
    /// Every group is durable, too.
    stored: bool,
}

/// The files of a plan on their way.
pub(super) struct Pull<'a> {
    fetching: &'a Fetching<'a>,
    files: &'a [File],
    blobs: Vec<Blob>,
    index_of: BTreeMap<BlobHash, usize>,
    /// Blobs that are not complete.
    missing: BTreeSet<usize>,
    /// Files that have become complete and were not taken yet.
    ready: Vec<usize>,
    /// Files to be placed.
    waiting: usize,
    /// Files that came further since that was last told.
    moved: BTreeSet<usize>,
    /// Verified bytes of all blobs.
    bytes: u64,
    /// The news up to this number are known.
    news: u64,
    speed: Speed,
    last_news: Instant,
    /// Since when there is no room on the disk.
    full_since: Option<Instant>,
    next_store_look: Instant,
}

impl<'a> Pull<'a> {
    /// Joins the swarm for all blobs that are not complete yet.
    pub(super) async fn new(fetching: &'a Fetching<'a>, plan: &'a Plan, watched: &Watched<'_>) -> Result<Pull<'a>, Failure> {
        let mut index_of = BTreeMap::new();
        let mut blobs: Vec<Blob> = Vec::new();
        for (index, file) in plan.files.iter().enumerate() {
            let blob = *index_of.entry(file.blob).or_insert_with(|| {
                let (hash, size) = (file.blob, file.bytes);
                blobs.push(Blob { hash, size, files: Vec::new(), verified: 0, complete: false, stored: false });
                blobs.len() - 1
            });
            blobs[blob].files.push(index);
        }
        let hashes: Vec<BlobHash> = blobs.iter().map(|blob| blob.hash).collect();
        watched.add(&hashes).await?;
        let asked: Vec<(BlobHash, u64)> = blobs.iter().map(|blob| (blob.hash, blob.size)).collect();
        let store = fetching.core.store.clone();
        let order = if fetching.request.in_order { Order::Stream } else { Order::RarestFirst };
        let sharing = fetching.core.sharing.clone();
        let wants = blocking(move || wants(&store, &sharing, &asked, order)).await?;
        if !wants.is_empty() {
            fetching.join(wants).await?;
        }
        let files = &plan.files;
        Ok(Self {
            fetching,
            files,
            missing: (0..blobs.len()).collect(),
            blobs,
            index_of,
            ready: Vec::new(),
            waiting: files.len(),
            moved: BTreeSet::new(),
            bytes: 0,
            news: 0,
            speed: Speed::default(),
            last_news: Instant::now(),
            full_since: None,
            next_store_look: Instant::now(),
        })
    }

    /// Looks at what has changed since the last time. A blob that is not fetched (any more) is looked up in the store, now and then.
    pub(super) async fn look(&mut self) -> Result<News, Failure> {
        // The store first: whatever it holds was reported to the driver before.
        let now = Instant::now();
        let mut in_store = Vec::new();
        if now >= self.next_store_look {
            self.next_store_look = now + STORE_PAUSE;
            let (store, blobs) = (&self.fetching.core.store, &self.blobs);
            in_store.extend(self.missing.iter().filter(|blob| store.is_complete(blobs[**blob].hash)).copied());
        }
        let news = self.fetching.news(self.news).await?;
        self.news = news.until;
        let before = self.bytes;
        for (hash, look) in &news.changed {
            if let Some(&blob) = self.index_of.get(hash) {
                self.note(blob, look.verified, look.complete || look.stored, look.stored);
            }
        }
        in_store.into_iter().for_each(|blob| self.note(blob, 0, true, true));
        // What comes unproved counts as life, too.
        if self.bytes != before || !news.changed.is_empty() {
            self.last_news = now;
        }
        self.speed.record(now.into_std(), self.bytes);
        Ok(news)
    }

    fn note(&mut self, index: usize, verified: u64, complete: bool, stored: bool) {
        let blob = &mut self.blobs[index];
        blob.stored |= stored;
        if blob.complete {
            return;
        }
        let verified = if complete { blob.size } else { verified };
        if verified != blob.verified {
            self.bytes = self.bytes - blob.verified + verified;
            blob.verified = verified;
            self.moved.extend(&blob.files);
        }
        if complete {
            blob.complete = true;
            self.ready.extend(&blob.files);
            self.missing.remove(&index);
        }
    }

    /// Whether the blob of the first file is complete and durable.
    pub(super) fn is_stored(&self) -> bool {
        self.blobs.first().is_some_and(|blob| blob.stored)
    }

    /// Files that have become complete since the last time.
    pub(super) fn take_complete(&mut self) -> Vec<usize> {
        let ready = std::mem::take(&mut self.ready);
        self.waiting -= ready.len();
        ready
    }

    pub(super) fn is_over(&self) -> bool {
        self.waiting == 0
    }

    pub(super) fn progress(&mut self, news: &News) -> FetchEvent {
        let moved = std::mem::take(&mut self.moved);
        let verified = |file: &File| self.blobs[self.index_of[&file.blob]].verified;
        let files = moved.into_iter().map(|file| FileProgress { file, bytes: verified(&self.files[file]) }).collect();
        // A file that is there twice counts twice.
        let of_files = |blob: &Blob, bytes: u64| bytes * blob.files.len() as u64;
        let bytes: u64 = self.blobs.iter().map(|blob| of_files(blob, blob.verified)).sum();
        let total: u64 = self.blobs.iter().map(|blob| of_files(blob, blob.size)).sum();
        let rate = self.speed.bytes_per_s();
        let eta_s = (total - bytes).checked_div(rate);
        FetchEvent::Progress { bytes, total, rate, eta_s, sources: news.busy, files }
    }

    /// Who delivered how much of it.
    pub(super) async fn sources(&self) -> Result<BTreeMap<PeerId, u64>, Failure> {
        let blobs = self.blobs.iter().map(|blob| blob.hash).collect();
        Ok(self.fetching.look(blobs).await?.sources)
    }

    /// What is new about waiting for room on a full disk.
    pub(super) fn pause(&mut self, news: &News) -> Option<FetchEvent> {
        let full = news.paused.as_ref().filter(|paused| paused.full);
        match (full, self.full_since) {
            (Some(paused), None) => {
                self.full_since = Some(Instant::now());
                Some(FetchEvent::Paused { reason: paused.message.clone() })
            }
            (None, Some(_)) => {
                self.full_since = None;
                self.last_news = Instant::now();
                Some(FetchEvent::Resumed)
            }
            _ => None,
        }
    }

    /// Says why it cannot go on, if it cannot. A full disk is waited for.
    pub(super) async fn check(&self, news: &News) -> Result<(), Failure> {
        if self.full_since.is_some_and(|since| since.elapsed() < self.fetching.room_patience) {
            return Ok(());
        }
        if let Some(paused) = &news.paused {
            let message = format!("{}; everything verified is kept, run it again to go on", paused.message);
            return Err(Failure::new(FailureKind::Disk, message));
        }
        let waited = self.last_news.elapsed();
        if waited < self.fetching.timeout() {
            return Ok(());
        }
        let look = self.fetching.look(self.missing.iter().map(|blob| self.blobs[*blob].hash).collect()).await?;
        let missing: u64 = self.blobs.iter().map(|blob| blob.size - blob.verified.min(blob.size)).sum();
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
        let kind = if self.bytes == 0 && providers == 0 { FailureKind::NotFound } else { FailureKind::Incomplete };
        Err(Failure::new(kind, message))
    }
}

/// What is to be asked of the swarm: blobs that are not complete. Empty ones are made here.
fn wants(store: &Store, sharing: &Sharing, blobs: &[(BlobHash, u64)], order: Order) -> Result<Vec<Want>, Failure> {
    let mut wants = Vec::new();
    let withheld = sharing.withheld(store);
    for &(blob, size) in blobs {
        if size == 0 {
            store.put_bytes(b"")?;
            continue;
        }
        match store.blob(blob) {
            Some(status) if status.complete => (),
            // Whatever is fetched is also given to others.
            _ if withheld.contains(&blob) => {
                let message = format!("{blob} belongs to a withheld model and is damaged or missing; import that again");
                return Err(Failure::new(FailureKind::Refused, message));
            }
            status => {
                // Another size than the manifest's: whatever is held belongs to the blob, so the manifest is wrong.
                if let Some(status) = status.as_ref().filter(|status| status.size != size && !status.held.is_empty()) {
                    let message = format!("{blob} has {} bytes, the manifest says {size}", status.size);
                    return Err(Failure::new(FailureKind::Refused, message));
                }
                let held = status.map_or_else(SpanSet::new, |status| status.held);
                wants.push(Want { blob, size: Some(size), held, order });
            }
        }
    }
    Ok(wants)
}
