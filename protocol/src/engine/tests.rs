//! The engine from outside: facts in, wishes out. Swarm behaviour in virtual time is tested in `simnet`.

mod damage;
mod mirrors;
mod reading;
mod survey;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::geometry::{Piece, Span};
use crate::ids::{Prefix, RequestId};
use crate::wire::{HavePieces, Message, PieceRun};

const BLOB: BlobHash = BlobHash([7; 32]);
const PIECE: u64 = 256 * 1024;
const SIZE: u64 = 16 * PIECE;

fn peer(index: u8) -> PeerId {
    PeerId([index; 32])
}

fn span(start: u64, end: u64) -> Span {
    Span::new(start, end).expect("not empty")
}

/// An engine, its clock and everything it wished for since it was last asked.
struct Bench {
    engine: Engine,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { engine: Engine::new(EngineConfig::default(), 1), now: Instant::START }
    }

    fn put(&mut self, input: Input) -> Vec<Output> {
        self.engine.handle(self.now, input);
        self.engine.check_invariants();
        std::iter::from_fn(|| self.engine.poll_output()).collect()
    }

    fn say(&mut self, from: u8, message: Message) -> Vec<Output> {
        self.put(Input::Message { peer: peer(from), message })
    }

    fn pass(&mut self, time: Duration) -> Vec<Output> {
        let until = self.now + time;
        let mut outputs = Vec::new();
        while let Some(at) = self.engine.next_wakeup().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            outputs.extend(self.put(Input::Tick));
        }
        self.now = until;
        outputs.extend(self.put(Input::Tick));
        outputs
    }

    /// Wants the blob, of known size, and hears from `sources` that each holds all of it and grants `credits`.
    fn fetching(sources: u8, credits: u16) -> (Self, Vec<Fetch>) {
        let mut bench = Self::new();
        bench.join(Some(SIZE));
        let mut fetches = Vec::new();
        for source in 1..=sources {
            bench.put(Input::PeerConnected { peer: peer(source), class: PeerClass::Wan, prefix: Prefix::default() });
            bench.say(source, Message::Have { blob: BLOB, size: SIZE, pieces: HavePieces::All });
            fetches.extend(fetches_in(&bench.grant(source, credits)));
        }
        (bench, fetches)
    }

    fn join(&mut self, size: Option<u64>) -> Vec<Output> {
        let wants = vec![Want { blob: BLOB, size, held: SpanSet::new(), order: Order::default() }];
        self.put(Input::Command(Command::Join { swarm: SwarmId(BLOB), wants, providers: vec![] }))
    }

    fn grant(&mut self, from: u8, credits: u16) -> Vec<Output> {
        self.say(from, Message::Grant { credits, block_bytes: 256 * 1024, hint: None })
    }

    fn end(&mut self, fetch: &Fetch, outcome: FetchOutcome, verified_groups: u64) -> Vec<Output> {
        self.put(Input::FetchEnded { request: fetch.request, outcome, verified_groups })
    }

    fn deliver(&mut self, fetch: &Fetch) -> Vec<Output> {
        self.end(fetch, FetchOutcome::Delivered, fetch.span.groups())
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Fetch {
    request: RequestId,
    provider: PeerId,
    span: Span,
    probe: bool,
}

fn fetches_in(outputs: &[Output]) -> Vec<Fetch> {
    outputs
        .iter()
        .filter_map(|output| match *output {
            Output::Fetch { request, provider, span, probe, .. } => Some(Fetch { request, provider, span, probe }),
            _ => None,
        })
        .collect()
}

fn hangups(outputs: &[Output]) -> Vec<(PeerId, HangupReason)> {
    outputs
        .iter()
        .filter_map(|output| match *output {
            Output::Hangup { peer, reason } => Some((peer, reason)),
            _ => None,
        })
        .collect()
}

fn grants_to(outputs: &[Output], to: u8) -> u16 {
    outputs
        .iter()
        .map(|output| match output {
            Output::Send { peer: at, message: Message::Grant { credits, .. } } if *at == peer(to) => *credits,
            _ => 0,
        })
        .sum()
}

#[test]
fn joining_looks_for_providers_dials_them_and_asks_what_they_hold() {
    let mut bench = Bench::new();
    assert!(bench.join(Some(SIZE)).contains(&Output::FindProviders { blob: BLOB }));
    let outputs = bench.put(Input::ProvidersFound { blob: BLOB, providers: vec![peer(1)], finished: true });
    assert_eq!(outputs, [Output::Dial { peer: peer(1) }]);
    let outputs = bench.put(Input::PeerConnected { peer: peer(1), class: PeerClass::Wan, prefix: Prefix::default() });
    assert_eq!(outputs, [Output::Send { peer: peer(1), message: Message::Interest { blobs: vec![BLOB] } }]);
    let outputs = bench.say(1, Message::Have { blob: BLOB, size: SIZE, pieces: HavePieces::All });
    assert!(matches!(outputs[..], [Output::Send { message: Message::Load { held: 0, limit: 1.. }, .. }]), "{outputs:?}");
    assert_eq!(fetches_in(&outputs), [], "not without a credit");
    assert_eq!(fetches_in(&bench.grant(1, 1)).len(), 1);
}

#[test]
fn a_size_is_believed_once_its_last_group_proves_it() {
    let mut bench = Bench::new();
    bench.join(None);
    for (source, size) in [(1, SIZE), (2, SIZE * 2)] {
        bench.put(Input::PeerConnected { peer: peer(source), class: PeerClass::Wan, prefix: Prefix::default() });
        bench.say(source, Message::Have { blob: BLOB, size, pieces: HavePieces::All });
    }
    let probe = fetches_in(&bench.grant(2, 4));
    assert_eq!(probe.len(), 1, "one group, not a block, while nothing is proved");
    assert!(probe[0].probe && probe[0].span == span(511, 512));
    let outputs = bench.end(&probe[0], FetchOutcome::BadBytes, 0);
    assert_eq!(hangups(&outputs), [(peer(2), HangupReason::Banned)], "the claim was a lie");
    let probe = fetches_in(&bench.grant(1, 4));
    assert_eq!(probe[0].span, span(255, 256));
    let outputs = bench.deliver(&probe[0]);
    assert!(outputs.contains(&Output::Notify(Event::SizeProved { blob: BLOB, size: SIZE })));
    assert_eq!(fetches_in(&outputs), [], "the owner decides whether to go on");
    let outputs = bench.join(Some(SIZE));
    assert!(fetches_in(&outputs).iter().all(|fetch| !fetch.probe && fetch.provider == peer(1)));
    assert!(!fetches_in(&outputs).is_empty() || !fetches_in(&bench.grant(1, 4)).is_empty());
}

#[test]
fn an_honest_provider_is_not_blamed_for_a_lying_manifest() {
    let mut bench = Bench::new();
    bench.join(Some(SIZE + 1));
    bench.put(Input::PeerConnected { peer: peer(1), class: PeerClass::Wan, prefix: Prefix::default() });
    let outputs = bench.say(1, Message::Have { blob: BLOB, size: SIZE, pieces: HavePieces::All });
    assert!(outputs.contains(&Output::Notify(Event::SizeDisputed { blob: BLOB, peer: peer(1), claimed: SIZE })));
    assert_eq!(fetches_in(&bench.grant(1, 4)), []);
    assert_eq!(bench.engine.strikes(peer(1)), 0);
}

#[test]
fn a_liar_is_banned_and_its_span_is_asked_elsewhere() {
    let (mut bench, fetches) = Bench::fetching(2, 2);
    let lie = fetches.iter().find(|fetch| fetch.provider == peer(1)).expect("asked both");
    let outputs = bench.end(lie, FetchOutcome::BadBytes, 3);
    assert_eq!(hangups(&outputs), [(peer(1), HangupReason::Banned)]);
    let spans: Vec<Span> = fetches_in(&bench.grant(2, 16)).iter().map(|fetch| fetch.span).collect();
    assert!(!spans.iter().any(|span| span.start() == lie.span.start()), "the three proved groups are kept: {spans:?}");
    let outputs = bench.put(Input::PeerConnected { peer: peer(1), class: PeerClass::Wan, prefix: Prefix::default() });
    assert_eq!(hangups(&outputs), [(peer(1), HangupReason::Banned)], "and it stays banned");
}

#[test]
fn a_silent_source_costs_two_blocks_and_a_bounded_time() {
    let (mut bench, fetches) = Bench::fetching(1, 8);
    assert_eq!(fetches.len(), 2, "no more before the first delivery");
    let outputs = bench.pass(Duration::from_secs(11));
    assert!(outputs.iter().filter(|output| matches!(output, Output::Cancel { .. })).count() >= 2);
    bench.grant(1, 8);
    bench.pass(Duration::from_secs(60));
    let outputs = bench.put(Input::PeerConnected { peer: peer(1), class: PeerClass::Wan, prefix: Prefix::default() });
    assert_eq!(hangups(&outputs), [(peer(1), HangupReason::Banned)], "three deadlines without a byte");
}

#[test]
fn a_false_claim_is_struck_and_not_asked_for_again() {
    let (mut bench, fetches) = Bench::fetching(1, 4);
    let outputs = bench.end(&fetches[0], FetchOutcome::NotHeld, 0);
    assert!(outputs.contains(&Output::Notify(Event::Struck { peer: peer(1), misdeed: Misdeed::FalseClaim, blob: Some(BLOB) })));
    assert_eq!(fetches_in(&bench.grant(1, 4)), []);
}

#[test]
fn credits_that_are_of_no_use_are_handed_back() {
    let mut bench = Bench::new();
    bench.join(Some(SIZE));
    bench.put(Input::PeerConnected { peer: peer(1), class: PeerClass::Wan, prefix: Prefix::default() });
    let outputs = bench.grant(1, 5);
    assert_eq!(outputs, [Output::Send { peer: peer(1), message: Message::Return { credits: 5 } }]);
}

#[test]
fn what_is_in_flight_stays_within_its_limit() {
    let (mut bench, mut fetches) = Bench::fetching(4, 64);
    let limit = EngineConfig::default().first_in_flight_bytes;
    for _ in 0..4 {
        let fetch = fetches.remove(0);
        fetches.extend(fetches_in(&bench.deliver(&fetch)));
    }
    assert!(bench.engine.in_flight_bytes() <= limit.max(limits_min()), "{}", bench.engine.in_flight_bytes());
}

fn limits_min() -> u64 {
    2 * u64::from(crate::limits::BLOCK_MAX_BYTES)
}

#[test]
fn a_fetch_completes_and_is_served_while_it_goes_on() {
    let (mut bench, mut fetches) = Bench::fetching(1, 64);
    bench.say(9, Message::Interest { blobs: vec![BLOB] });
    let mut told = Vec::new();
    let mut events = Vec::new();
    while let Some(fetch) = fetches.pop() {
        let mut outputs = bench.deliver(&fetch);
        outputs.extend(bench.put(Input::SpanStored { blob: BLOB, size: SIZE, span: fetch.span }));
        outputs.extend(bench.pass(Duration::from_millis(200)));
        outputs.extend(bench.grant(1, 2));
        fetches.extend(fetches_in(&outputs));
        for output in outputs {
            match output {
                Output::Send { peer: at, message: message @ (Message::Have { .. } | Message::HaveMore { .. }) }
                    if at == peer(9) =>
                {
                    told.push(message);
                }
                Output::Notify(event) => events.push(event),
                _ => (),
            }
        }
    }
    assert!(events.contains(&Event::BlobVerified { blob: BLOB }) && events.contains(&Event::BlobStored { blob: BLOB }));
    assert!(matches!(told.first(), Some(Message::Have { pieces: HavePieces::Map(_), .. })), "{told:?}");
    assert!(told.iter().any(|message| matches!(message, Message::HaveMore { .. })), "{told:?}");
    assert!(bench.engine.progress(BLOB).is_none());
}

#[test]
fn only_what_is_durable_is_served() {
    let (mut bench, fetches) = Bench::fetching(1, 1);
    let fetch = &fetches[0];
    bench.deliver(fetch);
    bench.say(9, Message::Interest { blobs: vec![BLOB] });
    assert_eq!(bench.engine.offered(BLOB).map_or(0, HaveMap::held), 0, "verified, but not yet synced");
    let stored = bench.put(Input::SpanStored { blob: BLOB, size: SIZE, span: fetch.span });
    assert!(stored.contains(&Output::Announce { blob: BLOB }), "{stored:?}");
    assert_eq!(bench.engine.offered(BLOB).map_or(0, HaveMap::held), 1);
}

fn offering() -> Bench {
    let mut bench = Bench::new();
    let held = SpanSet::from(span(0, 128));
    let outputs = bench.put(Input::Command(Command::Offer { blob: BLOB, size: SIZE, held }));
    assert_eq!(outputs, [Output::Announce { blob: BLOB }]);
    bench
}

#[test]
fn the_neediest_interested_peer_is_granted() {
    let mut bench = Bench::new();
    for (taker, held) in [(1, 32), (2, 8), (3, 0)] {
        bench.put(Input::PeerConnected { peer: peer(taker), class: PeerClass::Wan, prefix: Prefix::default() });
        bench.say(taker, Message::Load { held, limit: if taker == 3 { 0 } else { 64 } });
        bench.say(taker, Message::Interest { blobs: vec![BLOB] });
    }
    bench.put(Input::Command(Command::Offer { blob: BLOB, size: SIZE, held: SpanSet::from(span(0, 128)) }));
    let outputs = bench.pass(Duration::from_millis(100));
    let granted = [1, 2, 3].map(|taker| grants_to(&outputs, taker));
    assert_eq!(granted, [2, 2, 0], "the emptiest of those that want anything first, as far as it may before it has used any");
}

#[test]
fn peers_that_want_the_same_are_introduced_but_not_without_end() {
    let mut bench = offering();
    for taker in [1, 2] {
        bench.put(Input::PeerConnected { peer: peer(taker), class: PeerClass::Wan, prefix: Prefix::default() });
    }
    bench.say(1, Message::Interest { blobs: vec![BLOB] });
    let introduced = |outputs: &[Output]| outputs.iter().filter(|output| matches!(output, Output::Introduce { .. })).count();
    let introduction = Output::Introduce { peer: peer(2), blob: BLOB, others: vec![peer(1)] };
    assert!(bench.say(2, Message::Interest { blobs: vec![BLOB] }).contains(&introduction));
    let again: usize = (0..50)
        .map(|_| {
            bench.say(2, Message::NoInterest { blobs: vec![BLOB] });
            introduced(&bench.say(2, Message::Interest { blobs: vec![BLOB] }))
        })
        .sum();
    assert!(again < 8, "{again} more of the same");
}

#[test]
fn a_request_is_served_for_a_credit_and_refused_without() {
    let mut bench = offering();
    bench.put(Input::PeerConnected { peer: peer(2), class: PeerClass::Wan, prefix: Prefix::default() });
    bench.say(2, Message::Interest { blobs: vec![BLOB] });
    assert_eq!(grants_to(&bench.say(2, Message::Load { held: 0, limit: 1 }), 2), 1, "up to what it would like");
    let ask = |request, start| Input::Requested {
        peer: peer(2),
        request: RequestId(request),
        blob: BLOB,
        size: SIZE,
        span: span(start, start + 16),
    };
    assert!(bench.put(ask(1, 0)).iter().any(|output| matches!(output, Output::Serve { .. })));
    let refused = bench.put(ask(2, 16));
    assert!(refused.contains(&Output::Refuse { peer: peer(2), request: RequestId(2), no_credit: true }), "none left");
    let ended = Input::ServeEnded { peer: peer(2), request: RequestId(1), outcome: ServeOutcome::Sent };
    assert_eq!(grants_to(&bench.put(ended), 2), 1);
    let refused = bench.put(ask(3, 128));
    assert!(refused.contains(&Output::Refuse { peer: peer(2), request: RequestId(3), no_credit: false }), "not held");
}

#[test]
fn a_peer_that_returned_its_credits_is_granted_again_when_it_wants() {
    let mut bench = offering();
    bench.put(Input::PeerConnected { peer: peer(1), class: PeerClass::Wan, prefix: Prefix::default() });
    bench.say(1, Message::Interest { blobs: vec![BLOB] });
    assert_eq!(grants_to(&bench.say(1, Message::Load { held: 0, limit: 2 }), 1), 2);
    bench.say(1, Message::Return { credits: 2 });
    assert_eq!(grants_to(&bench.say(1, Message::Load { held: 0, limit: 2 }), 1), 0, "not at once");
    assert_eq!(grants_to(&bench.pass(Duration::from_secs(1)), 1), 2, "but without another word from it");
}

#[test]
fn leaving_cancels_what_is_in_flight() {
    let (mut bench, fetches) = Bench::fetching(1, 2);
    let outputs = bench.put(Input::Command(Command::Leave { swarm: SwarmId(BLOB) }));
    let cancelled = outputs.iter().filter(|output| matches!(output, Output::Cancel { .. })).count();
    assert_eq!(cancelled, fetches.len());
    assert_eq!(fetches_in(&bench.deliver(&fetches[0])), []);
    assert_eq!(fetches_in(&bench.grant(1, 4)), []);
}

#[test]
fn a_pause_asks_for_nothing_and_ends() {
    let (mut bench, fetches) = Bench::fetching(1, 1);
    bench.put(Input::Command(Command::Pause { paused: true }));
    bench.end(&fetches[0], FetchOutcome::StoreFailed, 0);
    assert_eq!(fetches_in(&bench.grant(1, 4)), []);
    let outputs = bench.put(Input::Command(Command::Pause { paused: false }));
    assert!(!fetches_in(&outputs).is_empty());
}

fn any_span() -> impl Strategy<Value = Span> {
    (0u64..300, 1u64..80).prop_map(|(start, groups)| span(start, start + groups))
}

fn any_message() -> impl Strategy<Value = Message> {
    let blob = prop::sample::select(vec![BLOB, BlobHash([8; 32]), BlobHash([9; 32])]);
    let blobs = prop::collection::vec(blob.clone(), 1..3);
    let pieces = prop_oneof![Just(HavePieces::All), prop::collection::vec(any::<u8>(), 0..4).prop_map(HavePieces::Map)];
    let size = prop::sample::select(vec![SIZE, SIZE, SIZE, 2 * SIZE, 0, 1]);
    let run = (0u32..20, 0u32..20).prop_map(|(first, count)| PieceRun { first: Piece(first), count });
    prop_oneof![
        1 => blobs.clone().prop_map(|blobs| Message::Interest { blobs }),
        1 => blobs.clone().prop_map(|blobs| Message::NoInterest { blobs }),
        1 => blobs.prop_map(|blobs| Message::HaveNot { blobs }),
        3 => (blob.clone(), size, pieces).prop_map(|(blob, size, pieces)| Message::Have { blob, size, pieces }),
        1 => (blob.clone(), prop::collection::vec(run, 1..3)).prop_map(|(blob, runs)| Message::HaveMore { blob, runs }),
        1 => (0u16..9, 0u16..9).prop_map(|(held, limit)| Message::Load { held, limit }),
        3 => (1u16..20, 18u32..22, prop::option::of((blob, 0u32..20))).prop_map(|(credits, log, hint)| Message::Grant {
            credits,
            block_bytes: 1 << log,
            hint: hint.map(|(blob, piece)| (blob, Piece(piece))),
        }),
        1 => (0u16..9).prop_map(|credits| Message::Return { credits }),
        1 => (0u64..20).prop_map(|request| Message::Cancel { request: RequestId(request) }),
    ]
}

fn any_input() -> impl Strategy<Value = Input> {
    let from = (1u8..5).prop_map(peer);
    let blob = prop::sample::select(vec![BLOB, BlobHash([8; 32])]);
    let outcome = prop::sample::select(vec![
        FetchOutcome::Delivered,
        FetchOutcome::Delivered,
        FetchOutcome::BadBytes,
        FetchOutcome::NotHeld,
        FetchOutcome::NoCredit,
        FetchOutcome::Lost,
        FetchOutcome::StoreFailed,
    ]);
    let want = (blob.clone(), prop::sample::select(vec![Some(SIZE), Some(SIZE), None, Some(0)])).prop_map(|(blob, size)| Want {
        blob,
        size,
        held: SpanSet::new(),
        order: Order::default(),
    });
    let command = prop_oneof![
        4 => want.prop_map(|want| Command::Join { swarm: SwarmId(want.blob), wants: vec![want], providers: vec![peer(1)] }),
        1 => blob.clone().prop_map(|blob| Command::Leave { swarm: SwarmId(blob) }),
        1 => (blob.clone(), any_span())
            .prop_map(|(blob, span)| Command::Offer { blob, size: SIZE, held: SpanSet::from(span) }),
        1 => blob.clone().prop_map(|blob| Command::Withdraw { blob }),
        1 => any::<bool>().prop_map(|paused| Command::Pause { paused }),
        1 => (blob.clone(), any::<bool>()).prop_map(|(blob, ends)| Command::Survey { blobs: vec![blob], ends }),
        1 => (blob.clone(), prop::collection::vec(0u64..300, 0..4)).prop_map(|(blob, at)| Command::Read { blob, at }),
    ];
    prop_oneof![
        2 => (from.clone(), prop::sample::select(vec![PeerClass::Wan, PeerClass::Lan, PeerClass::Mirror]))
            .prop_map(|(peer, class)| Input::PeerConnected { peer, class, prefix: Prefix::default() }),
        1 => from.clone().prop_map(|peer| Input::PeerGone { peer }),
        1 => from.clone().prop_map(|peer| Input::DialFailed { peer }),
        1 => from.clone().prop_map(|peer| Input::Malformed { peer }),
        12 => (from.clone(), any_message()).prop_map(|(peer, message)| Input::Message { peer, message }),
        4 => (from.clone(), 0u64..20, blob.clone(), any_span())
            .prop_map(|(peer, request, blob, span)| Input::Requested { peer, request: RequestId(request), blob, size: SIZE, span }),
        2 => (from.clone(), 0u64..20).prop_map(|(peer, request)| Input::ServeEnded {
            peer, request: RequestId(request), outcome: ServeOutcome::Sent
        }),
        8 => (0u64..40, outcome, 0u64..40).prop_map(|(request, outcome, verified_groups)| Input::FetchEnded {
            request: RequestId(request), outcome, verified_groups
        }),
        3 => (blob.clone(), any_span()).prop_map(|(blob, span)| Input::SpanStored { blob, size: SIZE, span }),
        1 => (blob.clone(), any_span()).prop_map(|(blob, span)| Input::SpanLost { blob, span }),
        1 => (blob, from).prop_map(|(blob, peer)| Input::ProvidersFound { blob, providers: vec![peer], finished: true }),
        4 => command.prop_map(Input::Command),
        2 => Just(Input::Tick),
    ]
}

proptest! {
    /// Whatever happens, in whatever order: no panic, no contradiction, no promise broken.
    #[test]
    fn any_sequence_of_facts_keeps_the_invariants(
        seed in any::<u64>(), steps in prop::collection::vec((any_input(), 0u64..3_000), 1..120),
    ) {
        let mut engine = Engine::new(EngineConfig::default(), seed);
        let mut now = Instant::START;
        let mut asked = BTreeSet::new();
        for (input, ms) in steps {
            now = now + Duration::from_millis(ms);
            let answered = match &input {
                Input::Requested { peer, request, .. } => Some((*peer, *request)),
                _ => None,
            };
            engine.handle(now, input);
            engine.check_invariants();
            let mut answers = 0;
            while let Some(output) = engine.poll_output() {
                match output {
                    Output::Fetch { request, span, size, .. } => {
                        prop_assert!(asked.insert(request), "a request id was used twice");
                        prop_assert!(Geometry::of(size).contains(span));
                        prop_assert!(Geometry::of(size).bytes_in(span) <= crate::limits::BLOCK_MAX_BYTES.into());
                    }
                    Output::Serve { peer, request, .. } | Output::Refuse { peer, request, .. } => {
                        prop_assert_eq!(answered, Some((peer, request)));
                        answers += 1;
                    }
                    Output::Send { message, .. } => prop_assert_eq!(message.violation(), None),
                    _ => (),
                }
            }
            prop_assert_eq!(answers, usize::from(answered.is_some()), "one answer a request");
            prop_assert!(engine.in_flight_bytes() <= crate::limits::IN_FLIGHT_BYTES + u64::from(crate::limits::BLOCK_MAX_BYTES));
            prop_assert!(engine.next_wakeup().is_none_or(|at| at > now), "a wake-up in the past would spin");
        }
    }
}
