//! Each rule is broken once, by hand.

use p2pweights_protocol::engine::FetchOutcome;
use p2pweights_protocol::geometry::Span;
use p2pweights_protocol::ids::{PeerId, RequestId};
use p2pweights_protocol::wire::HavePieces;

use super::*;

const BLOB: BlobHash = BlobHash([1; 32]);
const SIZE: u64 = 4 * 256 * 1024;
const PEER: PeerId = PeerId([2; 32]);
const HERE: HostId = HostId(0);
const NOW: Instant = Instant(1);

fn checker() -> Checker {
    Checker::new(2, 1, [(BLOB, SIZE)].into(), BTreeMap::new())
}

fn span(start: u64, end: u64) -> Span {
    Span::new(start, end).unwrap()
}

fn fetch(request: u64) -> Output {
    Output::Fetch {
        request: RequestId(request),
        provider: PEER,
        blob: BLOB,
        size: SIZE,
        span: span(request * 16 % 64, request * 16 % 64 + 16),
        probe: false,
    }
}

fn rules(checker: &Checker) -> Vec<Rule> {
    checker.violations().iter().map(|violation| violation.rule).collect()
}

fn broken(checker: &Checker) -> Vec<&str> {
    checker.violations().iter().map(|violation| violation.what.as_str()).collect()
}

#[test]
fn groups_out_of_thin_air_are_caught() {
    let mut checker = checker();
    checker.synced(NOW, HERE, BLOB, span(0, 4));
    checker.received(NOW, HERE, Some(HostId(1)), BLOB, span(4, 8));
    assert!(broken(&checker)[0].contains("nobody sent"), "{:?}", broken(&checker));
    assert!(broken(&checker)[1].contains("does not hold"), "{:?}", broken(&checker));
}

#[test]
fn serving_needs_a_credit_and_durable_groups() {
    let mut checker = checker();
    let serve = Output::Serve { peer: PEER, request: RequestId(1), blob: BLOB, span: span(0, 16) };
    checker.received(NOW, HERE, None, BLOB, span(0, 16));
    checker.output(NOW, HERE, &serve);
    assert_eq!(broken(&checker).len(), 2, "{:?}", broken(&checker));
    checker.synced(NOW, HERE, BLOB, span(0, 16));
    let grant = Message::Grant { credits: 1, block_bytes: 1 << 18, hint: None };
    checker.output(NOW, HERE, &Output::Send { peer: PEER, message: grant });
    checker.output(NOW, HERE, &serve);
    assert_eq!(broken(&checker).len(), 2, "{:?}", broken(&checker));
}

#[test]
fn bans_bounds_and_double_ends_are_caught() {
    let mut checker = checker();
    (0..3).for_each(|request| checker.output(NOW, HERE, &fetch(request)));
    assert!(broken(&checker)[0].contains("3 requests open"), "{:?}", broken(&checker));
    let ended = Input::FetchEnded { request: RequestId(0), outcome: FetchOutcome::Lost, verified_groups: 0 };
    checker.input(NOW, HERE, &ended);
    checker.input(NOW, HERE, &ended);
    assert!(broken(&checker)[1].contains("without being open"), "{:?}", broken(&checker));
    checker.output(NOW, HERE, &Output::Notify(Event::Banned { peer: PEER, until: Instant(9) }));
    checker.output(NOW, HERE, &fetch(7));
    assert!(broken(&checker)[2].contains("in spite of its ban"), "{:?}", broken(&checker));
}

#[test]
fn claims_must_be_durable() {
    let mut checker = checker();
    checker.received(NOW, HERE, None, BLOB, span(0, 64));
    let have = Output::Send { peer: PEER, message: Message::Have { blob: BLOB, size: SIZE, pieces: HavePieces::All } };
    checker.output(NOW, HERE, &have);
    assert_eq!(broken(&checker).len(), 1);
    checker.synced(NOW, HERE, BLOB, span(0, 64));
    checker.output(NOW, HERE, &have);
    assert_eq!(broken(&checker).len(), 1);
}
