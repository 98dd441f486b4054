//! Bringing bytes in from this machine: files published where they lie or copied, and small blobs made in memory. A file is read once,
//! for BLAKE3, outboard and SHA-256 together, in memory that does not grow with it.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use p2pweights_protocol::geometry::Geometry;
use p2pweights_protocol::ids::{BlobHash, Sha256};
use p2pweights_protocol::limits;
use p2pweights_protocol::span_set::SpanSet;
use p2pweights_protocol::verify::{OutboardBuilder, outboard_bytes};
use sha2::Digest;
use thiserror::Error;

use super::Store;
use super::error::{AtPath, StoreError};
use super::layout::remove_if_there;
use super::published::{FileStamp, PublishMode, PublishedRecord};
use super::slot::Slot;

/// Bytes handed from the reading thread to the SHA-256 thread at a time.
const BUFFER_BYTES: usize = 1 << 20;
/// Buffers on their way; SHA-256 is the slower side, so more would only wait.
const BUFFERS: usize = 4;

/// What a published file became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The blob.
    pub hash: BlobHash,
    /// The file's SHA-256.
    pub sha256: Sha256,
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

    /// Publishes a file: reads it once and serves it from then on. `progress` gets the bytes read so far and may stop it. A file known
    /// from before, with the same path, size and modification time, is not read again.
    pub fn publish_file(
        &self,
        path: &Path,
        mode: PublishMode,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Published, PublishError> {
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
        if let Some(known) = self.known(&path, stamp, mode) {
            return Ok(known);
        }
        if stamp.size > limits::BLOB_BYTES {
            return Err(StoreError::TooLarge { size: stamp.size, limit: limits::BLOB_BYTES }.into());
        }
        let copied = if mode == PublishMode::Copy { stamp.size } else { 0 };
        self.shared.check_room(copied + outboard_bytes(Geometry::of(stamp.size)))?;
        let temps = Temps { outboard: self.shared.layout.temp(), data: self.shared.layout.temp() };
        let mut outputs = Outputs::create(&temps, mode)?;
        let (hash, sha256, read) = hash_file(&file, &mut outputs, progress).map_err(|error| error.of(&path, &temps))?;
        let now = [FileStamp::of_file(&file), FileStamp::of_path(&path)];
        if read != stamp.size || now.iter().any(|now| !matches!(now, Ok(now) if *now == stamp)) {
            return Err(PublishError::Changed(path));
        }
        outputs.sync(&temps)?;
        let record = PublishedRecord { hash, sha256, path, stamp, mode };
        self.install(&temps, record)?;
        Ok(Published { hash, sha256, size: stamp.size, read: true })
    }

    fn known(&self, path: &Path, stamp: FileStamp, mode: PublishMode) -> Option<Published> {
        self.shared.slots().into_iter().find_map(|slot| {
            let state = slot.state();
            let record = state.published.as_ref()?;
            let same = state.is_complete() && record.path == path && record.stamp == stamp;
            let where_wanted = record.mode == mode || record.mode == PublishMode::Copy;
            (same && where_wanted).then_some(Published {
                hash: record.hash,
                sha256: record.sha256,
                size: stamp.size,
                read: false,
            })
        })
    }

    /// Moves what was made into place, outboard first, and the record last: only the record makes a reference count.
    fn install(&self, temps: &Temps, mut record: PublishedRecord) -> Result<(), StoreError> {
        let (layout, hash) = (&self.shared.layout, record.hash);
        let geometry = Geometry::of(record.stamp.size);
        layout.make_blob_folder(hash)?;
        let stored_already = self.shared.slot(hash).is_some_and(|slot| {
            let state = slot.state();
            state.is_complete() && state.reference().is_none()
        });
        if stored_already {
            record.mode = PublishMode::Copy;
        } else {
            if outboard_bytes(geometry) > 0 {
                layout.move_into_place(&temps.outboard, &layout.outboard(hash))?;
            }
            if record.mode == PublishMode::Copy {
                layout.move_into_place(&temps.data, &layout.data(hash))?;
            }
        }
        let text = serde_json::to_vec_pretty(&record).expect("a record has only text keys, and its path is UTF-8");
        layout.write_whole(&layout.published(hash), &text)?;
        self.take_over(hash, geometry, Some(record))
    }

    /// The blob is complete from now on, whatever was known of it before.
    fn take_over(&self, hash: BlobHash, geometry: Geometry, published: Option<PublishedRecord>) -> Result<(), StoreError> {
        let layout = &self.shared.layout;
        let slot = self.shared.slot_or_insert(hash, || Slot::complete(hash, geometry, published.clone()));
        {
            let mut state = slot.state();
            state.geometry = geometry;
            state.held = geometry.whole().map(SpanSet::from).unwrap_or_default();
            state.pending = SpanSet::new();
            state.withdrawn = None;
            state.log = None;
            if published.is_some() {
                state.published = published;
            } else if state.reference().is_some() {
                remove_if_there(&layout.published(hash))?;
                state.published = None;
            }
            remove_if_there(&layout.progress(hash))?;
            if state.reference().is_some() {
                remove_if_there(&layout.data(hash))?;
            }
        }
        self.shared.note(&slot);
        Ok(())
    }
}

/// Temporary files, removed unless they were moved away.
struct Temps {
    outboard: PathBuf,
    data: PathBuf,
}

impl Drop for Temps {
    fn drop(&mut self) {
        for path in [&self.outboard, &self.data] {
            // What cannot be removed now is cleared at the next start.
            let _ = fs::remove_file(path);
        }
    }
}

struct Outputs {
    outboard: BufWriter<File>,
    data: Option<File>,
}

impl Outputs {
    fn create(temps: &Temps, mode: PublishMode) -> Result<Self, StoreError> {
        let outboard = BufWriter::with_capacity(BUFFER_BYTES / 4, File::create_new(&temps.outboard).at(&temps.outboard)?);
        let data = match mode {
            PublishMode::Reference => None,
            PublishMode::Copy => Some(File::create_new(&temps.data).at(&temps.data)?),
        };
        Ok(Self { outboard, data })
    }

    fn sync(&mut self, temps: &Temps) -> Result<(), StoreError> {
        self.outboard.flush().and_then(|()| self.outboard.get_ref().sync_all()).at(&temps.outboard)?;
        self.data.as_ref().map_or(Ok(()), File::sync_all).at(&temps.data)
    }
}

enum HashError {
    Read(io::Error),
    Write(io::Error),
    Cancelled,
}

impl HashError {
    fn of(self, path: &Path, temps: &Temps) -> PublishError {
        match self {
            Self::Read(source) => PublishError::Read { path: path.to_owned(), source },
            Self::Write(source) => StoreError::io(&temps.outboard, source).into(),
            Self::Cancelled => PublishError::Cancelled,
        }
    }
}

/// Reads a file once. This thread reads, hashes BLAKE3 and writes; another hashes SHA-256 from the same buffers.
fn hash_file(
    file: &File,
    outputs: &mut Outputs,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<(BlobHash, Sha256, u64), HashError> {
    std::thread::scope(|scope| {
        let (to_sha256, filled) = sync_channel::<(Arc<Vec<u8>>, usize)>(BUFFERS);
        let (give_back, free) = sync_channel::<Arc<Vec<u8>>>(BUFFERS);
        for _ in 0..BUFFERS {
            give_back.send(Arc::new(Vec::new())).expect("the other end is below");
        }
        let sha256 = scope.spawn(move || {
            let mut hasher = sha2::Sha256::new();
            for (buffer, count) in filled {
                hasher.update(&buffer[..count]);
                // When the other side is gone, nobody needs the buffer.
                let _ = give_back.send(buffer);
            }
            Sha256(hasher.finalize().into())
        });
        let mut builder = OutboardBuilder::new(&mut outputs.outboard);
        loop {
            let mut buffer = free.recv().expect("the other thread sends back every buffer before it ends");
            let bytes = Arc::get_mut(&mut buffer).expect("this thread let go of it when it took the next");
            bytes.resize(BUFFER_BYTES, 0);
            let count = read_full(file, bytes).map_err(HashError::Read)?;
            if count == 0 {
                break;
            }
            to_sha256.send((Arc::clone(&buffer), count)).expect("the other thread ends after this end");
            builder.update(&buffer[..count]).map_err(HashError::Write)?;
            if let Some(data) = &mut outputs.data {
                data.write_all(&buffer[..count]).map_err(HashError::Write)?;
            }
            if progress(builder.bytes()).is_break() {
                return Err(HashError::Cancelled);
            }
        }
        drop(to_sha256);
        let read = builder.bytes();
        let (hash, _) = builder.finish().map_err(HashError::Write)?;
        let sha256 = sha256.join().expect("hashing does not panic");
        Ok((hash, sha256, read))
    })
}

/// Fills the buffer unless the file ends.
fn read_full(mut file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
