//! What the files of the data dir take on the disk, as `du` counts it: in allocated blocks, folders included, sparse files with what they
//! have. Knows which file belongs to which blob, and looks at sizes only.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use p2pweights_protocol::ids::BlobHash;
use walkdir::WalkDir;

use super::error::StoreError;
use super::layout::{Layout, list, parse_name};
use super::{Location, Store};

/// The unit in which the system counts blocks.
const BLOCK_BYTES: u64 = 512;

/// What the files of one blob take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlobFilesUse {
    /// All of them together.
    pub bytes: u64,
    /// The newest modification of its data, in nanoseconds since 1970; 0 if there is none.
    pub modified_ns: i64,
}

/// Where the bytes of a data dir are. All of them together are what `du -s --block-size=1` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DiskUsage {
    /// Files of blobs, whatever is held of them: data, outboard, progress, records.
    pub blobs: BTreeMap<BlobHash, BlobFilesUse>,
    /// Everything else: the index, folders, identity, files being made.
    pub other_bytes: u64,
    /// Published files outside of the store (their whole size); not part of the above.
    pub referenced_bytes: u64,
    /// Left on the disk, reserve included.
    pub free_bytes: u64,
}

impl DiskUsage {
    /// What `du` says.
    pub fn total_bytes(&self) -> u64 {
        self.blobs.values().map(|files| files.bytes).sum::<u64>() + self.other_bytes
    }

    /// What one blob takes.
    pub fn of(&self, blob: BlobHash) -> u64 {
        self.blobs.get(&blob).map_or(0, |files| files.bytes)
    }
}

/// All files, by blob.
#[derive(Debug, Default)]
pub(super) struct Census {
    pub(super) blobs: BTreeMap<BlobHash, BlobFilesUse>,
    pub(super) other: u64,
}

/// Looks at every file.
pub(super) fn census(layout: &Layout) -> Census {
    let mut census = Census::default();
    // A file that goes away while it is looked at takes no room.
    for entry in WalkDir::new(layout.root()).into_iter().filter_map(Result::ok) {
        let Ok(metadata) = entry.metadata() else { continue };
        let bytes = metadata.blocks() * BLOCK_BYTES;
        match parse_name(entry.path()).filter(|_| metadata.is_file() && is_of_blobs(layout, entry.path())) {
            Some((blob, part)) => {
                let files = census.blobs.entry(blob).or_default();
                files.bytes += bytes;
                if part != "json" {
                    let modified = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
                    files.modified_ns = files.modified_ns.max(modified);
                }
            }
            None => census.other += bytes,
        }
    }
    census
}

fn is_of_blobs(layout: &Layout, path: &Path) -> bool {
    let Some(folder) = path.parent() else { return false };
    let named = layout.record_folders().iter().any(|of| folder == of) || folder == layout.arrived_folder();
    named || folder.parent() == Some(&layout.blobs())
}

/// What belongs to no blob: folders, and files outside of those folders whose files are entered by blob.
pub(super) fn rest(layout: &Layout) -> u64 {
    let records = [&layout.record_folders()[..], &[layout.arrived_folder(), layout.imports(), layout.temps()]].concat();
    let Ok(names) = list(layout.root()) else { return 0 };
    let within = names.iter().map(|path| match path {
        // The folders of blobs themselves, not what is in them.
        path if *path == layout.blobs() => of_file(path) + list(path).iter().flatten().map(|folder| of_file(folder)).sum::<u64>(),
        path if records.contains(path) => of_file(path),
        path => below(path),
    });
    of_file(layout.root()) + within.sum::<u64>()
}

/// What everything below a folder takes, itself included.
pub(super) fn below(folder: &Path) -> u64 {
    let walk = WalkDir::new(folder).into_iter().filter_map(Result::ok);
    walk.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.blocks() * BLOCK_BYTES).sum()
}

/// What the files of a blob take that have their final names.
pub(super) fn of_blob(layout: &Layout, blob: BlobHash) -> u64 {
    let stored = [layout.data(blob), layout.outboard(blob), layout.progress(blob)];
    let records = layout.record_folders().map(|folder| folder.join(format!("{blob}.json")));
    stored.iter().chain(&records).map(|path| of_file(path)).sum()
}

/// What one file takes; nothing if it is not there.
pub(super) fn of_file(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |metadata| metadata.blocks() * BLOCK_BYTES)
}

/// In which units files get space here.
pub(super) fn allocation_unit(layout: &Layout) -> Result<u64, StoreError> {
    let root = layout.root();
    let disk = rustix::fs::statvfs(root).map_err(|error| StoreError::io(root, error.into()))?;
    Ok(disk.f_frsize.max(disk.f_bsize).clamp(4096, 1 << 20))
}

impl Store {
    /// What indexes take that were moved aside because they were damaged; deletes them if told to.
    pub fn damaged_indexes(&self, delete: bool) -> Result<u64, StoreError> {
        super::index::damaged(&self.shared.layout, delete)
    }

    /// Counts bytes on the disk. Looks at every file.
    pub fn disk_usage(&self) -> Result<DiskUsage, StoreError> {
        let Census { blobs, other } = census(&self.shared.layout);
        let referenced = self.blobs().into_iter().filter(|status| matches!(status.location, Location::Referenced(_)));
        Ok(DiskUsage {
            blobs,
            other_bytes: other,
            referenced_bytes: referenced.map(|status| status.size).sum(),
            free_bytes: self.shared.free_bytes()?,
        })
    }
}
