//! Which plain blobs somebody wanted by themselves, one small file each: what has no such record, and belongs to no model, may be cleared
//! away. Read whole at every start.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use p2pweights_protocol::ids::BlobHash;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::Store;
use super::error::{AtPath, StoreError};
use super::layout::{Layout, list};
use super::pins::PinRecord;
use super::slot::{Slot, locked};

/// `wanted/<hash>.json`: a plain blob that is kept until it is removed or evicted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedRecord {
    /// The blob.
    pub hash: BlobHash,
    /// The name by which it was asked for, if any.
    pub name: Option<String>,
    /// Never evicted: somebody said so.
    #[serde(default)]
    pub pinned: bool,
    /// What a newer version of this program knows besides.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

impl WantedRecord {
    /// A blob that was asked for, by this name.
    pub fn new(hash: BlobHash, name: Option<String>) -> Self {
        Self { hash, name, pinned: false, other: serde_json::Map::new() }
    }

    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a record has only text keys")
    }
}

/// Reads every record; one that is unreadable is left where it is, and reported. A store from before there were any is given them.
pub(super) fn read_all(
    layout: &Layout,
    slots: &[Slot],
    pins: &BTreeMap<BlobHash, PinRecord>,
) -> Result<BTreeMap<BlobHash, WantedRecord>, StoreError> {
    let folder = layout.wanted_folder();
    if !folder.try_exists().at(&folder)? {
        adopt(layout, slots, pins)?;
    }
    let mut wanted = BTreeMap::new();
    for path in list(&folder)? {
        match serde_json::from_slice::<WantedRecord>(&fs::read(&path).at(&path)?) {
            Ok(record) => {
                wanted.insert(record.hash, record);
            }
            Err(error) => warn!(path = %path.display(), %error, "unreadable record passed over"),
        }
    }
    Ok(wanted)
}

/// Nobody wrote down so far which blobs were wanted by themselves: every complete one that no model explains passes for wanted. The folder
/// appears with all of its records at once, so that this is done once.
fn adopt(layout: &Layout, slots: &[Slot], pins: &BTreeMap<BlobHash, PinRecord>) -> Result<(), StoreError> {
    let explained: BTreeSet<BlobHash> = pins.values().flat_map(|pin| pin.shards.iter().copied().chain([pin.manifest])).collect();
    let unexplained = slots.iter().filter(|slot| {
        let state = slot.state();
        state.is_complete() && state.published.is_none() && !explained.contains(&slot.hash)
    });
    let temp = layout.temp();
    layout.disk().make_folder(&temp).at(&temp)?;
    let mut adopted = 0;
    for slot in unexplained {
        let path = temp.join(format!("{}.json", slot.hash));
        let record = WantedRecord::new(slot.hash, None).to_json();
        layout.disk().write_new(&path, &record).and_then(|file| file.sync()).at(&path)?;
        adopted += 1;
    }
    layout.sync_folder(&temp)?;
    layout.move_into_place(&temp, &layout.wanted_folder())?;
    if adopted > 0 {
        info!(adopted, "plain blobs from before are kept until they are removed");
    }
    Ok(())
}

impl Store {
    /// Keeps a plain blob, durably. One that is kept already keeps its name, and stays pinned if it was.
    pub fn add_wanted(&self, mut record: WantedRecord) -> Result<(), StoreError> {
        if let Some(known) = locked(&self.shared.wanted).get(&record.hash) {
            record.pinned |= known.pinned;
            record.name = record.name.or_else(|| known.name.clone());
        }
        self.set_wanted(record)
    }

    /// Replaces a blob's record by just this.
    pub fn set_wanted(&self, record: WantedRecord) -> Result<(), StoreError> {
        let hash = record.hash;
        self.shared.layout.write_whole(&self.shared.layout.wanted(hash), &record.to_json())?;
        locked(&self.shared.wanted).insert(hash, record);
        self.shared.settle(hash);
        Ok(())
    }

    /// Keeps a plain blob no longer; it stays until it is removed. Says whether it was kept.
    pub fn remove_wanted(&self, hash: BlobHash) -> Result<bool, StoreError> {
        let path = self.shared.layout.wanted(hash);
        if self.shared.layout.remove_if_there(&path)? {
            self.shared.layout.sync_folder_of(&path)?;
        }
        let kept = locked(&self.shared.wanted).remove(&hash).is_some();
        self.shared.settle(hash);
        Ok(kept)
    }

    /// The plain blobs kept, by hash.
    pub fn wanted(&self) -> Vec<WantedRecord> {
        locked(&self.shared.wanted).values().cloned().collect()
    }
}
