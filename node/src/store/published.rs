//! The record of a published file: where it lies, what it hashed to, and how to tell that it changed. Knows its JSON and `stat`.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use p2pweights_protocol::ids::{BlobHash, Sha256};
use serde::{Deserialize, Serialize};

/// Where a published blob's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PublishMode {
    /// In the user's file, where it lies.
    Reference,
    /// In the store; the user's file may go.
    Copy,
}

/// What identifies a file's contents cheaply: a change of either means that it must be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// Bytes.
    pub size: u64,
    /// Last modification, in nanoseconds since 1970.
    pub mtime_ns: i64,
}

impl FileStamp {
    /// The stamp in a file's metadata.
    pub(super) fn of(metadata: &Metadata) -> Self {
        let mtime_ns = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        Self { size: metadata.len(), mtime_ns }
    }

    /// The stamp of an open file.
    pub(super) fn of_file(file: &File) -> io::Result<Self> {
        Ok(Self::of(&file.metadata()?))
    }

    /// The stamp of the file at a path.
    pub(super) fn of_path(path: &Path) -> io::Result<Self> {
        Ok(Self::of(&std::fs::metadata(path)?))
    }
}

impl PublishedRecord {
    /// The record's file.
    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a record has only text keys, and its path is UTF-8")
    }
}

/// `published/<hash>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedRecord {
    /// The blob.
    pub hash: BlobHash,
    /// The file's SHA-256, unless it was published without.
    #[serde(default)]
    pub sha256: Option<Sha256>,
    /// The file, absolute, symlinks resolved.
    pub path: PathBuf,
    /// What it looked like when it was read.
    pub stamp: FileStamp,
    /// Where the bytes are served from.
    pub mode: PublishMode,
}
