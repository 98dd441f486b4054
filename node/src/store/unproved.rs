//! A blob whose bytes come from front to back and that nothing proves before the last one: kept apart, believed by nobody, and put into place
//! whole if all of it hashes to its name. For sources that have no proofs. What was begun does not outlive the process.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use p2pweights_protocol::geometry::Geometry;
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::verify::{OutboardBuilder, outboard_bytes};

use super::disk::{Disk, DiskFile};
use super::error::{AtPath, StoreError};
use super::quota::Claim;
use super::{Shared, Store};

/// An outboard is written in portions of this many bytes: the parents of 64 MiB.
const OUTBOARD_BUFFER_BYTES: usize = 256 * 1024;
/// Room on the disk is looked at before each so many bytes.
const STEP_BYTES: u64 = 1 << 20;

/// A blob on its way in.
pub struct Unproved {
    store: Store,
    hash: BlobHash,
    geometry: Geometry,
    files: Files,
    data: DiskFile,
    builder: OutboardBuilder<BufWriter<DiskFile>>,
    bytes: u64,
    /// Bytes that there was room for when it was looked at last.
    roomy: u64,
    /// Beside the blob's own, since some of that may be fetched in another way meanwhile.
    _room: Claim,
}

/// Where it lies until then; removed unless it was moved away.
struct Files {
    disk: Disk,
    data: PathBuf,
    outboard: PathBuf,
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in [&self.data, &self.outboard] {
            // What cannot be removed now is cleared at the next start.
            let _ = self.disk.remove_file(path);
        }
    }
}

impl Store {
    /// Begins with a blob of this name and size.
    pub fn unproved(&self, hash: BlobHash, size: u64) -> Result<Unproved, StoreError> {
        let shared: &Arc<Shared> = &self.shared;
        if size > shared.config.blob_bytes_max {
            return Err(StoreError::TooLarge { size, limit: shared.config.blob_bytes_max });
        }
        if self.is_complete(hash) {
            return Err(StoreError::AlreadyComplete(hash));
        }
        let geometry = Geometry::of(size);
        let made = size + outboard_bytes(geometry);
        shared.check_room(made)?;
        let room = shared.claim(made, &[])?;
        let layout = &shared.layout;
        let files = Files { disk: layout.disk().clone(), data: layout.temp(), outboard: layout.temp() };
        let data = layout.disk().create_new(&files.data).at(&files.data)?;
        let outboard = layout.disk().create_new(&files.outboard).at(&files.outboard)?;
        let builder = OutboardBuilder::new(BufWriter::with_capacity(OUTBOARD_BUFFER_BYTES, outboard));
        Ok(Unproved { store: self.clone(), hash, geometry, files, data, builder, bytes: 0, roomy: 0, _room: room })
    }
}

impl Unproved {
    /// Bytes that have come.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the next bytes; what is beyond the blob's size is an error.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let end = self.bytes + bytes.len() as u64;
        if end > self.geometry.size() {
            return Err(StoreError::WrongSize { hash: self.hash, known: self.geometry.size(), asked: end });
        }
        if end > self.roomy {
            let more = STEP_BYTES.max(end - self.roomy);
            self.store.shared.take_room(more)?;
            self.roomy += more;
        }
        self.data.write_all_at(bytes, self.bytes).at(&self.files.data)?;
        self.builder.update(bytes).at(&self.files.outboard)?;
        self.bytes = end;
        Ok(())
    }

    /// All of it has come: it becomes the blob if it is. `false` if it is something else.
    pub fn finish(self) -> Result<bool, StoreError> {
        let Self { store, hash, geometry, files, data, builder, bytes, .. } = self;
        let (root, mut outboard) = builder.finish().at(&files.outboard)?;
        if root != hash || bytes != geometry.size() {
            return Ok(false);
        }
        outboard.flush().and_then(|()| outboard.get_ref().sync()).at(&files.outboard)?;
        data.sync().at(&files.data)?;
        let layout = &store.shared.layout;
        layout.make_blob_folder(hash)?;
        if outboard_bytes(geometry) > 0 {
            layout.move_into_place(&files.outboard, &layout.outboard(hash))?;
        }
        layout.move_into_place(&files.data, &layout.data(hash))?;
        store.take_over(hash, geometry, None)?;
        Ok(true)
    }
}
