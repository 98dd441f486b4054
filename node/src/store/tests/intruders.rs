//! Something else where a blob's file should be.

use std::io::Write;
use std::os::unix::fs::symlink;

use super::*;

/// A store that held a blob, with its files gone; once with the index that says so, once without.
fn robbed(check: impl Fn(&Path, &Peer, PathBuf)) {
    for indexed in [true, false] {
        let dir = TempDir::new().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let peer = Peer::with_groups(40);
        peer.send_all(&store);
        let data = files_of(&store, peer.hash).0;
        drop(store);
        fs::remove_file(&data).unwrap();
        if !indexed {
            fs::remove_file(dir.path().join("index.clean")).unwrap();
        }
        check(dir.path(), &peer, data);
    }
}

#[test]
fn a_link_is_not_followed_and_what_it_leads_to_is_left_alone() {
    robbed(|dir, peer, data| {
        // Another's file with the very bytes of the blob, longer by one: it would be cut if it were ours.
        let theirs = dir.join("theirs");
        let bytes: Vec<u8> = peer.bytes.iter().copied().chain([1]).collect();
        fs::write(&theirs, &bytes).unwrap();
        symlink(&theirs, &data).unwrap();
        let store = Store::open(dir).unwrap();
        // A blob that is not known any more is well, too.
        let _ = store.verify(peer.hash);
        assert!(!store.is_complete(peer.hash));
        peer.send_all(&store);
        peer.check_served(&store, &spans(&[(0, 40)]));
        assert!(fs::symlink_metadata(&data).unwrap().is_file());
        assert_eq!(fs::read(&theirs).unwrap(), bytes);
    });
}

#[test]
fn a_folder_is_told_of_and_the_rest_of_the_store_works() {
    robbed(|dir, peer, data| {
        fs::create_dir(&data).unwrap();
        let store = Store::open(dir).unwrap();
        let _ = store.verify(peer.hash);
        assert!(!store.is_complete(peer.hash));
        let error = store.writer(peer.hash, peer.size()).unwrap_err();
        assert!(error.to_string().contains("move it away"), "{error}");
        let other = Peer::with_groups(3);
        other.send_all(&store);
        fs::remove_dir(&data).unwrap();
        peer.send_all(&store);
        peer.check_served(&store, &spans(&[(0, 40)]));
    });
}

#[test]
fn what_somebody_wrote_beyond_the_end_is_never_handed_out() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(40);
    peer.send_all(&store);
    let data = files_of(&store, peer.hash).0;
    fs::OpenOptions::new().append(true).open(&data).unwrap().write_all(b"more").unwrap();
    let out = TempDir::new().unwrap();
    let exported = store.export(peer.hash, out.path(), "weights", false);
    assert!(matches!(exported, Err(ExportError::Store(StoreError::Damaged { .. }))), "{exported:?}");
    assert!(!out.path().join("weights").exists());
    peer.check_served(&store, &spans(&[(0, 40)]));
    assert_eq!(store.verify(peer.hash).unwrap().damaged, spans(&[(39, 40)]));
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    peer.send(&writer, span(39, 40));
    writer.sync().unwrap();
    drop(writer);
    store.export(peer.hash, out.path(), "weights", false).unwrap();
    assert_eq!(fs::read(out.path().join("weights")).unwrap(), peer.bytes);
}
