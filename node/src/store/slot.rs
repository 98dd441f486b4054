//! What the store remembers of one blob while it is open: the one place where "what is held" is decided. Knows the progress file.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::span_set::SpanSet;
use tracing::warn;

use super::error::StoreError;
use super::index::CatalogEntry;
use super::layout::Layout;
use super::progress::{Mark, ProgressLog, write_progress};
use super::published::{PublishMode, PublishedRecord};
use super::writer::BlobWriter;

/// Takes a lock even if another thread panicked with it: every change under these locks is complete at every point where it may panic.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a blob's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In the store's own file.
    Stored,
    /// In a published file, where the user keeps it.
    Referenced(PathBuf),
}

/// What the store holds of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobStatus {
    /// The blob.
    pub hash: BlobHash,
    /// Its size in bytes.
    pub size: u64,
    /// The groups that are proved and durable: what may be announced and served.
    pub held: SpanSet,
    /// Whether that is all of them.
    pub complete: bool,
    /// Where the bytes are.
    pub location: Location,
}

/// A published blob that is not served any more, until its file is published again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn {
    /// The blob.
    pub hash: BlobHash,
    /// The published file.
    pub path: PathBuf,
    /// Why, for a person to read.
    pub reason: String,
}

/// One blob. Its lock is held for bookkeeping, never while payload is read or written.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) hash: BlobHash,
    state: Mutex<State>,
}

/// Invariants: `held` and `pending` have no group in common and none beyond the geometry; a stored blob with a group missing has a
/// progress file; `log` is there only while a writer is.
#[derive(Debug)]
pub(super) struct State {
    pub(super) geometry: Geometry,
    /// Proved and durable.
    pub(super) held: SpanSet,
    /// Proved and written, but not synced.
    pub(super) pending: SpanSet,
    /// Counts failed syncs: whoever began writing before one must not believe in its own writes.
    pub(super) failed_syncs: u64,
    pub(super) log: Option<ProgressLog>,
    pub(super) writer: Weak<BlobWriter>,
    pub(super) published: Option<PublishedRecord>,
    pub(super) withdrawn: Option<String>,
    /// Where the bytes are while the blob has arrived whole and has no final name yet.
    pub(super) arrived: Option<PathBuf>,
    /// Removed from the store: whoever still has the slot finds nothing in it.
    pub(super) removed: bool,
}

impl Slot {
    pub(super) fn new(hash: BlobHash, geometry: Geometry, held: SpanSet, published: Option<PublishedRecord>) -> Self {
        let state = State {
            geometry,
            held,
            pending: SpanSet::new(),
            failed_syncs: 0,
            log: None,
            writer: Weak::new(),
            published,
            withdrawn: None,
            arrived: None,
            removed: false,
        };
        Self { hash, state: Mutex::new(state) }
    }

    /// A slot which holds all of its blob.
    pub(super) fn complete(hash: BlobHash, geometry: Geometry, published: Option<PublishedRecord>) -> Self {
        Self::new(hash, geometry, geometry.whole().map(SpanSet::from).unwrap_or_default(), published)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    pub(super) fn status(&self) -> BlobStatus {
        let state = self.state();
        BlobStatus {
            hash: self.hash,
            size: state.geometry.size(),
            held: state.held.clone(),
            complete: state.is_complete(),
            location: state.location(),
        }
    }

    pub(super) fn entry(&self) -> CatalogEntry {
        let state = self.state();
        CatalogEntry {
            hash: self.hash,
            size: state.geometry.size(),
            complete: state.is_complete(),
            published: state.published.clone(),
        }
    }

    /// What an open writer still has to receive.
    pub(super) fn missing_bytes(&self) -> u64 {
        let state = self.state();
        if state.writer.strong_count() == 0 {
            return 0;
        }
        state.geometry.whole().map_or(0, |whole| state.held.gaps(whole).into_iter().map(|gap| state.geometry.bytes_in(gap)).sum())
    }

    pub(super) fn withdrawn(&self) -> Option<Withdrawn> {
        let state = self.state();
        let path = state.reference()?.path.clone();
        Some(Withdrawn { hash: self.hash, path, reason: state.withdrawn.clone()? })
    }

    /// Takes groups out of what is held, now and for the next start. A referenced blob is withdrawn whole: nobody can mend it but its owner.
    pub(super) fn lose(&self, layout: &Layout, span: Span) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.removed {
            return Ok(());
        }
        if state.reference().is_some() {
            state.withdraw(self.hash, format!("its bytes do not match its hash in groups {span:?}"));
            return Ok(());
        }
        if let Some(path) = state.arrived.take() {
            state.pending = SpanSet::new();
            return layout.remove_if_there(&path).map(drop);
        }
        let state = &mut *state;
        // A record that reaches beyond the blob would not count at the next start.
        let Some(span) = state.geometry.whole().and_then(|whole| whole.intersection(span)) else { return Ok(()) };
        let lost = state.held.remove(span) + state.pending.remove(span);
        if lost == 0 {
            return Ok(());
        }
        warn!(hash = %self.hash.short(), ?span, lost, "damaged groups are not held any more");
        if let Some(log) = &mut state.log {
            let path = layout.progress(self.hash);
            return log.append(Mark::Lost, [span]).and_then(|()| log.file().sync()).map_err(|e| StoreError::io(&path, e));
        }
        write_progress(layout, self.hash, state.geometry.size(), &state.held)?;
        if state.writer.strong_count() > 0 {
            state.log = Some(ProgressLog::open(layout, self.hash)?);
        }
        Ok(())
    }
}

impl State {
    pub(super) fn is_complete(&self) -> bool {
        !self.removed && self.withdrawn.is_none() && self.held.groups() == self.geometry.groups()
    }

    /// Whether something of it is on its way in: files alone do not tell what there is.
    pub(super) fn is_busy(&self) -> bool {
        self.writer.strong_count() > 0 || self.arrived.is_some()
    }

    /// Whether every group is proved, synced or not.
    pub(super) fn is_whole(&self) -> bool {
        !self.removed && self.withdrawn.is_none() && self.held.groups() + self.pending.groups() == self.geometry.groups()
    }

    pub(super) fn check_size(&self, hash: BlobHash, asked: u64) -> Result<(), StoreError> {
        let known = self.geometry.size();
        if known == asked { Ok(()) } else { Err(StoreError::WrongSize { hash, known, asked }) }
    }

    /// The record, if the blob is served from a file outside of the store.
    pub(super) fn reference(&self) -> Option<&PublishedRecord> {
        self.published.as_ref().filter(|record| record.mode == PublishMode::Reference)
    }

    pub(super) fn location(&self) -> Location {
        self.reference().map_or(Location::Stored, |record| Location::Referenced(record.path.clone()))
    }

    /// Stops serving a referenced blob.
    pub(super) fn withdraw(&mut self, hash: BlobHash, reason: String) {
        if self.withdrawn.is_none() {
            warn!(hash = %hash.short(), %reason, "published file withdrawn");
            self.held = SpanSet::new();
            self.withdrawn = Some(reason);
        }
    }
}
