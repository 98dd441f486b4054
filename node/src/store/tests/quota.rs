//! The quota, what is kept, and in which order it was of use.

use std::os::unix::fs::MetadataExt;

use super::*;

/// Allocated bytes, folders included, as `du` counts them.
fn du(folder: &Path) -> u64 {
    let own = fs::symlink_metadata(folder).unwrap();
    let below = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    own.blocks() * 512
        + below.map(|path| if path.is_dir() { du(&path) } else { fs::metadata(&path).unwrap().blocks() * 512 }).sum::<u64>()
}

fn with_quota(dir: &Path, bytes: u64) -> Store {
    Store::open_with(dir, StoreConfig { quota_bytes: Some(bytes), ..StoreConfig::default() }).unwrap()
}

/// Peers with blobs of their own.
fn peers(count: u64, groups: u64) -> Vec<Peer> {
    (0..count).map(|number| Peer::with_bytes(groups * GROUP_BYTES + number)).collect()
}

#[test]
fn writers_that_race_never_take_more_than_the_quota() {
    let dir = TempDir::new().unwrap();
    let quota = 24 << 20;
    let store = with_quota(dir.path(), quota);
    let peers = peers(24, 100);
    let refused = std::thread::scope(|scope| {
        let writers: Vec<_> = peers
            .chunks(3)
            .map(|chunk| {
                let store = &store;
                scope.spawn(move || {
                    chunk
                        .iter()
                        .filter(|peer| match store.promise(&[Need::of(peer.hash, peer.size())]) {
                            Ok(_room) => {
                                peer.send_all(store);
                                false
                            }
                            Err(StoreError::OverQuota { needed, taken, quota: limit }) => {
                                assert!(needed > 0 && taken <= limit && limit == quota);
                                true
                            }
                            Err(error) => panic!("{error:?}"),
                        })
                        .count()
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum::<usize>()
    });
    assert!((8..20).contains(&refused), "{refused}");
    assert!(du(dir.path()) <= quota);
    let held = store.blobs().iter().filter(|status| status.complete).count();
    assert_eq!(held + refused, 24);

    // What is here is written to without new room; what goes makes room for another.
    let (first, here) = peers.iter().partition::<Vec<_>, _>(|peer| store.blob(peer.hash).is_none());
    drop(store.promise(&[Need::of(here[0].hash, here[0].size())]).unwrap());
    assert!(matches!(store.writer(here[0].hash, here[0].size()), Err(StoreError::AlreadyComplete(_))));
    assert!(matches!(store.writer(first[0].hash, first[0].size()), Err(StoreError::OverQuota { .. })));
    assert!(matches!(store.put_bytes(&first[0].bytes), Err(StoreError::OverQuota { .. })));
    assert_eq!(store.blob(first[0].hash), None);
    for peer in &here[..2] {
        assert!(store.remove(peer.hash).unwrap());
    }
    first[0].send_all(&store);
    assert!(du(dir.path()) <= quota);
    // The books are made again from the files.
    let used = store.quota_use().unwrap();
    drop(store);
    let again = with_quota(dir.path(), quota).quota_use().unwrap();
    assert_eq!((used.promised_bytes, again.promised_bytes), (0, 0));
    assert!(used.left_bytes.abs_diff(again.left_bytes) <= 1 << 20, "{used:?} {again:?}");
}

#[test]
fn a_promise_is_for_all_or_nothing_and_shared_blobs_count_once() {
    let dir = TempDir::new().unwrap();
    let store = with_quota(dir.path(), 24 << 20);
    let [one, two, three] = [10, 11, 12].map(|number: u8| Need::of(BlobHash::of(&[number]), 7 << 20));
    let both = store.promise(&[one, two]).unwrap();
    let left = store.quota_use().unwrap().left_bytes;
    let again = store.promise(&[two, one]).unwrap();
    assert_eq!(store.quota_use().unwrap().left_bytes, left);
    assert!(matches!(store.promise(&[two, three]), Err(StoreError::OverQuota { .. })));
    assert_eq!((store.quota_use().unwrap().left_bytes, store.is_promised(three.blob)), (left, false));
    drop(both);
    assert!(store.is_promised(one.blob));
    drop(again);
    assert!(!store.is_promised(one.blob));
    drop(store.promise(&[two, three]).unwrap());
    assert_eq!(store.quota_use().unwrap().promised_bytes, 0);
}

#[test]
fn small_blobs_and_copies_are_counted() {
    let dir = TempDir::new().unwrap();
    let outside = TempDir::new().unwrap();
    let store = with_quota(dir.path(), 24 << 20);
    let small = Peer::with_groups(3);
    let whole = small.geometry.whole().unwrap();
    let before = store.quota_use().unwrap();
    let receipt = store.receive_small(small.hash, small.size(), &mut &small.encoded(whole)[..]);
    assert!(receipt.outcome.is_ok() && store.quota_use().unwrap().promised_bytes >= small.size());
    store.sync_small();
    let after = store.quota_use().unwrap();
    assert_eq!(after.promised_bytes, 0);
    assert!(before.left_bytes - after.left_bytes >= small.size());
    let large = outside.path().join("large");
    fs::write(&large, vec![7; 30 << 20]).unwrap();
    let mut go_on = |_: u64| ControlFlow::Continue(());
    let copied = store.publish_file(&large, PublishMode::Copy, &mut go_on);
    assert!(matches!(copied, Err(PublishError::Store(StoreError::OverQuota { .. }))), "{copied:?}");
    // Where it lies it takes its outboard only.
    store.publish_file(&large, PublishMode::Reference, &mut go_on).unwrap();
    assert!(du(dir.path()) < 10 << 20);
}

#[test]
fn a_store_from_before_keeps_its_plain_blobs() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (plain, shard) = (store.put_bytes(b"a plain blob").unwrap(), store.put_bytes(b"a shard").unwrap());
    let manifest = store.put_bytes(b"a manifest").unwrap();
    assert_eq!(store.wanted(), []);
    drop(store);
    // As older versions wrote it: no word of pins, no records of plain blobs.
    let record = format!("{{\"manifest\":\"{manifest}\",\"name\":\"m\",\"revision\":null,\"shards\":[\"{shard}\"],\"bytes\":7}}");
    fs::write(dir.path().join("pins").join(format!("{manifest}.json")), record).unwrap();
    fs::remove_dir(dir.path().join("wanted")).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.wanted(), [WantedRecord::new(plain, None)]);
    let pin = store.manifests().remove(0);
    assert!(!pin.pinned);
    store.set_manifest_pinned(pin.clone(), true).unwrap();
    // Fetched or published again, it is pinned as before.
    store.add_manifest(pin).unwrap();
    store.add_wanted(WantedRecord::new(plain, Some("notes".to_owned()))).unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert!(store.manifests()[0].pinned);
    assert_eq!(store.wanted()[0].name.as_deref(), Some("notes"));
    assert!(store.remove_wanted(plain).unwrap());
    drop(store);
    // Once is enough: what was given up since stays given up.
    assert_eq!(Store::open(dir.path()).unwrap().wanted(), []);
}

#[test]
fn whoever_reads_a_blob_reads_on_when_it_is_removed() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(40);
    peer.send_all(&store);
    let reader = store.reader(peer.hash).unwrap();
    assert!(store.remove_idle(peer.hash).unwrap());
    assert_eq!(store.blob(peer.hash), None);
    let mut encoded = Vec::new();
    reader.encode_span(span(3, 30), &mut encoded).unwrap();
    assert_eq!(encoded, peer.encoded(span(3, 30)));
    assert!(matches!(store.reader(peer.hash), Err(StoreError::Missing(_))));
    // What a fetch relies on stays.
    peer.send_all(&store);
    let _room = store.promise(&[Need::of(peer.hash, peer.size())]).unwrap();
    assert!(matches!(store.remove_idle(peer.hash), Err(StoreError::Busy(_))));
    assert!(store.is_complete(peer.hash));
}

#[test]
fn the_order_of_use_survives_and_its_loss_costs_nothing_else() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let blobs: Vec<BlobHash> = ["one", "two", "three"].map(|text| store.put_bytes(text.as_bytes()).unwrap()).to_vec();
    let order = |store: &Store| {
        let mut order: Vec<usize> = (0..3).collect();
        order.sort_by_key(|index| store.last_use(blobs[*index]));
        order
    };
    assert_eq!(order(&store), [0, 1, 2]);
    let mut encoded = Vec::new();
    store.reader(blobs[0]).unwrap().encode_span(span(0, 1), &mut encoded).unwrap();
    assert_eq!(order(&store), [1, 2, 0]);
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(order(&store), [1, 2, 0]);
    store.touch(blobs[1]);
    assert_eq!(order(&store), [2, 0, 1]);
    drop(store);
    fs::write(dir.path().join("uses"), b"p2pwuse\x01 torn").unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(blobs.iter().all(|blob| store.last_use(*blob) == 0 && store.is_complete(*blob)));
}
