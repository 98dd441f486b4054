//! Files whose times say anything, as a clock that jumps leaves them.

use std::time::{Duration, SystemTime};

use super::*;

/// Gives every file and folder below this time.
fn touch(folder: &Path, time: SystemTime) {
    for entry in walkdir::WalkDir::new(folder).contents_first(true) {
        fs::File::open(entry.unwrap().path()).unwrap().set_modified(time).unwrap();
    }
}

#[test]
fn what_is_held_does_not_depend_on_the_times_of_files() {
    let (dir, beside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (whole, part, small, outside) =
        (Peer::with_groups(40), Peer::with_groups(30), Peer::with_bytes(5000), Peer::with_groups(20));
    let file = beside.path().join("weights.bin");
    fs::write(&file, &outside.bytes).unwrap();
    let store = Store::open(dir.path()).unwrap();
    publish(&store, &file, PublishMode::Reference).unwrap();
    whole.send_all(&store);
    small.send_all(&store);
    let writer = store.writer(part.hash, part.size()).unwrap();
    for run in [span(0, 3), span(7, 9)] {
        part.send(&writer, run);
    }
    writer.sync().unwrap();
    let blobs = store.blobs();
    let killed = crashed(&store);
    drop(writer);
    store.close().unwrap();
    drop(store);

    let year = Duration::from_secs(365 * 24 * 3600);
    for time in [SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + year * 130, SystemTime::now() - year] {
        for folder in [dir.path(), killed.path()] {
            touch(folder, time);
            let store = Store::open(folder).unwrap();
            assert_eq!(store.blobs(), blobs, "{time:?}");
            for peer in [&whole, &small, &outside] {
                peer.check_served(&store, &peer.geometry.whole().map(SpanSet::from).unwrap());
            }
            part.check_served(&store, &spans(&[(0, 3), (7, 9)]));
            store.close().unwrap();
        }
    }

    // A published file is what it was only as long as its time is; then it is not served, right as its bytes may be, until it is looked at.
    fs::File::open(&file).unwrap().set_modified(SystemTime::UNIX_EPOCH + year * 130).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let refused = store.reader(outside.hash).map(|reader| reader.encode_span(span(0, 1), &mut Vec::new()).is_err());
    assert!(refused.unwrap_or(true));
    assert_eq!(store.withdrawn().len(), 1);
    assert!(publish(&store, &file, PublishMode::Reference).unwrap().read);
    outside.check_served(&store, &outside.geometry.whole().map(SpanSet::from).unwrap());
}
