//! What rots: taken out of what is held as soon as it is seen, put right from what else is here, or kept in mind for whoever can fetch it
//! again.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::{OnceLock, PoisonError};

use p2pweights_protocol::geometry::Span;
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::span_set::SpanSet;
use p2pweights_protocol::verify::{REMAKE_GROUPS, Remade, outboard_bytes};
use tracing::info;

use super::disk::file_bytes;
use super::error::{AtPath, ReadError, StoreError};
use super::reader::BlobReader;
use super::slot::{Location, Withdrawn};
use super::{Store, scan};

/// Groups that are not held any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The blob.
    pub hash: BlobHash,
    /// Its size in bytes.
    pub size: u64,
    /// Which groups.
    pub groups: SpanSet,
    /// It is a published file, of which nothing is served until it is published again.
    pub withdrawn: bool,
}

/// A blob that was complete until damage was found in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The blob.
    pub hash: BlobHash,
    /// Its size in bytes. Where nothing is held, it is the size of what lies there, which may be wrong.
    pub size: u64,
    /// What is still held.
    pub held: SpanSet,
    /// Bytes to be had again.
    pub damaged_bytes: u64,
}

impl Repair {
    /// Whether it may be less work to read all of it here than to fetch what is missing: one parent high up in the outboard is wrong.
    pub fn may_be_restored(&self, geometry: p2pweights_protocol::geometry::Geometry) -> bool {
        geometry.groups() - self.held.groups() > REMAKE_GROUPS
    }
}

/// What is called on a loss.
type Told = Box<dyn Fn(&Loss) + Send + Sync>;

/// Who is told of losses.
#[derive(Default)]
pub(super) struct LossListener(OnceLock<Told>);

impl fmt::Debug for LossListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LossListener").field(&self.0.get().is_some()).finish()
    }
}

/// What a second look at doubtful groups found.
#[derive(Debug, Default)]
pub(super) struct SecondLook {
    /// Groups that prove.
    pub(super) proved: SpanSet,
    /// Parents were wrong, and have been made again.
    pub(super) outboard_mended: bool,
    /// A parent is wrong that has more below it than is made again at once.
    pub(super) high_parent: bool,
}

impl Store {
    /// Calls `told` whenever groups are lost to damage, on the thread that found it, which may block. The first listener stays.
    pub fn on_loss(&self, told: impl Fn(&Loss) + Send + Sync + 'static) {
        // A second one would be a mistake of ours, but nobody's bytes depend on it.
        let _ = self.shared.losses.0.set(Box::new(told));
    }

    /// Takes groups out of what is held, because they were found damaged. A referenced blob is withdrawn whole, until it is published again.
    pub fn quarantine(&self, hash: BlobHash, span: Span) -> Result<(), StoreError> {
        self.quarantine_all(hash, &SpanSet::from(span))
    }

    /// The same for several spans.
    pub fn quarantine_all(&self, hash: BlobHash, spans: &SpanSet) -> Result<(), StoreError> {
        let slot = self.shared.slot(hash).ok_or(StoreError::Missing(hash))?;
        let (groups, recorded) = slot.lose(&self.shared.layout, spans);
        self.shared.note(&slot);
        if !groups.is_empty()
            && let Some(told) = self.shared.losses.0.get()
        {
            let size = slot.state().geometry.size();
            told(&Loss { hash, size, groups, withdrawn: slot.withdrawn().is_some() });
        }
        recorded
    }

    /// Groups did not prove when they were read: looks again, puts parents right where the data allows it, and takes out of what is held
    /// what is wrong indeed.
    pub fn suspect(&self, hash: BlobHash, span: Span) -> Result<(), StoreError> {
        let held: SpanSet = self.blob(hash).map(|status| status.held.overlaps(span).collect()).unwrap_or_default();
        let reader = self.reader(hash)?;
        let mut lost = SpanSet::new();
        for run in held.runs() {
            match self.look_again(&reader, run) {
                Ok(look) => look.proved.gaps(run).into_iter().for_each(|gap| _ = lost.insert(gap)),
                Err(ReadError::NotHeld { .. }) => (),
                Err(ReadError::Changed { path }) => return Err(StoreError::Changed { path }),
                // What cannot be read now is not served, either.
                Err(_) => _ = lost.insert(run),
            }
        }
        if lost.is_empty() { Ok(()) } else { self.quarantine_all(hash, &lost) }
    }

    /// Proves a span, and makes parents again that are wrong.
    pub(super) fn look_again(&self, reader: &BlobReader, span: Span) -> Result<SecondLook, ReadError> {
        let first = reader.proof(span)?;
        let mut look = SecondLook { proved: first.proved, ..SecondLook::default() };
        for below in first.bad_parents {
            let remade = reader.files().remake_parents(below).map_err(ReadError::Io)?;
            let Remade::Parents { offset, pairs, .. } = remade else {
                look.high_parent |= below.groups() > REMAKE_GROUPS;
                continue;
            };
            self.write_parents(reader.hash(), offset, &pairs).map_err(ReadError::Io)?;
            look.outboard_mended = true;
            if let Some(within) = below.intersection(span) {
                reader.proof(within)?.proved.runs().for_each(|run| _ = look.proved.insert(run));
            }
        }
        Ok(look)
    }

    /// Parents that were wrong are overwritten where they lie: torn, they are as wrong as before.
    fn write_parents(&self, hash: BlobHash, offset: u64, pairs: &[u8]) -> io::Result<()> {
        let layout = &self.shared.layout;
        let file = layout.disk().open_existing(&layout.outboard(hash))?;
        file.write_all_at(pairs, offset)?;
        file.sync()?;
        info!(hash = %hash.short(), parents = pairs.len() / 64, "parents made again from the data");
        Ok(())
    }

    /// The blobs that were complete until damage was found in them, and have to be fetched again in part.
    pub fn repairs(&self) -> Vec<Repair> {
        let repair = |slot: std::sync::Arc<super::slot::Slot>| {
            let state = slot.state();
            let damaged_bytes = state.damaged.runs().map(|run| state.geometry.bytes_in(run)).sum();
            let repair = || Repair { hash: slot.hash, size: state.geometry.size(), held: state.held.clone(), damaged_bytes };
            state.is_under_repair().then(repair)
        };
        self.shared.slots().into_iter().filter_map(repair).collect()
    }

    /// Whether a blob was complete until damage was found in it.
    pub fn is_under_repair(&self, hash: BlobHash) -> bool {
        self.shared.slot(hash).is_some_and(|slot| slot.state().is_under_repair())
    }

    /// Why a published blob is not served any more, if it is not.
    pub fn withdrawn_blob(&self, hash: BlobHash) -> Option<Withdrawn> {
        self.shared.slot(hash)?.withdrawn()
    }

    /// The first blob of which something is held, from this hash on.
    pub fn next_held(&self, from: BlobHash) -> Option<BlobHash> {
        let blobs = self.shared.blobs.read().unwrap_or_else(PoisonError::into_inner);
        blobs.range(from..).find(|(_, slot)| !slot.state().held.is_empty()).map(|(hash, _)| *hash)
    }

    /// Reads a blob under repair from end to end: if its data is right after all, the outboard is made again and nothing need be fetched.
    /// `go_on` is asked after each quarter of a megabyte.
    pub fn restore(&self, hash: BlobHash, go_on: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<bool, StoreError> {
        let slot = self.shared.slot(hash).ok_or(StoreError::Missing(hash))?;
        let geometry = {
            let state = slot.state();
            if !state.is_under_repair() || state.is_busy() {
                return Ok(false);
            }
            state.geometry
        };
        let layout = &self.shared.layout;
        // There are two outboards for a while.
        let _room = self.shared.reserve(outboard_bytes(geometry))?;
        if !scan::mend_outboard(layout, hash, geometry, go_on)? {
            return Ok(false);
        }
        let mut state = slot.state();
        if !state.is_under_repair() || state.is_busy() {
            return Ok(false);
        }
        state.set_whole();
        layout.remove_if_there(&layout.progress(hash))?;
        layout.sync_folder_of(&layout.progress(hash))?;
        drop(state);
        self.shared.note(&slot);
        Ok(true)
    }

    /// A blob's files, one of which is gone: an outboard is made anew, empty, so that it shows as damaged and is made again; without its
    /// data nothing is held of a blob. Returns what was lost; `None` if all files are there.
    pub(super) fn missing_files(&self, hash: BlobHash) -> Result<Option<SpanSet>, StoreError> {
        let slot = self.shared.slot(hash).ok_or(StoreError::Missing(hash))?;
        let (geometry, stored, held, arrived) = {
            let state = slot.state();
            (state.geometry, state.location() == Location::Stored, state.held.clone(), state.arrived.is_some())
        };
        let layout = &self.shared.layout;
        if stored && !arrived && file_bytes(&layout.data(hash)).at(&layout.data(hash))?.is_none() {
            self.quarantine_all(hash, &held)?;
            return Ok(Some(held));
        }
        let outboard = layout.outboard(hash);
        if outboard_bytes(geometry) > 0 && !super::small::is_small(geometry) && file_bytes(&outboard).at(&outboard)?.is_none() {
            layout.disk().create_new(&outboard).and_then(|file| file.set_len(outboard_bytes(geometry))).at(&outboard)?;
            return Ok(Some(SpanSet::new()));
        }
        Ok(None)
    }
}
