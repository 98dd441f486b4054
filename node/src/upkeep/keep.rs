//! `pin` and `unpin`: which model or blob is meant, and the promise to keep it. For blocking threads.

use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::link::Link;

use crate::inventory::{held_bytes, manifest};
use crate::publish;
use crate::report::{Failure, FailureKind, PinReport};
use crate::store::{PinRecord, Store, WantedRecord};

/// What is kept as a whole.
enum Found {
    Model(Box<PinRecord>),
    Blob(WantedRecord),
}

/// Pins, or takes that back.
pub fn set_pinned(store: &Store, target: &str, pinned: bool) -> Result<PinReport, Failure> {
    match find(store, target)? {
        Found::Model(record) => {
            let changed = record.pinned != pinned;
            if changed {
                store.set_manifest_pinned((*record).clone(), pinned)?;
            }
            let held = record.shards.iter().filter_map(|shard| store.blob(*shard)).map(|status| held_bytes(&status)).sum();
            let (hash, kind, name) = (record.manifest.to_string(), "model".to_owned(), Some(record.name));
            Ok(PinReport { hash, kind, name, pinned, changed, bytes: record.bytes, held })
        }
        Found::Blob(record) => {
            let changed = record.pinned != pinned;
            let (hash, name) = (record.hash, record.name.clone());
            if changed {
                store.set_wanted(WantedRecord { pinned, ..record })?;
            }
            let status = store.blob(hash);
            let (bytes, held) = status.map_or((0, 0), |status| (status.size, held_bytes(&status)));
            Ok(PinReport { hash: hash.to_string(), kind: "blob".to_owned(), name, pinned, changed, bytes, held })
        }
    }
}

fn find(store: &Store, target: &str) -> Result<Found, Failure> {
    match Link::parse_target(target) {
        Ok(link) => by_hash(store, link.hash(), link.name()),
        Err(_) if !target.contains(':') => by_name(store, target),
        Err(error) => Err(error.into()),
    }
}

fn by_hash(store: &Store, hash: BlobHash, name: Option<&str>) -> Result<Found, Failure> {
    if let Some(record) = store.manifests().into_iter().find(|record| record.manifest == hash) {
        return Ok(Found::Model(Box::new(record)));
    }
    if let Some(record) = store.wanted().into_iter().find(|record| record.hash == hash) {
        return Ok(Found::Blob(record));
    }
    if store.blob(hash).is_none_or(|status| status.held.is_empty() && status.size > 0) {
        let message = format!("{hash} is not held here; `p2pweights fetch --pin {hash}` gets and pins it");
        return Err(Failure::new(FailureKind::NotFound, message));
    }
    match manifest(store, hash) {
        Ok(Some((manifest, _))) => Ok(Found::Model(Box::new(publish::pin(hash, &manifest, name)))),
        _ => Ok(Found::Blob(WantedRecord::new(hash, name.map(str::to_owned)))),
    }
}

/// `name`, or `name@revision`.
fn by_name(store: &Store, name: &str) -> Result<Found, Failure> {
    let full = |record: &PinRecord| record.revision.as_ref().map(|revision| format!("{}@{revision}", record.name));
    let models = store.manifests().into_iter().filter(|record| record.name == name || full(record).as_deref() == Some(name));
    let blobs = store.wanted().into_iter().filter(|record| record.name.as_deref() == Some(name));
    let mut found: Vec<Found> = models.map(|record| Found::Model(Box::new(record))).chain(blobs.map(Found::Blob)).collect();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            let message = format!("nothing here is called {name:?}; `p2pweights list` shows names and hashes");
            Err(Failure::new(FailureKind::NotFound, message))
        }
        _ => {
            let hash = |found: &Found| match found {
                Found::Model(record) => record.manifest.to_string(),
                Found::Blob(record) => record.hash.to_string(),
            };
            let hashes = found.iter().map(hash).collect::<Vec<_>>().join(", ");
            Err(Failure::new(FailureKind::Usage, format!("{name:?} is the name of several: {hashes}; give the hash")))
        }
    }
}
