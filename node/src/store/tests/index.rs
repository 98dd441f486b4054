//! The index is disposable: deleted, cut, zeroed or flipped, nothing is lost.

use super::*;

/// A store with one blob of each kind, and what it holds.
struct Filled {
    _outside: TempDir,
    dir: TempDir,
    blobs: Vec<BlobStatus>,
}

fn filled() -> Filled {
    let (dir, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = Store::open(dir.path()).unwrap();
    Peer::with_groups(5).send_all(&store);
    let partial = Peer::with_groups(9);
    partial.send(&store.writer(partial.hash, partial.size()).unwrap(), span(3, 6));
    let file = outside.path().join("file");
    fs::write(&file, Peer::with_groups(7).bytes).unwrap();
    publish(&store, &file, PublishMode::Reference).unwrap();
    for number in 0..300u32 {
        store.put_bytes(&number.to_le_bytes()).unwrap();
    }
    let blobs = store.blobs();
    assert_eq!(blobs.len(), 303);
    Filled { _outside: outside, dir, blobs }
}

impl Filled {
    fn check_after(&self, what: &str, harm: impl FnOnce(&Path)) {
        let copy = TempDir::new().unwrap();
        copy_folder(self.dir.path(), copy.path());
        assert!(copy.path().join("index.clean").exists());
        harm(copy.path());
        let store = Store::open(copy.path()).unwrap();
        assert_eq!(store.blobs(), self.blobs, "{what}");
        assert!(!copy.path().join("index.clean").exists());
        store.close().unwrap();
        assert!(copy.path().join("index.clean").exists());
        drop(store);
        // And the next start believes the new index.
        assert_eq!(Store::open(copy.path()).unwrap().blobs(), self.blobs, "{what}, second start");
    }
}

fn index_files(dir: &Path) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(dir.join("index")).into_iter().map(|entry| entry.unwrap().into_path());
    files.filter(|path| path.is_file()).collect()
}

#[test]
fn a_closed_index_is_believed_and_an_open_one_is_not() {
    let filled = filled();
    filled.check_after("nothing", |_| {});
    // Believed: a blob whose files went while nobody looked is still listed.
    let copy = TempDir::new().unwrap();
    copy_folder(filled.dir.path(), copy.path());
    fs::remove_dir_all(copy.path().join("blobs")).unwrap();
    assert!(Store::open(copy.path()).unwrap().blobs().len() >= 301);
    // Not closed: the files are looked at.
    let copy = TempDir::new().unwrap();
    copy_folder(filled.dir.path(), copy.path());
    fs::remove_dir_all(copy.path().join("blobs")).unwrap();
    fs::remove_file(copy.path().join("index.clean")).unwrap();
    let left = Store::open(copy.path()).unwrap().blobs();
    assert!(left.iter().all(|blob| matches!(blob.location, Location::Referenced(_))), "they need nothing in the store: {left:?}");
}

#[test]
fn a_missing_or_damaged_index_is_made_again() {
    let filled = filled();
    filled.check_after("deleted", |dir| fs::remove_dir_all(dir.join("index")).unwrap());
    filled.check_after("not a folder", |dir| {
        fs::remove_dir_all(dir.join("index")).unwrap();
        fs::write(dir.join("index"), "no").unwrap();
    });
    for file in index_files(filled.dir.path()) {
        let name = file.strip_prefix(filled.dir.path()).unwrap().to_owned();
        let bytes = fs::read(&file).unwrap();
        let changed = |what: &str, contents: &[u8]| {
            filled.check_after(&format!("{} {what}", name.display()), |dir| fs::write(dir.join(&name), contents).unwrap());
        };
        filled.check_after(&format!("{} deleted", name.display()), |dir| fs::remove_file(dir.join(&name)).unwrap());
        changed("emptied", b"");
        changed("cut", &bytes[..bytes.len() / 2]);
        changed("zeroed", &vec![0; bytes.len()]);
        changed("all ones", &vec![255; bytes.len()]);
        for part in 0..8 {
            let mut rotten = bytes.clone();
            let at = rotten.len() * part / 8;
            let end = (at + 700).min(rotten.len());
            rotten[at..end].iter_mut().for_each(|byte| *byte = byte.wrapping_mul(7).wrapping_add(13));
            changed(&format!("rotten at {at}"), &rotten);
        }
    }
}

#[test]
fn damaged_indexes_are_kept_for_a_while_but_not_for_ever() {
    let dir = TempDir::new().unwrap();
    for _ in 0..5 {
        fs::remove_dir_all(dir.path().join("index")).ok();
        fs::write(dir.path().join("index"), "no").unwrap();
        Store::open(dir.path()).unwrap();
    }
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut damaged: Vec<String> = names.filter(|name| name.starts_with("index.damaged")).collect();
    damaged.sort();
    assert_eq!(damaged, ["index.damaged-4", "index.damaged-5"]);
}

#[test]
fn a_change_after_closing_takes_the_promise_back() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.close().unwrap();
    let hash = store.put_bytes(b"late").unwrap();
    let copy = crashed(&store);
    assert!(!copy.path().join("index.clean").exists());
    assert!(Store::open(copy.path()).unwrap().blob(hash).unwrap().complete);
}

#[test]
fn rebuild_finds_what_is_in_the_files() {
    let filled = filled();
    let store = Store::open(filled.dir.path()).unwrap();
    let report = store.rebuild().unwrap();
    assert_eq!(report, RebuildReport { complete: 301, partial: 1, referenced: 1, pins: 0 });
    assert_eq!(store.blobs(), filled.blobs);
    // A blob that is being written to is left alone.
    let partial = Peer::with_groups(9);
    let writer = store.writer(partial.hash, partial.size()).unwrap();
    partial.send(&writer, span(0, 1));
    store.rebuild().unwrap();
    assert!(Arc::ptr_eq(&writer, &store.writer(partial.hash, partial.size()).unwrap()));
    partial.send(&writer, span(0, 9));
    writer.sync().unwrap();
    assert!(store.blob(partial.hash).unwrap().complete);
}
