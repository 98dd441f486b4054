//! What is said of the store's health: a verify, the background scrub, blobs under repair.

use serde::{Deserialize, Serialize};

use super::Failure;

/// Ask for what is held to be read and proved.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VerifyRequest {
    /// Hash or link of a model or blob; `None`: everything.
    pub target: Option<String>,
    /// Fetch again what is damaged, and wait for it.
    pub mend: bool,
    /// Providers to ask besides those found, as multiaddrs ending in `/p2p/<peer id>`.
    pub peers: Vec<String>,
    /// Give up mending when nothing has arrived for this long, in seconds; 0 for 60.
    pub timeout_s: u64,
}

/// What became of a blob that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every byte proved.
    #[default]
    Ok,
    /// Every byte proved; its outboard was damaged and has been made again from the data.
    OutboardMended,
    /// Bytes did not prove; they are not held any more.
    Damaged,
    /// Bytes did not prove, and have been fetched again.
    Mended,
    /// A published file that is not what was published; nothing of it is served.
    Withdrawn,
    /// The disk could not read it.
    Unreadable,
}

impl Verdict {
    /// Whether the blob is as it should be.
    pub fn is_well(self) -> bool {
        matches!(self, Self::Ok | Self::OutboardMended | Self::Mended)
    }
}

/// The result of re-reading one blob.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerifyEntry {
    /// Hash.
    pub hash: String,
    /// Path within its model, or where it lies, if known.
    pub path: Option<String>,
    /// Bytes held when it was read.
    pub bytes: u64,
    /// Bytes that did not prove and are no longer served.
    pub damaged: u64,
    /// What is wrong, if anything is.
    pub problem: Option<String>,
    /// The same in a word.
    #[serde(default)]
    pub verdict: Verdict,
}

/// The result of a verify.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Each blob read.
    pub entries: Vec<VerifyEntry>,
    /// Whether all is well.
    pub ok: bool,
}

/// What happens during a verify; one JSON line each.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum VerifyEvent {
    /// How far it is; several times a second.
    Progress {
        /// Bytes read.
        bytes: u64,
        /// Bytes in total.
        total: u64,
        /// Bytes read a second, over the last seconds.
        rate: u64,
        /// Seconds left at that rate.
        eta_s: Option<u64>,
    },
    /// A blob has been read.
    Blob(VerifyEntry),
    /// Damaged bytes are being fetched again; once a second.
    Mending {
        /// Blobs still to be mended.
        blobs: usize,
        /// Bytes of them still missing.
        bytes: u64,
    },
    /// Over. The last line.
    Done(VerifyReport),
    /// Over before all was read. The last line.
    Failed(Failure),
}

/// Bytes that were found damaged, and what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DamageCount {
    /// Bytes found damaged.
    pub damaged: u64,
    /// Bytes put right since: fetched again, or proved after all.
    pub mended: u64,
    /// Outboards of which something was made again from the data.
    pub outboards: u64,
}

/// The background scrub. Times are seconds since 1970.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrubReport {
    /// Whether it runs in this node.
    pub enabled: bool,
    /// Bytes a second it reads at most.
    pub rate: Option<u64>,
    /// Seconds from the beginning of one cycle to that of the next.
    pub period_s: Option<u64>,
    /// When everything had last been read.
    pub last_cycle_s: Option<u64>,
    /// When the cycle under way began.
    pub cycle_began_s: Option<u64>,
    /// Bytes read in it.
    pub checked: u64,
    /// Bytes it has to read, as far as can be said while the store changes.
    pub total: u64,
    /// When the next one is due, if none is under way.
    pub next_cycle_s: Option<u64>,
    /// Since the node started, whoever found it.
    pub since_start: DamageCount,
    /// Ever since the record of it was begun.
    pub ever: DamageCount,
}

/// A blob that was complete until damage was found in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RepairReport {
    /// Hash.
    pub hash: String,
    /// Bytes still to be had again.
    pub bytes: u64,
    /// How often that was tried to the end.
    pub attempts: u32,
    /// Whether it is being tried now.
    pub trying: bool,
    /// Seconds until it is tried again; `None` if it is being tried, or nobody does.
    pub next_try_s: Option<u64>,
}
