//! When to announce which blob to the DHT: soon, paced, again before records expire, and again while a young network grows around us.
//! Pure: time is an argument; the host asks what is due and reports what came of it.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use p2pweights_protocol::ids::BlobHash;

use super::jitter::spread;

/// Announcements under way at a time. With more, libp2p's query pool slows down out of proportion.
const IN_FLIGHT: usize = 20;
/// Time between two announcements, in the long run: among few peers each is over in a moment, and a model of ten thousand files would
/// take the machine from its own transfer. In a large network they take longer anyway.
const PACE: Duration = Duration::from_millis(10);
/// Announcements that may begin at once after a while without any.
const BURST: u32 = 64;
/// Time between two announcements of one blob. Records live 48 h, so three may fail before one is missed.
const INTERVAL: Duration = Duration::from_secs(11 * 60 * 60);
/// Time until an announcement that failed is tried again.
const RETRY: Duration = Duration::from_secs(60);
/// A routing table of this size (Kademlia's k) finds the right neighbours; below it, growth changes who they are.
const SETTLED_PEERS: usize = 20;
/// How long to wait for more peers once the table has doubled: nodes that start together arrive together.
const GROWTH_PAUSE: Duration = Duration::from_secs(2);

/// Keeps the schedule.
#[derive(Debug)]
pub struct Announcer {
    seed: u64,
    blobs: HashMap<BlobHash, State>,
    due: BTreeSet<(Instant, BlobHash)>,
    in_flight: usize,
    /// When the next one would begin if all kept the pace; `None` before the first.
    next: Option<Instant>,
    /// Size of the routing table when the announcements that stand were made; `None` before the first.
    announced_to: Option<usize>,
    grown_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Due(Instant),
    InFlight,
    /// Asked for again, or the table grew, while an announcement was under way.
    InFlightAgain,
}

impl Announcer {
    /// Nothing to announce. The seed spreads this node's moments away from other nodes'.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            blobs: HashMap::new(),
            due: BTreeSet::new(),
            in_flight: 0,
            next: None,
            announced_to: None,
            grown_since: None,
        }
    }

    /// Announce this blob from now on. Repeating it changes nothing.
    pub fn announce(&mut self, blob: BlobHash, now: Instant) {
        if !self.blobs.contains_key(&blob) {
            self.set_due(blob, now);
        }
    }

    /// No longer announce this blob. An announcement under way still ends with [`finished`](Self::finished).
    pub fn unannounce(&mut self, blob: &BlobHash) {
        if let Some(State::Due(at)) = self.blobs.remove(blob) {
            self.due.remove(&(at, *blob));
        }
    }

    /// Number of blobs announced, or about to be.
    pub fn len(&self) -> usize {
        self.blobs.len()
    }

    /// The blobs to announce now, given so many peers in the routing table. Each is answered by one [`finished`](Self::finished).
    pub fn take_due(&mut self, now: Instant, table: usize) -> Vec<BlobHash> {
        if table == 0 {
            return Vec::new();
        }
        self.watch_growth(now, table);
        let mut taken = Vec::new();
        while self.in_flight < IN_FLIGHT
            && self.next.is_none_or(|next| next <= now + BURST * PACE)
            && let Some(&(at, blob)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            self.blobs.insert(blob, State::InFlight);
            self.in_flight += 1;
            self.next = Some(self.next.map_or(now, |next| next.max(now)) + PACE);
            taken.push(blob);
        }
        if !taken.is_empty() {
            self.announced_to.get_or_insert(table);
        }
        taken
    }

    /// An announcement ended, well or not.
    pub fn finished(&mut self, blob: BlobHash, succeeded: bool, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let again = match self.blobs.get(&blob) {
            Some(State::InFlight) if succeeded => now + spread(INTERVAL, self.seed, blob.as_bytes()),
            Some(State::InFlight) => now + spread(RETRY, self.seed, blob.as_bytes()),
            Some(State::InFlightAgain) => now,
            // Withdrawn meanwhile, or withdrawn and wanted again: then it is due already.
            Some(State::Due(_)) | None => return,
        };
        self.set_due(blob, again);
    }

    fn set_due(&mut self, blob: BlobHash, at: Instant) {
        self.blobs.insert(blob, State::Due(at));
        self.due.insert((at, blob));
    }

    /// Records made in a table of a few peers lie with whoever was there; once it has doubled, the nearest may be others.
    fn watch_growth(&mut self, now: Instant, table: usize) {
        let grown = self.announced_to.is_some_and(|before| before < SETTLED_PEERS && table >= 2 * before);
        if !grown {
            self.grown_since = None;
            return;
        }
        let since = *self.grown_since.get_or_insert(now);
        if now.duration_since(since) < GROWTH_PAUSE {
            return;
        }
        self.grown_since = None;
        self.announced_to = Some(table);
        self.due = BTreeSet::new();
        for (blob, state) in &mut self.blobs {
            match state {
                State::Due(at) => {
                    *at = (*at).min(now);
                    self.due.insert((*at, *blob));
                }
                State::InFlight | State::InFlightAgain => *state = State::InFlightAgain,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(number: u32) -> BlobHash {
        BlobHash::of(&number.to_le_bytes())
    }

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn nothing_is_announced_to_nobody_and_never_too_much_at_once() {
        let start = Instant::now();
        let mut announcer = Announcer::new(1);
        (0..50).for_each(|number| announcer.announce(blob(number), start));
        assert!(announcer.take_due(start, 0).is_empty());
        let first = announcer.take_due(start, 25);
        assert_eq!(first.len(), IN_FLIGHT);
        assert!(announcer.take_due(start, 25).is_empty());
        announcer.finished(first[0], true, start);
        announcer.finished(first[1], true, start);
        assert_eq!(announcer.take_due(start, 25).len(), 2);
        assert_eq!(announcer.len(), 50);
    }

    #[test]
    fn thousands_of_blobs_are_announced_one_after_the_other() {
        let start = Instant::now();
        let mut announcer = Announcer::new(1);
        (0..10_000).for_each(|number| announcer.announce(blob(number), start));
        let mut announced = 0;
        // Each is over at once.
        for tenth in 0..100 {
            let now = start + seconds(tenth) / 10;
            for _ in 0..100 {
                let taken = announcer.take_due(now, 1);
                announced += taken.len();
                taken.into_iter().for_each(|blob| announcer.finished(blob, true, now));
            }
        }
        assert!((900..1100).contains(&announced), "{announced} in ten seconds");
    }

    #[test]
    fn announcements_are_repeated_well_before_records_expire_and_spread() {
        let start = Instant::now();
        let mut announcer = Announcer::new(1);
        (0..10).for_each(|number| announcer.announce(blob(number), start));
        for blob in announcer.take_due(start, 30) {
            announcer.finished(blob, true, start);
        }
        let hours = |number: u64| start + seconds(number * 3600);
        assert!(announcer.take_due(start + seconds(9 * 3600), 30).is_empty());
        let early = announcer.take_due(hours(11), 30).len();
        assert!(early > 0 && early < 10, "{early}");
        assert_eq!(early + announcer.take_due(hours(13), 30).len(), 10);
    }

    #[test]
    fn failures_are_tried_again_soon() {
        let start = Instant::now();
        let mut announcer = Announcer::new(1);
        announcer.announce(blob(1), start);
        assert_eq!(announcer.take_due(start, 30), [blob(1)]);
        announcer.finished(blob(1), false, start);
        assert!(announcer.take_due(start + seconds(30), 30).is_empty());
        assert_eq!(announcer.take_due(start + seconds(70), 30), [blob(1)]);
    }

    #[test]
    fn a_growing_network_is_told_again_once_it_has_doubled_and_paused() {
        let start = Instant::now();
        let at = |number: u64| start + seconds(number);
        let mut announcer = Announcer::new(1);
        announcer.announce(blob(1), start);
        assert_eq!(announcer.take_due(start, 1), [blob(1)]);
        announcer.finished(blob(1), true, start);
        assert!(announcer.take_due(at(1), 2).is_empty(), "doubled, but only just");
        assert!(announcer.take_due(at(2), 5).is_empty());
        assert_eq!(announcer.take_due(at(3), 5), [blob(1)], "the pause is over");
        announcer.finished(blob(1), true, at(3));
        assert!(announcer.take_due(at(10), 9).is_empty(), "less than twice five");
        assert!(announcer.take_due(at(11), 40).is_empty());
        assert_eq!(announcer.take_due(at(13), 40), [blob(1)]);
        announcer.finished(blob(1), true, at(13));
        assert!(announcer.take_due(at(20), 400).is_empty() && announcer.take_due(at(30), 400).is_empty(), "settled");
    }

    #[test]
    fn growth_during_an_announcement_repeats_it() {
        let start = Instant::now();
        let mut announcer = Announcer::new(1);
        announcer.announce(blob(1), start);
        assert_eq!(announcer.take_due(start, 1), [blob(1)]);
        announcer.take_due(start + seconds(1), 4);
        announcer.take_due(start + seconds(4), 4);
        announcer.finished(blob(1), true, start + seconds(5));
        assert_eq!(announcer.take_due(start + seconds(5), 4), [blob(1)]);
    }

    #[test]
    fn what_is_withdrawn_stays_withdrawn() {
        let start = Instant::now();
        let mut announcer = Announcer::new(1);
        announcer.announce(blob(1), start);
        announcer.announce(blob(2), start);
        announcer.unannounce(&blob(1));
        assert_eq!(announcer.take_due(start, 30), [blob(2)]);
        announcer.unannounce(&blob(2));
        announcer.finished(blob(2), true, start);
        assert!(announcer.take_due(start + seconds(100_000), 30).is_empty());
        assert_eq!((announcer.len(), announcer.in_flight), (0, 0));
        // Withdrawn and wanted again while one was under way: due at once, and counted once.
        announcer.announce(blob(3), start);
        announcer.take_due(start, 30);
        announcer.unannounce(&blob(3));
        announcer.announce(blob(3), start);
        assert_eq!(announcer.take_due(start, 30), [blob(3)]);
    }
}
