//! Finding out who else holds what is held here.

use super::*;

#[test]
fn a_survey_asks_everybody_once_and_counts_whole_copies_only() {
    let mut bench = Bench::new();
    for index in 1..=3 {
        bench.put(Input::PeerConnected { peer: peer(index), class: PeerClass::Wan, prefix: Prefix::default() });
    }
    let survey = |ends| Input::Command(Command::Survey { blobs: vec![BLOB], ends });
    assert_eq!(bench.put(survey(false)), [], "it is not ours");
    bench.put(Input::Command(Command::Offer { blob: BLOB, size: SIZE, held: SpanSet::from(span(0, SIZE / 16384)) }));
    let asked = |outputs: &[Output]| {
        outputs.iter().filter(|output| matches!(output, Output::Send { message: Message::Interest { .. }, .. })).count()
    };
    assert_eq!((asked(&bench.put(survey(false))), asked(&bench.put(survey(false)))), (3, 0));
    assert_eq!(bench.engine.copies(BLOB), 0);
    let whole = Message::Have { blob: BLOB, size: SIZE, pieces: HavePieces::All };
    bench.say(1, whole.clone());
    bench.say(2, Message::Have { blob: BLOB, size: SIZE, pieces: HavePieces::Map(vec![0xff, 0x7f]) });
    bench.say(3, Message::HaveNot { blobs: vec![BLOB] });
    assert_eq!(bench.engine.copies(BLOB), 1);
    bench.say(2, Message::HaveMore { blob: BLOB, runs: vec![PieceRun { first: Piece(15), count: 1 }] });
    assert_eq!(bench.engine.copies(BLOB), 2);
    bench.put(Input::PeerGone { peer: peer(2) });
    assert_eq!(bench.engine.copies(BLOB), 1);
    // What was said does not hold for ever: the next survey asks again.
    bench.put(survey(true));
    assert_eq!((bench.engine.copies(BLOB), asked(&bench.put(survey(false)))), (0, 2));
    bench.say(1, whole);
    assert_eq!(bench.engine.copies(BLOB), 1);
}

#[test]
fn a_peer_that_is_watched_is_asked_again_if_its_answer_was_forgotten() {
    let mut bench = Bench::new();
    let held = Geometry::of(SIZE).whole().map(SpanSet::from).unwrap();
    let offer = || Input::Command(Command::Offer { blob: BLOB, size: SIZE, held: held.clone() });
    bench.put(offer());
    bench.put(Input::PeerConnected { peer: peer(1), class: PeerClass::Wan, prefix: Prefix::default() });
    bench.say(1, Message::Interest { blobs: vec![BLOB] });
    bench.say(1, Message::Have { blob: BLOB, size: SIZE, pieces: HavePieces::All });
    assert_eq!(bench.engine.copies(BLOB), 1);
    bench.put(Input::Command(Command::Withdraw { blob: BLOB }));
    bench.put(offer());
    assert_eq!(bench.engine.copies(BLOB), 0);
    bench.put(Input::Command(Command::Survey { blobs: vec![BLOB], ends: true }));
    let outputs = bench.put(Input::Command(Command::Survey { blobs: vec![BLOB], ends: false }));
    assert!(outputs.contains(&Output::Send { peer: peer(1), message: Message::Interest { blobs: vec![BLOB] } }));
    bench.say(1, Message::Have { blob: BLOB, size: SIZE, pieces: HavePieces::All });
    assert_eq!(bench.engine.copies(BLOB), 1);
}
