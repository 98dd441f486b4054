//! Whether a store opened on what a crash left keeps its promises (`docs/store.md`).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use p2pweights_protocol::span_set::SpanSet;

use super::catalog::MemoryCatalog;
use super::scenario::{Cast, Promises, deliver, deliver_small, open, phrase};
use crate::store::disk::stage::Stage;
use crate::store::tests::Peer;
use crate::store::*;

/// Says which promise is broken.
pub(super) type Broken = String;

macro_rules! ensure {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err(format!($($words)+));
        }
    };
}

fn failed(what: String) -> impl FnOnce(StoreError) -> Broken {
    move |error| format!("{what}: {}", phrase(&error))
}

/// Opens the store and looks at everything it says and does.
pub(super) fn check(root: &Path, cast: &Cast, promises: &Promises, catalog: MemoryCatalog) -> Result<(), Broken> {
    let stage = Arc::new(Stage::with_catalog(catalog));
    let store = open(&stage, root).map_err(failed("open".to_owned()))?;
    check_blobs(&store, cast, promises)?;
    check_pins(&store, promises)?;
    check_outside(root, cast, promises)?;
    complete(&store, cast)?;
    check_outside(root, cast, promises)?;
    store.close().map_err(failed("close".to_owned()))?;
    drop(store);
    let again = open(&stage, root).map_err(failed("open again".to_owned()))?;
    let complete = |peer: &&Peer| again.is_complete(peer.hash);
    ensure!(cast.all().all(|peer| complete(&peer)), "not all is complete after a good end");
    Ok(())
}

/// What is held proves, and everything is held that must be.
pub(super) fn check_blobs(store: &Store, cast: &Cast, promises: &Promises) -> Result<(), Broken> {
    for status in store.blobs() {
        let peer = cast.all().find(|peer| peer.hash == status.hash);
        let peer = peer.ok_or_else(|| format!("blob {} was never heard of", status.hash))?;
        check_blob(store, peer, &status)?;
    }
    for (hash, held) in &promises.held {
        let found = store.blob(*hash).map(|status| status.held).unwrap_or_default();
        let lost: Vec<_> = held.runs().flat_map(|run| found.gaps(run)).collect();
        ensure!(lost.is_empty(), "lost {lost:?} of the blob of {} bytes", size_of(cast, *hash));
    }
    for hash in &promises.gone {
        ensure!(store.blob(*hash).is_none(), "the blob of {} bytes came back", size_of(cast, *hash));
    }
    Ok(())
}

fn size_of(cast: &Cast, hash: BlobHash) -> u64 {
    cast.all().find(|peer| peer.hash == hash).map_or(0, Peer::size)
}

fn check_blob(store: &Store, peer: &Peer, status: &BlobStatus) -> Result<(), Broken> {
    let name = format!("the blob of {} bytes", peer.size());
    ensure!(!status.complete || status.size == peer.size(), "{name} is complete with {} bytes", status.size);
    if status.held.is_empty() {
        return Ok(());
    }
    let reader = store.reader(peer.hash).map_err(failed(format!("reading {name}")))?;
    for run in status.held.runs() {
        let mut encoded = Vec::new();
        reader.encode_span(run, &mut encoded).map_err(|error| format!("{name}: {run:?} is held and does not prove: {error}"))?;
        ensure!(encoded == peer.encoded(run), "{name} is served wrong");
    }
    if status.complete {
        let bytes = store.read_all(peer.hash, peer.size()).map_err(failed(format!("reading all of {name}")))?;
        ensure!(bytes == peer.bytes, "{name} is read wrong");
    }
    Ok(())
}

fn check_pins(store: &Store, promises: &Promises) -> Result<(), Broken> {
    let pins: Vec<BlobHash> = store.manifests().iter().map(|pin| pin.manifest).collect();
    for (hash, pinned) in &promises.pinned {
        ensure!(pins.contains(hash) == *pinned, "pin {hash} should be {}", if *pinned { "there" } else { "gone" });
    }
    Ok(())
}

/// A user's file is what the user made it, and under an exported name is nothing but the blob.
pub(super) fn check_outside(root: &Path, cast: &Cast, promises: &Promises) -> Result<(), Broken> {
    for (path, bytes) in &promises.users {
        ensure!(fs::read(root.join(path)).is_ok_and(|found| found == *bytes), "{} is not as it was", path.display());
    }
    for (path, hash) in &promises.exported {
        let found = fs::read(root.join(path)).map_err(|error| format!("{} was exported: {error}", path.display()))?;
        ensure!(BlobHash::of(&found) == *hash, "{} was exported and is wrong", path.display());
    }
    for path in exported(&root.join("out")) {
        let hash = BlobHash::of(&fs::read(&path).map_err(|error| error.to_string())?);
        ensure!(cast.all().any(|peer| peer.hash == hash), "{} has a final name and is no blob", path.display());
    }
    Ok(())
}

/// Everything that has a final name.
fn exported(out: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(out).into_iter().filter_map(Result::ok).filter(|entry| entry.file_type().is_file());
    let named = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with(".p2pweights-"));
    named.map(walkdir::DirEntry::into_path).collect()
}

/// The store can go on, with everything.
pub(super) fn complete(store: &Store, cast: &Cast) -> Result<(), Broken> {
    for peer in cast.all() {
        let name = format!("completing the blob of {} bytes", peer.size());
        let whole = peer.geometry.whole().expect("no blob here is empty");
        if store.is_complete(peer.hash) {
            continue;
        }
        if store.takes_small(peer.hash, peer.size(), whole) {
            deliver_small(store, peer).map_err(|error| format!("{name}: {}", phrase(&error)))?;
            if let Some(error) = store.sync_small().error {
                return Err(format!("{name}: {}", phrase(&error)));
            }
            continue;
        }
        let writer = store.writer(peer.hash, peer.size()).map_err(failed(name.clone()))?;
        for gap in writer.verified().gaps(whole) {
            deliver(&writer, peer, gap).map_err(|error| format!("{name}: {}", phrase(&error)))?;
        }
        writer.sync().map_err(failed(name))?;
    }
    let whole = Promises {
        held: cast.all().map(|peer| (peer.hash, SpanSet::from_iter(peer.geometry.whole()))).collect(),
        ..Promises::default()
    };
    check_blobs(store, cast, &whole)
}
