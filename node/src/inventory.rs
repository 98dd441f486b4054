//! What the store holds, as `list`, `show`, `remove` and `store rebuild` tell it. Needs no network; for blocking threads.

use std::collections::{BTreeMap, BTreeSet};

use p2pweights_protocol::geometry::Geometry;
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::limits;
use p2pweights_protocol::link::Link;
use p2pweights_protocol::manifest::Manifest;

use crate::report::{Failure, FailureKind, FilePlan, ListEntry, RebuildReport, RemoveReport, ShowReport};
use crate::sharing::Sharing;
use crate::store::{BlobStatus, Location, PinRecord, Store, StoreError, WantedRecord};
use crate::upkeep::shares;

/// Bytes held of a blob.
pub fn held_bytes(status: &BlobStatus) -> u64 {
    let geometry = Geometry::of(status.size);
    status.held.runs().map(|run| geometry.bytes_in(run)).sum()
}

/// Every model, then every blob that belongs to none.
pub fn list(store: &Store, sharing: &Sharing) -> Result<Vec<ListEntry>, Failure> {
    let (disk, _) = shares(store, &store.disk_usage()?);
    let disk = |hash: BlobHash| disk.get(&hash).copied().unwrap_or(0);
    let wanted: BTreeMap<BlobHash, WantedRecord> = store.wanted().into_iter().map(|record| (record.hash, record)).collect();
    let blobs: BTreeMap<BlobHash, BlobStatus> = store.blobs().into_iter().map(|status| (status.hash, status)).collect();
    let pins = store.manifests();
    let in_models: BTreeSet<BlobHash> = pins.iter().flat_map(|pin| pin.shards.iter().copied().chain([pin.manifest])).collect();
    let models = pins.iter().map(|pin| {
        let shards: BTreeSet<BlobHash> = pin.shards.iter().copied().collect();
        ListEntry {
            hash: pin.manifest.to_string(),
            kind: "model".to_owned(),
            name: Some(pin.name.clone()),
            revision: pin.revision.clone(),
            files: pin.shards.len(),
            bytes: pin.bytes,
            held: shards.iter().filter_map(|shard| blobs.get(shard)).map(held_bytes).sum(),
            disk: disk(pin.manifest),
            pinned: pin.pinned,
            withheld: sharing.withholds(pin),
            path: None,
        }
    });
    let plain = blobs.values().filter(|status| !in_models.contains(&status.hash)).map(|status| ListEntry {
        hash: status.hash.to_string(),
        kind: "blob".to_owned(),
        name: wanted.get(&status.hash).and_then(|record| record.name.clone()),
        revision: None,
        files: 1,
        bytes: status.size,
        held: held_bytes(status),
        disk: disk(status.hash),
        pinned: wanted.get(&status.hash).is_some_and(|record| record.pinned),
        withheld: false,
        path: match &status.location {
            Location::Stored => None,
            Location::Referenced(path) => Some(path.clone()),
        },
    });
    Ok(models.chain(plain).collect())
}

/// The manifest behind a hash, if it is one; `None` for a plain blob.
pub fn manifest(store: &Store, hash: BlobHash) -> Result<Option<(Manifest, Vec<u8>)>, Failure> {
    match store.blob(hash) {
        None => Err(Failure::new(FailureKind::NotFound, format!("{hash} is not in the store; `fetch` gets it"))),
        Some(status) if !status.complete || status.size > limits::MANIFEST_BYTES => Ok(None),
        Some(_) => {
            let bytes = store.read_all(hash, limits::MANIFEST_BYTES)?;
            if Manifest::looks_like(&bytes) { Ok(Some((Manifest::parse(&bytes)?, bytes))) } else { Ok(None) }
        }
    }
}

/// The files of a manifest, with what the store holds of each.
pub fn plan(store: &Store, manifest: &Manifest) -> Vec<FilePlan> {
    manifest
        .shards()
        .iter()
        .map(|shard| FilePlan {
            path: shard.path().as_str().to_owned(),
            hash: shard.blake3().to_string(),
            bytes: shard.size(),
            held: store.blob(shard.blake3()).map_or(0, |status| held_bytes(&status)),
        })
        .collect()
}

/// A model or blob in full.
pub fn show(store: &Store, sharing: &Sharing, target: &str) -> Result<ShowReport, Failure> {
    let hash = Link::parse_target(target)?.hash();
    let link = Link::new(hash);
    let Some((manifest, bytes)) = manifest(store, hash)? else {
        let status = store.blob(hash).ok_or(StoreError::Missing(hash))?;
        let path = match &status.location {
            Location::Stored => hash.to_string(),
            Location::Referenced(path) => path.display().to_string(),
        };
        let files = vec![FilePlan { path, hash: hash.to_string(), bytes: status.size, held: held_bytes(&status) }];
        let (hash, link) = (hash.to_string(), link.to_string());
        return Ok(ShowReport {
            hash,
            kind: "blob".to_owned(),
            link,
            bytes: status.size,
            withheld: false,
            files,
            manifest: None,
        });
    };
    let name = manifest.metadata().name.as_ref().map(|name| name.as_str().to_owned());
    let record = store.manifests().into_iter().find(|pin| pin.manifest == hash);
    let withheld = record.as_ref().is_some_and(|record| sharing.withholds(record));
    let name = name.or_else(|| record.map(|record| record.name));
    let link = name.and_then(|name| link.clone().with_name(&name).ok()).unwrap_or(link);
    Ok(ShowReport {
        hash: hash.to_string(),
        kind: "model".to_owned(),
        link: link.to_string(),
        bytes: manifest.total_bytes(),
        withheld,
        files: plan(store, &manifest),
        manifest: serde_json::from_slice(&bytes).ok(),
    })
}

/// What a removal takes away: the blobs of the model that no other model needs, or the one blob.
pub fn removal(store: &Store, target: &str) -> Result<(Vec<BlobHash>, Option<PinRecord>), Failure> {
    let hash = Link::parse_target(target)?.hash();
    let (ours, others): (Vec<_>, Vec<_>) = store.manifests().into_iter().partition(|pin| pin.manifest == hash);
    let wanted = store.wanted();
    let pinned = ours.iter().any(|pin| pin.pinned) || wanted.iter().any(|record| record.hash == hash && record.pinned);
    if pinned {
        let message = format!("{hash} is pinned; `p2pweights unpin {hash}` takes that back");
        return Err(Failure::new(FailureKind::Refused, message));
    }
    let by_themselves = wanted.iter().map(|record| record.hash).filter(|blob| *blob != hash);
    let needed: BTreeSet<BlobHash> = others.iter().flat_map(|pin| pin.shards.iter().copied()).chain(by_themselves).collect();
    let pin = ours.into_iter().next();
    let mut blobs: Vec<BlobHash> = pin.iter().flat_map(|pin| pin.shards.iter().copied()).collect();
    if pin.is_none() && needed.contains(&hash) {
        let owner = others.iter().find(|pin| pin.shards.contains(&hash)).map_or(hash, |pin| pin.manifest);
        let message = format!("{hash} is part of the model {owner}; remove that instead");
        return Err(Failure::new(FailureKind::Refused, message));
    }
    blobs.push(hash);
    blobs.sort_unstable();
    blobs.dedup();
    blobs.retain(|blob| !needed.contains(blob) && store.blob(*blob).is_some());
    if blobs.is_empty() && pin.is_none() {
        return Err(StoreError::Missing(hash).into());
    }
    Ok((blobs, pin))
}

/// Removes what [`removal`] found.
pub fn remove(store: &Store, blobs: &[BlobHash], pin: Option<PinRecord>) -> Result<RemoveReport, Failure> {
    if let Some(pin) = pin {
        store.remove_manifest(pin.manifest)?;
    }
    let before = store.disk_usage()?;
    let mut report = RemoveReport { blobs: 0, freed: 0, kept: Vec::new() };
    for blob in blobs {
        if let Some(BlobStatus { location: Location::Referenced(path), .. }) = store.blob(*blob) {
            report.kept.push(path);
        }
        report.blobs += usize::from(store.remove(*blob)?);
        store.remove_wanted(*blob)?;
    }
    let after = store.disk_usage()?;
    report.freed = blobs.iter().map(|blob| before.of(*blob).saturating_sub(after.of(*blob))).sum();
    Ok(report)
}

/// Makes the index again from the files.
pub fn rebuild(store: &Store) -> Result<RebuildReport, Failure> {
    let report = store.rebuild()?;
    let blobs = report.complete + report.partial;
    Ok(RebuildReport { blobs, partial: report.partial, models: report.pins, referenced: report.referenced })
}
