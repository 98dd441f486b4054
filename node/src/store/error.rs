//! What can go wrong in the store, sorted by whose fault it is. Knows no file.

use std::io;
use std::path::{Path, PathBuf};

use p2pweights_protocol::geometry::Span;
use p2pweights_protocol::ids::BlobHash;
use thiserror::Error;

/// Why the store refused or failed.
#[derive(Debug, Error)]
pub enum StoreError {
    // The caller's or the user's doing.
    /// Another process works in this directory.
    #[error("{} is in use by {}; stop it, talk to it through its API, or choose another directory", dir.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    InUse {
        /// The store's directory.
        dir: PathBuf,
        /// The owner, if it could be read.
        pid: Option<u32>,
    },
    /// The file system has no locks, or does not give one.
    #[error("{} is on a file system that gives no lock, so nothing would keep two nodes apart; choose a directory on a local disk",
        dir.display())]
    NoLock {
        /// The store's directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory was written by a newer version of this program.
    #[error("{} has store format {found}, this program knows up to {known}; use the newer program", dir.display())]
    Newer {
        /// The store's directory.
        dir: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The version file is unreadable: probably this is not a store.
    #[error("{} does not hold a store format number; this does not look like a store", path.display())]
    NotAStore {
        /// The version file.
        path: PathBuf,
    },
    /// No such blob here, or not the part asked for.
    #[error("blob {0} is not in the store")]
    Missing(BlobHash),
    /// There is nothing left to write.
    #[error("blob {0} is complete already")]
    AlreadyComplete(BlobHash),
    /// Somebody is writing to the blob.
    #[error("blob {0} is being fetched; stop that first")]
    Busy(BlobHash),
    /// The size contradicts what the store knows, or the hash itself.
    #[error("blob {hash} is known with {known} bytes, not {asked}")]
    WrongSize {
        /// The blob.
        hash: BlobHash,
        /// The size on record.
        known: u64,
        /// The size asked for.
        asked: u64,
    },
    /// More bytes than the limit allows.
    #[error("{size} bytes are more than the limit of {limit}")]
    TooLarge {
        /// The size asked for.
        size: u64,
        /// The limit.
        limit: u64,
    },

    // The environment's.
    /// No room. Everything stored so far is kept; try again when there is room.
    #[error("the disk of {} is full{}", path.display(), more_needed(*needed))]
    DiskFull {
        /// How much is missing, as far as known; 0 when the disk itself refused.
        needed: u64,
        /// A path on that disk.
        path: PathBuf,
    },
    /// The data dir would take more than it may.
    #[error(
        "the quota of {quota} bytes is taken up: {needed} bytes more are needed; raise storage.quota, or make room with `p2pweights gc` \
        or `p2pweights remove`"
    )]
    OverQuota {
        /// How much is missing.
        needed: u64,
        /// Bytes taken or promised.
        taken: u64,
        /// Most bytes that the data dir may take.
        quota: u64,
    },
    /// The system refused an operation on a file.
    #[error("{} could not be used{}", path.display(), advice(source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A sync failed earlier: what was written since the last good one cannot be trusted and has been forgotten.
    #[error("a sync of blob {0} failed; what arrived since the last good one is fetched again")]
    SyncLost(BlobHash),

    // The disk's.
    /// The stored bytes are not those of the blob.
    #[error("blob {hash} is damaged in groups {span:?}")]
    Damaged {
        /// The blob.
        hash: BlobHash,
        /// The groups which cannot be proved.
        span: Span,
    },
    /// A published file is not what it was.
    #[error("{} changed since it was published; publish it again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

impl StoreError {
    /// An I/O error at a path; a full disk becomes its own kind.
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { needed: 0, path: path.to_owned() },
            _ => Self::Io { path: path.to_owned(), source },
        }
    }
}

/// What to do about it, where that is known.
fn advice(error: &io::Error) -> &'static str {
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return "; a link is in its place: move it away";
    }
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; it belongs to somebody else: run this as they, or choose another data dir",
        io::ErrorKind::ReadOnlyFilesystem => "; make it writable, or choose another data dir",
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => "; something else is in its place: move it away",
        _ => "",
    }
}

fn more_needed(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format!(": {bytes} bytes more are needed") }
}

/// Says which path an I/O error is about.
pub(super) trait AtPath<T> {
    /// The result with its path.
    fn at(self, path: &Path) -> Result<T, StoreError>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::io(path, source))
    }
}

/// Why a span could not be read out.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The stored bytes are wrong: hand the span to [`Store::quarantine`](super::Store::quarantine).
    #[error("groups {span:?} are damaged on the disk")]
    Damaged {
        /// The groups which cannot be proved.
        span: Span,
    },
    /// The published file is not what it was; it has been withdrawn.
    #[error("{} changed since it was published; publish it again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Not all of the span is held.
    #[error("groups {span:?} are not all held")]
    NotHeld {
        /// The span asked for.
        span: Span,
    },
    /// The disk could not be read.
    #[error("the stored blob could not be read")]
    Io(#[source] io::Error),
    /// The output, most likely a peer's connection, did not take it.
    #[error("the encoding could not be sent")]
    Write(#[source] io::Error),
}

/// Why a span did not arrive whole.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// The sender's fault: its bytes do not match the hash.
    #[error("the bytes of group {group} do not match the hash")]
    BadBytes {
        /// The first group which is not proved.
        group: u64,
    },
    /// The stream ended early.
    #[error("the stream ended early")]
    Ended,
    /// The stream could not be read.
    #[error("the stream could not be read")]
    Read(#[source] io::Error),
    /// Ours, or our disk's.
    #[error(transparent)]
    Store(#[from] StoreError),
}
