//! What is asked and answered about room: pins, clearing away, bytes on the disk.

use serde::{Deserialize, Serialize};

/// The result of `pin` or `unpin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinReport {
    /// Hash of the model or blob.
    pub hash: String,
    /// `model` or `blob`.
    pub kind: String,
    /// Name, if known.
    pub name: Option<String>,
    /// Whether it is pinned now.
    pub pinned: bool,
    /// Whether it was not so before.
    pub changed: bool,
    /// Bytes in total.
    pub bytes: u64,
    /// Bytes held.
    pub held: u64,
}

/// Ask to clear away what nothing keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcRequest {
    /// Only say what would go.
    #[serde(default)]
    pub dry_run: bool,
    /// Of what nothing keeps, only what nobody wrote to for so many seconds; 86,400 unless given.
    #[serde(default = "a_day")]
    pub older_than_s: u64,
}

fn a_day() -> u64 {
    86_400
}

/// Something that goes, or would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcEntry {
    /// Hash; of the manifest, for a model.
    pub hash: String,
    /// `model` or `blob` if it is evicted; `unused`, `partial`, `import` or `index` if nothing keeps it.
    pub kind: String,
    /// Name, if known.
    pub name: Option<String>,
    /// Bytes on the disk that this frees, 0 for what it shares with another that goes.
    pub bytes: u64,
}

/// Something that could go, and stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StayEntry {
    /// Hash; of the manifest, for a model.
    pub hash: String,
    /// Name, if known.
    pub name: Option<String>,
    /// `pinned`, `yours`, `in use` or `last known copy`.
    pub reason: String,
}

/// The result of `gc`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcReport {
    /// Nothing was touched.
    pub dry_run: bool,
    /// What nothing kept.
    pub cleared: Vec<GcEntry>,
    /// What was evicted to get below the low watermark.
    pub evicted: Vec<GcEntry>,
    /// Where that was not enough: what stays, and why.
    pub stays: Vec<StayEntry>,
    /// Bytes freed on the disk, within the data dir.
    pub freed: u64,
    /// Bytes that the data dir takes now.
    pub taken: u64,
    /// The quota, if there is one.
    pub quota: Option<u64>,
}

/// Bytes of the data dir on its disk. `listed`, `shared` and `other` add up to `total`, which is what `du -s --block-size=1` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// All of it.
    pub total: u64,
    /// Of models and blobs: the sum of `disk` in `list`.
    pub listed: u64,
    /// Of blobs that several models use.
    pub shared: u64,
    /// The index, folders, records, and what is left of other things.
    pub other: u64,
    /// Most that it may take; `null` without a quota.
    pub quota: Option<u64>,
    /// Bytes promised to fetches under way, beyond what they have on the disk.
    pub promised: u64,
    /// Bytes that may still be promised.
    pub left: Option<u64>,
}
