//! What mirrors are asked for, beside peers that bring much, little or nothing.

use super::*;

const LARGE: u64 = 128 << 20;
const MBIT: u64 = 125_000;
/// The mirror's name.
const MIRROR: u8 = 9;
/// Longer than mirrors wait for peers.
const LATER: Duration = Duration::from_secs(4);

/// A fetch of a large blob in virtual time, from sources of which each sends one block after the other at its own rate.
struct Race {
    bench: Bench,
    size: u64,
    /// Bytes a second of each, and until when it is busy.
    sources: BTreeMap<u8, (u64, Instant)>,
    /// What is on its way, by when it arrives.
    due: BTreeMap<(Instant, RequestId), Fetch>,
    brought: BTreeMap<u8, u64>,
}

impl Race {
    fn new() -> Self {
        Self::of(LARGE)
    }

    fn of(size: u64) -> Self {
        let mut bench = Bench::new();
        let wants = vec![Want { blob: BLOB, size: Some(size), held: SpanSet::new(), order: Order::default() }];
        bench.put(Input::Command(Command::Join { swarm: SwarmId(BLOB), wants, providers: vec![] }));
        Self { bench, size, sources: BTreeMap::new(), due: BTreeMap::new(), brought: BTreeMap::new() }
    }

    /// Invariants are checked as long as that does not take minutes.
    fn put(&mut self, input: Input) -> Vec<Output> {
        if self.size <= LARGE {
            return self.bench.put(input);
        }
        self.bench.engine.handle(self.bench.now, input);
        std::iter::from_fn(|| self.bench.engine.poll_output()).collect()
    }

    fn say(&mut self, from: u8, message: Message) -> Vec<Output> {
        self.put(Input::Message { peer: peer(from), message })
    }

    /// A source comes that sends so fast and has these pieces.
    fn add(&mut self, index: u8, class: PeerClass, rate: u64, pieces: HavePieces) {
        self.sources.insert(index, (rate, self.bench.now));
        let mut outputs = self.put(Input::PeerConnected { peer: peer(index), class, prefix: Prefix::default() });
        outputs.extend(self.say(index, Message::Have { blob: BLOB, size: self.size, pieces }));
        let (credits, log) = if class == PeerClass::Mirror { (64, 22) } else { (8, 18) };
        outputs.extend(self.say(index, Message::Grant { credits, block_bytes: 1 << log, hint: None }));
        self.send(&outputs);
    }

    fn mirror(&mut self, rate: u64) {
        self.add(MIRROR, PeerClass::Mirror, rate, HavePieces::All);
    }

    fn send(&mut self, outputs: &[Output]) {
        for fetch in fetches_in(outputs) {
            let (rate, free_at) = self.sources.get_mut(&fetch.provider.0[0]).expect("a source of ours");
            let bytes = Geometry::of(self.size).bytes_in(fetch.span);
            *free_at = self.bench.now.max(*free_at) + Duration::from_nanos(bytes * 1_000_000_000 / *rate);
            self.due.insert((*free_at, fetch.request), fetch);
        }
    }

    /// The next thing that happens; `false` if nothing will before this time.
    fn step(&mut self, until: Instant) -> bool {
        let arrival = self.due.keys().next().map(|(at, _)| *at);
        let wake = self.bench.engine.next_wakeup();
        let Some(next) = [arrival, wake].into_iter().flatten().min().filter(|at| *at <= until) else { return false };
        self.bench.now = self.bench.now.max(next);
        let outputs = if arrival == Some(next) {
            let (_, fetch) = self.due.pop_first().expect("it is due");
            let index = fetch.provider.0[0];
            *self.brought.entry(index).or_default() += Geometry::of(self.size).bytes_in(fetch.span);
            let verified_groups = fetch.span.groups();
            let ended = Input::FetchEnded { request: fetch.request, outcome: FetchOutcome::Delivered, verified_groups };
            let mut outputs = self.put(ended);
            let log = if index == MIRROR { 22 } else { 18 };
            outputs.extend(self.say(index, Message::Grant { credits: 1, block_bytes: 1 << log, hint: None }));
            outputs
        } else {
            self.put(Input::Tick)
        };
        self.send(&outputs);
        true
    }

    fn run(&mut self, time: Duration) {
        let until = self.bench.now + time;
        while self.step(until) {}
        self.bench.now = until;
    }

    /// To the end; returns what part of it the mirror brought, in percent, and how long it took.
    fn finish(&mut self) -> (u64, Duration) {
        let began = self.bench.now;
        let end = began + Duration::from_secs(24 * 3600);
        let whole = |race: &Self| race.bench.engine.progress(BLOB).is_none_or(|progress| progress.verified == race.size);
        while !whole(self) {
            assert!(self.step(end), "it stands still");
        }
        let all: u64 = self.brought.values().sum();
        let mirror = self.brought.get(&MIRROR).copied().unwrap_or(0);
        (mirror * 100 / all, self.bench.now - began)
    }
}

#[test]
fn a_mirror_alone_brings_all_of_it_after_peers_have_been_looked_for() {
    let mut race = Race::new();
    race.mirror(100 * MBIT);
    race.run(Duration::from_millis(2900));
    assert!(race.due.is_empty(), "peers may still come");
    let (share, took) = race.finish();
    // 10.7 s at its rate.
    assert!(share == 100 && took < Duration::from_secs(13), "{share} %, {took:?}");
}

#[test]
fn several_requests_fill_a_mirror_that_is_needed() {
    let mut race = Race::new();
    race.mirror(100 * MBIT);
    race.run(LATER);
    assert_eq!(race.due.len(), 4);
}

#[test]
fn four_peers_leave_little_to_a_mirror_and_it_lets_them() {
    let mut race = Race::new();
    race.mirror(1000 * MBIT);
    (1..=4).for_each(|index| race.add(index, PeerClass::Wan, 50 * MBIT, HavePieces::All));
    let (share, took) = race.finish();
    // The peers alone take 5.4 s.
    assert!((1..20).contains(&share) && took < Duration::from_secs(6), "{share} %, {took:?}");
}

#[test]
fn peers_that_come_late_take_over() {
    let mut race = Race::new();
    race.mirror(20 * MBIT);
    race.run(LATER);
    (1..=4).for_each(|index| race.add(index, PeerClass::Wan, 50 * MBIT, HavePieces::All));
    let (share, _) = race.finish();
    assert!(share < 30, "{share} %");
}

#[test]
fn a_slow_peer_is_no_reason_to_wait() {
    let mut race = Race::new();
    race.mirror(100 * MBIT);
    race.add(1, PeerClass::Wan, 2 * MBIT, HavePieces::All);
    let (share, took) = race.finish();
    assert!(share > 90 && took < Duration::from_secs(16), "{share} %, {took:?}");
}

/// Five minutes at the peers' rate: they are left to it. An hour: the mirror brings what they would not in ten minutes.
#[test]
fn nobody_waits_for_peers_for_longer_than_ten_minutes() {
    for (size, least, most) in [(600 << 20, 1, 15), (3 << 30, 40, 60)] {
        let mut race = Race::of(size);
        race.mirror(1000 * MBIT);
        race.add(1, PeerClass::Wan, 20 * MBIT, HavePieces::All);
        let (share, took) = race.finish();
        assert!((least..=most).contains(&share) && took < Duration::from_secs(700), "{share} %, {took:?}");
    }
}

#[test]
fn peers_that_fail_leave_it_to_the_mirror() {
    let mut race = Race::new();
    race.mirror(100 * MBIT);
    (1..=4).for_each(|index| race.add(index, PeerClass::Wan, 20 * MBIT, HavePieces::All));
    race.run(LATER);
    for index in 1..=4 {
        let outputs = race.bench.put(Input::PeerGone { peer: peer(index) });
        race.send(&outputs);
    }
    race.due.retain(|_, fetch| fetch.provider == peer(MIRROR));
    let (share, _) = race.finish();
    assert!((50..95).contains(&share), "{share} %");
}

/// Two peers that are fast have one half; only the mirror has the other.
#[test]
fn what_no_peer_has_is_a_mirrors_whatever_they_bring() {
    let mut race = Race::new();
    race.mirror(100 * MBIT);
    let half: Vec<u8> = (0..64).map(|byte| if byte < 32 { 0xff } else { 0 }).collect();
    (1..=2).for_each(|index| race.add(index, PeerClass::Wan, 50 * MBIT, HavePieces::Map(half.clone())));
    race.run(LATER);
    assert!(race.bench.engine.peers_suffice());
    let of_mirror = |race: &Race| race.due.values().filter(|fetch| fetch.provider == peer(MIRROR)).cloned().collect::<Vec<_>>();
    let asked = of_mirror(&race);
    assert_eq!(asked.len(), 1, "one at a time");
    let (share, _) = race.finish();
    assert!((50..65).contains(&share), "{share} %");
}

#[test]
fn a_mirror_that_stalls_is_stolen_from() {
    let mut race = Race::new();
    race.mirror(MBIT / 8);
    race.add(1, PeerClass::Wan, 50 * MBIT, HavePieces::All);
    race.add(2, PeerClass::Wan, 50 * MBIT, HavePieces::All);
    let (share, took) = race.finish();
    assert!(share < 10 && took < Duration::from_secs(20), "{share} %, {took:?}");
}

#[test]
fn a_mirror_is_no_neighbour_and_its_word_no_copy() {
    let mut bench = Bench::new();
    bench.join(Some(SIZE));
    let mirror = Input::PeerConnected { peer: peer(MIRROR), class: PeerClass::Mirror, prefix: Prefix::default() };
    let asked = |outputs: &[Output]| {
        outputs.iter().any(|output| matches!(output, Output::Send { message: Message::Interest { .. }, .. }))
    };
    assert!(asked(&bench.put(mirror)), "it is asked what it holds");
    bench.say(MIRROR, Message::Have { blob: BLOB, size: SIZE, pieces: HavePieces::All });
    // Somebody else is looked for all the same, and is told of peers only.
    assert!(bench.pass(LATER).contains(&Output::FindProviders { blob: BLOB }));
    let stored = bench.put(Input::SpanStored { blob: BLOB, size: SIZE, span: span(0, 256) });
    assert!(stored.contains(&Output::Notify(Event::BlobStored { blob: BLOB })));
    assert!(!stored.contains(&Output::Notify(Event::LeaveSafe { blob: BLOB })));
    assert_eq!(bench.engine.copies(BLOB), 0);
    bench.put(Input::PeerConnected { peer: peer(1), class: PeerClass::Wan, prefix: Prefix::default() });
    let outputs = bench.say(1, Message::Interest { blobs: vec![BLOB] });
    assert!(!outputs.iter().any(|output| matches!(output, Output::Introduce { .. })), "{outputs:?}");
    let outputs = bench.put(Input::Command(Command::Survey { blobs: vec![BLOB], ends: false }));
    assert!(!outputs.iter().any(|output| matches!(output, Output::Send { peer: to, .. } if *to == peer(MIRROR))), "{outputs:?}");
}

#[test]
fn credits_of_a_mirror_are_kept_and_do_not_make_us_look_full() {
    let mut bench = Bench::new();
    bench.join(Some(LARGE));
    for (index, class) in [(MIRROR, PeerClass::Mirror), (1, PeerClass::Wan)] {
        bench.put(Input::PeerConnected { peer: peer(index), class, prefix: Prefix::default() });
    }
    bench.say(MIRROR, Message::Have { blob: BLOB, size: LARGE, pieces: HavePieces::All });
    let outputs = bench.say(MIRROR, Message::Grant { credits: 64, block_bytes: 1 << 20, hint: None });
    assert_eq!(fetches_in(&outputs), []);
    let outputs = bench.pass(LATER);
    let fetches = fetches_in(&outputs);
    assert_eq!(fetches.len(), 2, "as many as at anybody who has not delivered");
    assert!(!outputs.iter().any(|output| matches!(output, Output::Send { message: Message::Return { .. }, .. })), "{outputs:?}");
    bench.deliver(&fetches[0]);
    let outputs = bench.say(1, Message::Have { blob: BLOB, size: LARGE, pieces: HavePieces::All });
    let told = outputs.iter().find_map(|output| match output {
        Output::Send { peer: to, message: Message::Load { held, .. } } if *to == peer(1) => Some(*held),
        _ => None,
    });
    assert_eq!(told, Some(0));
}

/// One here has all of it, and sends it slowly: the link is nobody else's, so the mirror may bring what it likes. One that sends it fast is
/// all that is needed.
#[test]
fn who_has_it_all_on_the_local_network_shares_no_link() {
    for (rate, least, most) in [(2 * MBIT, 90, 100), (50 * MBIT, 0, 0)] {
        let mut race = Race::new();
        race.bench.engine.config.me = Some(peer(7));
        race.mirror(100 * MBIT);
        race.add(1, PeerClass::Lan, rate, HavePieces::All);
        race.say(1, Message::Interest { blobs: vec![BLOB] });
        let (share, _) = race.finish();
        assert!((least..=most).contains(&share), "{share} % beside {rate} bytes/s");
    }
}

/// Beside others on the local network, a mirror is asked for our own pieces only, like anybody outside.
#[test]
fn a_mirror_lies_outside_the_local_network() {
    let mut bench =
        Bench { engine: Engine::new(EngineConfig { me: Some(peer(7)), ..EngineConfig::default() }, 1), now: Instant::START };
    bench.join(Some(SIZE));
    bench.put(Input::PeerConnected { peer: peer(1), class: PeerClass::Lan, prefix: Prefix::default() });
    bench.say(1, Message::Interest { blobs: vec![BLOB] });
    bench.put(Input::PeerConnected { peer: peer(MIRROR), class: PeerClass::Mirror, prefix: Prefix::default() });
    bench.say(MIRROR, Message::Have { blob: BLOB, size: SIZE, pieces: HavePieces::All });
    let mut fetches = fetches_in(&bench.say(MIRROR, Message::Grant { credits: 64, block_bytes: 1 << 18, hint: None }));
    let mut groups = 0;
    for _ in 0..40 {
        fetches.extend(fetches_in(&bench.pass(Duration::from_millis(500))));
        for fetch in std::mem::take(&mut fetches) {
            groups += fetch.span.groups();
            fetches.extend(fetches_in(&bench.deliver(&fetch)));
        }
    }
    assert!((16..=240).contains(&groups), "{groups} of 256 groups: the other's pieces are its own to fetch");
}
