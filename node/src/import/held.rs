//! Which contents of a listing the store has already, from whichever model. A manifest's word for a SHA-256 or a git id is its publisher's:
//! unless this node found it out itself, the blob is read and hashed. For blocking threads.

use std::collections::{BTreeMap, BTreeSet};

use p2pweights_protocol::ids::BlobHash;

use crate::inventory;
use crate::report::Failure;
use crate::store::{FileId, Need, Promise, Store, Taken};

/// The contents that are here, with a promise that they stay.
pub(super) fn find(store: &Store, wanted: &BTreeMap<FileId, u64>) -> Result<(BTreeMap<FileId, Taken>, Promise), Failure> {
    let mut found = BTreeMap::new();
    let mut wrong: BTreeSet<(BlobHash, FileId)> = BTreeSet::new();
    for record in store.manifests() {
        // One that is damaged or not all here says nothing.
        let Ok(Some((manifest, _))) = inventory::manifest(store, record.manifest) else { continue };
        for shard in manifest.shards() {
            let ids = [shard.git_oid().map(FileId::Git), shard.sha256().map(FileId::Sha256)];
            for id in ids.into_iter().flatten() {
                let blob = shard.blake3();
                let is_wanted =
                    wanted.get(&id) == Some(&shard.size()) && !found.contains_key(&id) && !wrong.contains(&(blob, id));
                if !is_wanted || !store.is_complete(blob) {
                    continue;
                }
                let known = shard.sha256().filter(|_| record.imported.is_some());
                let taken = match known {
                    Some(sha256) => Some(Taken { hash: blob, sha256, size: shard.size() }),
                    None => store.identify(blob, id)?,
                };
                match taken {
                    Some(taken) => _ = found.insert(id, taken),
                    None => _ = wrong.insert((blob, id)),
                }
            }
        }
    }
    let needs: Vec<Need> = found.values().map(|taken| Need::of(taken.hash, taken.size)).collect();
    Ok((found, store.promise(&needs)?))
}
