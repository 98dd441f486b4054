//! What of the store others may have. A model from a repository that gives its files to those only who have consent is withheld: served to
//! programs on this machine, and neither announced nor given to peers, unless the owner of this node says so for that repository.

use std::collections::BTreeSet;

use p2pweights_protocol::ids::BlobHash;

use crate::store::{PinRecord, Store};

/// Whom the owner lets have what.
#[derive(Debug, Clone, Default)]
pub struct Sharing {
    /// Repositories, in lower case: hubs do not tell the cases apart.
    gated: BTreeSet<String>,
}

impl Sharing {
    /// With these gated or private repositories shared.
    pub fn new(gated: &[String]) -> Self {
        Self { gated: gated.iter().map(|repo| repo.to_lowercase()).collect() }
    }

    /// Whether a model is kept from others.
    pub fn withholds(&self, record: &PinRecord) -> bool {
        let imported = record.imported.as_ref().filter(|imported| imported.consent);
        imported.is_some_and(|imported| !self.gated.contains(&imported.repo.to_lowercase()))
    }

    /// The blobs that only withheld models have: nobody wanted them by themselves, and no other model needs them.
    pub fn withheld(&self, store: &Store) -> BTreeSet<BlobHash> {
        let (ours, others): (Vec<_>, Vec<_>) = store.manifests().into_iter().partition(|record| self.withholds(record));
        if ours.is_empty() {
            return BTreeSet::new();
        }
        let blobs = |record: PinRecord| record.shards.into_iter().chain([record.manifest]);
        let wanted = store.wanted().into_iter().map(|record| record.hash);
        let shared: BTreeSet<BlobHash> = others.into_iter().flat_map(blobs).chain(wanted).collect();
        ours.into_iter().flat_map(blobs).filter(|blob| !shared.contains(blob)).collect()
    }
}
