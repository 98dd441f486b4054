//! The store as its users see it: crashes, damage, hostile names, and the promises of `docs/store.md`.

mod clock;
pub(in crate::store) mod crash;
mod damage;
mod export;
mod flips;
mod index;
mod intake;
mod intruders;
mod partial;
mod publish;
mod quota;
mod small;
mod unproved;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use p2pweights_protocol::geometry::{GROUP_BYTES, Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::span_set::SpanSet;
use p2pweights_protocol::verify::{OutboardBuilder, encode_span};
use tempfile::TempDir;

use super::*;

pub(super) fn span(start: u64, end: u64) -> Span {
    Span::new(start, end).unwrap()
}

pub(super) fn spans(runs: &[(u64, u64)]) -> SpanSet {
    runs.iter().map(|&(start, end)| span(start, end)).collect()
}

/// A blob in memory, which plays the peer who has it.
pub(super) struct Peer {
    pub(super) bytes: Vec<u8>,
    outboard: Vec<u8>,
    pub(super) hash: BlobHash,
    pub(super) geometry: Geometry,
}

impl Peer {
    pub(super) fn with_groups(groups: u64) -> Self {
        Self::with_bytes(groups * GROUP_BYTES - 100)
    }

    pub(super) fn with_bytes(size: u64) -> Self {
        let bytes: Vec<u8> = (0..size).map(|at| (at ^ (at >> 8).wrapping_mul(31) ^ (at >> 14).wrapping_mul(101)) as u8).collect();
        let mut builder = OutboardBuilder::new(Vec::new());
        builder.update(&bytes).unwrap();
        let (hash, outboard) = builder.finish().unwrap();
        Self { bytes, outboard, hash, geometry: Geometry::of(size) }
    }

    pub(super) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(super) fn encoded(&self, span: Span) -> Vec<u8> {
        let mut encoded = Vec::new();
        encode_span(&self.bytes[..], &self.outboard[..], self.hash, self.geometry, span, &mut encoded).unwrap();
        encoded
    }

    /// Sends one span, which must arrive.
    pub(super) fn send(&self, writer: &BlobWriter, span: Span) {
        let receipt = writer.receive(span, &mut &self.encoded(span)[..]);
        assert!(receipt.outcome.is_ok(), "{receipt:?}");
        assert_eq!(receipt.verified_groups, span.groups());
    }

    /// Sends everything, and syncs.
    pub(super) fn send_all(&self, store: &Store) {
        let writer = store.writer(self.hash, self.size()).unwrap();
        for gap in writer.verified().gaps(self.geometry.whole().unwrap()) {
            self.send(&writer, gap);
        }
        writer.sync().unwrap();
        assert!(writer.is_complete());
    }

    /// Whether the store serves exactly these groups, with the right bytes, and no other.
    pub(super) fn check_served(&self, store: &Store, held: &SpanSet) {
        assert_eq!(store.blob(self.hash).unwrap().held, *held);
        let reader = store.reader(self.hash).unwrap();
        for group in 0..self.geometry.groups() {
            let one = span(group, group + 1);
            let mut encoded = Vec::new();
            let result = reader.encode_span(one, &mut encoded);
            if held.covers(one) {
                result.unwrap();
                assert_eq!(encoded, self.encoded(one), "group {group}");
            } else {
                assert!(matches!(result, Err(ReadError::NotHeld { .. })), "group {group}: {result:?}");
                assert!(encoded.is_empty());
            }
        }
    }
}

/// A copy of a store's directory as a crash would leave it: no lock, nothing closed.
pub(super) fn crashed(store: &Store) -> TempDir {
    let copy = TempDir::new().unwrap();
    copy_folder(store.dir(), copy.path());
    copy
}

pub(super) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy_folder(&path, &target) } else { fs::copy(&path, &target).map(drop).unwrap() }
    }
}

pub(super) fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at as usize] ^= 0x20;
    fs::write(path, bytes).unwrap();
}

pub(super) fn files_of(store: &Store, hash: BlobHash) -> (PathBuf, PathBuf, PathBuf) {
    let layout = &store.shared.layout;
    (layout.data(hash), layout.outboard(hash), layout.progress(hash))
}

pub(super) fn publish(store: &Store, path: &Path, mode: PublishMode) -> Result<Published, PublishError> {
    store.publish_file(path, mode, &mut |_| ControlFlow::Continue(()))
}

#[test]
fn a_second_owner_is_told_who_the_first_is() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(&error, StoreError::InUse { pid: Some(pid), .. } if *pid == std::process::id()), "{error:?}");
    assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())), "{error}");
    drop(store);
    Store::open(dir.path()).unwrap();
}

#[test]
fn a_newer_store_is_refused_and_a_strange_one_too() {
    let dir = TempDir::new().unwrap();
    Store::open(dir.path()).unwrap();
    fs::write(dir.path().join("version"), "2\n").unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Newer { found: 2, known: 1, .. })));
    fs::write(dir.path().join("version"), "hello").unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::NotAStore { .. })));
}

#[test]
fn small_blobs_are_put_and_read_back() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for size in [0, 1, GROUP_BYTES, GROUP_BYTES + 1, 5 * GROUP_BYTES] {
        let peer = Peer::with_bytes(size);
        assert_eq!(store.put_bytes(&peer.bytes).unwrap(), peer.hash);
        assert_eq!(store.put_bytes(&peer.bytes).unwrap(), peer.hash);
        assert_eq!(store.read_all(peer.hash, size).unwrap(), peer.bytes);
        assert!(store.blob(peer.hash).unwrap().complete);
        assert!(size == 0 || matches!(store.read_all(peer.hash, size - 1), Err(StoreError::TooLarge { .. })));
        assert!(matches!(store.writer(peer.hash, size), Err(StoreError::AlreadyComplete(_))));
        assert_eq!(store.verify(peer.hash).unwrap().checked_groups, peer.geometry.groups());
    }
    let copy = crashed(&store);
    assert_eq!(Store::open(copy.path()).unwrap().blobs(), store.blobs());
    assert!(matches!(store.read_all(BlobHash::of(b"?"), 1), Err(StoreError::Missing(_))));
}

#[test]
fn an_empty_blob_needs_no_peer_but_the_right_name() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(matches!(store.writer(BlobHash::of(b"x"), 0), Err(StoreError::WrongSize { .. })));
    assert!(matches!(store.writer(BlobHash::of(b""), 0), Err(StoreError::AlreadyComplete(_))));
    assert_eq!(store.read_all(BlobHash::of(b""), 0).unwrap(), b"");
}

#[test]
fn pins_live_in_files() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let text = r#"{"manifest":"0000000000000000000000000000000000000000000000000000000000000001","name":"a/model","revision":null,
        "shards":["0000000000000000000000000000000000000000000000000000000000000002"],"bytes":7,"from_the_future":[1,2]}"#;
    let pin: PinRecord = serde_json::from_str(text).unwrap();
    store.add_manifest(pin.clone()).unwrap();
    let copy = crashed(&store);
    let copied = Store::open(copy.path()).unwrap();
    assert_eq!(copied.manifests(), [PinRecord { order: 1, ..pin.clone() }]);
    assert!(copied.remove_manifest(pin.manifest).unwrap());
    assert!(!copied.remove_manifest(pin.manifest).unwrap());
    drop(copied);
    assert_eq!(Store::open(copy.path()).unwrap().manifests(), []);
    let kept = fs::read_to_string(store.shared.layout.pin(pin.manifest)).unwrap();
    assert!(kept.contains("from_the_future"));
}

#[test]
fn where_a_manifest_came_from_is_not_forgotten() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let text = r#"{"manifest":"0000000000000000000000000000000000000000000000000000000000000001","name":"a/model","revision":null,
        "shards":[],"bytes":0,"imported":{"repo":"a/model","endpoint":"https://hub.example","consent":true}}"#;
    let imported: PinRecord = serde_json::from_str(text).unwrap();
    store.add_manifest(imported.clone()).unwrap();
    let fetched = PinRecord { imported: None, ..imported };
    store.add_manifest(fetched.clone()).unwrap();
    store.set_manifest_pinned(fetched, true).unwrap();
    let kept = store.manifests().remove(0);
    assert!(kept.pinned && kept.imported.is_some_and(|imported| imported.consent));
}

#[test]
fn the_manifest_published_last_is_the_newest_and_fetching_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let text = r#"{"manifest":"0000000000000000000000000000000000000000000000000000000000000001","name":"a/model","revision":null,
        "shards":[],"bytes":0}"#;
    let one: PinRecord = serde_json::from_str(text).unwrap();
    let two = PinRecord { manifest: BlobHash([2; 32]), ..one.clone() };
    let newest = || store.manifests().into_iter().max_by_key(|pin| pin.order).unwrap().manifest;
    store.add_manifest(one.clone()).unwrap();
    store.add_manifest(two.clone()).unwrap();
    assert_eq!(newest(), two.manifest);
    store.add_manifest(one.clone()).unwrap();
    assert_eq!(newest(), two.manifest, "it was kept before");
    store.add_newest_manifest(one.clone()).unwrap();
    assert_eq!(newest(), one.manifest);
    assert_eq!(Store::open(crashed(&store).path()).unwrap().manifests(), store.manifests());
}

#[test]
fn what_is_removed_is_gone_but_never_while_it_is_written() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(5);
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    peer.send(&writer, span(0, 2));
    assert!(matches!(store.remove(peer.hash), Err(StoreError::Busy(_))));
    drop(writer);
    let reader = store.reader(peer.hash).unwrap();
    assert!(store.remove(peer.hash).unwrap());
    assert!(!store.remove(peer.hash).unwrap());
    assert!(matches!(reader.encode_span(span(0, 1), &mut std::io::sink()), Err(ReadError::NotHeld { .. })));
    let (data, outboard, progress) = files_of(&store, peer.hash);
    assert!(!data.exists() && !outboard.exists() && !progress.exists());
    assert_eq!(store.blobs(), []);
    peer.send_all(&store);
    peer.check_served(&store, &spans(&[(0, 5)]));
}

#[test]
fn disk_space_is_counted_and_the_reserve_is_not_touched() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(40);
    store.put_bytes(&peer.bytes).unwrap();
    let usage = store.disk_usage().unwrap();
    assert!(usage.of(peer.hash) >= peer.size() + 39 * 64 && usage.other_bytes > 0 && usage.free_bytes > 0, "{usage:?}");
    drop(store);

    let greedy = StoreConfig { reserve_bytes: u64::MAX / 4, blob_bytes_max: 1 << 30, ..StoreConfig::default() };
    let store = Store::open_with(dir.path(), greedy).unwrap();
    assert_eq!(store.room().unwrap(), 0);
    let other = Peer::with_groups(3);
    let error = store.writer(other.hash, other.size()).unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { needed, .. } if needed > 0), "{error:?}");
    assert!(matches!(store.put_bytes(&other.bytes), Err(StoreError::DiskFull { .. })));
    assert_eq!(store.blob(other.hash), None);
    assert!(matches!(store.writer(other.hash, 1 << 31), Err(StoreError::TooLarge { .. })));
}
