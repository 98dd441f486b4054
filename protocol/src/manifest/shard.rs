//! One file of a model: a path and the blob that lies there. Knows nothing of its neighbours.

use super::error::ManifestError;
use super::path::ShardPath;
use super::value::Fields;
use super::{check_extra, field};
use crate::ids::{BlobHash, GitOid, Sha256};
use crate::limits;

/// A file of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    path: ShardPath,
    size: u64,
    blake3: BlobHash,
    sha256: Option<Sha256>,
    git_oid: Option<GitOid>,
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
        Ok(Self { path, size, blake3, sha256, git_oid: None, extra: Fields::new() })
    }

    /// The shard as a file that its origin keeps in git itself, under this id; `None` for one kept elsewhere, such as in LFS.
    pub fn with_git_oid(mut self, git_oid: Option<GitOid>) -> Self {
        self.git_oid = git_oid;
        self
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

    /// Git's id of the file, where its origin keeps it in git itself.
    pub fn git_oid(&self) -> Option<GitOid> {
        self.git_oid
    }

    /// What a Hugging Face endpoint calls this content, in the header of that name and in its clients' caches: the git id of a file kept in
    /// git, the SHA-256 of any other. `None` where the manifest gives neither.
    pub fn etag(&self) -> Option<String> {
        let git_oid = self.git_oid.map(|oid| oid.to_string());
        git_oid.or_else(|| self.sha256.map(|sha256| sha256.to_string()))
    }

    /// Fields this version does not know.
    pub fn extra(&self) -> &Fields {
        &self.extra
    }
}
