//! Blobs on their way in: what counts, what survives a crash, what a failed sync costs.

use std::sync::atomic::Ordering;

use proptest::prelude::*;

use p2pweights_protocol::verify::Feed;

use super::*;

#[test]
fn groups_count_once_they_are_synced() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(11);
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    peer.send(&writer, span(2, 5));
    peer.send(&writer, span(9, 11));
    assert_eq!(writer.verified(), spans(&[(2, 5), (9, 11)]));
    assert_eq!(writer.unsynced_bytes(), 5 * GROUP_BYTES - 100);
    peer.check_served(&store, &SpanSet::new());
    assert_eq!(writer.sync().unwrap(), spans(&[(2, 5), (9, 11)]));
    assert_eq!(writer.sync().unwrap(), SpanSet::new());
    assert_eq!(writer.unsynced_bytes(), 0);
    peer.check_served(&store, &spans(&[(2, 5), (9, 11)]));
    assert!(!writer.is_complete() && files_of(&store, peer.hash).2.exists());
    peer.send(&writer, span(0, 11));
    assert_eq!(writer.sync().unwrap(), spans(&[(0, 2), (5, 9)]));
    assert!(writer.is_complete() && !files_of(&store, peer.hash).2.exists());
    assert_eq!(store.read_all(peer.hash, u64::MAX).unwrap(), peer.bytes);
}

#[test]
fn one_writer_a_blob_for_one_size() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(5);
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    assert!(Arc::ptr_eq(&writer, &store.writer(peer.hash, peer.size()).unwrap()));
    assert!(matches!(store.writer(peer.hash, peer.size() + 1), Err(StoreError::WrongSize { .. })));
    peer.send(&writer, span(0, 1));
    drop(writer);
    assert!(matches!(store.writer(peer.hash, peer.size() + 1), Err(StoreError::WrongSize { .. })));
}

#[test]
fn a_lying_size_costs_nothing_once_it_is_known() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(5);
    let writer = store.writer(peer.hash, 1 << 20).unwrap();
    let receipt = writer.receive(span(0, 64), &mut &peer.encoded(span(0, 5))[..]);
    assert!(receipt.verified_groups == 0 && matches!(receipt.outcome, Err(ReceiveError::BadBytes { group: 0 })), "{receipt:?}");
    assert!(matches!(writer.receive(span(60, 65), &mut &[][..]).outcome, Err(ReceiveError::Store(StoreError::WrongSize { .. }))));
    drop(writer);
    peer.send_all(&store);
    assert_eq!(store.read_all(peer.hash, u64::MAX).unwrap(), peer.bytes);
}

#[test]
fn wrong_bytes_are_never_kept() {
    let peer = Peer::with_groups(9);
    let whole = span(0, 9);
    let encoded = peer.encoded(whole);
    for at in (0..encoded.len()).step_by(1777) {
        let dir = TempDir::new().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let writer = store.writer(peer.hash, peer.size()).unwrap();
        let mut lie = encoded.clone();
        lie[at] ^= 1;
        let receipt = writer.receive(whole, &mut &lie[..]);
        let good = receipt.verified_groups;
        assert!(matches!(receipt.outcome, Err(ReceiveError::BadBytes { group }) if group == good), "byte {at}: {receipt:?}");
        writer.sync().unwrap();
        let held = Span::new(0, good).map(SpanSet::from).unwrap_or_default();
        peer.check_served(&store, &held);
    }
}

#[test]
fn a_cut_stream_keeps_what_was_proved() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(40);
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    let encoded = peer.encoded(span(3, 40));
    let receipt = writer.receive(span(3, 40), &mut &encoded[..20 * GROUP_BYTES as usize]);
    assert!(matches!(receipt.outcome, Err(ReceiveError::Ended)));
    assert_eq!(writer.sync().unwrap(), spans(&[(3, 3 + receipt.verified_groups)]));
    assert!(receipt.verified_groups >= 18);
    peer.check_served(&store, &spans(&[(3, 3 + receipt.verified_groups)]));
}

#[test]
fn a_killed_process_loses_only_what_was_in_flight() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(20);
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    peer.send(&writer, span(0, 4));
    writer.sync().unwrap();
    peer.send(&writer, span(10, 16));
    let copy = crashed(&store);
    let copied = Store::open(copy.path()).unwrap();
    peer.check_served(&copied, &spans(&[(0, 4), (10, 16)]));
    peer.send_all(&copied);
    peer.check_served(&copied, &spans(&[(0, 20)]));
}

#[test]
fn a_power_cut_loses_what_was_not_synced_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(20);
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    peer.send(&writer, span(0, 8));
    writer.sync().unwrap();
    peer.send(&writer, span(8, 20));
    let copy = crashed(&store);
    // The system got to write some of it: group 9 is zeros, as is the tail, and half of a parent.
    let layout = Layout::new(copy.path(), Disk::default());
    let mut data = fs::read(layout.data(peer.hash)).unwrap();
    data[9 * GROUP_BYTES as usize..10 * GROUP_BYTES as usize].fill(0);
    let keep = data.len() - 2 * GROUP_BYTES as usize;
    data[keep..].fill(0);
    fs::write(layout.data(peer.hash), data).unwrap();
    let copied = Store::open(copy.path()).unwrap();
    let held = copied.blob(peer.hash).unwrap().held;
    assert!(held.covers(span(0, 9)) && held.covers(span(10, 17)) && !held.contains(9) && !held.contains(19), "{held:?}");
    peer.check_served(&copied, &held);
    // What was found out is written down: nothing is proved a second time.
    let again = crashed(&copied);
    peer.check_served(&Store::open(again.path()).unwrap(), &held);
}

#[test]
fn the_last_sync_before_a_crash_may_have_completed_the_blob() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(6);
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    peer.send(&writer, span(0, 6));
    let copy = crashed(&store);
    let copied = Store::open(copy.path()).unwrap();
    assert!(copied.blob(peer.hash).unwrap().complete && !files_of(&copied, peer.hash).2.exists());
}

#[test]
fn a_failed_sync_forgets_everything_since_the_last_good_one() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(20);
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    peer.send(&writer, span(0, 4));
    writer.sync().unwrap();
    peer.send(&writer, span(4, 9));
    store.stage().fail_syncs.store(true, Ordering::Relaxed);
    writer.sync().unwrap_err();
    assert_eq!(writer.verified(), spans(&[(0, 4)]));
    store.stage().fail_syncs.store(false, Ordering::Relaxed);
    let copy = crashed(&store);
    peer.check_served(&Store::open(copy.path()).unwrap(), &spans(&[(0, 4)]));

    // A span that was on its way when the sync failed does not count either.
    struct FailsSyncMidway<'a>(&'a [u8], &'a Store, &'a BlobWriter);
    impl Feed for FailsSyncMidway<'_> {
        fn has(&mut self, _bytes: usize) -> bool {
            true
        }

        fn take(&mut self, bytes: usize) -> std::io::Result<&[u8]> {
            if self.0.len() < 20_000 && !self.1.stage().fail_syncs.swap(true, Ordering::Relaxed) {
                self.2.sync().unwrap_err();
            }
            self.0.take(bytes)
        }
    }
    peer.send(&writer, span(12, 13));
    let receipt = writer.receive(span(4, 9), &mut FailsSyncMidway(&peer.encoded(span(4, 9)), &store, &writer));
    assert!(matches!(receipt.outcome, Err(ReceiveError::Store(StoreError::SyncLost(_)))), "{receipt:?}");
    assert_eq!((receipt.verified_groups, writer.verified()), (0, spans(&[(0, 4)])));
    store.stage().fail_syncs.store(false, Ordering::Relaxed);
    peer.send(&writer, span(4, 20));
    writer.sync().unwrap();
    assert!(writer.is_complete());
}

#[test]
fn many_threads_fill_one_blob() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(200);
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (writer, peer) = (&writer, &peer);
            scope.spawn(move || {
                // Every span is sent by two threads, and each syncs now and then.
                for start in (0..200).step_by(10).filter(|start| (start / 10) % 4 == thread || (start / 10 + 1) % 4 == thread) {
                    peer.send(writer, span(start, start + 10));
                    if start % 30 == 0 {
                        writer.sync().unwrap();
                    }
                }
            });
        }
    });
    writer.sync().unwrap();
    assert!(writer.is_complete());
    assert_eq!(store.read_all(peer.hash, u64::MAX).unwrap(), peer.bytes);
}

#[derive(Debug, Clone)]
enum Step {
    Receive { start: u64, groups: u64, cut: u64 },
    Lie { start: u64, groups: u64, at: u64 },
    Sync,
    Quarantine { start: u64, groups: u64 },
    DropWriter,
    Crash,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u64..30, 1u64..12, 0u64..200_000).prop_map(|(start, groups, cut)| Step::Receive { start, groups, cut }),
        2 => (0u64..30, 1u64..12, any::<u64>()).prop_map(|(start, groups, at)| Step::Lie { start, groups, at }),
        2 => Just(Step::Sync),
        1 => (0u64..30, 1u64..4).prop_map(|(start, groups)| Step::Quarantine { start, groups }),
        1 => Just(Step::DropWriter),
        1 => Just(Step::Crash),
        1 => Just(Step::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The oracle is a set of groups: those whose receipt said so, less those taken out.
    #[test]
    fn random_receipts_crashes_and_reopenings_keep_exactly_the_proved_groups(steps in prop::collection::vec(step(), 1..40)) {
        let peer = Peer::with_groups(30);
        let whole = peer.geometry.whole().unwrap();
        let mut dir = TempDir::new().unwrap();
        let mut store = Some(Store::open(dir.path()).unwrap());
        let mut expected = SpanSet::new();
        let mut writer = None;
        for step in steps {
            let open = store.as_ref().unwrap();
            if expected.covers(whole) {
                break;
            }
            match step {
                Step::Receive { start, groups, .. } | Step::Lie { start, groups, .. } => {
                    let Some(span) = span(start, start + groups).intersection(whole) else { continue };
                    let writer = &*writer.get_or_insert_with(|| open.writer(peer.hash, peer.size()).unwrap());
                    let mut encoded = peer.encoded(span);
                    match step {
                        Step::Receive { cut, .. } => encoded.truncate(cut as usize),
                        Step::Lie { at, .. } => {
                            let at = (at % encoded.len() as u64) as usize;
                            encoded[at] ^= 1;
                        }
                        _ => {}
                    }
                    let receipt = writer.receive(span, &mut &encoded[..]);
                    prop_assert!(receipt.outcome.is_err() || receipt.verified_groups == span.groups());
                    if receipt.verified_groups > 0 {
                        expected.insert(span.prefix(receipt.verified_groups));
                    }
                    prop_assert_eq!(writer.verified(), expected.clone());
                }
                Step::Sync => {
                    if let Some(writer) = &writer {
                        writer.sync().unwrap();
                        prop_assert_eq!(open.blob(peer.hash).unwrap().held, expected.clone());
                    }
                }
                Step::Quarantine { start, groups } => {
                    if open.blob(peer.hash).is_some() {
                        open.quarantine(peer.hash, span(start, start + groups)).unwrap();
                        expected.remove(span(start, start + groups));
                    }
                }
                Step::DropWriter => writer = None,
                Step::Crash => {
                    let copy = crashed(open);
                    writer = None;
                    drop(store.take());
                    dir = copy;
                    store = Some(Store::open(dir.path()).unwrap());
                }
                Step::Close => {
                    writer = None;
                    drop(store.take());
                    store = Some(Store::open(dir.path()).unwrap());
                }
            }
        }
        drop(writer);
        let store = store.unwrap();
        if store.blob(peer.hash).is_some() {
            peer.check_served(&store, &expected);
            let report = store.verify(peer.hash).unwrap();
            prop_assert_eq!((report.checked_groups, report.damaged), (expected.groups(), SpanSet::new()));
        } else {
            prop_assert!(expected.is_empty());
        }
    }
}
