//! Small blobs that arrive whole: what counts, what survives a crash, what a failed sync costs.

use std::sync::atomic::Ordering;

use super::super::small::SMALL_BYTES;
use super::*;

/// Different small blobs, of one group and of several.
fn peers(count: u64) -> Vec<Peer> {
    (0..count).map(|number| Peer::with_bytes(1000 + number * 5003 % (SMALL_BYTES - 1000))).collect()
}

fn whole(peer: &Peer) -> Span {
    peer.geometry.whole().unwrap()
}

fn receive(store: &Store, peer: &Peer) -> Receipt {
    assert!(store.takes_small(peer.hash, peer.size(), whole(peer)));
    store.receive_small(peer.hash, peer.size(), &mut &peer.encoded(whole(peer))[..])
}

fn arrive(store: &Store, peer: &Peer) {
    let receipt = receive(store, peer);
    assert!(receipt.outcome.is_ok() && receipt.verified_groups == peer.geometry.groups(), "{receipt:?}");
}

fn arrived(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir.join("arrived")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn check_complete(store: &Store, peer: &Peer) {
    peer.check_served(store, &SpanSet::from(whole(peer)));
    assert_eq!(store.read_all(peer.hash, u64::MAX).unwrap(), peer.bytes);
}

#[test]
fn a_small_blob_counts_once_it_is_synced_and_is_one_file() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(11);
    arrive(&store, &peer);
    assert_eq!(store.blob(peer.hash).unwrap().held, SpanSet::new());
    assert!(matches!(store.read_all(peer.hash, u64::MAX), Err(StoreError::Missing(_))));
    let synced = store.sync_small();
    assert_eq!((synced.stored, synced.lost), (vec![(peer.hash, peer.size())], vec![]));
    check_complete(&store, &peer);
    let (data, outboard, progress) = files_of(&store, peer.hash);
    assert!(data.exists() && !outboard.exists() && !progress.exists() && arrived(dir.path()).is_empty());
    assert!(store.sync_small().stored.is_empty());
    // And at the next start, whether the index is believed or not.
    let copy = crashed(&store);
    check_complete(&Store::open(copy.path()).unwrap(), &peer);
    store.close().unwrap();
    let copy = crashed(&store);
    check_complete(&Store::open(copy.path()).unwrap(), &peer);
}

#[test]
fn many_are_synced_together() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peers = peers(60);
    peers.iter().for_each(|peer| arrive(&store, peer));
    assert_eq!(arrived(dir.path()).len(), 60);
    assert_eq!(store.sync_small().stored.len(), 60);
    peers.iter().for_each(|peer| check_complete(&store, peer));
    assert_eq!(store.rebuild().unwrap().complete, 60);
}

#[test]
fn a_killed_process_loses_none_that_arrived() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peers = peers(20);
    peers.iter().for_each(|peer| arrive(&store, peer));
    let copy = crashed(&store);
    let copied = Store::open(copy.path()).unwrap();
    peers.iter().for_each(|peer| check_complete(&copied, peer));
    assert!(arrived(copy.path()).is_empty());
}

#[test]
fn a_power_cut_loses_what_was_not_synced_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let [synced, whole, zeros, cut, named] = <[Peer; 5]>::try_from(peers(5)).ok().unwrap();
    arrive(&store, &synced);
    store.sync_small();
    [&whole, &zeros, &cut, &named].into_iter().for_each(|peer| arrive(&store, peer));
    let copy = crashed(&store);
    for path in arrived(copy.path()) {
        let is = |peer: &Peer| path.file_name().unwrap().to_str().unwrap().starts_with(&peer.hash.to_string());
        if is(&zeros) {
            fs::write(&path, vec![0; zeros.bytes.len()]).unwrap();
        } else if is(&cut) {
            fs::write(&path, []).unwrap();
        } else if is(&named) {
            // It had been synced and got its name, and the old one came back.
            let data = Layout::new(copy.path(), Disk::default()).data(named.hash);
            fs::create_dir_all(data.parent().unwrap()).unwrap();
            fs::copy(&path, &data).unwrap();
        }
    }
    fs::write(copy.path().join("arrived/strange"), "no hash").unwrap();
    let copied = Store::open(copy.path()).unwrap();
    [&synced, &whole, &named].into_iter().for_each(|peer| check_complete(&copied, peer));
    assert!(copied.blob(zeros.hash).is_none() && copied.blob(cut.hash).is_none());
    assert!(arrived(copy.path()).is_empty());
    arrive(&copied, &zeros);
    assert_eq!(copied.sync_small().stored.len(), 1);
    check_complete(&copied, &zeros);
}

#[test]
fn wrong_bytes_leave_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(9);
    let encoded = peer.encoded(whole(&peer));
    for at in (0..encoded.len()).step_by(1777) {
        let mut lie = encoded.clone();
        lie[at] ^= 1;
        let receipt = store.receive_small(peer.hash, peer.size(), &mut &lie[..]);
        assert!(matches!(receipt.outcome, Err(ReceiveError::BadBytes { .. })), "byte {at}: {receipt:?}");
        let receipt = store.receive_small(peer.hash, peer.size(), &mut &encoded[..at]);
        assert!(matches!(receipt.outcome, Err(ReceiveError::Ended)), "cut at {at}: {receipt:?}");
    }
    assert!(store.blob(peer.hash).is_none() && arrived(dir.path()).is_empty());
    assert!(store.sync_small().stored.is_empty());
}

#[test]
fn a_failed_sync_forgets_what_it_should_have_made_durable() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peers = peers(12);
    peers.iter().for_each(|peer| arrive(&store, peer));
    store.stage().fail_syncs.store(true, Ordering::Relaxed);
    let synced = store.sync_small();
    assert!(synced.stored.is_empty() && synced.error.is_some());
    assert_eq!(synced.lost.len(), 12);
    assert!(peers.iter().all(|peer| store.blob(peer.hash).is_none()) && arrived(dir.path()).is_empty());
    store.stage().fail_syncs.store(false, Ordering::Relaxed);
    peers.iter().for_each(|peer| arrive(&store, peer));
    assert_eq!(store.sync_small().stored.len(), 12);
    peers.iter().for_each(|peer| check_complete(&store, peer));
}

#[test]
fn twins_and_parts_do_not_get_in_each_others_way() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(5);
    let encoded = peer.encoded(whole(&peer));
    assert!(!store.takes_small(peer.hash, peer.size(), span(0, 4)), "not whole");
    // Two threads were about to receive it.
    for _ in 0..2 {
        let receipt = store.receive_small(peer.hash, peer.size(), &mut &encoded[..]);
        assert!(receipt.outcome.is_ok() && receipt.verified_groups == 5);
    }
    assert_eq!(arrived(dir.path()).len(), 1);
    assert!(!store.takes_small(peer.hash, peer.size(), whole(&peer)));
    assert!(
        matches!(store.writer(peer.hash, peer.size()), Err(StoreError::AlreadyComplete(_))),
        "it is whole, though not synced"
    );
    assert_eq!(store.sync_small().stored.len(), 1);
    // One receives parts of another blob.
    let peer = Peer::with_groups(6);
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    assert!(!store.takes_small(peer.hash, peer.size(), whole(&peer)), "parts are on their way");
    peer.send(&writer, span(0, 2));
    assert!(!store.takes_small(peer.hash, peer.size(), whole(&peer)));
    let receipt = store.receive_small(peer.hash, peer.size(), &mut &peer.encoded(whole(&peer))[..]);
    assert!(receipt.outcome.is_ok() && receipt.verified_groups == 0, "{receipt:?}");
    assert!(arrived(dir.path()).is_empty());
    peer.send_all(&store);
}

#[test]
fn a_damaged_small_blob_is_fetched_again_whole() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(4);
    arrive(&store, &peer);
    store.sync_small();
    let out = TempDir::new().unwrap();
    assert_eq!(store.export(peer.hash, out.path(), "a/b", false).unwrap(), Export::Linked);
    flip(&files_of(&store, peer.hash).0, 40_000);
    let mut sent = Vec::new();
    let Err(ReadError::Damaged { span: damaged }) = store.reader(peer.hash).unwrap().encode_span(span(2, 3), &mut sent) else {
        panic!("not found");
    };
    assert!(peer.encoded(span(2, 3)).starts_with(&sent), "nothing wrong left");
    store.quarantine(peer.hash, damaged).unwrap();
    assert!(store.blob(peer.hash).unwrap().held.is_empty() && files_of(&store, peer.hash).2.exists());
    arrive(&store, &peer);
    store.sync_small();
    check_complete(&store, &peer);
    assert!(!files_of(&store, peer.hash).2.exists());
    assert_ne!(fs::read(out.path().join("a/b")).unwrap(), peer.bytes, "what the user did to their file stays theirs");
    check_complete(&Store::open(crashed(&store).path()).unwrap(), &peer);
}

#[test]
fn what_arrived_can_be_placed_before_it_is_synced_and_removed() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let out = TempDir::new().unwrap();
    let peers = peers(12);
    peers.iter().for_each(|peer| arrive(&store, peer));
    let mut exports = store.exports(out.path(), false);
    for (number, peer) in peers.iter().enumerate() {
        let name = format!("folder-{}/{number}", number % 10);
        assert_eq!(exports.place(peer.hash, &name).unwrap(), Export::Linked);
        assert_eq!(fs::read(out.path().join(&name)).unwrap(), peer.bytes);
        assert_eq!(exports.place(peer.hash, &name).unwrap(), Export::AlreadyThere);
    }
    assert!(matches!(exports.place(peers[0].hash, "folder-1/1"), Err(ExportError::Exists(_))));
    exports.finish().unwrap();
    assert!(store.remove(peers[0].hash).unwrap());
    assert_eq!(store.sync_small().stored.len(), 11);
    assert!(store.blob(peers[0].hash).is_none() && !files_of(&store, peers[0].hash).0.exists());
    peers[1..].iter().for_each(|peer| check_complete(&store, peer));
}

#[test]
fn small_files_are_published_by_a_record_alone() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let files = TempDir::new().unwrap();
    let peers = peers(30);
    let path = |number: usize| files.path().join(format!("{number}.bin"));
    let publish_all = |store: &Store| {
        let publisher = store.publisher(PublishMode::Reference, peers.len(), true);
        let publish = |number| publisher.publish(&path(number), &mut |_| ControlFlow::Continue(())).unwrap();
        let published: Vec<Published> = (0..peers.len()).map(publish).collect();
        publisher.finish().unwrap();
        published
    };
    peers.iter().enumerate().for_each(|(number, peer)| fs::write(path(number), &peer.bytes).unwrap());
    for (published, peer) in publish_all(&store).iter().zip(&peers) {
        assert_eq!((published.hash, published.size, published.read), (peer.hash, peer.size(), true));
        assert!(!files_of(&store, peer.hash).1.exists());
        check_complete(&store, peer);
    }
    assert!(publish_all(&store).iter().all(|published| !published.read));
    // After a crash, and after a power cut that took one record and half of another.
    let copy = crashed(&store);
    let layout = Layout::new(copy.path(), Disk::default());
    fs::remove_file(layout.published(peers[3].hash)).unwrap();
    fs::write(layout.published(peers[4].hash), "{").unwrap();
    let copied = Store::open(copy.path()).unwrap();
    for (number, peer) in peers.iter().enumerate() {
        if number == 3 || number == 4 {
            assert!(copied.blob(peer.hash).is_none());
        } else {
            check_complete(&copied, peer);
        }
    }
    assert_eq!(publish_all(&copied).iter().filter(|published| published.read).count(), 2);
    // One that arrived is served from the file once that is published.
    let other = Peer::with_groups(7);
    arrive(&copied, &other);
    fs::write(path(0), &other.bytes).unwrap();
    publish_all(&copied);
    assert!(copied.sync_small().stored.is_empty());
    check_complete(&copied, &other);
    assert!(arrived(copy.path()).is_empty() && !files_of(&copied, other.hash).0.exists());
}
