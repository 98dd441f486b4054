//! Each rule is broken once, by hand.

use std::time::Duration;

use p2pweights_protocol::engine::{FetchOutcome, PeerClass};
use p2pweights_protocol::geometry::Span;
use p2pweights_protocol::ids::{PeerId, Prefix, RequestId};
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

#[test]
fn rules_are_named() {
    let mut checker = checker();
    checker.synced(NOW, HERE, BLOB, span(0, 4));
    checker.received(NOW, HERE, Some(HostId(1)), BLOB, span(4, 8));
    checker.output(NOW, HERE, &Output::Serve { peer: PEER, request: RequestId(1), blob: BLOB, span: span(0, 4) });
    assert_eq!(rules(&checker), [Rule::I1, Rule::I2, Rule::I3]);
}

#[test]
fn asking_for_what_is_there_or_under_way_is_caught() {
    let mut checker = checker();
    checker.output(NOW, HERE, &fetch(0));
    checker.output(NOW, HERE, &fetch(4));
    assert_eq!(rules(&checker), [Rule::I5], "the same span, while others are left");
    let ended = Input::FetchEnded { request: RequestId(0), outcome: FetchOutcome::Delivered, verified_groups: 16 };
    checker.input(NOW, HERE, &ended);
    (1..4).for_each(|request| checker.output(NOW, HERE, &fetch(request)));
    checker.output(NOW, HERE, &fetch(5));
    assert_eq!(rules(&checker), [Rule::I5], "everything that is left has been asked for: now it may be doubled");
    checker.output(NOW, HERE, &fetch(8));
    assert_eq!(rules(&checker)[1..], [Rule::I7], "this has come");
}

#[test]
fn two_who_ask_outside_for_the_same_are_caught_once_they_know_one_another() {
    let connected = |class| Input::PeerConnected { peer: PEER, class, prefix: Prefix(1) };
    for (after, caught) in [(5, 0), (20, 1), (100, 0)] {
        let mut checker = Checker::new(2, 1, [(BLOB, SIZE)].into(), [(SiteId(0), vec![HERE, HostId(1)])].into());
        for host in [HERE, HostId(1)] {
            checker.input(NOW, host, &Input::PeerConnected { peer: PeerId([3; 32]), class: PeerClass::Lan, prefix: Prefix(1) });
            checker.input(NOW, host, &connected(PeerClass::Wan));
            checker.output(NOW + Duration::from_secs(after), host, &fetch(0));
        }
        assert_eq!(rules(&checker), vec![Rule::I12; caught], "after {after} s: too early, caught, and nobody brings anything");
    }
}

#[test]
fn who_gets_nothing_while_others_do_starves() {
    let (mut checker, later) = (checker(), NOW + Duration::from_secs(40));
    (0..20).for_each(|_| checker.received(NOW, HostId(1), None, BLOB, span(0, 1)));
    assert!(checker.is_starving(later, HERE, 2, Duration::from_secs(30)));
    assert!(!checker.is_starving(later, HERE, 3, Duration::from_secs(30)), "not yet, among three");
    checker.received(later, HERE, None, BLOB, span(0, 1));
    assert!(!checker.is_starving(later, HERE, 2, Duration::from_secs(30)));
}
