//! What is asked of an import and what it tells.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Failure, FileReading};

/// A token; never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Ask for a repository of a hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRequest {
    /// The hub, such as `https://huggingface.co`.
    pub endpoint: String,
    /// The repository, `ORG/MODEL`; `MODEL` alone for very old ones.
    pub repo: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// What the hub knows the user by.
    #[serde(default)]
    pub token: Option<Secret>,
    /// Only files that match one of these globs; empty: all.
    #[serde(default)]
    pub include: Vec<String>,
    /// No file that matches one of these.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// What happens during an import; one JSON line each.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ImportEvent {
    /// What will be imported is known.
    Plan {
        /// The repository.
        repo: String,
        /// The branch, tag or commit asked for.
        revision: String,
        /// The commit it is at.
        commit: String,
        /// Files chosen.
        files: usize,
        /// Their bytes in total.
        bytes: u64,
        /// Of which here already.
        held: u64,
        /// Whether the hub asks for consent before it gives the files out.
        gated: bool,
        /// Whether the hub shows the repository to some people only.
        private: bool,
    },
    /// How far it is; several times a second.
    Progress {
        /// Bytes here, those from before included.
        bytes: u64,
        /// Bytes in total.
        total: u64,
        /// Bytes a second, over the last seconds.
        rate: u64,
        /// Seconds left at that rate.
        eta_s: Option<u64>,
        /// The files on their way.
        files: Vec<FileReading>,
    },
    /// A file is here and is what the hub's listing says.
    File {
        /// Path within the model.
        path: String,
        /// BLAKE3 hash.
        hash: String,
        /// SHA-256.
        sha256: String,
        /// Size in bytes.
        bytes: u64,
        /// Of which came in this import; the rest was here.
        fetched: u64,
    },
    /// Something the user should know while it goes on.
    Warning {
        /// What.
        message: String,
    },
    /// Over, and all is well. The last line.
    Done(Imported),
    /// Over, and not well. The last line.
    Failed(Failure),
}

/// The result of an import.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Imported {
    /// The hash to fetch by.
    pub hash: String,
    /// The same as a link.
    pub link: String,
    /// The commit.
    pub commit: String,
    /// Number of files.
    pub files: usize,
    /// Bytes in total.
    pub bytes: u64,
    /// Bytes that came from the hub in this import.
    pub fetched: u64,
    /// Seconds from the order to the end.
    pub seconds: f64,
    /// Whether it is kept from others: gated or private, and not in `share.gated`.
    pub withheld: bool,
}
