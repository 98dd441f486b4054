//! What was held and is not any more.

use super::*;

#[test]
fn damage_is_told_and_not_served() {
    let mut bench = offering();
    bench.put(Input::PeerConnected { peer: peer(1), class: PeerClass::Wan, prefix: Prefix::default() });
    bench.say(1, Message::Interest { blobs: vec![BLOB] });
    bench.say(1, Message::Load { held: 0, limit: 8 });
    let outputs = bench.put(Input::SpanLost { blob: BLOB, span: span(5, 6) });
    let told = outputs.iter().find_map(|output| match output {
        Output::Send { message: Message::Have { pieces: HavePieces::Map(bits), .. }, .. } => Some(bits.clone()),
        _ => None,
    });
    assert_eq!(told, Some(vec![0b1111_1110, 0]));
    let input = Input::Requested { peer: peer(1), request: RequestId(1), blob: BLOB, size: SIZE, span: span(0, 16) };
    assert!(bench.put(input).contains(&Output::Refuse { peer: peer(1), request: RequestId(1), no_credit: false }));
    assert!(!outputs.contains(&Output::Unannounce { blob: BLOB }), "the rest is still there");
    let outputs = bench.put(Input::Command(Command::Withdraw { blob: BLOB }));
    assert!(outputs.contains(&Output::Unannounce { blob: BLOB }));
    assert!(outputs.contains(&Output::Send { peer: peer(1), message: Message::HaveNot { blobs: vec![BLOB] } }));
}

#[test]
fn a_blob_of_which_nothing_is_left_is_announced_again_only_when_something_is() {
    let mut bench = offering();
    let whole = Geometry::of(SIZE).whole().unwrap();
    let outputs = bench.put(Input::SpanLost { blob: BLOB, span: whole });
    assert!(outputs.contains(&Output::Unannounce { blob: BLOB }));
    assert!(!bench.put(Input::SpanLost { blob: BLOB, span: whole }).contains(&Output::Unannounce { blob: BLOB }));
    assert!(bench.put(Input::SpanStored { blob: BLOB, size: SIZE, span: whole }).contains(&Output::Announce { blob: BLOB }));
}
