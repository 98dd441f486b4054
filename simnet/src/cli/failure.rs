//! Why a command ended badly, and its exit code.

use std::io;
use std::path::Path;

use p2pweights_simnet::file::FileError;

/// Why a command ended badly.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A bound is not met, or a rule was broken; what, has been printed.
    #[error("{0}")]
    Missed(String),
    /// A scenario file is not as it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// The order makes no sense as given.
    #[error("{0}")]
    Usage(String),
    /// The disk's fault: what was being done there, and what came of it.
    #[error("cannot {0}: {1}")]
    Disk(String, io::Error),
    /// Whoever read our output has gone: nothing left to do, and nobody to tell.
    #[error("nobody reads what is printed")]
    OutputClosed,
}

impl Failure {
    /// A file could not be written.
    pub fn writing(path: &Path, error: io::Error) -> Self {
        Self::Disk(format!("write {}", path.display()), error)
    }

    /// The exit code: documented in the program's help.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Missed(_) => 1,
            Self::File(_) | Self::Usage(_) => 2,
            Self::Disk(..) => 5,
            Self::OutputClosed => 0,
        }
    }
}
