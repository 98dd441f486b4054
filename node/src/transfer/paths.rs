//! Which path the next requests to a peer take, by what each path has brought. Pure book-keeping: time is an argument.
//!
//! A transfer begins on the first path that can be had. When it has run for a while, and the peer is far and not fast, the other kind of
//! connection is tried: the next requests go there, and the path is kept if it brings clearly more. What breaks is left for the next one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use p2pweights_protocol::engine::PeerClass;
use p2pweights_protocol::ids::PeerId;
use p2pweights_protocol::limits;

use crate::net::BulkPath;

/// How long a path is measured: long enough for its start not to count for much, short enough to be over within a few spans.
const MEASURE: Duration = Duration::from_secs(4);
/// Bytes a second above which nothing else is tried: 400 Mbit/s are no lossy link, and another path would cost more processor time.
const FAST: u64 = 50_000_000;
/// A path must bring so many permille of what the present one brings to take its place: both are noisy, and a change costs a start.
const BETTER: u64 = 1_200;
/// From one trial to the next.
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
    before: u64,
    began: Instant,
}

#[derive(Debug)]
struct Choice {
    far: bool,
    current: BulkPath,
    trial: Option<Trial>,
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

    /// The path for the next request to a peer, which counts as under way there.
    pub fn take(&mut self, peer: PeerId, now: Instant) -> BulkPath {
        let first = first(&self.allowed);
        let Some(choice) = self.peers.get_mut(&peer) else { return first };
        choice.end_late_trial(now);
        let path = choice.trial.map_or(choice.current, |trial| trial.path);
        let track = choice.tracks.entry(path).or_default();
        (track.used, track.open) = (true, track.open + 1);
        path
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
        Self { far, current, trial: None, next_trial: None, tracks: BTreeMap::new() }
    }

    fn is_shunned(&self, path: BulkPath, now: Instant) -> bool {
        self.tracks.get(&path).and_then(|track| track.shunned).is_some_and(|until| now < until)
    }

    fn ended(&mut self, path: BulkPath, bytes: u64, now: Instant, allowed: &[BulkPath]) {
        // While the old path still brings what was asked of it, a new one cannot show what it can do; some paths never run dry.
        let elsewhere = self.tracks.iter().any(|(other, track)| *other != path && track.open > 0);
        let crowded = elsewhere && self.trial.is_some_and(|trial| now.saturating_duration_since(trial.began) < 2 * MEASURE);
        let track = self.tracks.entry(path).or_default();
        track.open = track.open.saturating_sub(1);
        if bytes == 0 {
            return;
        }
        if crowded {
            track.measured = None;
            return;
        }
        let Some((since, before)) = track.measured else {
            // From the first delivery on: what it took to begin is not the link's.
            track.measured = Some((now, 0));
            return;
        };
        let (took, came) = (now.saturating_duration_since(since), before + bytes);
        if took >= MEASURE {
            let rate = u64::try_from(u128::from(came) * 1_000_000 / took.as_micros().max(1)).unwrap_or(u64::MAX);
            track.rate = Some(rate);
            track.measured = Some((now, 0));
            self.measured(path, rate, now, allowed);
        } else if track.open == 0 {
            // Nothing is asked for: the pause that follows is not the link's.
            track.measured = None;
        } else {
            track.measured = Some((since, came));
        }
    }

    fn measured(&mut self, path: BulkPath, rate: u64, now: Instant, allowed: &[BulkPath]) {
        match self.trial {
            Some(trial) if trial.path == path => {
                if u128::from(rate) * 1000 >= u128::from(trial.before) * u128::from(BETTER) {
                    self.current = path;
                }
                self.end_trial(now);
            }
            None if path == self.current && self.far && rate < FAST && self.next_trial.is_none_or(|at| now >= at) => {
                let other = match path {
                    BulkPath::Direct => BulkPath::Quic,
                    BulkPath::Quic | BulkPath::Stream => BulkPath::Direct,
                };
                if allowed.contains(&other) && !self.is_shunned(other, now) {
                    self.trial = Some(Trial { path: other, before: rate, began: now });
                    self.tracks.entry(other).or_default().measured = None;
                }
            }
            _ => (),
        }
    }

    fn end_trial(&mut self, now: Instant) {
        self.trial = None;
        self.next_trial = Some(now + PAUSE);
        if let Some(track) = self.tracks.get_mut(&self.current) {
            track.measured = None;
        }
    }

    fn end_late_trial(&mut self, now: Instant) {
        if self.trial.is_some_and(|trial| now.saturating_duration_since(trial.began) >= TRIAL) {
            self.end_trial(now);
        }
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
            self.next_trial = Some(now + PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::BulkPath::{Direct, Quic, Stream};
    use super::*;

    const PEER: PeerId = PeerId([1; 32]);
    const MB: u64 = 1_000_000;

    struct World {
        paths: Paths,
        now: Instant,
    }

    impl World {
        fn new(class: PeerClass, allowed: &[BulkPath]) -> Self {
            let mut paths = Paths::new(allowed);
            paths.met(PEER, class);
            Self { paths, now: Instant::now() }
        }

        /// Fetches for so many seconds, four requests of a quarter second each at a time, at the rate that each path has; the path at the end.
        fn run(&mut self, seconds: u64, rate: impl Fn(BulkPath) -> u64) -> BulkPath {
            let mut open: Vec<BulkPath> = (0..4).map(|_| self.paths.take(PEER, self.now)).collect();
            for _ in 0..seconds * 4 {
                self.now += Duration::from_millis(250);
                let path = open.remove(0);
                self.paths.ended(PEER, path, rate(path) / 4, self.now);
                open.push(self.paths.take(PEER, self.now));
            }
            for path in open {
                self.paths.ended(PEER, path, 0, self.now);
            }
            self.current()
        }

        fn current(&mut self) -> BulkPath {
            let path = self.paths.take(PEER, self.now);
            self.paths.ended(PEER, path, 0, self.now);
            path
        }

        fn rate(&self, path: BulkPath) -> Option<u64> {
            let look = self.paths.look();
            look[&PEER].iter().find(|look| look.path == path).and_then(|look| look.rate_bytes_per_s)
        }
    }

    #[test]
    fn the_better_of_two_is_found_and_kept() {
        let mut world = World::new(PeerClass::Wan, &BulkPath::ALL);
        assert_eq!(world.run(3, |_| MB), Direct);
        let lossy = |path| if path == Direct { MB } else { 8 * MB };
        assert_eq!(world.run(20, lossy), Quic);
        assert_eq!(world.run(300, lossy), Quic);
        assert_eq!(world.rate(Direct), Some(MB));
        assert_eq!(world.rate(Quic), Some(8 * MB));
    }

    #[test]
    fn what_is_not_clearly_better_is_not_worth_a_change() {
        let mut world = World::new(PeerClass::Wan, &BulkPath::ALL);
        let alike = |path| if path == Direct { 10 * MB } else { 11 * MB };
        assert_eq!(world.run(30, alike), Direct);
        assert_eq!(world.rate(Quic), Some(11 * MB), "it was tried");
        // The link changes: the next trial finds out.
        let worse = |path| if path == Direct { MB } else { 11 * MB };
        assert_eq!(world.run(500, worse), Direct);
        assert_eq!(world.run(200, worse), Quic);
    }

    #[test]
    fn near_and_fast_peers_are_left_alone() {
        let other_would_be_better = |path| if path == Direct { 60 * MB } else { 600 * MB };
        let mut near = World::new(PeerClass::Lan, &BulkPath::ALL);
        assert_eq!(near.run(700, |path| other_would_be_better(path) / 10), Direct);
        assert_eq!(near.rate(Quic), None);
        let mut fast = World::new(PeerClass::Wan, &BulkPath::ALL);
        assert_eq!(fast.run(700, other_would_be_better), Direct);
        assert_eq!(fast.rate(Quic), None);
    }

    #[test]
    fn a_trial_that_brings_nothing_ends() {
        let mut world = World::new(PeerClass::Wan, &BulkPath::ALL);
        assert_eq!(world.run(4 + 4, |path| if path == Direct { MB } else { 0 }), Quic, "being tried");
        assert_eq!(world.run(TRIAL.as_secs(), |path| if path == Direct { MB } else { 0 }), Direct);
    }

    #[test]
    fn what_breaks_is_left_for_the_next_one_and_comes_back_later() {
        let mut world = World::new(PeerClass::Wan, &BulkPath::ALL);
        world.run(2, |_| MB);
        world.paths.broke(PEER, Direct, world.now);
        assert_eq!(world.current(), Quic);
        world.paths.unreachable(PEER, Quic, world.now);
        assert_eq!(world.current(), Stream);
        world.paths.broke(PEER, Stream, world.now);
        assert_eq!(world.current(), Stream, "there is no other one");
        assert_eq!(world.run(550, |_| MB), Stream);
        assert_eq!(world.run(80, |path| if path == Direct { 5 * MB } else { MB }), Direct);
    }

    #[test]
    fn only_what_is_allowed_is_taken() {
        let mut world = World::new(PeerClass::Wan, &[Stream, Quic]);
        assert_eq!(world.current(), Quic);
        assert_eq!(world.run(700, |path| if path == Quic { MB } else { 9 * MB }), Quic);
        world.paths.broke(PEER, Quic, world.now);
        assert_eq!(world.current(), Stream);
    }

    #[test]
    fn pauses_do_not_count() {
        let mut world = World::new(PeerClass::Lan, &BulkPath::ALL);
        for _ in 0..10 {
            world.run(1, |_| 10 * MB);
            world.now += Duration::from_secs(30);
        }
        world.run(10, |_| 10 * MB);
        assert_eq!(world.rate(Direct), Some(10 * MB));
    }

    #[test]
    fn strangers_and_the_forgotten_take_the_first_path() {
        let mut world = World::new(PeerClass::Wan, &BulkPath::ALL);
        world.paths.broke(PEER, Direct, world.now);
        world.paths.forget(PEER);
        assert_eq!(world.current(), Direct);
        assert!(world.paths.look().is_empty());
    }
}
