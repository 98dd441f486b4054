//! Files from origins: taken up where they were left, never counted unless they are what they are called, and within the quota.

use std::collections::BTreeMap;

use hyper::body::Bytes;
use p2pweights_protocol::ids::GitOid;

use super::*;

fn sha256(peer: &Peer) -> FileId {
    use sha2::Digest;
    FileId::Sha256(Sha256(sha2::Sha256::digest(&peer.bytes).into()))
}

fn git(peer: &Peer) -> FileId {
    use sha1::Digest;
    let hasher = sha1::Sha1::new_with_prefix(format!("blob {}\0", peer.size()));
    FileId::Git(GitOid(hasher.chain_update(&peer.bytes).finalize().into()))
}

fn listing(files: &[(FileId, u64)]) -> BTreeMap<FileId, u64> {
    files.iter().copied().collect()
}

fn open(intakes: &Intakes, id: FileId) -> Box<Intake> {
    match intakes.open(id).unwrap() {
        Begun::Open(intake) => intake,
        Begun::Taken(taken) => panic!("{taken:?} is here"),
    }
}

/// Writes from where it is to this byte.
fn write(intake: &mut Intake, peer: &Peer, until: usize) {
    for portion in peer.bytes[intake.bytes() as usize..until].chunks(10_000) {
        intake.write(Bytes::copy_from_slice(portion)).unwrap();
    }
}

/// Brings in all of a file.
fn take(intakes: &Intakes, id: FileId, peer: &Peer) -> Taken {
    let mut intake = open(intakes, id);
    write(&mut intake, peer, peer.bytes.len());
    intake.finish().unwrap()
}

fn left(store: &Store) -> usize {
    fs::read_dir(store.dir().join("imports")).unwrap().count()
}

#[test]
fn a_file_goes_on_where_it_was_and_becomes_a_blob() {
    let dir = TempDir::new().unwrap();
    let (large, small) = (Peer::with_groups(40), Peer::with_bytes(100));
    let files = listing(&[(sha256(&large), large.size()), (git(&small), small.size())]);
    for until in [300_000, 600_000] {
        let store = Store::open(dir.path()).unwrap();
        let intakes = store.intakes(&files).unwrap();
        let mut intake = open(&intakes, sha256(&large));
        write(&mut intake, &large, until);
        assert_eq!(store.blobs(), Vec::new());
    }
    let store = Store::open(dir.path()).unwrap();
    let intakes = store.intakes(&files).unwrap();
    assert_eq!(intakes.here(), 600_000);
    let mut intake = open(&intakes, sha256(&large));
    assert_eq!(intake.bytes(), 600_000);
    write(&mut intake, &large, large.bytes.len());
    let taken = BTreeMap::from([(sha256(&large), intake.finish().unwrap()), (git(&small), take(&intakes, git(&small), &small))]);
    assert_eq!(taken[&sha256(&large)].hash, large.hash);
    assert!(matches!(intakes.open(sha256(&large)).unwrap(), Begun::Taken(again) if again == taken[&sha256(&large)]));
    assert_eq!(store.blobs(), Vec::new(), "nothing counts before all of it does");
    intakes.adopt(&taken).unwrap();
    drop(intakes);
    assert_eq!(left(&store), 0);
    drop(store);
    for _ in 0..2 {
        let store = Store::open(dir.path()).unwrap();
        for peer in [&large, &small] {
            assert_eq!(store.read_all(peer.hash, u64::MAX).unwrap(), peer.bytes);
            assert!(store.verify(peer.hash).unwrap().damaged.is_empty());
            assert_eq!(store.identify(peer.hash, git(peer)).unwrap().map(|taken| taken.hash), Some(peer.hash));
            assert_eq!(store.identify(peer.hash, git(&Peer::with_bytes(7))).unwrap(), None);
        }
    }
}

#[test]
fn what_is_not_what_it_is_called_does_not_count() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (peer, other) = (Peer::with_groups(20), Peer::with_groups(21));
    let id = sha256(&other);
    let intakes = store.intakes(&listing(&[(id, peer.size()), (git(&peer), peer.size() + 1)])).unwrap();
    let mut intake = open(&intakes, id);
    write(&mut intake, &peer, peer.bytes.len());
    assert!(matches!(intake.write(Bytes::from_static(b"x")), Err(IntakeError::TooLong { .. })));
    let wrong = intake.finish().unwrap_err();
    assert!(matches!(wrong, IntakeError::Wrong { expected, found } if expected == id && found == sha256(&peer)), "{wrong:?}");
    intakes.discard(id).unwrap();
    assert_eq!(open(&intakes, id).bytes(), 0);
    let mut short = open(&intakes, git(&peer));
    write(&mut short, &peer, peer.bytes.len());
    assert!(matches!(short.finish(), Err(IntakeError::TooShort { .. })));
    assert_eq!(store.blobs(), Vec::new());
}

/// Every state in which a kill while files become blobs can leave one.
#[test]
fn a_kill_while_files_become_blobs_loses_nothing() {
    let peer = Peer::with_groups(40);
    let (id, files) = (sha256(&peer), listing(&[(sha256(&peer), peer.size())]));
    for step in 0..4 {
        let dir = TempDir::new().unwrap();
        let path = |part: &str| dir.path().join("imports").join(format!("{id}.{part}"));
        let store = Store::open(dir.path()).unwrap();
        let intakes = store.intakes(&files).unwrap();
        let taken = BTreeMap::from([(id, take(&intakes, id, &peer))]);
        drop((intakes, store));
        let hash = peer.hash.to_string();
        let blob = |part: &str| dir.path().join("blobs").join(&hash[..2]).join(format!("{hash}.{part}"));
        if step > 0 {
            fs::create_dir(blob("data").parent().unwrap()).unwrap();
            fs::rename(path("outboard"), blob("outboard")).unwrap();
        }
        if step > 1 {
            fs::rename(path("data"), blob("data")).unwrap();
        }
        if step > 2 {
            fs::remove_file(path("json")).unwrap();
        }
        let _ = fs::remove_file(dir.path().join("index.clean"));
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.is_complete(peer.hash), step > 1, "{step}");
        if step < 3 {
            let intakes = store.intakes(&files).unwrap();
            let again = match intakes.open(id).unwrap() {
                Begun::Taken(taken) => taken,
                Begun::Open(intake) => {
                    assert_eq!(intake.bytes(), peer.size(), "{step}: nothing is fetched again");
                    intake.finish().unwrap()
                }
            };
            assert_eq!(again, taken[&id], "{step}");
            intakes.adopt(&taken).unwrap();
        }
        assert_eq!(store.read_all(peer.hash, u64::MAX).unwrap(), peer.bytes, "{step}");
        assert!(store.verify(peer.hash).unwrap().damaged.is_empty(), "{step}");
        assert_eq!(left(&store), 0, "{step}");
    }
}

#[test]
fn one_import_has_a_file_at_a_time() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (one, other) = (Peer::with_groups(20), Peer::with_groups(21));
    let first = store.intakes(&listing(&[(sha256(&one), one.size())])).unwrap();
    let both = listing(&[(sha256(&one), one.size()), (sha256(&other), other.size())]);
    assert!(matches!(store.intakes(&both), Err(IntakeError::Busy)));
    assert!(store.intakes(&listing(&[(sha256(&other), other.size())])).is_ok(), "nothing was taken by the one that was refused");
    write(&mut open(&first, sha256(&one)), &one, 50_000);
    assert_eq!(store.abandoned_imports(i64::MAX, true).unwrap(), 0, "somebody goes on with it");
    assert_eq!(first.here(), 50_000);
    drop(first);
    assert_eq!(store.abandoned_imports(0, true).unwrap(), 0, "it is young");
    assert!(store.abandoned_imports(i64::MAX, false).unwrap() >= 50_000);
    assert!(store.abandoned_imports(i64::MAX, true).unwrap() >= 50_000);
    assert_eq!(left(&store), 0);
}

#[test]
fn an_import_finds_room_for_all_of_its_files_or_does_not_begin() {
    let dir = TempDir::new().unwrap();
    let open_store =
        || Store::open_with(dir.path(), StoreConfig { quota_bytes: Some(24 << 20), ..StoreConfig::default() }).unwrap();
    let store = open_store();
    let taken = || store.quota_use().unwrap().left_bytes;
    let before = taken();
    let peers: Vec<Peer> = (0..4).map(|number| Peer::with_bytes((3 << 20) + number)).collect();
    let files = |count: usize| listing(&peers[..count].iter().map(|peer| (sha256(peer), peer.size())).collect::<Vec<_>>());
    assert!(matches!(
        store.intakes(&listing(&[(git(&peers[0]), 40 << 20)])),
        Err(IntakeError::Store(StoreError::OverQuota { .. }))
    ));
    assert!(before - taken() <= 8192, "what was refused takes nothing but its folder");
    let intakes = store.intakes(&files(4)).unwrap();
    assert!(before - taken() >= 12 << 20);
    assert!(matches!(store.promise(&[Need::of(BlobHash([1; 32]), 8 << 20)]), Err(StoreError::OverQuota { .. })));
    write(&mut open(&intakes, sha256(&peers[0])), &peers[0], 2 << 20);
    drop(intakes);
    let left_over = before - taken();
    assert!((2 << 20..3 << 20).contains(&left_over), "{left_over} bytes are taken by what is left over");
    drop(store);

    // A start finds what is left over, and it counts once when it is taken up again.
    let store = open_store();
    let taken = || store.quota_use().unwrap().left_bytes;
    let intakes = store.intakes(&files(4)).unwrap();
    let all: BTreeMap<FileId, Taken> = peers.iter().map(|peer| (sha256(peer), take(&intakes, sha256(peer), peer))).collect();
    intakes.adopt(&all).unwrap();
    drop(intakes);
    let used = before - taken();
    assert!((12 << 20..14 << 20).contains(&used), "{used} bytes for 12 MiB");
    assert!(store.disk_usage().unwrap().total_bytes() <= 24 << 20);
}

#[test]
fn what_could_not_be_made_durable_on_the_way_is_not_believed() {
    use std::time::{Duration, Instant};

    use crate::store::disk::stage::Trouble;

    let dir = TempDir::new().unwrap();
    let large = Peer::with_bytes((64 << 20) + 20_000);
    let store = Store::open(dir.path()).unwrap();
    let intakes = store.intakes(&listing(&[(sha256(&large), large.size())])).unwrap();
    let bytes = Bytes::from(large.bytes.clone());
    for dropped in [true, false] {
        let mut intake = open(&intakes, sha256(&large));
        assert_eq!(intake.bytes(), 0);
        // The write, and then a sync by a thread that nobody waits for yet; the parents of 64 MiB are still in memory.
        let (sync, deadline) = (store.stage().verbs() + 2, Instant::now() + Duration::from_secs(60));
        store.stage().fail(sync, Trouble::Broken, false);
        intake.write(bytes.slice(..64 << 20)).unwrap();
        while store.stage().verbs() < sync {
            assert!(Instant::now() < deadline, "nothing is synced on the way");
            std::thread::yield_now();
        }
        if dropped {
            drop(intake);
        } else {
            intake.write(bytes.slice(64 << 20..)).unwrap();
            assert!(matches!(intake.finish(), Err(IntakeError::Store(_))));
        }
        assert_eq!(intakes.here(), 0);
    }
    let mut intake = open(&intakes, sha256(&large));
    intake.write(bytes).unwrap();
    assert_eq!(intake.finish().unwrap().hash, large.hash);
}
