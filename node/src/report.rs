//! What a node is asked for and what it answers, as the local API carries it and `--json` prints it.
//! Plain data; the field names are a public format.

mod fetch;
mod health;
mod import;
mod storage;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::fetch::{FetchEvent, FetchRequest, FilePlan, FileProgress, MirrorReport, SourceReport};
pub use self::health::{DamageCount, RepairReport, ScrubReport, Verdict, VerifyEntry, VerifyEvent, VerifyReport, VerifyRequest};
use crate::net::BulkPath;
pub use import::{ImportEvent, ImportRequest, Imported, Secret};
pub use storage::{DiskReport, GcEntry, GcReport, GcRequest, PinReport, StayEntry};

/// Why an order failed, for people and for exit codes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind.
    pub kind: FailureKind,
    /// One phrase: what, and what to do.
    pub message: String,
}

/// Kinds of failure; the command line has an exit code for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The order makes no sense as given.
    Usage,
    /// Nobody provides it, or it is not in the store.
    NotFound,
    /// Providers were found, but not all of it could be had from them in time.
    Incomplete,
    /// Refused: hostile manifest, other content in the way, changed file.
    Refused,
    /// Disk full or failing.
    Disk,
    /// The network could not be used as told: address taken, no transport.
    Network,
    /// Anything else: our fault.
    Internal,
    /// Stopped by the user.
    Interrupted,
}

/// Ask to publish a file or folder.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PublishRequest {
    /// What; absolute.
    pub path: PathBuf,
    /// Name, `ORG/MODEL`.
    pub name: Option<String>,
    /// Revision.
    pub revision: Option<String>,
    /// SPDX licence expression.
    pub license: Option<String>,
    /// Copy into the store instead of referring to the files where they lie.
    pub copy: bool,
    /// Leave out SHA-256, from the reading and from the manifest.
    #[serde(default)]
    pub no_sha256: bool,
    /// Only files that match one of these globs; empty: all.
    #[serde(default)]
    pub include: Vec<String>,
    /// No file that matches one of these.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// The hub from which another program took what is in its cache: its commits and ids go into the manifest.
    #[serde(default)]
    pub origin: Option<String>,
    /// Web folders below which the files lie, for the manifest.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// Write the manifest and the files' outboards into the folder, so that a web server that serves it is a mirror with proofs.
    #[serde(default)]
    pub sidecar: bool,
}

/// A file that is being read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReading {
    /// Path within the model; the file's name, if it is published alone.
    pub path: String,
    /// Bytes read so far.
    pub bytes: u64,
    /// Its size.
    pub total: u64,
}

/// What happens during a publish; one JSON line each.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum PublishEvent {
    /// How far it is; several times a second.
    Progress {
        /// Bytes done so far, over all files, those known from before included.
        bytes: u64,
        /// Bytes in total.
        total: u64,
        /// Bytes read a second, over the last seconds.
        rate: u64,
        /// Seconds left at that rate.
        eta_s: Option<u64>,
        /// The files being read now.
        files: Vec<FileReading>,
    },
    /// A file is hashed, and kept whatever becomes of the rest.
    File {
        /// Path within the model; the file's name, if it is published alone.
        path: String,
        /// BLAKE3 hash.
        hash: String,
        /// SHA-256, unless it was left out.
        sha256: Option<String>,
        /// Size in bytes.
        bytes: u64,
        /// Whether it had to be read; false when it is known from before.
        read: bool,
    },
    /// Over, and all is well. The last line.
    Done(Published),
    /// Over, and not well. The last line.
    Failed(Failure),
}

/// The result of a publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The hash to fetch by: of the manifest for a folder, of the blob for a file.
    pub hash: String,
    /// The same as a link.
    pub link: String,
    /// Number of files.
    pub files: usize,
    /// Bytes in total.
    pub bytes: u64,
}

/// A model or plain blob in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntry {
    /// Hash.
    pub hash: String,
    /// `model` or `blob`.
    pub kind: String,
    /// Name, if known.
    pub name: Option<String>,
    /// Revision, if known.
    pub revision: Option<String>,
    /// Number of files.
    pub files: usize,
    /// Bytes in total.
    pub bytes: u64,
    /// Bytes held: verified and on disk.
    pub held: u64,
    /// Bytes on the disk that only this takes.
    #[serde(default)]
    pub disk: u64,
    /// Whether it is pinned.
    #[serde(default)]
    pub pinned: bool,
    /// Whether it is kept from others: imported from a gated or private repository.
    #[serde(default)]
    pub withheld: bool,
    /// Where it lies, for a published reference.
    pub path: Option<PathBuf>,
}

/// A model in full.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShowReport {
    /// Hash.
    pub hash: String,
    /// `model` or `blob`.
    pub kind: String,
    /// A link to it.
    pub link: String,
    /// Bytes in total.
    pub bytes: u64,
    /// Whether it is kept from others: imported from a gated or private repository.
    #[serde(default)]
    pub withheld: bool,
    /// Files, `held` being what the store has of each.
    pub files: Vec<FilePlan>,
    /// The manifest as published, for a model.
    pub manifest: Option<serde_json::Value>,
}

/// The state of a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusReport {
    /// The peer id as libp2p prints it.
    pub peer_id: String,
    /// Program and version.
    pub agent: String,
    /// The network joined.
    pub network: String,
    /// Listen addresses, each ending in `/p2p/<peer id>`.
    pub listen: Vec<String>,
    /// Where the local API listens.
    pub api: Option<String>,
    /// Where the gateway listens.
    #[serde(default)]
    pub gateway: Option<String>,
    /// Where metrics are served.
    #[serde(default)]
    pub metrics: Option<String>,
    /// Seconds since start.
    pub uptime_s: u64,
    /// Peers connected.
    pub connected: usize,
    /// Peers known to the DHT's routing table.
    pub dht_peers: usize,
    /// Keys announced.
    pub announced: usize,
    /// Blobs held in full.
    pub blobs: usize,
    /// Bytes held.
    pub bytes: u64,
    /// Bytes sent to peers since start.
    pub sent_bytes: u64,
    /// Bytes received and verified since start.
    pub received_bytes: u64,
    /// Swarms being fetched.
    pub swarms: Vec<SwarmReport>,
    /// Published files that changed on disk and are no longer served.
    pub withdrawn: Vec<WithdrawnReport>,
    /// Bytes of the data dir on its disk.
    #[serde(default)]
    pub disk: DiskReport,
    /// Whether fetching is paused, and why.
    pub paused: Option<String>,
    /// The background scrub.
    #[serde(default)]
    pub scrub: ScrubReport,
    /// Blobs in which damage was found and not yet mended.
    #[serde(default)]
    pub repairs: Vec<RepairReport>,
}

/// A swarm being fetched.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SwarmReport {
    /// Its hash.
    pub hash: String,
    /// Bytes wanted.
    pub total: u64,
    /// Of which verified.
    pub verified: u64,
    /// Providers connected that hold something of it.
    pub providers: usize,
    /// Bytes asked for and not yet here.
    pub in_flight: u64,
}

/// A published file that is no longer what was published.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WithdrawnReport {
    /// Hash.
    pub hash: String,
    /// Where it lay.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// A connected peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeerReport {
    /// The peer id as libp2p prints it.
    pub peer: String,
    /// Program and version, as the peer says.
    pub agent: Option<String>,
    /// Address it is reached at.
    pub address: String,
    /// Round-trip time in milliseconds.
    pub rtt_ms: Option<u64>,
    /// Verified bytes received from it.
    pub received_bytes: u64,
    /// Bytes sent to it.
    pub sent_bytes: u64,
    /// Strikes against it.
    pub strikes: u32,
    /// The ways on which payload has been asked of it.
    #[serde(default)]
    pub paths: Vec<PathReport>,
}

/// A way on which payload comes from a peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PathReport {
    /// Which.
    pub path: BulkPath,
    /// Whether the next requests go there.
    pub current: bool,
    /// Payload bytes a second when it was last measured, over four seconds at least.
    pub rate: Option<u64>,
}

/// The result of a removal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RemoveReport {
    /// Blobs removed.
    pub blobs: usize,
    /// Bytes freed on disk.
    pub freed: u64,
    /// Files of the user's that were only referenced, and stay.
    pub kept: Vec<PathBuf>,
}

/// The result of a rebuild of the index.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RebuildReport {
    /// Blobs found.
    pub blobs: usize,
    /// Of which partial.
    pub partial: usize,
    /// Models found.
    pub models: usize,
    /// Of which published where they lie.
    pub referenced: usize,
}
