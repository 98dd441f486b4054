//! Bringing bytes in from this machine: files published where they lie or copied, and small blobs made in memory. A file is read once,
//! for BLAKE3, outboard and SHA-256 together, in memory that does not grow with it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use p2pweights_protocol::geometry::Geometry;
use p2pweights_protocol::ids::{BlobHash, Sha256};
use p2pweights_protocol::limits;
use p2pweights_protocol::verify::{OutboardBuilder, outboard_bytes};
use sha2::Digest;
use thiserror::Error;

use super::Store;
use super::disk::{Disk, DiskFile};
use super::error::{AtPath, StoreError};
use super::hashing::{HashError, Hashers, Source};
use super::published::{FileStamp, PublishMode, PublishedRecord};
use super::quota::{Need, PUBLISHED_RECORD_BYTES};
use super::records::Records;
use super::slot::{Slot, locked};
use super::small::is_small;

/// An outboard is written in portions of this many bytes: the parents of 64 MiB.
const OUTBOARD_BUFFER_BYTES: usize = 256 * 1024;

/// What a published file became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The blob.
    pub hash: BlobHash,
    /// The file's SHA-256, if it was asked for.
    pub sha256: Option<Sha256>,
    /// Bytes.
    pub size: u64,
    /// Whether the file had to be read; false when it is known from before.
    pub read: bool,
}

/// Why a file was not published.
#[derive(Debug, Error)]
pub enum PublishError {
    /// Not a regular file.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The record is JSON, which cannot name this path.
    #[error("{} is not valid UTF-8; rename it or publish a copy", .0.display())]
    PathNotText(PathBuf),
    /// Somebody wrote to the file while it was read.
    #[error("{} changed while it was read; publish it when it is finished", .0.display())]
    Changed(PathBuf),
    /// The caller said stop.
    #[error("publishing was cancelled")]
    Cancelled,
    /// The file could not be read.
    #[error("{} could not be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store's trouble.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Stores a small complete blob, such as a manifest.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<BlobHash, StoreError> {
        let layout = &self.shared.layout;
        let hash = BlobHash::of(bytes);
        if self.blob(hash).is_some_and(|status| status.complete) {
            return Ok(hash);
        }
        self.shared.check_room(bytes.len() as u64)?;
        let _promise = self.promise(&[Need::of(hash, bytes.len() as u64)])?;
        let mut builder = OutboardBuilder::new(Vec::new());
        let built = builder.update(bytes).and_then(|()| builder.finish());
        let (_, outboard) = built.expect("memory takes everything");
        layout.make_blob_folder(hash)?;
        if !outboard.is_empty() {
            layout.write_whole(&layout.outboard(hash), &outboard)?;
        }
        layout.write_whole(&layout.data(hash), bytes)?;
        self.take_over(hash, Geometry::of(bytes.len() as u64), None)?;
        Ok(hash)
    }

    /// Publishes one file; see [`Publisher::publish`].
    pub fn publish_file(
        &self,
        path: &Path,
        mode: PublishMode,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Published, PublishError> {
        let publisher = self.publisher(mode, 1, true);
        let published = publisher.publish(path, progress)?;
        publisher.finish()?;
        Ok(published)
    }

    /// For publishing so many files, with or without their SHA-256.
    pub fn publisher(&self, mode: PublishMode, files: usize, with_sha256: bool) -> Publisher {
        let known = self.shared.slots().into_iter().filter_map(|slot| {
            let path = slot.state().published.as_ref()?.path.clone();
            Some((path, slot))
        });
        Publisher {
            known: known.collect(),
            hashers: Hashers::new(files, with_sha256),
            store: self.clone(),
            mode,
            with_sha256,
            records: Records::default(),
        }
    }

    /// Moves what was made into place, outboard first, and the record last: only the record makes a reference count. Where nothing was
    /// made, it is durable with the other records.
    fn install(&self, temps: Option<&Temps>, records: &Records, mut record: PublishedRecord) -> Result<(), StoreError> {
        let (layout, hash) = (&self.shared.layout, record.hash);
        // Two files may have the same bytes, and be finished at the same time.
        let turns = &self.shared.installs;
        let _turn = locked(&turns[usize::from(hash.as_bytes()[0]) % turns.len()]);
        let geometry = Geometry::of(record.stamp.size);
        let stored_already = self.shared.slot(hash).is_some_and(|slot| {
            let state = slot.state();
            state.is_complete() && state.reference().is_none()
        });
        if record.sha256.is_none() {
            record.sha256 = self.sha256(hash);
        }
        if stored_already {
            record.mode = PublishMode::Copy;
        } else if let Some(temps) = temps {
            layout.make_blob_folder(hash)?;
            if outboard_bytes(geometry) > 0 {
                layout.move_into_place(&temps.outboard, &layout.outboard(hash))?;
            }
            if record.mode == PublishMode::Copy {
                layout.move_into_place(&temps.data, &layout.data(hash))?;
            }
        } else {
            // One from before may be why the file is published again.
            layout.remove_if_there(&layout.outboard(hash))?;
        }
        match temps {
            // What is replaced is durable already: a record, or groups that were fetched.
            None if self.shared.slot(hash).is_none() => records.write(layout, &record)?,
            _ => layout.write_whole(&layout.published(hash), &record.to_json())?,
        }
        self.take_over(hash, geometry, Some(record))
    }

    /// The blob is complete from now on, whatever was known of it before.
    pub(super) fn take_over(
        &self,
        hash: BlobHash,
        geometry: Geometry,
        published: Option<PublishedRecord>,
    ) -> Result<(), StoreError> {
        let layout = &self.shared.layout;
        let slot = self.shared.slot_or_insert(hash, || Slot::complete(hash, geometry, published.clone()));
        {
            let mut state = slot.state();
            state.geometry = geometry;
            state.set_whole();
            state.withdrawn = None;
            state.log = None;
            if let Some(path) = state.arrived.take() {
                layout.remove_durably(&path)?;
            }
            if published.is_some() {
                state.published = published;
            } else if state.reference().is_some() {
                layout.remove_durably(&layout.published(hash))?;
                state.published = None;
            }
            if state.reference().is_some() {
                // Before its progress file: what is left of it alone would pass for complete.
                layout.remove_durably(&layout.data(hash))?;
            }
            layout.remove_durably(&layout.progress(hash))?;
        }
        self.shared.uses.touch(&slot);
        self.shared.note(&slot);
        self.shared.settle(hash);
        Ok(())
    }
}

/// Publishes files, several at a time.
pub struct Publisher {
    store: Store,
    mode: PublishMode,
    with_sha256: bool,
    hashers: Hashers,
    /// What was published before, by its path.
    known: BTreeMap<PathBuf, Arc<Slot>>,
    records: Records,
}

impl Publisher {
    /// How many files may be published at a time, each by a thread of its own.
    pub fn files_at_once(&self) -> usize {
        self.hashers.files_at_once()
    }

    /// Publishes a file: reads it once and serves it from then on. `progress` gets the bytes read so far and may stop it. A file known
    /// from before, with the same path, size and modification time, is not read again.
    pub fn publish(&self, path: &Path, progress: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<Published, PublishError> {
        let (shared, mode) = (&self.store.shared, self.mode);
        let read_error = |source| PublishError::Read { path: path.to_owned(), source };
        let path = fs::canonicalize(path).map_err(read_error)?;
        if path.to_str().is_none() {
            return Err(PublishError::PathNotText(path));
        }
        let file = File::open(&path).map_err(read_error)?;
        let metadata = file.metadata().map_err(read_error)?;
        if !metadata.is_file() {
            return Err(PublishError::NotAFile(path));
        }
        let stamp = FileStamp::of(&metadata);
        if let Some(known) = self.known(&path, stamp) {
            return Ok(known);
        }
        if stamp.size > limits::BLOB_BYTES {
            return Err(StoreError::TooLarge { size: stamp.size, limit: limits::BLOB_BYTES }.into());
        }
        if mode == PublishMode::Reference && is_small(Geometry::of(stamp.size)) {
            return self.publish_small(&file, path, stamp, progress);
        }
        let copied = if mode == PublishMode::Copy { stamp.size } else { 0 };
        let made = copied + outboard_bytes(Geometry::of(stamp.size));
        shared.check_room(made)?;
        let _room = shared.reserve(made + PUBLISHED_RECORD_BYTES)?;
        let temps = Temps { disk: shared.layout.disk().clone(), outboard: shared.layout.temp(), data: shared.layout.temp() };
        let mut outputs = Outputs::create(&temps, mode)?;
        let file = Arc::new(file);
        let source = Source { file: Arc::clone(&file), size: stamp.size, copy: outputs.data.clone() };
        let hashes = self.hashers.hash(source, &mut outputs.outboard, progress).map_err(|error| of_file(error, &path, &temps))?;
        let now = [FileStamp::of_file(&file), FileStamp::of_path(&path)];
        if now.iter().any(|now| !matches!(now, Ok(now) if *now == stamp)) {
            return Err(PublishError::Changed(path));
        }
        outputs.sync(&temps)?;
        let record = PublishedRecord { hash: hashes.blake3, sha256: hashes.sha256, path, stamp, mode };
        self.store.install(Some(&temps), &self.records, record)?;
        Ok(Published { hash: hashes.blake3, sha256: hashes.sha256, size: stamp.size, read: true })
    }

    /// A small file needs no outboard, so that its record is all that is written.
    fn publish_small(
        &self,
        file: &File,
        path: PathBuf,
        stamp: FileStamp,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Published, PublishError> {
        self.store.shared.take_room(0)?;
        let _room = self.store.shared.reserve(PUBLISHED_RECORD_BYTES)?;
        let mut bytes = Vec::with_capacity(stamp.size as usize + 1);
        let read = file.take(stamp.size + 1).read_to_end(&mut bytes);
        let read = read.map_err(|source| PublishError::Read { path: path.clone(), source })?;
        let now = [FileStamp::of_file(file), FileStamp::of_path(&path)];
        if read as u64 != stamp.size || now.iter().any(|now| !matches!(now, Ok(now) if *now == stamp)) {
            return Err(PublishError::Changed(path));
        }
        let hash = BlobHash::of(&bytes);
        let sha256 = self.with_sha256.then(|| Sha256(sha2::Sha256::digest(&bytes).into()));
        if stamp.size > 0 && progress(stamp.size).is_break() {
            return Err(PublishError::Cancelled);
        }
        let record = PublishedRecord { hash, sha256, path, stamp, mode: PublishMode::Reference };
        self.store.install(None, &self.records, record)?;
        Ok(Published { hash, sha256, size: stamp.size, read: true })
    }

    /// Makes durable what was published.
    pub fn finish(&self) -> Result<(), StoreError> {
        self.records.sync(&self.store.shared.layout)
    }

    fn known(&self, path: &Path, stamp: FileStamp) -> Option<Published> {
        let state = self.known.get(path)?.state();
        let record = state.published.as_ref()?;
        let same = state.is_complete() && !state.removed && record.path == path && record.stamp == stamp;
        let where_wanted = record.mode == self.mode || record.mode == PublishMode::Copy;
        let sha256 = record.sha256.filter(|_| self.with_sha256);
        let has_all = sha256.is_some() || !self.with_sha256;
        (same && where_wanted && has_all).then_some(Published { hash: record.hash, sha256, size: stamp.size, read: false })
    }
}

/// Temporary files, removed unless they were moved away.
struct Temps {
    disk: Disk,
    outboard: PathBuf,
    data: PathBuf,
}

impl Drop for Temps {
    fn drop(&mut self) {
        for path in [&self.outboard, &self.data] {
            // What cannot be removed now is cleared at the next start.
            let _ = self.disk.remove_file(path);
        }
    }
}

struct Outputs {
    outboard: BufWriter<DiskFile>,
    data: Option<Arc<DiskFile>>,
}

impl Outputs {
    fn create(temps: &Temps, mode: PublishMode) -> Result<Self, StoreError> {
        let outboard = temps.disk.create_new(&temps.outboard).at(&temps.outboard)?;
        let data = match mode {
            PublishMode::Reference => None,
            PublishMode::Copy => Some(Arc::new(temps.disk.create_new(&temps.data).at(&temps.data)?)),
        };
        Ok(Self { outboard: BufWriter::with_capacity(OUTBOARD_BUFFER_BYTES, outboard), data })
    }

    fn sync(&mut self, temps: &Temps) -> Result<(), StoreError> {
        self.outboard.flush().and_then(|()| self.outboard.get_ref().sync()).at(&temps.outboard)?;
        self.data.as_ref().map_or(Ok(()), |data| data.sync()).at(&temps.data)
    }
}

fn of_file(error: HashError, path: &Path, temps: &Temps) -> PublishError {
    match error {
        HashError::Read(source) => PublishError::Read { path: path.to_owned(), source },
        HashError::Write(source) => StoreError::io(&temps.outboard, source).into(),
        HashError::Changed => PublishError::Changed(path.to_owned()),
        HashError::Cancelled => PublishError::Cancelled,
    }
}
