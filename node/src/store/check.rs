//! Looking after the store: proving what it holds, making the index again, counting bytes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, PoisonError};

use p2pweights_protocol::geometry::Span;
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::span_set::SpanSet;

use super::error::{ReadError, StoreError};
use super::slot::{Location, locked};
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
    /// The outboard was damaged and has been made again from the data.
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

/// Where the bytes are. Files that are sparse count with what they take on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskUsage {
    /// Data of stored blobs.
    pub data_bytes: u64,
    /// Outboards, of referenced blobs too.
    pub outboard_bytes: u64,
    /// The index, and indexes moved aside.
    pub index_bytes: u64,
    /// Everything else in the store's directory.
    pub other_bytes: u64,
    /// Published files outside of the store (their whole size).
    pub referenced_bytes: u64,
    /// Left on the disk, reserve included.
    pub free_bytes: u64,
}

impl Store {
    /// Reads everything held of a blob and proves it. Damaged groups are taken out of what is held; a damaged outboard is made again
    /// where the data allows it.
    pub fn verify(&self, hash: BlobHash) -> Result<VerifyReport, StoreError> {
        let mut report = self.prove_held(hash)?;
        let slot = self.shared.slot(hash).ok_or(StoreError::Missing(hash))?;
        let (complete, stored, geometry) = {
            let state = slot.state();
            (state.is_complete(), state.reference().is_none(), state.geometry)
        };
        if !report.damaged.is_empty() && complete && stored && scan::mend_outboard(&self.shared.layout, hash, geometry)? {
            report = VerifyReport { outboard_mended: true, ..self.prove_held(hash)? };
        }
        for span in report.damaged.runs() {
            self.quarantine(hash, span)?;
        }
        Ok(report)
    }

    fn prove_held(&self, hash: BlobHash) -> Result<VerifyReport, StoreError> {
        let reader = self.reader(hash)?;
        let held = self.blob(hash).map(|status| status.held).unwrap_or_default();
        let mut report = VerifyReport::default();
        let steps = held.runs().flat_map(|run| {
            (run.start()..run.end())
                .step_by(STEP_GROUPS as usize)
                .filter_map(move |at| Span::new(at, run.end().min(at + STEP_GROUPS)))
        });
        for step in steps {
            let proved = match reader.prove(step) {
                Ok(proved) => proved,
                // Quarantined by somebody else meanwhile.
                Err(ReadError::NotHeld { .. }) => continue,
                Err(error) => return Err(error.of_store(hash, &self.shared.layout.data(hash))),
            };
            report.checked_groups += step.groups();
            proved.gaps(step).into_iter().for_each(|gap| {
                report.damaged.insert(gap);
            });
        }
        Ok(report)
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

    /// Counts bytes on the disk.
    pub fn disk_usage(&self) -> Result<DiskUsage, StoreError> {
        let layout = &self.shared.layout;
        let mut usage = DiskUsage { free_bytes: self.shared.free_bytes()?, ..DiskUsage::default() };
        // A file that goes away while it is looked at takes no room.
        for entry in walkdir::WalkDir::new(layout.root()).into_iter().filter_map(Result::ok) {
            let Ok(metadata) = fs::symlink_metadata(entry.path()) else { continue };
            if !metadata.is_file() {
                continue;
            }
            let bytes = metadata.blocks() * 512;
            let within = entry.path().strip_prefix(layout.root()).unwrap_or(entry.path());
            let part = within.extension().and_then(|extension| extension.to_str());
            match (within.iter().next().and_then(|name| name.to_str()), part) {
                (Some("blobs"), Some("data")) => usage.data_bytes += bytes,
                (Some("blobs"), Some("outboard")) => usage.outboard_bytes += bytes,
                (Some(name), _) if name.starts_with("index") => usage.index_bytes += bytes,
                _ => usage.other_bytes += bytes,
            }
        }
        let referenced = self.shared.slots().into_iter().filter(|slot| slot.state().reference().is_some());
        usage.referenced_bytes = referenced.map(|slot| slot.state().geometry.size()).sum();
        Ok(usage)
    }
}
