//! What the store remembers of one blob while it is open: the one place where "what is held" is decided. Knows the progress file.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::span_set::SpanSet;
use tracing::warn;

use super::error::{AtPath, StoreError};
use super::index::CatalogEntry;
use super::layout::Layout;
use super::progress::{Mark, ProgressLog, write_progress};
use super::published::{PublishMode, PublishedRecord};
use super::small::is_small;
use super::writer::BlobWriter;

/// Damaged groups of one blob that are taken out one by one; damage found beyond that takes whole blocks with it.
const DAMAGED_SINGLY: u64 = 4096;
/// So many blocks at most: with the groups taken singly it makes less than half a megabyte of a blob that is damaged all over.
const DAMAGED_BLOCKS: u64 = 4096;

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
    /// When it was last of use to somebody, as `uses` counts.
    pub(super) last_use: AtomicU64,
    /// Who is reading it for a peer at this moment.
    pub(super) reading: AtomicUsize,
    state: Mutex<State>,
}

/// Invariants: `held` has no group in common with `pending` or `damaged`, and none of them has one beyond the geometry; a stored blob with
/// a group missing has a progress file; `log` is there only while a writer is.
#[derive(Debug)]
pub(super) struct State {
    pub(super) geometry: Geometry,
    /// Proved and durable.
    pub(super) held: SpanSet,
    /// Proved and written, but not synced.
    pub(super) pending: SpanSet,
    /// Found damaged, and not come again since.
    pub(super) damaged: SpanSet,
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
            damaged: SpanSet::new(),
            failed_syncs: 0,
            log: None,
            writer: Weak::new(),
            published,
            withdrawn: None,
            arrived: None,
            removed: false,
        };
        Self { hash, last_use: AtomicU64::new(0), reading: AtomicUsize::new(0), state: Mutex::new(state) }
    }

    /// A slot which holds all of its blob.
    pub(super) fn complete(hash: BlobHash, geometry: Geometry, published: Option<PublishedRecord>) -> Self {
        Self::new(hash, geometry, geometry.whole().map(SpanSet::from).unwrap_or_default(), published)
    }

    /// Whether it is being read for a peer.
    pub(super) fn is_read(&self) -> bool {
        self.reading.load(Ordering::Acquire) > 0
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    pub(super) fn status(&self) -> BlobStatus {
        let state = self.state();
        BlobStatus {
            hash: self.hash,
            size: state.geometry.size(),
            // Of a removed one only those read on who began before.
            held: if state.removed { SpanSet::new() } else { state.held.clone() },
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

    /// Takes groups out of what is held, now and for the next start, and returns which those are. A referenced blob is withdrawn whole:
    /// nobody can mend it but its owner.
    pub(super) fn lose(&self, layout: &Layout, spans: &SpanSet) -> (SpanSet, Result<(), StoreError>) {
        let mut state = self.state();
        let state = &mut *state;
        if state.removed {
            return (SpanSet::new(), Ok(()));
        }
        if state.reference().is_some() {
            let held = state.held.clone();
            let first = spans.runs().next();
            state.withdraw(
                self.hash,
                first.map_or_else(String::new, |span| format!("its bytes do not match its hash in groups {span:?}")),
            );
            return (held, Ok(()));
        }
        if let Some(path) = state.arrived.take() {
            return (std::mem::take(&mut state.pending), layout.remove_if_there(&path).map(drop));
        }
        // Without an outboard nothing of a small blob can be proved but all of it.
        let provable = !is_small(state.geometry) || state.geometry.groups() <= 1 || layout.outboard(self.hash).exists();
        let whole: SpanSet = state.geometry.whole().into_iter().collect();
        let lost = state.take_out(if provable { spans } else { &whole });
        if lost.is_empty() {
            return (lost, Ok(()));
        }
        warn!(hash = %self.hash.short(), groups = lost.groups(), first = ?lost.runs().next(), "damaged groups are not held any more");
        let recorded = self.record_loss(layout, state, &lost);
        (lost, recorded)
    }

    fn record_loss(&self, layout: &Layout, state: &mut State, lost: &SpanSet) -> Result<(), StoreError> {
        let path = layout.progress(self.hash);
        if let Some(log) = &mut state.log {
            let appended = log.append(Mark::Lost, lost.runs()).and_then(|()| log.append(Mark::Damaged, lost.runs()));
            return appended.and_then(|()| log.file().sync()).at(&path);
        }
        write_progress(layout, self.hash, state.geometry.size(), &state.held, &state.damaged)?;
        if state.writer.strong_count() > 0 {
            state.log = Some(ProgressLog::open(layout, self.hash)?);
        }
        Ok(())
    }
}

impl State {
    /// Moves what is held of these groups to what is damaged. Where there is damage all over, whole blocks go: a disk that bad is no place
    /// for what lies between, and a list of every second group of a large blob would fill the memory.
    fn take_out(&mut self, spans: &SpanSet) -> SpanSet {
        let Some(whole) = self.geometry.whole() else { return SpanSet::new() };
        let mut lost = SpanSet::new();
        for span in spans.runs().filter_map(|span| whole.intersection(span)) {
            let span = if self.damaged.groups() < DAMAGED_SINGLY { span } else { self.block_around(span) };
            for set in [&mut self.held, &mut self.pending] {
                let gone: Vec<Span> = set.overlaps(span).collect();
                for run in gone {
                    set.remove(run);
                    self.damaged.insert(run);
                    lost.insert(run);
                }
            }
        }
        lost
    }

    /// The blocks in which a span lies, of which a blob has [`DAMAGED_BLOCKS`] at most.
    fn block_around(&self, span: Span) -> Span {
        let groups = self.geometry.groups();
        let block = groups.div_ceil(DAMAGED_BLOCKS);
        let (start, end) = (span.start() / block * block, (span.end().div_ceil(block) * block).min(groups));
        Span::new(start, end).unwrap_or(span)
    }

    /// All of it is held from now on.
    pub(super) fn set_whole(&mut self) {
        self.held = self.geometry.whole().map(SpanSet::from).unwrap_or_default();
        (self.pending, self.damaged) = (SpanSet::new(), SpanSet::new());
    }

    /// Whether it was complete before damage was found.
    pub(super) fn is_under_repair(&self) -> bool {
        let groups = self.held.groups() + self.damaged.groups();
        !self.removed && self.reference().is_none() && !self.damaged.is_empty() && groups == self.geometry.groups()
    }

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

#[cfg(test)]
mod tests {
    use p2pweights_protocol::geometry::GROUP_BYTES;

    use super::*;

    /// A blob of 100 GB of which every second group is bad.
    #[test]
    fn damage_all_over_takes_little_memory_and_an_end() {
        let geometry = Geometry::of(100_000_000_000 / GROUP_BYTES * GROUP_BYTES);
        let slot = Slot::complete(BlobHash([1; 32]), geometry, None);
        let mut state = slot.state();
        let (mut at, mut takes) = (0, 0);
        while at < geometry.groups() {
            // A check reads what is held, a step at a time.
            let rest = Span::new(at, geometry.groups()).expect("not empty");
            let Some(step) = state.held.overlaps(rest).next().map(|run| run.prefix(64)) else { break };
            let bad = (step.start()..step.end()).filter(|group| group % 2 == 1).filter_map(|group| Span::new(group, group + 1));
            let bad: SpanSet = bad.collect();
            if !bad.is_empty() {
                state.take_out(&bad);
                takes += 1;
            }
            at = step.end();
        }
        let bound = (DAMAGED_SINGLY + DAMAGED_BLOCKS) as usize;
        assert!(state.damaged.run_count() <= bound && state.held.run_count() <= bound);
        assert!(takes <= DAMAGED_SINGLY + DAMAGED_BLOCKS, "{takes} times something was written down");
        assert_eq!(state.held.groups() + state.damaged.groups(), geometry.groups());
        assert!(state.is_under_repair());
    }
}
