//! Looking after the store: proving what it holds, making the index again.

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::span_set::SpanSet;
use p2pweights_protocol::verify::outboard_bytes;
use tracing::warn;

use super::damage::SecondLook;
use super::error::{ReadError, StoreError};
use super::reader::BlobReader;
use super::slot::{Location, Slot, locked};
use super::{Store, scan};

/// Groups proved between two looks at whether anything changed: 64 MiB.
const STEP_GROUPS: u64 = 4096;

/// What a check of one blob found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Groups read and hashed.
    pub checked_groups: u64,
    /// Groups found damaged; not held any more.
    pub damaged: SpanSet,
    /// Parents in the outboard were damaged and have been made again from the data.
    pub outboard_mended: bool,
}

/// What making the index again found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RebuildReport {
    /// Blobs held whole.
    pub complete: usize,
    /// Blobs held in part.
    pub partial: usize,
    /// Blobs served from files outside of the store.
    pub referenced: usize,
    /// Manifests kept.
    pub pins: usize,
}

/// What a step of a check came to.
#[derive(Debug, PartialEq, Eq)]
pub enum CheckStep {
    /// So many groups were read. More may come.
    Proved {
        /// Groups read and hashed.
        groups: u64,
        /// Those that are not held any more.
        lost: SpanSet,
        /// Parents were wrong, and have been made again from the data.
        outboard_mended: bool,
    },
    /// All that is held has been read.
    Finished,
    /// Stopped by the caller; the next step begins where this one did.
    Stopped,
}

/// A check of one blob under way, some groups at a time. What it finds damaged is taken out of what is held at once, so nothing is lost when
/// it ends early.
#[derive(Debug)]
pub struct BlobCheck {
    store: Store,
    hash: BlobHash,
    reader: Option<BlobReader>,
    next: u64,
    /// The whole outboard was made again already: once is enough.
    remade_whole: bool,
}

impl BlobCheck {
    /// The first group that has not been looked at.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Proves the next groups that are held, so many at most. Where an outboard has to be made again from much data, `go_on` hears of each
    /// part read and may stop it.
    pub fn step(&mut self, groups: u64, go_on: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<CheckStep, StoreError> {
        let slot = self.store.shared.slot(self.hash).ok_or(StoreError::Missing(self.hash))?;
        let (held, remakes) = {
            let state = slot.state();
            let rest = state.geometry.whole().and_then(|whole| Span::new(self.next, whole.end()));
            let run = rest.and_then(|rest| state.held.overlaps(rest).next());
            (run.map(|run| run.prefix(groups.max(1))), state.is_complete() && state.reference().is_none())
        };
        let Some(span) = held else {
            // One that was withdrawn holds nothing, and is not well for that.
            return match slot.withdrawn() {
                Some(withdrawn) => Err(StoreError::Changed { path: withdrawn.path }),
                None => Ok(CheckStep::Finished),
            };
        };
        let reader = match self.reader.take().map_or_else(|| self.store.reader(self.hash), Ok) {
            Ok(reader) => reader,
            Err(error @ StoreError::Io { .. }) => {
                let lost = self.store.missing_files(self.hash)?.ok_or(error)?;
                return Ok(CheckStep::Proved { groups: 0, lost, outboard_mended: false });
            }
            Err(error) => return Err(error),
        };
        if let Some(lost) = self.longer(&slot, &reader)? {
            return Ok(CheckStep::Proved { groups: 0, lost, outboard_mended: false });
        }
        reader.files().forget_cached(span);
        let mut look = match self.prove(&reader, span) {
            Ok(look) => look,
            // Somebody else took some of it out meanwhile.
            Err(ReadError::NotHeld { .. }) => {
                return Ok(CheckStep::Proved { groups: 0, lost: SpanSet::new(), outboard_mended: false });
            }
            Err(error) => return Err(error.of_store(self.hash, &self.store.shared.layout.data(self.hash))),
        };
        // There are two outboards for a while.
        if look.high_parent
            && remakes
            && !std::mem::replace(&mut self.remade_whole, true)
            && let Ok(_room) = self.store.shared.reserve(outboard_bytes(reader.geometry()))
        {
            let mut stopped = false;
            let mut watched = |bytes| {
                let flow = go_on(bytes);
                stopped |= flow.is_break();
                flow
            };
            let made = scan::mend_outboard(&self.store.shared.layout, self.hash, reader.geometry(), &mut watched)?;
            if stopped {
                self.remade_whole = false;
                return Ok(CheckStep::Stopped);
            }
            if made {
                // The next step opens the new one.
                return Ok(CheckStep::Proved { groups: 0, lost: SpanSet::new(), outboard_mended: true });
            }
        }
        let lost: SpanSet = look.proved.gaps(span).into_iter().collect();
        if !lost.is_empty() {
            self.store.quarantine_all(self.hash, &lost)?;
        }
        self.next = span.end();
        self.reader = (!reader.is_reference() || lost.is_empty()).then_some(reader);
        Ok(CheckStep::Proved { groups: span.groups(), lost, outboard_mended: std::mem::take(&mut look.outboard_mended) })
    }

    /// Somebody has written beyond the blob's end, so that the file cannot be handed out as it is: its last group is written again, and the
    /// file cut.
    fn longer(&self, slot: &Slot, reader: &BlobReader) -> Result<Option<SpanSet>, StoreError> {
        let found =
            reader.data().metadata().map_err(|error| StoreError::io(&self.store.shared.layout.data(self.hash), error))?.len();
        let is_longer = self.next == 0 && !reader.is_reference() && found > reader.geometry().size();
        let is_held = |last: &Span| slot.state().held.overlaps(*last).next().is_some();
        let Some(last) = last_group(reader.geometry()).filter(|_| is_longer).filter(is_held) else { return Ok(None) };
        let lost = SpanSet::from(last);
        self.store.quarantine_all(self.hash, &lost)?;
        Ok(Some(lost))
    }

    /// Where a disk cannot read all of a span, single groups are tried: what it reads of them is good, and the rest can be written anew,
    /// unless it reads nothing at all.
    fn prove(&self, reader: &BlobReader, span: Span) -> Result<SecondLook, ReadError> {
        let error = match self.store.look_again(reader, span) {
            Err(ReadError::Io(error)) => error,
            look => return look,
        };
        let mut proved = SpanSet::new();
        for group in (span.start()..span.end()).filter_map(|group| Span::new(group, group + 1)) {
            match reader.proof(group) {
                Ok(proof) => proof.proved.runs().for_each(|run| _ = proved.insert(run)),
                Err(ReadError::Io(_)) => (),
                Err(error) => return Err(error),
            }
        }
        if proved.is_empty() {
            return Err(ReadError::Io(error));
        }
        warn!(hash = %self.hash.short(), %error, unreadable = span.groups() - proved.groups(), "the disk cannot read all of a blob");
        Ok(SecondLook { proved, ..SecondLook::default() })
    }
}

/// Where a blob ends; an empty one has no groups.
pub(super) fn last_group(geometry: Geometry) -> Option<Span> {
    geometry.whole().and_then(|whole| Span::new(whole.end() - 1, whole.end()))
}

impl Store {
    /// Reads everything held of a blob and proves it. Damaged groups are taken out of what is held; damaged parents are made again where the
    /// data allows it.
    pub fn verify(&self, hash: BlobHash) -> Result<VerifyReport, StoreError> {
        let mut check = self.check(hash, 0);
        let mut report = VerifyReport::default();
        while let CheckStep::Proved { groups, lost, outboard_mended } =
            check.step(STEP_GROUPS, &mut |_| ControlFlow::Continue(()))?
        {
            report.checked_groups += groups;
            report.outboard_mended |= outboard_mended;
            lost.runs().for_each(|run| _ = report.damaged.insert(run));
        }
        Ok(report)
    }

    /// Begins to prove what is held of a blob, from this group on.
    pub fn check(&self, hash: BlobHash, from: u64) -> BlobCheck {
        BlobCheck { store: self.clone(), hash, reader: None, next: from, remade_whole: false }
    }

    /// Looks at all files again and makes the index from them. Blobs somebody is writing to are left as they are.
    pub fn rebuild(&self) -> Result<RebuildReport, StoreError> {
        let shared = &self.shared;
        let busy = |hash| shared.slot(hash).is_some_and(|slot| slot.state().is_busy());
        let found = scan::scan_unless(&shared.layout, busy)?;
        let entries: Vec<_> = {
            let mut blobs = shared.blobs.write().unwrap_or_else(PoisonError::into_inner);
            blobs.retain(|_, slot| slot.state().is_busy());
            for slot in found {
                blobs.entry(slot.hash).or_insert_with(|| Arc::new(slot));
            }
            blobs.values().map(|slot| slot.entry()).collect()
        };
        locked(&shared.index).replace(&entries);
        let mut report = RebuildReport { pins: locked(&shared.pins).len(), ..RebuildReport::default() };
        for status in self.blobs() {
            match (&status.location, status.complete) {
                (Location::Referenced(_), _) => report.referenced += 1,
                (Location::Stored, true) => report.complete += 1,
                (Location::Stored, false) => report.partial += 1,
            }
        }
        Ok(report)
    }
}
