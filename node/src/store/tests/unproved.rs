//! Blobs that prove themselves only when all of them is here.

use super::*;

#[test]
fn a_blob_from_front_to_back_counts_when_its_last_byte_is_right() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let bytes: Vec<u8> = (0..700_001u32).map(|at| (at ^ (at >> 8)) as u8).collect();
    let (hash, size) = (BlobHash::of(&bytes), bytes.len() as u64);
    let mut unproved = store.unproved(hash, size).unwrap();
    for portion in bytes.chunks(77_777) {
        assert!(!store.is_complete(hash), "nothing counts before");
        unproved.push(portion).unwrap();
    }
    assert!(unproved.push(b"x").is_err(), "one byte too many");
    assert_eq!(unproved.bytes(), size);
    assert!(unproved.finish().unwrap());
    assert_eq!(store.read_all(hash, size).unwrap(), bytes);
    assert!(matches!(store.unproved(hash, size), Err(StoreError::AlreadyComplete(_))));
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.read_all(hash, size).unwrap(), bytes, "it stays");
    assert!(store.verify(hash).is_ok());
}

#[test]
fn what_is_not_the_blob_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut bytes = vec![5; 300_000];
    let hash = BlobHash::of(&bytes);
    bytes[299_999] ^= 1;
    let mut unproved = store.unproved(hash, 300_000).unwrap();
    unproved.push(&bytes).unwrap();
    assert!(!unproved.finish().unwrap());
    let mut short = store.unproved(hash, 300_000).unwrap();
    short.push(&bytes[..299_999]).unwrap();
    assert!(!short.finish().unwrap());
    assert!(store.blob(hash).is_none() && !store.is_complete(hash));
    assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
}
