//! Which manifests this node keeps, one small file each. Read whole at every start: there are few, and they must never depend on an index.

use std::collections::BTreeMap;
use std::fs;

use p2pweights_protocol::ids::BlobHash;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::Store;
use super::error::{AtPath, StoreError};
use super::layout::{Layout, list};
use super::slot::locked;

/// `pins/<hash>.json`: a promise to keep a manifest and its shards.
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
    /// What a newer version of this program knows besides.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
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
    /// Keeps a manifest, durably. The record of one that is kept already is replaced.
    pub fn add_manifest(&self, pin: PinRecord) -> Result<(), StoreError> {
        let text = serde_json::to_vec_pretty(&pin).expect("a pin has only text keys");
        self.shared.layout.write_whole(&self.shared.layout.pin(pin.manifest), &text)?;
        locked(&self.shared.pins).insert(pin.manifest, pin);
        Ok(())
    }

    /// Keeps a manifest no longer; its blobs stay until they are removed. Says whether it was kept.
    pub fn remove_manifest(&self, manifest: BlobHash) -> Result<bool, StoreError> {
        let layout = &self.shared.layout;
        let path = layout.pin(manifest);
        layout.remove_durably(&path)?;
        Ok(locked(&self.shared.pins).remove(&manifest).is_some())
    }

    /// The manifests kept, by hash.
    pub fn manifests(&self) -> Vec<PinRecord> {
        locked(&self.shared.pins).values().cloned().collect()
    }
}
