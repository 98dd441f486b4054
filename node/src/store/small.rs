//! Small blobs that arrive whole in one request: proved in memory, written to a file of their own, and made durable many at a time. What
//! a blob costs beside its bytes, syncs above all, would else be most of the work for a model of thousands of small files.
//!
//! Order of durability: the bytes under `arrived/`, then their final names, then (the caller) the announcement.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::limits;
use p2pweights_protocol::span_set::SpanSet;
use p2pweights_protocol::verify::{DecodeError, Feed, SpanSink, decode_span};
use tracing::{debug, info, warn};

use super::error::{AtPath, ReceiveError, StoreError};
use super::layout::{Layout, list, parse_name};
use super::quota::Need;
use super::slot::{Slot, State, locked};
use super::writer::Receipt;
use super::{Shared, Store};

/// Largest blob that is taken whole, and that has no outboard: what every credit pays for, so that one request always covers it. To
/// hash so much again for a proof takes less time than to open another file.
pub(super) const SMALL_BYTES: u64 = limits::BLOCK_MIN_BYTES as u64;
/// Up to so many files are synced one by one; more of them with everything else on their file system, which takes one write to the
/// journal instead of one each.
pub(super) const FEW: usize = 8;

/// Whether a blob of this size needs no outboard once it is complete.
pub(super) fn is_small(geometry: Geometry) -> bool {
    geometry.size() <= SMALL_BYTES
}

/// A small blob that was received and is not durable yet.
#[derive(Debug)]
struct Arrived {
    slot: Arc<Slot>,
    path: PathBuf,
    /// Parts of it were here before, and may have left files.
    had_parts: bool,
}

/// Small blobs that wait to be made durable.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    waiting: Mutex<Vec<Arrived>>,
    /// One sync at a time; receiving goes on meanwhile.
    syncing: Mutex<()>,
}

/// What became of the small blobs that waited.
#[derive(Debug, Default)]
pub struct SmallSync {
    /// Durable from now on: only these may be announced. With their sizes.
    pub stored: Vec<(BlobHash, u64)>,
    /// Forgotten, because a sync failed: to be fetched again. With their sizes.
    pub lost: Vec<(BlobHash, u64)>,
    /// Why.
    pub error: Option<StoreError>,
}

impl Store {
    /// Whether this span is a small blob, whole, of which nothing is here yet: then [`Store::receive_small`] takes it.
    pub fn takes_small(&self, hash: BlobHash, size: u64, span: Span) -> bool {
        let geometry = Geometry::of(size);
        is_small(geometry)
            && size <= self.shared.config.blob_bytes_max
            && geometry.whole() == Some(span)
            && self.shared.slot(hash).is_none_or(|slot| slot.state().is_blank())
    }

    /// Reads the encoding of a whole small blob and keeps it if all of it proves right. It counts as held after [`Store::sync_small`].
    pub fn receive_small(&self, hash: BlobHash, size: u64, feed: &mut impl Feed) -> Receipt {
        let geometry = Geometry::of(size);
        let Some(whole) = geometry.whole() else { return Receipt { verified_groups: 0, outcome: Ok(()) } };
        let held = match self.shared.take_room(size).and_then(|()| self.shared.hold(&[Need::of(hash, size)])) {
            Ok(held) => held,
            Err(error) => return Receipt { verified_groups: 0, outcome: Err(error.into()) },
        };
        let mut decode = || {
            let mut bytes = Vec::with_capacity(size as usize);
            let (_, decoded) = decode_span(hash, geometry, whole, feed, &mut Bytes(&mut bytes));
            decoded.map_err(|error| match error {
                DecodeError::BadBytes { group } => ReceiveError::BadBytes { group },
                DecodeError::Ended => ReceiveError::Ended,
                DecodeError::Read(error) | DecodeError::Sink(error) => ReceiveError::Read(error),
            })?;
            Ok(self.shared.keep_small(hash, geometry, &bytes)?)
        };
        let kept: Result<Kept, ReceiveError> = decode();
        if !matches!(kept, Ok(Kept::Arrived)) {
            // Otherwise once it is synced.
            held.into_iter().for_each(|blob| self.shared.release(blob));
        }
        match kept {
            Ok(Kept::Arrived | Kept::Already) => Receipt { verified_groups: whole.groups(), outcome: Ok(()) },
            // Somebody else receives parts of it: those count, these do not.
            Ok(Kept::Not) => Receipt { verified_groups: 0, outcome: Ok(()) },
            Err(error) => Receipt { verified_groups: 0, outcome: Err(error) },
        }
    }

    /// Makes all small blobs durable that were received. After an error all of them are forgotten and must be received again.
    pub fn sync_small(&self) -> SmallSync {
        self.shared.sync_small()
    }
}

/// What became of a blob that was proved.
enum Kept {
    /// It waits to be made durable.
    Arrived,
    /// It was here.
    Already,
    /// Somebody is about to write it in parts.
    Not,
}

/// Collects what is proved.
struct Bytes<'a>(&'a mut Vec<u8>);

impl SpanSink for Bytes<'_> {
    fn parent(&mut self, _outboard_offset: u64, _pair: &[u8; 64]) -> io::Result<()> {
        Ok(())
    }

    fn leaf(&mut self, _offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

impl State {
    /// Whether nothing of the blob is here, nor on its way: it may be taken whole.
    fn is_blank(&self) -> bool {
        let empty = self.held.is_empty() && self.pending.is_empty() && self.arrived.is_none();
        empty && self.writer.strong_count() == 0 && self.published.is_none() && !self.removed
    }
}

impl Shared {
    /// Writes a proved blob down, unless somebody else did.
    fn keep_small(&self, hash: BlobHash, geometry: Geometry, bytes: &[u8]) -> Result<Kept, StoreError> {
        let path = self.layout.arrived(hash);
        // What is left of it after an error is cleared at the next start at the latest.
        self.layout.disk().write_new(&path, bytes).at(&path)?;
        let mut had_parts = true;
        let slot = self.slot_or_insert(hash, || {
            had_parts = false;
            Slot::new(hash, geometry, SpanSet::new(), None)
        });
        let mut state = slot.state();
        if !state.is_blank() {
            let whole = state.is_whole();
            drop(state);
            self.layout.remove_if_there(&path)?;
            return Ok(if whole { Kept::Already } else { Kept::Not });
        }
        state.geometry = geometry;
        state.pending = geometry.whole().into_iter().collect();
        state.damaged = SpanSet::new();
        state.arrived = Some(path.clone());
        drop(state);
        locked(&self.arrivals.waiting).push(Arrived { slot, path, had_parts });
        Ok(Kept::Arrived)
    }

    pub(super) fn sync_small(&self) -> SmallSync {
        let _one_at_a_time = locked(&self.arrivals.syncing);
        let batch = std::mem::take(&mut *locked(&self.arrivals.waiting));
        let mut result = SmallSync::default();
        if batch.is_empty() {
            return result;
        }
        match self.make_durable(&batch) {
            Ok(stored) => {
                debug!(blobs = stored.len(), "small blobs complete");
                self.note_all(&stored);
                result.stored = stored.iter().map(|slot| (slot.hash, slot.state().geometry.size())).collect();
            }
            Err(error) => {
                result.lost = batch.iter().filter_map(|arrived| self.forget_small(arrived)).collect();
                result.error = Some(error);
            }
        }
        batch.iter().for_each(|arrived| self.release(arrived.slot.hash));
        result
    }

    /// Syncs the bytes, gives them their names, and syncs those.
    fn make_durable(&self, batch: &[Arrived]) -> Result<Vec<Arc<Slot>>, StoreError> {
        let there = |arrived: &&Arrived| arrived.slot.state().arrived.as_ref() == Some(&arrived.path);
        let files: Vec<&Path> = batch.iter().filter(there).map(|arrived| arrived.path.as_path()).collect();
        self.sync_files(&files)?;
        let mut named = Vec::new();
        // The old names must not come back either, when the blob was removed long since.
        let mut folders = BTreeSet::from([self.layout.arrived_folder()]);
        for Arrived { slot, path, had_parts } in batch {
            let mut state = slot.state();
            // Unless it was removed meanwhile.
            if state.arrived.as_ref() != Some(path) {
                continue;
            }
            let data = self.layout.data(slot.hash);
            let folder = data.parent().expect("a blob's file lies in a folder").to_owned();
            if !folders.contains(&folder) && self.make_folder(&folder)? {
                folders.insert(self.layout.blobs());
            }
            self.layout.disk().rename(path, &data).at(&data)?;
            state.arrived = None;
            folders.insert(folder);
            drop(state);
            named.push((Arc::clone(slot), had_parts));
        }
        self.sync_folders(&folders)?;
        let mut stored = Vec::new();
        for (slot, had_parts) in named {
            let mut state = slot.state();
            // Unless somebody removed it, or brought all of it in another way.
            if state.removed || state.pending.is_empty() {
                continue;
            }
            // Left by parts that were found damaged. Only now: data without a progress file passes for complete, with the outboard that
            // is there.
            if *had_parts {
                self.layout.remove_durably(&self.layout.outboard(slot.hash))?;
                self.layout.remove_durably(&self.layout.progress(slot.hash))?;
            }
            state.set_whole();
            drop(state);
            self.uses.touch(&slot);
            stored.push(slot);
        }
        Ok(stored)
    }

    pub(super) fn sync_files(&self, paths: &[&Path]) -> Result<(), StoreError> {
        if paths.len() > FEW && self.layout.sync_file_system()? {
            return Ok(());
        }
        paths.iter().try_for_each(|path| self.layout.disk().sync_path(path).at(path))
    }

    pub(super) fn sync_folders(&self, folders: &BTreeSet<PathBuf>) -> Result<(), StoreError> {
        if folders.len() > FEW && self.layout.sync_file_system()? {
            return Ok(());
        }
        folders.iter().try_for_each(|folder| self.layout.sync_folder(folder))
    }

    /// A sync failed: the system may have dropped the bytes.
    fn forget_small(&self, Arrived { slot, path, .. }: &Arrived) -> Option<(BlobHash, u64)> {
        let mut state = slot.state();
        if state.removed || state.pending.is_empty() {
            return None;
        }
        for path in [path, &self.layout.data(slot.hash)] {
            // If it stays, the next start proves it, or finds its bytes to be right.
            let _ = self.layout.disk().remove_file(path);
        }
        state.failed_syncs += 1;
        state.pending = SpanSet::new();
        state.arrived = None;
        state.removed = true;
        let size = state.geometry.size();
        drop(state);
        self.forget(slot.hash);
        Some((slot.hash, size))
    }

    /// Makes a folder; says whether it is new.
    pub(super) fn make_folder(&self, folder: &Path) -> Result<bool, StoreError> {
        match self.layout.disk().make_folder(folder) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(StoreError::io(folder, error)),
        }
    }
}

/// Takes in what a process that was killed had received and not yet synced. Says whether there was anything.
pub(super) fn recover(layout: &Layout) -> Result<bool, StoreError> {
    let mut found = 0;
    let mut kept = 0;
    for path in list(&layout.arrived_folder())? {
        found += 1;
        let known = parse_name(&path).map(|(hash, _)| hash);
        let unknown = |hash: &BlobHash| !layout.data(*hash).exists() && !layout.progress(*hash).exists();
        let small = fs::metadata(&path).at(&path)?.len() <= SMALL_BYTES;
        match known.filter(|hash| small && unknown(hash)) {
            Some(hash) if BlobHash::of(&fs::read(&path).at(&path)?) == hash => {
                layout.disk().sync_path(&path).at(&path)?;
                layout.make_blob_folder(hash)?;
                layout.move_into_place(&path, &layout.data(hash))?;
                kept += 1;
            }
            _ => _ = layout.remove_if_there(&path)?,
        }
    }
    if found > 0 {
        info!(found, kept, "proved small blobs that were in flight");
    }
    if found > kept {
        warn!(lost = found - kept, "small blobs that were in flight are fetched again");
    }
    Ok(found > 0)
}
