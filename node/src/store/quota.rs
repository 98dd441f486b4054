//! The quota: most bytes that the data dir takes on its disk, whoever writes to it. One book under one lock says what is taken and what
//! is promised; nothing is allocated that was not entered there before, so that writers cannot overrun it together. Knows sizes, and how
//! to measure what it cannot know.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use p2pweights_protocol::geometry::Geometry;
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::verify::outboard_bytes;

use super::Shared;
use super::error::StoreError;
use super::layout::Layout;
use super::slot::locked;
use super::usage;

/// Always left free for what is not entered before it is written: the index, folders that grow, records being replaced. They are
/// measured instead, and this is several times what they can grow by between two measurements.
const SLACK_BYTES: u64 = 4 << 20;
/// And so much more for each blob there is, since the index grows with them.
const SLACK_PER_BLOB_BYTES: u64 = 1 << 10;
/// Names of a blob's files, in folders that are at worst half empty.
const NAMES_BYTES: u64 = 1 << 10;
/// Everything else is measured again after so many new blobs ...
const MEASURE_BLOBS: usize = 128;
/// ... and each time once less than this is left.
const NEAR_BYTES: u64 = 16 << 20;
/// Records above this are entered before they are written; smaller ones fit the slack.
const SMALL_RECORD_BYTES: u64 = 64 << 10;
/// What a record of a published file may take: its path has at most 4,096 bytes.
pub(super) const PUBLISHED_RECORD_BYTES: u64 = 8 << 10;

/// Least quota: the index of an empty store and the slack take half of it.
pub const MIN_QUOTA_BYTES: u64 = 16 << 20;

/// A blob that is to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The blob.
    pub blob: BlobHash,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes of the record that is to say why it is kept; 0 if there will be none.
    pub record_bytes: u64,
}

impl Need {
    /// A blob without a record.
    pub fn of(blob: BlobHash, size: u64) -> Self {
        Self { blob, size, record_bytes: 0 }
    }
}

/// Room for blobs that are to be stored, until this is dropped. What was stored by then stays entered with what it takes.
#[derive(Debug)]
pub struct Promise {
    shared: Arc<Shared>,
    blobs: Vec<BlobHash>,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.blobs.iter().for_each(|blob| self.shared.release(*blob));
    }
}

/// Room for files whose blob is not known yet, until this is dropped.
#[derive(Debug)]
pub(super) struct Reservation<'a> {
    quota: &'a Quota,
    bytes: u64,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        locked(&self.quota.books).reserved -= self.bytes;
    }
}

/// Room for files that are brought in under other names than a blob's, until this is dropped: what lies there by then is nobody's.
#[derive(Debug)]
pub(super) struct Claim {
    shared: Arc<Shared>,
    bytes: u64,
    files: Vec<PathBuf>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let left = self.shared.quota.measured_files(&self.files);
        let mut books = locked(&self.shared.quota.books);
        books.reserved -= self.bytes;
        books.strays += left;
    }
}

/// What a store may take, and what of that is spoken for.
#[derive(Debug)]
pub(super) struct Quota {
    /// Without one, only who relies on which blob is kept in the books.
    limit: Option<u64>,
    /// The file system gives out space in units of this.
    unit: u64,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    blobs: BTreeMap<BlobHash, Entry>,
    /// Sum over the entries.
    entered: u64,
    reserved: u64,
    /// What belongs to no blob, when it was last measured.
    rest: u64,
    /// Files that are nobody's, found at the start.
    strays: u64,
    /// New blobs since then.
    unmeasured: usize,
}

/// What one blob takes.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// On the disk, when nobody was writing.
    settled: u64,
    /// At most, while somebody is.
    promised: u64,
    /// Who relies on that: fetches, and whoever writes.
    holders: u32,
    /// Counts them, for whoever measures without the lock.
    began: u32,
}

impl Entry {
    fn bytes(self) -> u64 {
        if self.holders > 0 { self.settled.max(self.promised) } else { self.settled }
    }
}

/// What the quota is, and how much of it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaUse {
    /// Most bytes the data dir may take.
    pub limit_bytes: u64,
    /// Bytes promised to fetches and writers beyond what they have on the disk.
    pub promised_bytes: u64,
    /// Bytes that may still be taken.
    pub left_bytes: u64,
}

impl Quota {
    /// Looks at everything that is there, if there is a limit.
    pub(super) fn open(layout: &Layout, limit: Option<u64>) -> Result<Self, StoreError> {
        if limit.is_none() {
            return Ok(Self { limit, unit: 4096, books: Mutex::default() });
        }
        let unit = usage::allocation_unit(layout)?;
        let census = usage::census(layout);
        let rest = usage::rest(layout);
        let blobs: BTreeMap<_, _> =
            census.blobs.into_iter().map(|(blob, files)| (blob, Entry { settled: files.bytes, ..Entry::default() })).collect();
        let entered = blobs.values().map(|entry| entry.settled).sum();
        let books = Books { blobs, entered, rest, strays: census.other.saturating_sub(rest), ..Books::default() };
        Ok(Self { limit, unit, books: Mutex::new(books) })
    }

    /// What some files take, if there is a limit.
    fn measured_files(&self, files: &[PathBuf]) -> u64 {
        self.limit.map_or(0, |_| files.iter().map(|path| usage::of_file(path)).sum())
    }

    /// What a blob takes on the disk while it is written, at most.
    pub(super) fn bound(&self, need: Need) -> u64 {
        let geometry = Geometry::of(need.size);
        let up = |bytes: u64| bytes.div_ceil(self.unit).saturating_mul(self.unit);
        // Two progress records a group, and some that take groups back.
        let progress = up(64 + geometry.groups().saturating_mul(96));
        // A file written in random order may need a list of where its parts are.
        let lists = if geometry.groups() > 4 { up(need.size / 1024) + self.unit } else { 0 };
        let parts = [up(need.size), up(outboard_bytes(geometry)), progress, lists, up(need.record_bytes), NAMES_BYTES];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    fn slack(books: &Books) -> u64 {
        SLACK_BYTES + books.blobs.len() as u64 * SLACK_PER_BLOB_BYTES
    }

    /// Whether so much more may be taken, by so many new blobs.
    fn admit(&self, layout: &Layout, books: &mut Books, more: u64, blobs: usize) -> Result<(), StoreError> {
        let Some(limit) = self.limit.filter(|_| more > 0) else { return Ok(()) };
        books.unmeasured += blobs;
        let taken = |books: &Books| books.entered + books.reserved + books.rest + books.strays;
        let wanted = |books: &Books| taken(books).saturating_add(more).saturating_add(Self::slack(books));
        if books.unmeasured >= MEASURE_BLOBS || wanted(books).saturating_add(NEAR_BYTES) > limit {
            books.rest = usage::rest(layout);
            books.unmeasured = 0;
        }
        match wanted(books).checked_sub(limit) {
            None | Some(0) => Ok(()),
            Some(needed) => Err(StoreError::OverQuota { needed, taken: taken(books), quota: limit }),
        }
    }

    /// Enters what is to be written; all of it, or nothing.
    fn hold(&self, layout: &Layout, needs: &BTreeMap<BlobHash, u64>) -> Result<(), StoreError> {
        let mut books = locked(&self.books);
        let grown = |entry: Entry, bound: u64| Entry {
            promised: entry.promised.max(bound),
            holders: entry.holders + 1,
            began: entry.began.wrapping_add(1),
            ..entry
        };
        let mut more = 0_u64;
        for (blob, bound) in needs {
            let entry = books.blobs.get(blob).copied().unwrap_or_default();
            more = more.saturating_add(grown(entry, *bound).bytes().saturating_sub(entry.bytes()));
        }
        self.admit(layout, &mut books, more, needs.len())?;
        for (blob, bound) in needs {
            books.change(*blob, |entry| *entry = grown(*entry, *bound));
        }
        Ok(())
    }

    fn in_use(&self, layout: &Layout) -> Option<QuotaUse> {
        let limit_bytes = self.limit?;
        let mut books = locked(&self.books);
        books.rest = usage::rest(layout);
        let promised_bytes = books.blobs.values().map(|entry| entry.bytes() - entry.settled).sum::<u64>() + books.reserved;
        let taken = books.entered + books.reserved + books.rest + books.strays + Self::slack(&books);
        Some(QuotaUse { limit_bytes, promised_bytes, left_bytes: limit_bytes.saturating_sub(taken) })
    }
}

impl Books {
    fn change(&mut self, blob: BlobHash, change: impl FnOnce(&mut Entry)) {
        let entry = self.blobs.entry(blob).or_default();
        let before = entry.bytes();
        change(entry);
        let after = entry.bytes();
        if after == 0 && entry.holders == 0 {
            self.blobs.remove(&blob);
        }
        self.entered = self.entered - before + after;
    }
}

impl super::Store {
    /// Room for these blobs, whoever will write them: all of it, or an error that says how much is missing. What is there of them already
    /// is not counted twice. Without a quota there is always room.
    pub fn promise(&self, needs: &[Need]) -> Result<Promise, StoreError> {
        self.shared.promise(needs)
    }

    /// What the quota is and what is left of it; `None` without one.
    pub fn quota_use(&self) -> Option<QuotaUse> {
        self.shared.quota.in_use(&self.shared.layout)
    }

    /// Whether somebody fetches or writes a blob, or relies on its being here meanwhile.
    pub fn is_promised(&self, blob: BlobHash) -> bool {
        locked(&self.shared.quota.books).blobs.get(&blob).is_some_and(|entry| entry.holders > 0)
    }
}

impl Shared {
    pub(super) fn promise(self: &Arc<Self>, needs: &[Need]) -> Result<Promise, StoreError> {
        let blobs = self.hold(needs)?;
        Ok(Promise { shared: Arc::clone(self), blobs })
    }

    /// Enters what is to be written. Each of the blobs returned is to be [released](Self::release) once.
    pub(super) fn hold(&self, needs: &[Need]) -> Result<Vec<BlobHash>, StoreError> {
        let quota = &self.quota;
        let bound = |need: &Need| if quota.limit.is_some() { quota.bound(*need) } else { 0 };
        let needs: BTreeMap<BlobHash, u64> = needs.iter().map(|need| (need.blob, bound(need))).collect();
        quota.hold(&self.layout, &needs)?;
        Ok(needs.into_keys().collect())
    }

    /// Takes note that somebody no longer writes; with the last one the blob counts with what it takes.
    pub(super) fn release(&self, blob: BlobHash) {
        self.measured(blob, 1);
    }

    /// A blob's files changed otherwise.
    pub(super) fn settle(&self, blob: BlobHash) {
        self.measured(blob, 0);
    }

    /// Enters what a blob takes, unless more than `leaving` still write to it. The lock is not held meanwhile, since to measure takes the
    /// blob's own; if anybody began to write, it is measured again.
    fn measured(&self, blob: BlobHash, leaving: u32) {
        let quota = &self.quota;
        let mut measured: Option<(u32, u64)> = None;
        loop {
            let mut books = locked(&quota.books);
            let entry = books.blobs.get(&blob).copied().unwrap_or_default();
            if entry.holders > leaving {
                return books.change(blob, |entry| entry.holders -= leaving);
            }
            if let Some((began, settled)) = measured
                && began == entry.began
            {
                return books.change(blob, |entry| *entry = Entry { settled, promised: 0, holders: 0, ..*entry });
            }
            drop(books);
            let settled = if quota.limit.is_some() { self.measure(blob) } else { 0 };
            measured = Some((entry.began, settled));
        }
    }

    /// Room for files whose blob is not known yet.
    pub(super) fn reserve(&self, bytes: u64) -> Result<Reservation<'_>, StoreError> {
        let quota = &self.quota;
        let bytes = bytes.div_ceil(quota.unit).saturating_mul(quota.unit);
        let mut books = locked(&quota.books);
        quota.admit(&self.layout, &mut books, bytes, 1)?;
        books.reserved += bytes;
        Ok(Reservation { quota, bytes })
    }

    /// Room for these files, which will take so much at most. What there is of them was nobody's so far.
    pub(super) fn claim(self: &Arc<Self>, bytes: u64, files: &[PathBuf]) -> Result<Claim, StoreError> {
        let quota = &self.quota;
        let here = quota.measured_files(files);
        let bytes = bytes.div_ceil(quota.unit).saturating_mul(quota.unit);
        let mut books = locked(&quota.books);
        quota.admit(&self.layout, &mut books, bytes.saturating_sub(here), 1)?;
        books.reserved += bytes;
        books.strays = books.strays.saturating_sub(here);
        Ok(Claim { shared: Arc::clone(self), bytes, files: files.to_vec() })
    }

    /// Files that were nobody's are not there any more.
    pub(super) fn strays_gone(&self, bytes: u64) {
        let mut books = locked(&self.quota.books);
        books.strays = books.strays.saturating_sub(bytes);
    }

    /// Room for a record, unless it is small.
    pub(super) fn reserve_record(&self, bytes: usize) -> Result<Reservation<'_>, StoreError> {
        let bytes = bytes as u64;
        self.reserve(if bytes > SMALL_RECORD_BYTES { bytes } else { 0 })
    }

    /// What a blob takes on the disk; on a file system that is slow to say so, or that compresses, at least the bytes held of it.
    fn measure(&self, blob: BlobHash) -> u64 {
        let mut bytes = usage::of_blob(&self.layout, blob);
        if let Some(slot) = self.slot(blob) {
            let state = slot.state();
            if let Some(path) = &state.arrived {
                bytes += usage::of_file(path);
            }
            if state.reference().is_none() && !state.removed {
                let held = state.held.runs().chain(state.pending.runs());
                bytes = bytes.max(held.map(|run| state.geometry.bytes_in(run)).sum());
            }
        }
        bytes
    }
}
