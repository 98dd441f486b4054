//! One file of a model: a path and the blob that lies there. Knows nothing of its neighbours.

use super::error::ManifestError;
use super::path::ShardPath;
use super::value::Fields;
use super::{check_extra, field};
use crate::ids::{BlobHash, Sha256};
use crate::limits;

/// A file of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    path: ShardPath,
    size: u64,
    blake3: BlobHash,
    sha256: Option<Sha256>,
    extra: Fields,
}

impl Shard {
    /// A shard; its size must be one that a blob can have, and 0 exactly when the hash is that of the empty blob.
    pub fn new(path: ShardPath, size: u64, blake3: BlobHash, sha256: Option<Sha256>) -> Result<Self, ManifestError> {
        if size > limits::BLOB_BYTES {
            return Err(ManifestError::ShardTooLarge { path, size });
        }
        if (size == 0) != (blake3 == BlobHash::of(b"")) {
            return Err(ManifestError::EmptyBlob(path));
        }
        Ok(Self { path, size, blake3, sha256, extra: Fields::new() })
    }

    /// The shard with these fields beside the known ones, instead of those it had.
    pub fn with_extra(mut self, extra: Fields) -> Result<Self, ManifestError> {
        check_extra(&extra, &field::OF_SHARD)?;
        self.extra = extra;
        Ok(self)
    }

    /// Where the file lies in the model's folder.
    pub fn path(&self) -> &ShardPath {
        &self.path
    }

    /// Bytes in the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The blob.
    pub fn blake3(&self) -> BlobHash {
        self.blake3
    }

    /// The file's SHA-256, where the publisher gave it.
    pub fn sha256(&self) -> Option<Sha256> {
        self.sha256
    }

    /// Fields this version does not know.
    pub fn extra(&self) -> &Fields {
        &self.extra
    }
}
