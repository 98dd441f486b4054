//! Filling a blob: spans arrive on any thread, in any order; each group is proved before it is written, and counts once it is synced.
//!
//! Order of durability: data and outboard, then the progress record, then (the caller) the announcement.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use p2pweights_protocol::geometry::{GROUP_BYTES, Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::span_set::SpanSet;
use p2pweights_protocol::verify::{DecodeError, Feed, SpanSink, decode_span, outboard_bytes};
use tracing::{debug, error, warn};

use super::Shared;
use super::disk::DiskFile;
use super::error::{AtPath, ReceiveError, StoreError};
use super::layout::Layout;
use super::progress::{Mark, ProgressLog, write_progress};
use super::quota::Promise;
use super::slot::{Slot, State, locked};

/// Groups are collected to this much before they are written: from here on larger writes are not faster, and fresh memory is slower.
const WRITE_BYTES: usize = 256 * 1024;
/// Parents are collected to this many before they are written (4 MiB of data have 256).
const WRITE_PAIRS: usize = 4096;

/// What became of one span.
#[derive(Debug)]
#[must_use]
pub struct Receipt {
    /// How many groups, from the start of the span, are proved and written. They count as held only after a [`BlobWriter::sync`].
    pub verified_groups: u64,
    /// Whether that is all of them.
    pub outcome: Result<(), ReceiveError>,
}

/// A partial blob open for writing. There is one per blob at a time, shared by the threads that fetch it. Dropping the last one syncs.
#[derive(Debug)]
pub struct BlobWriter {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    geometry: Geometry,
    data: DiskFile,
    outboard: Option<DiskFile>,
    /// One sync at a time; receiving goes on meanwhile.
    syncing: Mutex<()>,
    unsynced_bytes: AtomicU64,
    /// Of room for all of it; the last field to go, after the last sync.
    _promise: Option<Promise>,
}

impl BlobWriter {
    /// Opens the files of a slot and starts its progress log; `state` is that slot's.
    /// Takes the promise of room only if that succeeds.
    pub(super) fn open(
        shared: &Arc<Shared>,
        slot: &Arc<Slot>,
        state: &mut State,
        promise: &mut Option<Promise>,
    ) -> Result<Arc<Self>, StoreError> {
        let (layout, hash, geometry) = (&shared.layout, slot.hash, state.geometry);
        layout.make_blob_folder(hash)?;
        // The progress file first: data without one would pass for complete.
        write_progress(layout, hash, geometry.size(), &state.held, &state.damaged)?;
        let open_sized = |path: PathBuf, size: u64| {
            let file = layout.disk().open_or_create(&path).at(&path)?;
            if file.len().at(&path)? != size {
                file.set_len(size).at(&path)?;
            }
            Ok::<_, StoreError>(file)
        };
        remove_links(layout, hash)?;
        break_link(layout, hash)?;
        let data = open_sized(layout.data(hash), geometry.size())?;
        let outboard = match outboard_bytes(geometry) {
            0 => None,
            bytes => Some(open_sized(layout.outboard(hash), bytes)?),
        };
        layout.sync_folder_of(&layout.data(hash))?;
        let mut log = ProgressLog::open(layout, hash)?;
        log.append(Mark::Written, state.pending.runs()).at(&layout.progress(hash))?;
        state.log = Some(log);
        let writer = Arc::new(Self {
            shared: Arc::clone(shared),
            slot: Arc::clone(slot),
            geometry,
            data,
            outboard,
            syncing: Mutex::new(()),
            unsynced_bytes: AtomicU64::new(0),
            _promise: promise.take(),
        });
        state.writer = Arc::downgrade(&writer);
        Ok(writer)
    }

    /// The blob.
    pub fn hash(&self) -> BlobHash {
        self.slot.hash
    }

    /// The blob's division.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(super) fn outboard(&self) -> Option<&DiskFile> {
        self.outboard.as_ref()
    }

    pub(super) fn outboard_path(&self) -> PathBuf {
        self.shared.layout.outboard(self.hash())
    }

    pub(super) fn take_room(&self, bytes: u64) -> Result<(), StoreError> {
        self.shared.take_room(bytes)
    }

    /// The groups proved and written, synced or not: what need not be fetched.
    pub fn verified(&self) -> SpanSet {
        let state = self.slot.state();
        let mut verified = state.held.clone();
        state.pending.runs().for_each(|run| {
            verified.insert(run);
        });
        verified
    }

    /// Whether every group is proved and durable.
    pub fn is_complete(&self) -> bool {
        self.slot.state().is_complete()
    }

    /// Bytes received since the last sync began.
    pub fn unsynced_bytes(&self) -> u64 {
        self.unsynced_bytes.load(Ordering::Relaxed)
    }

    /// Takes the encoding of one span and keeps what proves right, at least the groups before a failure.
    pub fn receive(&self, span: Span, feed: &mut impl Feed) -> Receipt {
        if !self.geometry.contains(span) {
            let size = self.geometry.size();
            let asked = span.end().saturating_mul(GROUP_BYTES);
            let error = StoreError::WrongSize { hash: self.hash(), known: size, asked };
            return Receipt { verified_groups: 0, outcome: Err(error.into()) };
        }
        if let Err(error) = self.shared.take_room(self.geometry.bytes_in(span)) {
            return Receipt { verified_groups: 0, outcome: Err(error.into()) };
        }
        let failed_syncs = self.slot.state().failed_syncs;
        let mut scratch = self.shared.scratch.take();
        let mut sink = FileSink { writer: self, scratch: &mut scratch, data_start: 0, groups_written: 0 };
        let (_, decoded) = decode_span(self.hash(), self.geometry, span, feed, &mut sink);
        let flushed = sink.finish();
        let groups = sink.groups_written;
        self.shared.scratch.give_back(scratch);
        let stored = flushed.map_err(|error| self.io_error(error));
        let recorded = match Span::new(span.start(), span.start() + groups) {
            Some(prefix) => self.record(prefix, failed_syncs),
            None => Ok(()),
        };
        let verified_groups = if recorded.is_ok() { groups } else { 0 };
        let outcome = match decoded {
            Err(DecodeError::Sink(error)) => Err(self.io_error(error).into()),
            decoded => stored.and(recorded).map_err(ReceiveError::from).and(decoded.map_err(|error| match error {
                DecodeError::BadBytes { group } => ReceiveError::BadBytes { group },
                DecodeError::Ended => ReceiveError::Ended,
                DecodeError::Read(error) | DecodeError::Sink(error) => ReceiveError::Read(error),
            })),
        };
        Receipt { verified_groups, outcome }
    }

    /// Notes that a span is proved and written.
    fn record(&self, span: Span, failed_syncs: u64) -> Result<(), StoreError> {
        let mut state = self.slot.state();
        let state = &mut *state;
        if state.removed {
            return Err(StoreError::Missing(self.hash()));
        }
        if state.failed_syncs != failed_syncs {
            return Err(StoreError::SyncLost(self.hash()));
        }
        let news = state.held.gaps(span);
        if let Some(log) = &mut state.log {
            log.append(Mark::Written, news.iter().copied()).map_err(|error| self.io_error(error))?;
        }
        news.into_iter().for_each(|gap| {
            state.pending.insert(gap);
        });
        self.unsynced_bytes.fetch_add(self.geometry.bytes_in(span), Ordering::Relaxed);
        Ok(())
    }

    /// Makes everything received so far durable; returns the groups which became so. Only these may be announced. The last one completes
    /// the blob. After an error, everything since the last good sync is forgotten and must be received again: the system may have
    /// dropped it.
    pub fn sync(&self) -> Result<SpanSet, StoreError> {
        let _one_at_a_time = locked(&self.syncing);
        let snapshot = {
            let state = self.slot.state();
            if state.pending.is_empty() {
                return Ok(SpanSet::new());
            }
            self.unsynced_bytes.store(0, Ordering::Relaxed);
            state.pending.clone()
        };
        let outcome = self.sync_files().and_then(|()| self.sync_progress(&snapshot));
        match outcome {
            Ok(durable) => {
                self.complete_if_whole()?;
                Ok(durable)
            }
            Err(error) => {
                self.forget_pending();
                Err(self.io_error(error))
            }
        }
    }

    fn sync_files(&self) -> io::Result<()> {
        if let Some(outboard) = &self.outboard {
            outboard.sync()?;
        }
        self.data.sync()
    }

    /// Records a snapshot as durable; what was lost meanwhile is left out.
    fn sync_progress(&self, snapshot: &SpanSet) -> io::Result<SpanSet> {
        let still_pending = |state: &State| -> SpanSet { snapshot.runs().flat_map(|run| state.pending.overlaps(run)).collect() };
        let file = {
            let mut state = self.slot.state();
            let durable = still_pending(&state);
            match &mut state.log {
                Some(log) => {
                    log.append(Mark::Durable, durable.runs())?;
                    Some(log.file())
                }
                None => None,
            }
        };
        if let Some(file) = file {
            file.sync()?;
        }
        let mut state = self.slot.state();
        let durable = still_pending(&state);
        for run in durable.runs() {
            state.pending.remove(run);
            state.damaged.remove(run);
            state.held.insert(run);
        }
        Ok(durable)
    }

    fn complete_if_whole(&self) -> Result<(), StoreError> {
        let mut state = self.slot.state();
        if !state.is_complete() || state.log.is_none() {
            return Ok(());
        }
        let layout = &self.shared.layout;
        layout.remove_durably(&layout.progress(self.hash()))?;
        state.log = None;
        drop(state);
        self.shared.uses.touch(&self.slot);
        debug!(hash = %self.hash().short(), "blob complete");
        self.shared.note(&self.slot);
        Ok(())
    }

    fn forget_pending(&self) {
        let mut state = self.slot.state();
        let state = &mut *state;
        state.failed_syncs += 1;
        let lost = std::mem::take(&mut state.pending);
        error!(hash = %self.hash().short(), groups = lost.groups(), "sync failed; these groups are fetched again");
        if let Some(log) = &mut state.log
            && let Err(error) = log.append(Mark::Lost, lost.runs())
        {
            warn!(%error, "the loss could not be recorded; the next start proves these groups again");
        }
    }

    fn io_error(&self, error: io::Error) -> StoreError {
        StoreError::io(&self.shared.layout.data(self.hash()), error)
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if let Err(error) = self.sync() {
            warn!(hash = %self.hash().short(), %error, "last sync failed");
        }
        let mut state = self.slot.state();
        // Unless another writer was opened already.
        if state.writer.strong_count() == 0 {
            state.log = None;
        }
    }
}

/// Gives the store a data file of its own again if it was exported as a link: groups are fetched again only because the bytes changed,
/// and if the user did that to the exported file, it is theirs now.
fn break_link(layout: &Layout, hash: BlobHash) -> Result<(), StoreError> {
    let path = layout.data(hash);
    if bytes_to_copy(layout, hash) == 0 {
        return Ok(());
    }
    let temp = layout.temp();
    layout.disk().copy(&path, &temp).and_then(|()| layout.disk().sync_path(&temp)).at(&temp)?;
    layout.move_into_place(&temp, &path)
}

/// A symbolic link where a file should be is somebody's mistake or trap: the link goes, and nothing happens to what it leads to.
fn remove_links(layout: &Layout, hash: BlobHash) -> Result<(), StoreError> {
    for path in [layout.data(hash), layout.outboard(hash)] {
        if std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
            warn!(path = %path.display(), "a link where a blob's file should be was removed");
            layout.remove_if_there(&path)?;
        }
    }
    Ok(())
}

/// How much is copied before a blob can be written to: all of an exported one.
pub(super) fn bytes_to_copy(layout: &Layout, hash: BlobHash) -> u64 {
    let metadata =
        std::fs::symlink_metadata(layout.data(hash)).ok().filter(|metadata| metadata.is_file() && metadata.nlink() > 1);
    metadata.map_or(0, |metadata| metadata.len())
}

/// Buffers of one receiving thread, kept for the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    data: Vec<u8>,
    /// Place in the outboard, and the pair.
    pairs: Vec<(u64, [u8; 64])>,
    /// Pairs side by side, about to be written.
    joined: Vec<u8>,
}

/// Buffers waiting for use: as many as threads ever received at once.
#[derive(Debug, Default)]
pub(super) struct ScratchPool(Mutex<Vec<Scratch>>);

impl ScratchPool {
    fn take(&self) -> Scratch {
        locked(&self.0).pop().unwrap_or_default()
    }

    fn give_back(&self, scratch: Scratch) {
        locked(&self.0).push(scratch);
    }
}

/// Collects leaves and parents and writes them in large runs.
struct FileSink<'a> {
    writer: &'a BlobWriter,
    scratch: &'a mut Scratch,
    data_start: u64,
    groups_written: u64,
}

impl FileSink<'_> {
    fn flush_data(&mut self) -> io::Result<()> {
        let data = &mut self.scratch.data;
        let result = self.writer.data.write_all_at(data, self.data_start);
        if result.is_ok() {
            self.groups_written += (data.len() as u64).div_ceil(GROUP_BYTES);
        }
        self.data_start += data.len() as u64;
        data.clear();
        result
    }

    fn flush_pairs(&mut self) -> io::Result<()> {
        let Some(outboard) = &self.writer.outboard else { return Ok(()) };
        let Scratch { pairs, joined, .. } = &mut *self.scratch;
        pairs.sort_unstable_by_key(|(offset, _)| *offset);
        for run in pairs.chunk_by(|(left, _), (right, _)| left + 64 == *right) {
            joined.clear();
            run.iter().for_each(|(_, pair)| joined.extend_from_slice(pair));
            outboard.write_all_at(joined, run[0].0)?;
        }
        pairs.clear();
        Ok(())
    }

    /// Writes what is left.
    fn finish(&mut self) -> io::Result<()> {
        let pairs = self.flush_pairs();
        let data = if self.scratch.data.is_empty() { Ok(()) } else { self.flush_data() };
        if pairs.is_err() {
            // Leaves without their parents cannot be proved again: they do not count.
            self.groups_written = 0;
            self.scratch.pairs.clear();
        }
        pairs.and(data)
    }
}

impl SpanSink for FileSink<'_> {
    fn parent(&mut self, outboard_offset: u64, pair: &[u8; 64]) -> io::Result<()> {
        self.scratch.pairs.push((outboard_offset, *pair));
        if self.scratch.pairs.len() >= WRITE_PAIRS { self.flush_pairs() } else { Ok(()) }
    }

    fn leaf(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.scratch.data.is_empty() {
            self.data_start = offset;
        }
        self.scratch.data.extend_from_slice(bytes);
        if self.scratch.data.len() >= WRITE_BYTES { self.flush_data() } else { Ok(()) }
    }

    fn pause(&mut self) -> io::Result<()> {
        self.flush_pairs()?;
        if !self.scratch.data.is_empty() {
            self.flush_data()?;
        }
        Ok(())
    }
}
