//! Files published where they lie: read once, never served when they are not what they were, never touched.

use std::io::Write;
use std::time::{Duration, SystemTime};

use sha2::Digest;

use super::*;

struct Outside {
    dir: TempDir,
    peer: Peer,
}

impl Outside {
    fn new(groups: u64) -> Self {
        let outside = Self { dir: TempDir::new().unwrap(), peer: Peer::with_groups(groups) };
        fs::write(outside.file(), &outside.peer.bytes).unwrap();
        outside
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("weights.bin")
    }

    /// Writes to the file in place, as an editor or a training run would.
    fn overwrite(&self, at: u64, bytes: &[u8], mtime: Option<SystemTime>) {
        let file = fs::OpenOptions::new().write(true).open(self.file()).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, bytes, at).unwrap();
        if let Some(mtime) = mtime {
            file.set_modified(mtime).unwrap();
        }
    }
}

fn mtime(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

#[test]
fn one_read_gives_both_hashes_and_the_outboard() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for (number, size) in [0, 1, GROUP_BYTES, 1 << 20, (1 << 20) + 1, 3 << 20, (5 << 20) + 77].into_iter().enumerate() {
        let peer = Peer::with_bytes(size);
        let file = dir.path().join(format!("file-{number}"));
        fs::write(&file, &peer.bytes).unwrap();
        let mode = if number % 2 == 0 { PublishMode::Reference } else { PublishMode::Copy };
        let mut last = 0;
        let published = store
            .publish_file(&file, mode, &mut |bytes| {
                assert!(bytes > last);
                last = bytes;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!((published.hash, published.size, published.read, last), (peer.hash, size, true, size));
        assert_eq!(published.sha256.unwrap().as_bytes()[..], sha2::Sha256::digest(&peer.bytes)[..]);
        assert_eq!(store.sha256(peer.hash), published.sha256);
        assert_eq!(store.blob(peer.hash).unwrap().location == Location::Stored, mode == PublishMode::Copy);
        peer.check_served(&store, &peer.geometry.whole().map(SpanSet::from).unwrap_or_default());
        assert_eq!(store.read_all(peer.hash, size).unwrap(), peer.bytes);
        // Known from before.
        assert_eq!(publish(&store, &file, mode).unwrap(), Published { read: false, ..published });
    }
    let blobs = store.blobs();
    let copy = crashed(&store);
    assert_eq!(Store::open(copy.path()).unwrap().blobs(), blobs);
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_copy_needs_the_file_no_more() {
    let dir = TempDir::new().unwrap();
    let outside = Outside::new(5);
    let store = Store::open(dir.path()).unwrap();
    publish(&store, &outside.file(), PublishMode::Reference).unwrap();
    // Asking for a copy of what was only referenced does copy.
    assert!(publish(&store, &outside.file(), PublishMode::Copy).unwrap().read);
    fs::remove_file(outside.file()).unwrap();
    outside.peer.check_served(&store, &spans(&[(0, 5)]));
    let copy = crashed(&store);
    outside.peer.check_served(&Store::open(copy.path()).unwrap(), &spans(&[(0, 5)]));
}

#[test]
fn a_changed_file_is_never_served() {
    type Change<'a> = (&'a str, &'a dyn Fn(&Outside));
    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let changes: [Change<'_>; 4] = [
        ("rewritten", &|outside| outside.overwrite(0, b"new", Some(past))),
        ("touched", &|outside| outside.overwrite(0, b"", Some(past))),
        ("grown", &|outside| outside.overwrite(outside.peer.size(), b"more", Some(mtime(&outside.file())))),
        ("cut", &|outside| {
            let before = mtime(&outside.file());
            let file = fs::OpenOptions::new().write(true).open(outside.file()).unwrap();
            file.set_len(20_000).unwrap();
            file.set_modified(before).unwrap();
        }),
    ];
    for (what, change) in changes {
        let dir = TempDir::new().unwrap();
        let outside = Outside::new(5);
        let store = Store::open(dir.path()).unwrap();
        let hash = publish(&store, &outside.file(), PublishMode::Reference).unwrap().hash;
        let reader = store.reader(hash).unwrap();
        reader.encode_span(span(0, 5), &mut std::io::sink()).unwrap();
        change(&outside);
        let mut sent = Vec::new();
        let result = reader.encode_span(span(0, 5), &mut sent);
        assert!(matches!(result, Err(ReadError::Changed { .. })) && sent.is_empty(), "{what}: {result:?}");
        assert!(matches!(store.reader(hash), Err(StoreError::Changed { .. })), "{what}");
        let status = store.blob(hash).unwrap();
        assert!(status.held.is_empty() && !status.complete, "{what}");
        assert_eq!(store.withdrawn().len(), 1, "{what}");
        assert!(matches!(store.read_all(hash, u64::MAX), Err(StoreError::Changed { .. })));
        // The same after a start, from the index or from the files.
        let copy = crashed(&store);
        assert_eq!(Store::open(copy.path()).unwrap().withdrawn().len(), 1, "{what}");
        drop((reader, store));
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.withdrawn().len(), 1, "{what}");
        // Mended by publishing the right file again.
        fs::write(outside.file(), &outside.peer.bytes).unwrap();
        assert_eq!(publish(&store, &outside.file(), PublishMode::Reference).unwrap().hash, hash);
        assert_eq!(store.withdrawn(), []);
        outside.peer.check_served(&store, &spans(&[(0, 5)]));
    }
}

#[test]
fn a_file_changed_with_its_stamp_forged_is_found_by_its_hashes_and_withdrawn() {
    // A small file has no outboard that tells its groups apart.
    for (groups, bad) in [(5, span(0, 5)), (20, span(3, 4))] {
        let dir = TempDir::new().unwrap();
        let outside = Outside::new(groups);
        let store = Store::open(dir.path()).unwrap();
        let hash = publish(&store, &outside.file(), PublishMode::Reference).unwrap().hash;
        outside.overwrite(3 * GROUP_BYTES, b"x", Some(mtime(&outside.file())));
        let reader = store.reader(hash).unwrap();
        let mut sent = Vec::new();
        let Err(ReadError::Damaged { span: found }) = reader.encode_span(span(0, groups), &mut sent) else { panic!("not found") };
        assert_eq!(found, bad);
        assert!(outside.peer.encoded(span(0, groups)).starts_with(&sent));
        store.quarantine(hash, bad).unwrap();
        assert!(matches!(reader.encode_span(span(0, 1), &mut sent), Err(ReadError::Changed { .. })));
        assert!(store.withdrawn()[0].reason.contains(&format!("{}..{}", bad.start(), bad.end())));
        // Fetching it from others is another way to mend it; the user's file is left alone.
        outside.peer.send_all(&store);
        assert_eq!(store.blob(hash).unwrap().location, Location::Stored);
        assert_eq!(store.read_all(hash, u64::MAX).unwrap(), outside.peer.bytes);
        assert!(outside.file().exists());
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_published() {
    let dir = TempDir::new().unwrap();
    let outside = Outside::new(300);
    let store = Store::open(dir.path()).unwrap();
    let result = store.publish_file(&outside.file(), PublishMode::Copy, &mut |bytes| {
        if bytes == 1 << 20 {
            fs::OpenOptions::new().append(true).open(outside.file()).unwrap().write_all(b"more").unwrap();
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(result, Err(PublishError::Changed(_))), "{result:?}");
    let result = store.publish_file(&outside.file(), PublishMode::Copy, &mut |_| ControlFlow::Break(()));
    assert!(matches!(result, Err(PublishError::Cancelled)));
    assert!(matches!(publish(&store, outside.dir.path(), PublishMode::Copy), Err(PublishError::NotAFile(_))));
    assert!(matches!(publish(&store, &outside.dir.path().join("?"), PublishMode::Copy), Err(PublishError::Read { .. })));
    assert_eq!(store.blobs(), []);
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_file_that_shrinks_under_the_workers_is_not_published() {
    let dir = TempDir::new().unwrap();
    let outside = Outside::new(3000);
    let store = Store::open(dir.path()).unwrap();
    let result = store.publish_file(&outside.file(), PublishMode::Reference, &mut |bytes| {
        if bytes == 1 << 20 {
            fs::OpenOptions::new().write(true).open(outside.file()).unwrap().set_len(30 << 20).unwrap();
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(result, Err(PublishError::Changed(_))), "{result:?}");
    assert_eq!(store.blobs(), []);
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn many_files_at_once_the_same_one_among_them_twice() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peers: Vec<Peer> = [5 << 20, 1, (9 << 20) + 1, 20_000, 5 << 20, 3 << 20].map(Peer::with_bytes).into();
    let files: Vec<PathBuf> = (0..peers.len()).map(|number| dir.path().join(format!("file-{number}"))).collect();
    files.iter().zip(&peers).for_each(|(file, peer)| fs::write(file, &peer.bytes).unwrap());
    for (mode, read) in [(PublishMode::Reference, true), (PublishMode::Copy, true), (PublishMode::Copy, false)] {
        let publisher = store.publisher(mode, files.len(), true);
        let threads = files.iter().map(|file| || publisher.publish(file, &mut |_| ControlFlow::Continue(())).unwrap());
        let published: Vec<Published> = std::thread::scope(|scope| {
            let threads: Vec<_> = threads.map(|thread| scope.spawn(thread)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (number, (published, peer)) in published.iter().zip(&peers).enumerate() {
            assert_eq!(published.hash, peer.hash);
            assert_eq!(published.sha256.unwrap().as_bytes()[..], sha2::Sha256::digest(&peer.bytes)[..]);
            // Of two files with the same bytes, the record names one.
            assert!(published.read == read || [0, 4].contains(&number), "{mode:?} {number}");
            peer.check_served(&store, &peer.geometry.whole().map(SpanSet::from).unwrap_or_default());
        }
    }
    let blobs = store.blobs();
    assert_eq!(blobs.len(), peers.len() - 1);
    let copy = crashed(&store);
    assert_eq!(Store::open(copy.path()).unwrap().blobs(), blobs);
}

#[test]
fn sha256_is_left_out_on_demand_and_read_for_when_it_is_wanted_later() {
    let dir = TempDir::new().unwrap();
    let outside = Outside::new(100);
    let store = Store::open(dir.path()).unwrap();
    let publish = |store: &Store, with_sha256| {
        let publisher = store.publisher(PublishMode::Reference, 1, with_sha256);
        publisher.publish(&outside.file(), &mut |_| ControlFlow::Continue(())).unwrap()
    };
    let without = publish(&store, false);
    assert_eq!((without.hash, without.sha256, without.read), (outside.peer.hash, None, true));
    assert!(!publish(&store, false).read);
    // What is on the disk says the same, to one that reads the files and to one that reads the index.
    let copy = crashed(&store);
    assert!(!publish(&Store::open(copy.path()).unwrap(), false).read);
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert!(!publish(&store, false).read);
    let with = publish(&store, true);
    assert!(with.read && with.sha256.is_some());
    // It is kept, and still left out of what does not want it.
    assert_eq!(publish(&store, false), Published { read: false, ..without });
    assert_eq!(publish(&store, true), Published { read: false, ..with });
    let record = fs::read_to_string(dir.path().join(format!("published/{}.json", with.hash))).unwrap();
    assert!(record.contains(&with.sha256.unwrap().to_string()), "{record}");
}

#[test]
fn removing_a_reference_leaves_the_users_file() {
    let dir = TempDir::new().unwrap();
    let outside = Outside::new(5);
    let store = Store::open(dir.path()).unwrap();
    let hash = publish(&store, &outside.file(), PublishMode::Reference).unwrap().hash;
    assert!(store.remove(hash).unwrap());
    assert_eq!(fs::read(outside.file()).unwrap(), outside.peer.bytes);
    assert!(!files_of(&store, hash).1.exists());
    let copy = crashed(&store);
    assert_eq!(Store::open(copy.path()).unwrap().blobs(), []);
}

#[test]
fn publishing_what_is_being_fetched_or_stored_already() {
    let dir = TempDir::new().unwrap();
    let outside = Outside::new(5);
    let peer = &outside.peer;
    let store = Store::open(dir.path()).unwrap();
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    peer.send(&writer, span(1, 2));
    publish(&store, &outside.file(), PublishMode::Reference).unwrap();
    peer.check_served(&store, &spans(&[(0, 5)]));
    peer.send(&writer, span(0, 5));
    writer.sync().unwrap();
    drop(writer);
    let copy = crashed(&store);
    let copied = Store::open(copy.path()).unwrap();
    assert_eq!(copied.blob(peer.hash).unwrap().location, Location::Referenced(outside.file().canonicalize().unwrap()));
    peer.check_served(&copied, &spans(&[(0, 5)]));

    let other = Peer::with_groups(3);
    other.send_all(&store);
    fs::write(outside.file(), &other.bytes).unwrap();
    let published = publish(&store, &outside.file(), PublishMode::Reference).unwrap();
    assert_eq!(store.sha256(other.hash), published.sha256);
    assert_eq!(store.blob(other.hash).unwrap().location, Location::Stored);
}
