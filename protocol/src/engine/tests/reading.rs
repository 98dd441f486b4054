//! Readers of what is still being fetched.

use super::*;

/// The pieces asked for, in order.
fn pieces(fetches: &[Fetch]) -> Vec<u64> {
    fetches.iter().map(|fetch| fetch.span.start() / 16).collect()
}

fn read(bench: &mut Bench, at: &[u64]) -> Vec<Output> {
    bench.put(Input::Command(Command::Read { blob: BLOB, at: at.iter().map(|piece| piece * 16).collect() }))
}

#[test]
fn what_lies_ahead_of_the_readers_is_asked_for_first_the_hungriest_first() {
    let (mut bench, _) = Bench::fetching(1, 0);
    read(&mut bench, &[5, 11]);
    // A newcomer is asked for two things at a time.
    let first = fetches_in(&bench.grant(1, 8));
    assert_eq!(pieces(&first), [5, 11], "each reader's next");
    let then = fetches_in(&bench.deliver(&first[0]));
    assert!(pieces(&then).starts_with(&[6]), "{then:?}");
}

#[test]
fn a_reader_that_moved_or_left_has_no_claim_to_what_it_skipped() {
    let (mut bench, _) = Bench::fetching(1, 0);
    read(&mut bench, &[2]);
    read(&mut bench, &[14]);
    assert_eq!(pieces(&fetches_in(&bench.grant(1, 2))), [14, 15]);
    let picked = |seed: u64| {
        let mut bench = Bench { engine: Engine::new(EngineConfig::default(), seed), now: Instant::START };
        bench.join(Some(SIZE));
        bench.put(Input::PeerConnected { peer: peer(1), class: PeerClass::Wan, prefix: Prefix::default() });
        bench.say(1, Message::Have { blob: BLOB, size: SIZE, pieces: HavePieces::All });
        read(&mut bench, &[0]);
        read(&mut bench, &[]);
        pieces(&fetches_in(&bench.grant(1, 1)))
    };
    assert!((0..20).any(|seed| picked(seed) != [0]), "nobody reads: the first piece is any");
}

#[test]
fn a_reader_may_be_named_before_the_blob_is_wanted() {
    let mut bench = Bench::new();
    read(&mut bench, &[9]);
    bench.join(Some(SIZE));
    bench.put(Input::PeerConnected { peer: peer(1), class: PeerClass::Wan, prefix: Prefix::default() });
    bench.say(1, Message::Have { blob: BLOB, size: SIZE, pieces: HavePieces::All });
    assert_eq!(pieces(&fetches_in(&bench.grant(1, 1))), [9]);
}

#[test]
fn a_hungry_reader_goes_before_what_a_lone_source_names() {
    let hinted = |reader: Option<u64>| {
        let (mut bench, _) = Bench::fetching(1, 0);
        if let Some(piece) = reader {
            read(&mut bench, &[piece]);
        }
        pieces(&fetches_in(&bench.say(1, Message::Grant { credits: 1, block_bytes: 256 * 1024, hint: Some((BLOB, Piece(3))) })))
    };
    assert_eq!(hinted(None), [3]);
    assert_eq!(hinted(Some(8)), [8]);
}

#[test]
fn a_slow_source_does_not_keep_a_reader_waiting() {
    let (mut bench, _) = Bench::fetching(2, 0);
    // The first source shows how fast it is: half a minute a piece.
    let slow = fetches_in(&bench.grant(1, 1));
    bench.pass(Duration::from_secs(9));
    bench.deliver(&slow[0]);
    // The other one: at once.
    for _ in 0..4 {
        let fast = fetches_in(&bench.grant(2, 1));
        bench.now = bench.now + Duration::from_millis(50);
        bench.deliver(&fast[0]);
    }
    let missing = (0..16).find(|piece| !bench.engine.downloads[&BLOB].verified().contains(piece * 16)).expect("not all is here");
    read(&mut bench, &[missing]);
    let stuck = fetches_in(&bench.grant(1, 1));
    assert_eq!((pieces(&stuck), stuck[0].provider), (vec![missing], peer(1)));
    let rescue = fetches_in(&bench.grant(2, 1));
    assert_eq!((pieces(&rescue), rescue[0].provider), (vec![missing], peer(2)), "although other pieces are still open");
}
