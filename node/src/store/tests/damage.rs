//! Disks that forget: damaged data, outboards and progress files.

use super::*;

#[test]
fn damage_is_found_when_read_quarantined_and_mended_by_fetching_again() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(12);
    peer.send_all(&store);
    flip(&files_of(&store, peer.hash).0, 7 * GROUP_BYTES + 5);
    let reader = store.reader(peer.hash).unwrap();
    let mut sent = Vec::new();
    let Err(ReadError::Damaged { span: damaged }) = reader.encode_span(span(0, 12), &mut sent) else { panic!("not found") };
    assert_eq!(damaged, span(7, 8));
    assert!(peer.encoded(span(0, 12)).starts_with(&sent), "nothing wrong left");
    store.quarantine(peer.hash, damaged).unwrap();
    let held = spans(&[(0, 7), (8, 12)]);
    peer.check_served(&store, &held);
    let copy = crashed(&store);
    peer.check_served(&Store::open(copy.path()).unwrap(), &held);
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    assert_eq!(writer.verified(), held);
    peer.send(&writer, span(7, 8));
    writer.sync().unwrap();
    assert!(writer.is_complete());
    // Damage while the writer of the completed blob is still around.
    store.quarantine(peer.hash, span(2, 3)).unwrap();
    peer.send(&writer, span(2, 3));
    assert_eq!(writer.sync().unwrap(), spans(&[(2, 3)]));
    peer.check_served(&store, &spans(&[(0, 12)]));
    assert!(!files_of(&store, peer.hash).2.exists());
}

#[test]
fn quarantine_beyond_the_end_is_remembered() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(6);
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    peer.send(&writer, span(2, 6));
    writer.sync().unwrap();
    store.quarantine(peer.hash, span(5, 8)).unwrap();
    store.quarantine(peer.hash, span(6, 9)).unwrap();
    let copy = crashed(&store);
    peer.check_served(&Store::open(copy.path()).unwrap(), &spans(&[(2, 5)]));
}

#[test]
fn verify_reads_everything_that_is_held() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(12);
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    peer.send(&writer, span(2, 9));
    writer.sync().unwrap();
    assert_eq!(store.verify(peer.hash).unwrap(), VerifyReport { checked_groups: 7, ..VerifyReport::default() });
    flip(&files_of(&store, peer.hash).0, 3 * GROUP_BYTES);
    flip(&files_of(&store, peer.hash).0, 8 * GROUP_BYTES + 100);
    let report = store.verify(peer.hash).unwrap();
    assert_eq!((report.checked_groups, report.damaged), (7, spans(&[(3, 4), (8, 9)])));
    peer.check_served(&store, &spans(&[(2, 3), (4, 8)]));
    assert_eq!(writer.verified(), spans(&[(2, 3), (4, 8)]));
}

#[test]
fn a_damaged_outboard_of_a_complete_blob_is_made_again() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(12);
    peer.send_all(&store);
    let outboard = files_of(&store, peer.hash).1;
    let good = fs::read(&outboard).unwrap();
    flip(&outboard, 64 * 4 + 3);
    let report = store.verify(peer.hash).unwrap();
    assert!(report.outboard_mended && report.damaged.is_empty(), "{report:?}");
    assert_eq!(fs::read(&outboard).unwrap(), good);
    // The same without its file, at a start.
    fs::remove_file(&outboard).unwrap();
    let copy = crashed(&store);
    peer.check_served(&Store::open(copy.path()).unwrap(), &spans(&[(0, 12)]));
}

#[test]
fn data_that_is_not_the_blob_is_not_believed() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(12);
    peer.send_all(&store);
    let copy = crashed(&store);
    let layout = Layout::new(copy.path(), Disk::default());
    // Cut short: no progress file, and the outboard has another size's length.
    fs::OpenOptions::new().write(true).open(layout.data(peer.hash)).unwrap().set_len(5 * GROUP_BYTES).unwrap();
    let copied = Store::open(copy.path()).unwrap();
    assert!(!copied.blob(peer.hash).unwrap().complete);
    peer.send_all(&copied);
    peer.check_served(&copied, &spans(&[(0, 12)]));
}

#[test]
fn an_unreadable_progress_file_costs_time_only() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(12);
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    peer.send(&writer, span(2, 9));
    writer.sync().unwrap();
    for broken in [&b""[..], b"p2pw", &[0; 4096]] {
        let copy = crashed(&store);
        fs::write(Layout::new(copy.path(), Disk::default()).progress(peer.hash), broken).unwrap();
        peer.check_served(&Store::open(copy.path()).unwrap(), &spans(&[(2, 9)]));
    }
}

#[test]
fn a_progress_file_torn_anywhere_never_claims_what_is_not_there() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(12);
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    peer.send(&writer, span(2, 5));
    writer.sync().unwrap();
    peer.send(&writer, span(7, 9));
    let progress = fs::read(files_of(&store, peer.hash).2).unwrap();
    assert_eq!(progress.len(), 4 * 32);
    for cut in (0..=progress.len()).step_by(8) {
        let copy = crashed(&store);
        fs::write(Layout::new(copy.path(), Disk::default()).progress(peer.hash), &progress[..cut]).unwrap();
        let copied = Store::open(copy.path()).unwrap();
        let expected = match cut / 32 {
            0 => spans(&[(2, 5), (7, 9)]),
            1 => SpanSet::new(),
            2 | 3 => spans(&[(2, 5)]),
            _ => spans(&[(2, 5), (7, 9)]),
        };
        peer.check_served(&copied, &expected);
    }
}

#[test]
fn data_lost_behind_our_back_is_not_served() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(12);
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    peer.send(&writer, span(2, 9));
    writer.sync().unwrap();
    let copy = crashed(&store);
    fs::remove_file(Layout::new(copy.path(), Disk::default()).data(peer.hash)).unwrap();
    let copied = Store::open(copy.path()).unwrap();
    assert!(copied.blob(peer.hash).unwrap().held.is_empty());
    peer.send_all(&copied);
    peer.check_served(&copied, &spans(&[(0, 12)]));
}
