//! The hashes of a file that arrives from front to back: BLAKE3 with its outboard here, SHA-256 and git's id by a thread beside, so that a
//! file comes in as fast as the slower of them. Knows no file but the outboard's.

use std::io::{self, BufWriter, Write};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use hyper::body::Bytes;
use p2pweights_protocol::ids::{BlobHash, GitOid, Sha256};
use p2pweights_protocol::verify::OutboardBuilder;
use sha2::Digest;

use super::disk::DiskFile;
use super::intake::FileId;
use super::small::SMALL_BYTES;

/// Portions that may wait for the slower thread; they are shared with whoever wrote them, not copied.
const QUEUE: usize = 16;
/// An outboard is written in portions of this many bytes: the parents of 64 MiB.
const OUTBOARD_BUFFER_BYTES: usize = 256 * 1024;

/// What a file was found to be.
pub(super) struct Found {
    pub(super) blake3: BlobHash,
    pub(super) sha256: Sha256,
    /// Of the kind that was expected.
    pub(super) id: FileId,
    /// Written and not synced; `None` for a file too small to need one.
    pub(super) outboard: Option<DiskFile>,
}

/// Where parents go.
enum Parents {
    File(BufWriter<DiskFile>),
    Nowhere,
}

impl Write for Parents {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Nowhere => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Nowhere => Ok(()),
        }
    }
}

/// The hashes by which origins know files.
struct Foreign {
    sha256: sha2::Sha256,
    git: Option<sha1::Sha1>,
}

impl Foreign {
    fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(git) = &mut self.git {
            git.update(bytes);
        }
    }
}

/// Who hashes for origins.
enum Beside {
    Here(Box<Foreign>),
    Thread(SyncSender<Bytes>, JoinHandle<Foreign>),
}

/// Hashes that grow.
pub(super) struct Digests {
    builder: OutboardBuilder<Parents>,
    beside: Beside,
}

impl Digests {
    /// For a file that is said to be this.
    pub(super) fn new(id: FileId, size: u64, outboard: Option<DiskFile>) -> Self {
        let parents =
            outboard.map_or(Parents::Nowhere, |file| Parents::File(BufWriter::with_capacity(OUTBOARD_BUFFER_BYTES, file)));
        let git = match id {
            FileId::Sha256(_) => None,
            FileId::Git(_) => Some(sha1::Sha1::new_with_prefix(format!("blob {size}\0"))),
        };
        let mut foreign = Foreign { sha256: sha2::Sha256::new(), git };
        let beside = if size <= SMALL_BYTES {
            // Not worth a thread.
            Beside::Here(Box::new(foreign))
        } else {
            let (sender, queue) = sync_channel::<Bytes>(QUEUE);
            let work = move || {
                while let Ok(bytes) = queue.recv() {
                    foreign.update(&bytes);
                }
                foreign
            };
            Beside::Thread(sender, thread::spawn(work))
        };
        Self { builder: OutboardBuilder::new(parents), beside }
    }

    /// The next bytes. Fails if the outboard cannot be written.
    pub(super) fn update(&mut self, bytes: Bytes) -> io::Result<()> {
        match &mut self.beside {
            Beside::Here(foreign) => foreign.update(&bytes),
            Beside::Thread(sender, _) => sender.send(bytes.clone()).map_err(|_| io::Error::other("the hashing thread failed"))?,
        }
        self.builder.update(&bytes)
    }

    /// What it all comes to.
    pub(super) fn finish(self) -> io::Result<Found> {
        let (blake3, parents) = self.builder.finish()?;
        let outboard = match parents {
            Parents::File(file) => Some(file.into_inner().map_err(io::IntoInnerError::into_error)?),
            Parents::Nowhere => None,
        };
        let foreign = match self.beside {
            Beside::Here(foreign) => *foreign,
            Beside::Thread(sender, thread) => {
                drop(sender);
                thread.join().map_err(|_| io::Error::other("the hashing thread failed"))?
            }
        };
        let sha256 = Sha256(foreign.sha256.finalize().into());
        let id = foreign.git.map_or(FileId::Sha256(sha256), |git| FileId::Git(GitOid(git.finalize().into())));
        Ok(Found { blake3, sha256, id, outboard })
    }
}
