//! What there is: what is kept and may go, what nothing keeps, and where the bytes of the data dir are. Reads the store, changes nothing.
//! For blocking threads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use p2pweights_protocol::ids::BlobHash;

use super::policy::{Choice, Picture, Rules, Unit};
use crate::report::{DiskReport, GcEntry, StayEntry};
use crate::store::{DiskUsage, Store};

/// Files without a blob may be those of a publish that is about to end: it does not take longer from there.
const STRAY_AGE: Duration = Duration::from_secs(3600);

/// Why something stays that is written to or served.
pub(super) const IN_USE: &str = "in use";

/// What is kept, with its names.
pub(super) struct Kept {
    pub(super) picture: Picture,
    names: BTreeMap<BlobHash, String>,
    models: BTreeSet<BlobHash>,
    yours: BTreeSet<BlobHash>,
}

/// Looks at what is kept.
pub(super) fn kept(store: &Store, usage: &DiskUsage) -> Kept {
    let published: BTreeSet<BlobHash> = usage.blobs.keys().copied().filter(|blob| store.is_published(*blob)).collect();
    let mut kept = Kept { picture: Picture::default(), names: BTreeMap::new(), models: BTreeSet::new(), yours: BTreeSet::new() };
    let unit = |hash: BlobHash, blobs: BTreeSet<BlobHash>, pinned: bool| Unit {
        hash,
        pinned,
        busy: blobs.iter().any(|blob| store.is_promised(*blob) || store.is_read(*blob)),
        last_use: blobs.iter().map(|blob| store.last_use(*blob)).max().unwrap_or(0),
        copies: None,
        blobs,
    };
    for record in store.manifests() {
        // What was published here is its owner's to take away.
        let yours =
            !record.shards.is_empty() && record.shards.iter().all(|shard| published.contains(shard) || store.is_empty(*shard));
        let blobs = record.shards.iter().copied().chain([record.manifest]).collect();
        kept.picture.units.push(unit(record.manifest, blobs, record.pinned || yours));
        kept.names.insert(record.manifest, record.name);
        kept.models.insert(record.manifest);
        if yours && !record.pinned {
            kept.yours.insert(record.manifest);
        }
    }
    for record in store.wanted() {
        let yours = published.contains(&record.hash);
        kept.picture.units.push(unit(record.hash, BTreeSet::from([record.hash]), record.pinned || yours));
        kept.names.extend(record.name.map(|name| (record.hash, name)));
        if yours && !record.pinned {
            kept.yours.insert(record.hash);
        }
    }
    let own = |blob: &BlobHash| !published.contains(blob);
    kept.picture.sizes = usage.blobs.keys().filter(|blob| own(blob)).map(|blob| (*blob, usage.of(*blob))).collect();
    kept
}

impl Kept {
    /// What goes, for people: a shared blob counts with the last that has it.
    pub(super) fn entries(&self, choice: &Choice) -> Vec<GcEntry> {
        let mut counted = BTreeSet::new();
        let mut entries: Vec<GcEntry> = Vec::new();
        for hash in choice.units.iter().rev() {
            let unit = self.picture.units.iter().find(|unit| unit.hash == *hash);
            let blobs = unit.into_iter().flat_map(|unit| &unit.blobs).filter(|blob| choice.blobs.contains(blob));
            let bytes = blobs.filter(|blob| counted.insert(**blob)).map(|blob| self.picture.sizes[blob]).sum();
            let kind = if self.models.contains(hash) { "model" } else { "blob" };
            entries.push(GcEntry { hash: hash.to_string(), kind: kind.to_owned(), name: self.names.get(hash).cloned(), bytes });
        }
        entries.reverse();
        entries
    }

    /// What stays, and why.
    pub(super) fn stays(&self, choice: &Choice, rules: Rules) -> Vec<StayEntry> {
        let left = self.picture.units.iter().filter(|unit| !choice.units.contains(&unit.hash));
        let reason = |unit: &Unit| match unit {
            unit if self.yours.contains(&unit.hash) => Some("yours"),
            unit if unit.pinned => Some("pinned"),
            unit if unit.busy => Some(IN_USE),
            unit if !rules.last_copies && unit.copies.unwrap_or(0) == 0 => Some("last known copy"),
            _ => None,
        };
        let entry = |unit: &Unit| {
            let (hash, name) = (unit.hash.to_string(), self.names.get(&unit.hash).cloned());
            Some(StayEntry { hash, name, reason: reason(unit)?.to_owned() })
        };
        left.filter_map(entry).collect()
    }

    /// Whether this is a model, not a plain blob.
    pub(super) fn is_model(&self, hash: BlobHash) -> bool {
        self.models.contains(&hash)
    }
}

/// What is pinned.
pub(super) fn pinned(store: &Store) -> BTreeSet<BlobHash> {
    let models = store.manifests().into_iter().filter(|record| record.pinned).map(|record| record.manifest);
    models.chain(store.wanted().into_iter().filter(|record| record.pinned).map(|record| record.hash)).collect()
}

/// Every blob that something keeps.
pub(super) fn kept_blobs(store: &Store) -> BTreeSet<BlobHash> {
    let models = store.manifests().into_iter().flat_map(|record| record.shards.into_iter().chain([record.manifest]));
    models.chain(store.wanted().into_iter().map(|record| record.hash)).collect()
}

/// Blobs that nothing keeps, and that nobody wrote to for that long.
pub(super) fn garbage(store: &Store, usage: &DiskUsage, now_ns: i64, older_than: Duration) -> Vec<(BlobHash, GcEntry)> {
    let kept = kept_blobs(store);
    let idle = |blob: BlobHash| !store.is_published(blob) && !store.is_promised(blob) && !store.is_read(blob);
    let mut found = Vec::new();
    for (blob, files) in &usage.blobs {
        if kept.contains(blob) || !idle(*blob) || files.bytes == 0 && store.blob(*blob).is_none() {
            continue;
        }
        let status = store.blob(*blob);
        // A file from the future is a young one.
        let age = Duration::from_nanos(u64::try_from(now_ns.saturating_sub(files.modified_ns)).unwrap_or(0));
        let least = if status.is_some() { older_than } else { older_than.max(STRAY_AGE) };
        if age >= least {
            let kind = if status.is_some_and(|status| status.complete) { "unused" } else { "partial" };
            let entry = GcEntry { hash: blob.to_string(), kind: kind.to_owned(), name: None, bytes: files.bytes };
            found.push((*blob, entry));
        }
    }
    found
}

/// Which bytes belong to which model or blob of `list` alone; the rest is shared, or nobody's.
pub fn shares(store: &Store, usage: &DiskUsage) -> (BTreeMap<BlobHash, u64>, DiskReport) {
    let mut users: BTreeMap<BlobHash, Vec<BlobHash>> = BTreeMap::new();
    for record in store.manifests() {
        for blob in record.shards.iter().copied().chain([record.manifest]).collect::<BTreeSet<_>>() {
            users.entry(blob).or_default().push(record.manifest);
        }
    }
    for status in store.blobs() {
        users.entry(status.hash).or_insert_with(|| vec![status.hash]);
    }
    let mut disk: BTreeMap<BlobHash, u64> = BTreeMap::new();
    let mut report = DiskReport { total: usage.total_bytes(), other: usage.other_bytes, ..DiskReport::default() };
    for (blob, files) in &usage.blobs {
        match users.get(blob).map(Vec::as_slice) {
            Some([only]) => {
                *disk.entry(*only).or_default() += files.bytes;
                report.listed += files.bytes;
            }
            Some(_) => report.shared += files.bytes,
            None => report.other += files.bytes,
        }
    }
    if let Some(quota) = store.quota_use() {
        (report.quota, report.promised, report.left) = (Some(quota.limit_bytes), quota.promised_bytes, Some(quota.left_bytes));
    }
    (disk, report)
}
