//! Final names: links or copies, never over somebody's file, never through a link.

use std::os::unix::fs::{MetadataExt, symlink};

use super::*;

fn stored(groups: u64) -> (TempDir, Store, Peer) {
    let dir = TempDir::new().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let peer = Peer::with_groups(groups);
    peer.send_all(&store);
    (dir, store, peer)
}

#[test]
fn a_stored_blob_is_linked_and_found_again() {
    let (dir, store, peer) = stored(5);
    let root = dir.path().join("out/model");
    assert_eq!(store.export(peer.hash, &root, "deep/er/weights.bin", false).unwrap(), Export::Linked);
    let path = root.join("deep/er/weights.bin");
    assert_eq!(fs::read(&path).unwrap(), peer.bytes);
    assert_eq!(fs::metadata(&path).unwrap().ino(), fs::metadata(files_of(&store, peer.hash).0).unwrap().ino());
    assert_eq!(store.export(peer.hash, &root, "deep/er/weights.bin", false).unwrap(), Export::AlreadyThere);
    fs::copy(&path, root.join("copy")).unwrap();
    assert_eq!(store.export(peer.hash, &root, "copy", false).unwrap(), Export::AlreadyThere);
    assert_eq!(fs::read_dir(root.join("deep/er")).unwrap().count(), 1, "no leftovers");
}

#[test]
fn what_the_user_writes_to_an_exported_link_is_not_undone() {
    let (dir, store, peer) = stored(5);
    store.export(peer.hash, dir.path(), "weights.bin", false).unwrap();
    let path = dir.path().join("weights.bin");
    flip(&path, GROUP_BYTES + 1);
    let edited = fs::read(&path).unwrap();
    assert_eq!(store.verify(peer.hash).unwrap().damaged, spans(&[(1, 2)]));
    peer.send_all(&store);
    assert_eq!(store.read_all(peer.hash, u64::MAX).unwrap(), peer.bytes);
    assert_eq!(fs::read(&path).unwrap(), edited);
}

#[test]
fn a_referenced_blob_is_copied_and_the_original_recognised() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let peer = Peer::with_groups(40);
    let file = dir.path().join("weights.bin");
    fs::write(&file, &peer.bytes).unwrap();
    publish(&store, &file, PublishMode::Reference).unwrap();
    assert_eq!(store.export(peer.hash, dir.path(), "weights.bin", false).unwrap(), Export::InPlace);
    assert_eq!(store.export(peer.hash, dir.path(), "other.bin", false).unwrap(), Export::Copied);
    assert_eq!(fs::read(dir.path().join("other.bin")).unwrap(), peer.bytes);
    // A copy that does not hash right never gets its name.
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    flip(&file, 100_000);
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_modified(before).unwrap();
    let result = store.export(peer.hash, dir.path(), "third.bin", false);
    assert!(matches!(result, Err(ExportError::Store(StoreError::Damaged { .. }))), "{result:?}");
    let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["other.bin", "store", "weights.bin"]);
}

#[test]
fn other_contents_are_kept_unless_forced() {
    let (dir, store, peer) = stored(5);
    for old in [&b"mine"[..], &vec![7; peer.bytes.len()]] {
        let path = dir.path().join("weights.bin");
        fs::write(&path, old).unwrap();
        assert!(matches!(store.export(peer.hash, dir.path(), "weights.bin", false), Err(ExportError::Exists(_))));
        assert_eq!(fs::read(&path).unwrap(), old);
        assert_eq!(store.export(peer.hash, dir.path(), "weights.bin", true).unwrap(), Export::Linked);
        assert_eq!(fs::read(&path).unwrap(), peer.bytes);
        fs::remove_file(&path).unwrap();
    }
    fs::create_dir(dir.path().join("folder")).unwrap();
    assert!(matches!(store.export(peer.hash, dir.path(), "folder", true), Err(ExportError::Exists(_))));
}

#[test]
fn an_incomplete_blob_is_not_exported() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let peer = Peer::with_groups(5);
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    peer.send(&writer, span(0, 4));
    assert!(matches!(store.export(peer.hash, dir.path(), "x", false), Err(ExportError::Store(StoreError::Missing(_)))));
    assert!(!dir.path().join("x").exists());
}

#[test]
fn hostile_names_and_links_lead_nowhere() {
    let (dir, store, peer) = stored(5);
    let (root, victim) = (dir.path().join("out"), dir.path().join("victim"));
    fs::create_dir_all(&root).unwrap();
    fs::create_dir_all(&victim).unwrap();
    for name in ["", "/etc/x", "../victim/x", "a/../../victim/x", "a//b", "./x", "a/.", "x/", "a\\b", "nul\0"] {
        for force in [false, true] {
            assert!(matches!(store.export(peer.hash, &root, name, force), Err(ExportError::BadName(_))), "{name:?}");
        }
    }
    symlink(&victim, root.join("link")).unwrap();
    symlink("../victim", root.join("relative")).unwrap();
    fs::write(root.join("file"), "").unwrap();
    for name in ["link/x", "relative/x", "link/deep/x", "file/x"] {
        for force in [false, true] {
            let result = store.export(peer.hash, &root, name, force);
            assert!(matches!(result, Err(ExportError::NotAFolder(_))), "{name}: {result:?}");
        }
    }
    // A link in the place of the file itself: kept, or replaced, never followed.
    fs::write(victim.join("precious"), "precious").unwrap();
    symlink(victim.join("precious"), root.join("weights.bin")).unwrap();
    symlink(victim.join("new"), root.join("dangling")).unwrap();
    // Planted where the temporary file goes.
    symlink(victim.join("temp"), root.join(format!(".p2pweights-{}.part", peer.hash.short()))).unwrap();
    for name in ["weights.bin", "dangling"] {
        assert!(matches!(store.export(peer.hash, &root, name, false), Err(ExportError::Exists(_))));
        assert_eq!(store.export(peer.hash, &root, name, true).unwrap(), Export::Linked);
        assert!(fs::symlink_metadata(root.join(name)).unwrap().is_file());
    }
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(victim.join("precious")).unwrap(), "precious");
    // The root itself may be a link: that is the user's choice.
    symlink(&victim, dir.path().join("chosen")).unwrap();
    store.export(peer.hash, &dir.path().join("chosen"), "weights.bin", false).unwrap();
    assert!(victim.join("weights.bin").exists());
}
