//! A fetch: what is asked for, and what is told while it goes on.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Failure;

/// Ask for a model or a blob.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FetchRequest {
    /// A hash (64 hexadecimal digits) or a link.
    pub target: String,
    /// Folder under which to place it; absolute. `None`: keep it in the store only.
    pub output: Option<PathBuf>,
    /// Only files that match one of these globs; empty: all.
    pub include: Vec<String>,
    /// No file that matches one of these.
    pub exclude: Vec<String>,
    /// Providers to ask besides those found, as multiaddrs ending in `/p2p/<peer id>`.
    pub peers: Vec<String>,
    /// Peers to join the DHT through.
    pub bootstrap: Vec<String>,
    /// Give up when nothing has arrived for this long, in seconds.
    pub timeout_s: u64,
    /// Only say what would be fetched.
    pub dry_run: bool,
    /// Replace files that are in the way.
    pub force: bool,
    /// Files one after the other, each from front to back, for a program that loads the model meanwhile; otherwise what is rarest in the
    /// swarm comes first.
    #[serde(default)]
    pub in_order: bool,
    /// Pin it when it is here.
    #[serde(default)]
    pub pin: bool,
    /// Web folders below which the model's files lie, to be asked besides peers.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// Put a model into a folder of its own below `output`, named after it, instead of right there.
    pub own_folder: bool,
    /// Place it as Hugging Face's client does: `output` is the folder of that client's cache.
    #[serde(default)]
    pub hf_cache: bool,
}

impl FetchRequest {
    /// Asks for all of it, into the store only, for up to a minute without news.
    pub fn of(target: String) -> Self {
        Self {
            target,
            output: None,
            include: Vec::new(),
            exclude: Vec::new(),
            peers: Vec::new(),
            bootstrap: Vec::new(),
            timeout_s: 60,
            dry_run: false,
            force: false,
            in_order: false,
            pin: false,
            mirrors: Vec::new(),
            own_folder: false,
            hf_cache: false,
        }
    }
}

/// A file of a model as a fetch sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePlan {
    /// Path within the model.
    pub path: String,
    /// BLAKE3 hash.
    pub hash: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Bytes that were already in the store when the fetch began.
    pub held: u64,
}

/// Bytes that one peer delivered, verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReport {
    /// The peer id as libp2p prints it.
    pub peer: String,
    /// Verified payload bytes.
    pub bytes: u64,
}

/// Bytes that one mirror delivered, verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorReport {
    /// Its address.
    pub url: String,
    /// Verified payload bytes.
    pub bytes: u64,
}

/// How far one file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileProgress {
    /// Index into the plan's files.
    pub file: usize,
    /// Verified bytes, those held before included.
    pub bytes: u64,
}

/// What happens during a fetch; one JSON line each.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum FetchEvent {
    /// Looking for providers; repeated while none is found.
    Searching {
        /// Peers asked so far in the DHT.
        peers_asked: u64,
        /// Peers connected.
        connected: usize,
        /// Providers found so far.
        providers: usize,
    },
    /// What will be fetched is known.
    Plan {
        /// The hash asked for.
        hash: String,
        /// The model's name, if it is a model and has one.
        name: Option<String>,
        /// Whether it is a model (a manifest) or one plain blob.
        model: bool,
        /// Files chosen.
        files: Vec<FilePlan>,
        /// Their bytes in total.
        bytes: u64,
        /// Of which held already.
        held: u64,
        /// Where the files go.
        output: Option<PathBuf>,
    },
    /// How far it is; several times a second.
    Progress {
        /// Bytes verified, those held before included.
        bytes: u64,
        /// Bytes in total.
        total: u64,
        /// Bytes a second, over the last seconds.
        rate: u64,
        /// Seconds left at that rate.
        eta_s: Option<u64>,
        /// Providers delivering now.
        sources: usize,
        /// Files that changed since the last line.
        files: Vec<FileProgress>,
    },
    /// A file is complete, proved and under its final name.
    File {
        /// Path within the model.
        path: String,
        /// BLAKE3 hash.
        hash: String,
        /// Size in bytes.
        bytes: u64,
        /// Where it lies now, if it was placed anywhere.
        placed: Option<PathBuf>,
        /// `linked`, `shared` (reflink), `copied`, `already_there` or `stored`.
        how: String,
    },
    /// There is no room on the disk. What is verified is kept and served; fetching goes on by itself once there is room.
    Paused {
        /// Which disk, and what is missing.
        reason: String,
    },
    /// There is room again.
    Resumed,
    /// Something the user should know while it goes on (disk failing, peer banned).
    Warning {
        /// What.
        message: String,
    },
    /// Over, and all is well. The last line.
    Done {
        /// The hash asked for.
        hash: String,
        /// Bytes of the files chosen.
        bytes: u64,
        /// Bytes that came over the network in this fetch, verified.
        fetched: u64,
        /// Seconds from the order to the last proved byte in place.
        seconds: f64,
        /// Which peers delivered how much.
        sources: Vec<SourceReport>,
        /// Which mirrors delivered how much.
        #[serde(default)]
        mirrors: Vec<MirrorReport>,
        /// Where the model or blob lies.
        output: Option<PathBuf>,
    },
    /// Over, and not well. The last line.
    Failed(Failure),
}
