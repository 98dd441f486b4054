//! Which path the next requests to a peer take, by what each path has brought. Pure book-keeping: time is an argument.
//!
//! With a near peer a transfer begins over TCP, which costs the least processor time, and stays there; with a far one over QUIC, which loss
//! does not stop. When it has run for a while, single requests to a far peer try the other kind of connection: a path that brings clearly
//! more with one request at a time, where the present one has many, takes its place, and is left again if it does not keep the promise. What
//! breaks is left for the next one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use p2pweights_protocol::engine::PeerClass;
use p2pweights_protocol::ids::PeerId;
use p2pweights_protocol::limits;

use crate::net::BulkPath;

/// Round trips from which on a peer is far enough for loss to hurt: at 50 ms, one packet in a thousand lost keeps Cubic at 9 Mbit/s.
const LONG: Duration = Duration::from_millis(50);
/// How long a path is measured: long enough for its start not to count for much, short enough to be over within a few spans.
const MEASURE: Duration = Duration::from_secs(4);
/// Bytes a second over TCP above which nothing else is tried: 400 Mbit/s are no lossy link.
const FAST: u64 = 50_000_000;
/// A path must bring so many permille of what the present one brings to take its place: both are noisy, and a change costs a start.
const BETTER: u64 = 1_200;
/// Requests by which a path is tried, one after the other: the first ones find the connection cold.
const TRIES: u32 = 6;
/// From the end of one trial to the next.
const PAUSE: Duration = Duration::from_secs(600);
/// A trial that is not over by then has failed: nothing came.
const TRIAL: Duration = Duration::from_secs(60);
/// How long a path that broke is left alone, if there is another one.
const BROKEN: Duration = Duration::from_secs(60);
/// How long a path that could not be had is left alone: as long as the network does not try it anyway.
const UNREACHABLE: Duration = PAUSE;

/// A path to a peer, as it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathLook {
    /// The path.
    pub path: BulkPath,
    /// Whether the next requests go there.
    pub current: bool,
    /// Payload bytes a second when it was last measured.
    pub rate_bytes_per_s: Option<u64>,
}

/// What is known of one path to one peer.
#[derive(Debug, Clone, Copy, Default)]
struct Track {
    /// Whether anything has been asked for on it.
    used: bool,
    /// Requests under way.
    open: usize,
    /// Since when it is measured, and what has come.
    measured: Option<(Instant, u64)>,
    rate: Option<u64>,
    shunned: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    path: BulkPath,
    /// What the present path brought.
    before: u64,
    began: Instant,
    /// Since when a request is under way on it.
    asked: Option<Instant>,
    ended: u32,
}

#[derive(Debug)]
struct Choice {
    far: bool,
    current: BulkPath,
    trial: Option<Trial>,
    /// The path that was left for the current one, and what it brought: until the current one has brought as much.
    left: Option<(BulkPath, u64)>,
    next_trial: Option<Instant>,
    tracks: BTreeMap<BulkPath, Track>,
}

/// The paths to all peers.
#[derive(Debug)]
pub struct Paths {
    allowed: Vec<BulkPath>,
    peers: BTreeMap<PeerId, Choice>,
}

impl Paths {
    /// No peers yet; these paths may be used, one at least.
    pub fn new(allowed: &[BulkPath]) -> Self {
        let allowed = BulkPath::ALL.into_iter().filter(|path| allowed.contains(path)).collect();
        Self { allowed, peers: BTreeMap::new() }
    }

    /// A peer is there.
    pub fn met(&mut self, peer: PeerId, class: PeerClass) {
        if self.peers.len() < limits::REMEMBERED_PEERS || self.peers.contains_key(&peer) {
            self.peers.insert(peer, Choice::new(class == PeerClass::Wan, first(&self.allowed)));
        }
    }

    /// A peer is gone.
    pub fn forget(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }

    /// The path for the next request to a peer at this round trip; the request counts as under way there.
    pub fn take(&mut self, peer: PeerId, round_trip: Option<Duration>, now: Instant) -> BulkPath {
        let first = first(&self.allowed);
        let Some(choice) = self.peers.get_mut(&peer) else { return first };
        if choice.tracks.is_empty()
            && choice.far
            && round_trip.is_some_and(|rtt| rtt >= LONG)
            && self.allowed.contains(&BulkPath::Quic)
        {
            choice.current = BulkPath::Quic;
        }
        choice.take(now)
    }

    /// A request is over; so many bytes of payload came.
    pub fn ended(&mut self, peer: PeerId, path: BulkPath, bytes: u64, now: Instant) {
        if let Some(choice) = self.peers.get_mut(&peer) {
            choice.ended(path, bytes, now, &self.allowed);
        }
    }

    /// A path broke while requests were under way on it.
    pub fn broke(&mut self, peer: PeerId, path: BulkPath, now: Instant) {
        if let Some(choice) = self.peers.get_mut(&peer) {
            choice.shun(path, now + BROKEN, now, &self.allowed);
        }
    }

    /// The wanted path could not be had; the network took another one.
    pub fn unreachable(&mut self, peer: PeerId, wanted: BulkPath, now: Instant) {
        if let Some(choice) = self.peers.get_mut(&peer) {
            choice.shun(wanted, now + UNREACHABLE, now, &self.allowed);
        }
    }

    /// Every path to every peer that has been used.
    pub fn look(&self) -> BTreeMap<PeerId, Vec<PathLook>> {
        let look = |choice: &Choice| {
            let used = choice.tracks.iter().filter(|(_, track)| track.used);
            let look = |(path, track): (&BulkPath, &Track)| PathLook {
                path: *path,
                current: choice.current == *path,
                rate_bytes_per_s: track.rate,
            };
            used.map(look).collect()
        };
        self.peers.iter().map(|(peer, choice)| (*peer, look(choice))).collect()
    }
}

fn first(allowed: &[BulkPath]) -> BulkPath {
    allowed.first().copied().unwrap_or(BulkPath::Stream)
}

impl Choice {
    fn new(far: bool, current: BulkPath) -> Self {
        Self { far, current, trial: None, left: None, next_trial: None, tracks: BTreeMap::new() }
    }

    fn take(&mut self, now: Instant) -> BulkPath {
        if self.trial.is_some_and(|trial| now.saturating_duration_since(trial.began) >= TRIAL) {
            self.end_trial(now);
        }
        let path = match &mut self.trial {
            Some(trial) if trial.asked.is_none() => {
                trial.asked = Some(now);
                trial.path
            }
            _ => self.current,
        };
        let track = self.tracks.entry(path).or_default();
        (track.used, track.open) = (true, track.open + 1);
        path
    }

    fn is_shunned(&self, path: BulkPath, now: Instant) -> bool {
        self.tracks.get(&path).and_then(|track| track.shunned).is_some_and(|until| now < until)
    }

    fn ended(&mut self, path: BulkPath, bytes: u64, now: Instant, allowed: &[BulkPath]) {
        let track = self.tracks.entry(path).or_default();
        track.open = track.open.saturating_sub(1);
        if self.trial.is_some_and(|trial| trial.path == path) {
            return self.tried(bytes, now);
        }
        if bytes == 0 {
            return;
        }
        let Some((since, before)) = track.measured else {
            // From the first delivery on: what it took to begin is not the link's.
            track.measured = Some((now, 0));
            return;
        };
        let (took, came) = (now.saturating_duration_since(since), before + bytes);
        if took >= MEASURE {
            let rate = per_second(came, took);
            // What still grows, grows with what is asked for: it says nothing yet about the path.
            let settled = track.rate.is_some_and(|last| u128::from(rate) * 1000 < u128::from(last) * u128::from(BETTER));
            track.rate = Some(rate);
            track.measured = Some((now, 0));
            if path == self.current && settled {
                self.measured(rate, now, allowed);
            }
        } else if track.open == 0 {
            // Nothing is asked for: the pause that follows is not the link's.
            track.measured = None;
        } else {
            track.measured = Some((since, came));
        }
    }

    /// The request that tried another path is over.
    fn tried(&mut self, bytes: u64, now: Instant) {
        let Some(trial) = &mut self.trial else { return };
        let took = trial.asked.take().map_or(Duration::ZERO, |asked| now.saturating_duration_since(asked));
        trial.ended += 1;
        let rate = if took.is_zero() { 0 } else { per_second(bytes, took) };
        if u128::from(rate) * 1000 >= u128::from(trial.before) * u128::from(BETTER) {
            self.left = Some((self.current, trial.before));
            self.current = trial.path;
            self.end_trial(now);
        } else if trial.ended >= TRIES {
            self.end_trial(now);
        }
    }

    /// The current path has been measured, and does not grow any more.
    fn measured(&mut self, rate: u64, now: Instant, allowed: &[BulkPath]) {
        if let Some((old, before)) = self.left.take()
            && rate < before
            && !self.is_shunned(old, now)
        {
            self.current = old;
            self.next_trial = Some(now + PAUSE);
            return;
        }
        let other = match self.current {
            BulkPath::Direct if rate >= FAST => return,
            BulkPath::Direct => BulkPath::Quic,
            BulkPath::Quic | BulkPath::Stream => BulkPath::Direct,
        };
        let due = self.trial.is_none() && self.next_trial.is_none_or(|at| now >= at);
        if due && self.far && allowed.contains(&other) && !self.is_shunned(other, now) {
            self.trial = Some(Trial { path: other, before: rate, began: now, asked: None, ended: 0 });
        }
    }

    fn end_trial(&mut self, now: Instant) {
        self.trial = None;
        self.next_trial = Some(now + PAUSE);
    }

    fn shun(&mut self, path: BulkPath, until: Instant, now: Instant, allowed: &[BulkPath]) {
        let track = self.tracks.entry(path).or_default();
        (track.shunned, track.measured) = (Some(until), None);
        if self.trial.is_some_and(|trial| trial.path == path) {
            self.end_trial(now);
        }
        if self.current == path {
            let other = allowed.iter().copied().find(|other| !self.is_shunned(*other, now));
            self.current = other.unwrap_or(path);
            self.left = None;
            self.next_trial = Some(now + PAUSE);
        }
    }
}

fn per_second(bytes: u64, took: Duration) -> u64 {
    u64::try_from(u128::from(bytes) * 1_000_000 / took.as_micros().max(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::BulkPath::{Direct, Quic, Stream};
    use super::*;

    const PEER: PeerId = PeerId([1; 32]);
    const MB: u64 = 1_000_000;

    /// Round trip to somebody in the same country, and to somebody on another continent.
    const SHORT_TRIP: Duration = Duration::from_millis(10);
    const LONG_TRIP: Duration = Duration::from_millis(150);

    struct World {
        paths: Paths,
        now: Instant,
        round_trip: Duration,
    }

    impl World {
        fn new(class: PeerClass, round_trip: Duration, allowed: &[BulkPath]) -> Self {
            let mut paths = Paths::new(allowed);
            paths.met(PEER, class);
            Self { paths, now: Instant::now(), round_trip }
        }

        fn take(&mut self) -> BulkPath {
            self.paths.take(PEER, Some(self.round_trip), self.now)
        }

        /// Fetches for so many seconds: every quarter of a second one of four requests ends, by the rate that its path has. The path at
        /// the end.
        fn run(&mut self, seconds: u64, rate: impl Fn(BulkPath) -> u64) -> BulkPath {
            let mut open: Vec<BulkPath> = (0..4).map(|_| self.take()).collect();
            for _ in 0..seconds * 4 {
                self.now += Duration::from_millis(250);
                let path = open.remove(0);
                self.paths.ended(PEER, path, rate(path) / 4, self.now);
                open.push(self.take());
            }
            for path in open {
                self.paths.ended(PEER, path, 0, self.now);
            }
            self.current()
        }

        fn current(&mut self) -> BulkPath {
            let path = self.take();
            self.paths.ended(PEER, path, 0, self.now);
            self.paths.look()[&PEER].iter().find(|look| look.current).expect("it has been used").path
        }

        fn rate(&self, path: BulkPath) -> Option<u64> {
            let look = self.paths.look();
            look[&PEER].iter().find(|look| look.path == path).and_then(|look| look.rate_bytes_per_s)
        }

        fn used(&self, path: BulkPath) -> bool {
            self.paths.look()[&PEER].iter().any(|look| look.path == path)
        }
    }

    #[test]
    fn far_peers_begin_where_loss_does_not_matter() {
        for (class, round_trip, allowed, first) in [
            (PeerClass::Wan, LONG_TRIP, &BulkPath::ALL[..], Quic),
            (PeerClass::Wan, SHORT_TRIP, &BulkPath::ALL, Direct),
            (PeerClass::Lan, LONG_TRIP, &BulkPath::ALL, Direct),
            (PeerClass::Wan, LONG_TRIP, &[Direct, Stream], Direct),
        ] {
            assert_eq!(World::new(class, round_trip, allowed).current(), first, "{class:?}, {round_trip:?}, {allowed:?}");
        }
    }

    #[test]
    fn the_better_of_two_is_found_and_kept() {
        let mut world = World::new(PeerClass::Wan, SHORT_TRIP, &BulkPath::ALL);
        assert_eq!(world.run(3, |_| MB), Direct);
        // One request at a time of the four brings a quarter of what the path can.
        let lossy = |path| if path == Direct { MB } else { 8 * MB };
        assert_eq!(world.run(20, lossy), Quic);
        assert_eq!(world.run(300, lossy), Quic);
        assert_eq!(world.rate(Direct), Some(MB));
        assert_eq!(world.rate(Quic), Some(8 * MB));
    }

    #[test]
    fn what_is_not_clearly_better_is_not_worth_a_change() {
        let mut world = World::new(PeerClass::Wan, SHORT_TRIP, &BulkPath::ALL);
        let alike = |path| if path == Direct { 10 * MB } else { 11 * MB };
        assert_eq!(world.run(30, alike), Direct);
        assert!(world.used(Quic), "it was tried");
        // The link changes: the next trial finds out.
        let worse = |path| if path == Direct { MB } else { 11 * MB };
        assert_eq!(world.run(500, worse), Direct);
        assert_eq!(world.run(200, worse), Quic);
    }

    #[test]
    fn a_promise_that_is_not_kept_costs_a_few_seconds() {
        let mut world = World::new(PeerClass::Wan, LONG_TRIP, &BulkPath::ALL);
        // A provider that lets short bursts through and slows what lasts.
        assert_eq!(world.run(4, |path| if path == Quic { 2 * MB } else { 40 * MB }), Quic);
        let mut seen = Vec::new();
        for _ in 0..60 {
            seen.push(world.run(1, |path| {
                if path == Quic {
                    2 * MB
                } else if seen.contains(&Direct) {
                    MB
                } else {
                    40 * MB
                }
            }));
        }
        assert_eq!(seen.last(), Some(&Quic));
        assert!((1..15).contains(&seen.iter().filter(|path| **path == Direct).count()), "{seen:?}");
    }

    #[test]
    fn a_path_that_still_grows_is_not_compared() {
        let mut world = World::new(PeerClass::Wan, LONG_TRIP, &BulkPath::ALL);
        for doubled in 0..6 {
            assert_eq!(world.run(5, |path| if path == Quic { MB << doubled } else { 90 * MB }), Quic);
            assert!(!world.used(Direct), "after {doubled} doublings");
        }
        assert_eq!(world.run(10, |path| if path == Quic { 32 * MB } else { 300 * MB }), Direct);
    }

    #[test]
    fn near_and_fast_peers_are_left_alone() {
        let other_would_be_better = |path| if path == Direct { 60 * MB } else { 600 * MB };
        let mut near = World::new(PeerClass::Lan, SHORT_TRIP, &BulkPath::ALL);
        assert_eq!(near.run(700, |path| other_would_be_better(path) / 10), Direct);
        assert!(!near.used(Quic));
        let mut fast = World::new(PeerClass::Wan, SHORT_TRIP, &BulkPath::ALL);
        assert_eq!(fast.run(700, other_would_be_better), Direct);
        assert!(!fast.used(Quic));
    }

    #[test]
    fn a_trial_costs_one_request_at_a_time_and_ends() {
        let mut world = World::new(PeerClass::Wan, LONG_TRIP, &BulkPath::ALL);
        world.run(10, |_| MB);
        let taken: Vec<BulkPath> = (0..20).map(|_| world.take()).collect();
        assert_eq!(taken.iter().filter(|path| **path == Direct).count(), 1, "{taken:?}");
        // Nothing comes of it: after a minute it is over, and the next one is far off.
        world.now += TRIAL;
        assert!((0..20).all(|_| world.take() == Quic));
    }

    #[test]
    fn what_breaks_is_left_for_the_next_one_and_comes_back_later() {
        let mut world = World::new(PeerClass::Wan, SHORT_TRIP, &BulkPath::ALL);
        world.run(2, |_| MB);
        world.paths.broke(PEER, Direct, world.now);
        assert_eq!(world.current(), Quic);
        world.paths.unreachable(PEER, Quic, world.now);
        assert_eq!(world.current(), Stream);
        world.paths.broke(PEER, Stream, world.now);
        assert_eq!(world.current(), Stream, "there is no other one");
        assert_eq!(world.run(550, |_| MB), Stream);
        assert_eq!(world.run(80, |path| if path == Direct { 8 * MB } else { MB }), Direct);
    }

    #[test]
    fn a_trial_whose_path_breaks_is_over() {
        let mut world = World::new(PeerClass::Wan, LONG_TRIP, &BulkPath::ALL);
        world.run(10, |_| MB);
        assert_eq!(world.take(), Direct, "being tried");
        world.paths.broke(PEER, Direct, world.now);
        assert!((0..20).all(|_| world.take() == Quic));
    }

    #[test]
    fn only_what_is_allowed_is_taken() {
        let mut world = World::new(PeerClass::Wan, SHORT_TRIP, &[Stream, Quic]);
        assert_eq!(world.current(), Quic);
        assert_eq!(world.run(700, |path| if path == Quic { MB } else { 9 * MB }), Quic);
        world.paths.broke(PEER, Quic, world.now);
        assert_eq!(world.current(), Stream);
    }

    #[test]
    fn pauses_do_not_count() {
        let mut world = World::new(PeerClass::Lan, SHORT_TRIP, &BulkPath::ALL);
        for _ in 0..10 {
            world.run(1, |_| 10 * MB);
            world.now += Duration::from_secs(30);
        }
        world.run(10, |_| 10 * MB);
        assert_eq!(world.rate(Direct), Some(10 * MB));
    }

    #[test]
    fn strangers_and_the_forgotten_take_the_first_path() {
        let mut world = World::new(PeerClass::Wan, LONG_TRIP, &BulkPath::ALL);
        world.paths.broke(PEER, Direct, world.now);
        world.paths.forget(PEER);
        assert_eq!(world.take(), Direct);
        assert!(world.paths.look().is_empty());
    }
}
