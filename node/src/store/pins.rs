//! Which models this node keeps, and which of them whatever happens, one small file each. Read whole at every start: there are few, and
//! they must never depend on an index.

use std::collections::BTreeMap;
use std::fs;

use p2pweights_protocol::ids::BlobHash;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::Store;
use super::error::{AtPath, StoreError};
use super::layout::{Layout, list};
use super::slot::locked;

/// `pins/<hash>.json`: a manifest whose blobs are kept until they are removed or evicted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinRecord {
    /// The manifest's blob.
    pub manifest: BlobHash,
    /// The model's name.
    pub name: String,
    /// The revision of its source.
    pub revision: Option<String>,
    /// The blobs of its shards.
    pub shards: Vec<BlobHash>,
    /// Bytes of all shards together.
    pub bytes: u64,
    /// Never evicted: somebody said so.
    #[serde(default)]
    pub pinned: bool,
    /// Where an import took it from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<ImportRecord>,
    /// When it was first kept, or last published: greater is later. A count and no clock.
    #[serde(default)]
    pub order: u64,
    /// What a newer version of this program knows besides.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// Where a model came from that this node imported, every file of it found to be what was listed there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRecord {
    /// The repository, `ORG/MODEL`.
    pub repo: String,
    /// The hub.
    pub endpoint: String,
    /// Whether the hub gives it out to those only to whom somebody gave consent: gated, or private.
    #[serde(default)]
    pub consent: bool,
}

/// Reads every pin; one that is unreadable is left where it is, and reported.
pub(super) fn read_all(layout: &Layout) -> Result<BTreeMap<BlobHash, PinRecord>, StoreError> {
    let mut pins = BTreeMap::new();
    for path in list(&layout.pins())? {
        match serde_json::from_slice::<PinRecord>(&fs::read(&path).at(&path)?) {
            Ok(pin) => {
                pins.insert(pin.manifest, pin);
            }
            Err(error) => warn!(path = %path.display(), %error, "unreadable pin passed over"),
        }
    }
    Ok(pins)
}

impl Store {
    /// Keeps a manifest, durably. The record of one that is kept already is replaced; what was pinned or imported
    /// stays so, and its place in the order.
    pub fn add_manifest(&self, pin: PinRecord) -> Result<(), StoreError> {
        self.add_manifest_at(pin, false)
    }

    /// The same, and it is the newest from now on.
    pub fn add_newest_manifest(&self, pin: PinRecord) -> Result<(), StoreError> {
        self.add_manifest_at(pin, true)
    }

    fn add_manifest_at(&self, mut pin: PinRecord, newest: bool) -> Result<(), StoreError> {
        let _turn = locked(&self.shared.pin_turn);
        {
            let pins = locked(&self.shared.pins);
            let known = pins.get(&pin.manifest);
            pin.pinned |= known.is_some_and(|known| known.pinned);
            pin.imported = pin.imported.or_else(|| known?.imported.clone());
            let next = || pins.values().map(|known| known.order).max().unwrap_or(0) + 1;
            pin.order = known.filter(|_| !newest).map_or_else(next, |known| known.order);
        }
        self.write_manifest(pin)
    }

    /// Pins a manifest, or takes that back. One that was not kept is kept from now on, with this record.
    pub fn set_manifest_pinned(&self, record: PinRecord, pinned: bool) -> Result<(), StoreError> {
        let _turn = locked(&self.shared.pin_turn);
        let known = locked(&self.shared.pins).get(&record.manifest).cloned();
        self.write_manifest(PinRecord { pinned, ..known.unwrap_or(record) })
    }

    fn write_manifest(&self, pin: PinRecord) -> Result<(), StoreError> {
        let text = serde_json::to_vec_pretty(&pin).expect("a pin has only text keys");
        let _room = self.shared.reserve_record(text.len())?;
        self.shared.layout.write_whole(&self.shared.layout.pin(pin.manifest), &text)?;
        let manifest = pin.manifest;
        locked(&self.shared.pins).insert(manifest, pin);
        self.shared.settle(manifest);
        Ok(())
    }

    /// Keeps a manifest no longer; its blobs stay until they are removed. Says whether it was kept.
    pub fn remove_manifest(&self, manifest: BlobHash) -> Result<bool, StoreError> {
        let _turn = locked(&self.shared.pin_turn);
        let layout = &self.shared.layout;
        let path = layout.pin(manifest);
        layout.remove_durably(&path)?;
        let kept = locked(&self.shared.pins).remove(&manifest).is_some();
        self.shared.settle(manifest);
        Ok(kept)
    }

    /// The manifests kept: hash, name, revision, and place in the order.
    pub fn manifest_names(&self) -> Vec<(BlobHash, String, Option<String>, u64)> {
        let name = |pin: &PinRecord| (pin.manifest, pin.name.clone(), pin.revision.clone(), pin.order);
        locked(&self.shared.pins).values().map(name).collect()
    }

    /// The manifests kept, by hash.
    pub fn manifests(&self) -> Vec<PinRecord> {
        locked(&self.shared.pins).values().cloned().collect()
    }
}
