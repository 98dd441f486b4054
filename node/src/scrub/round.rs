//! Where the scrub stands, and when it is due again. Pure: the time is an argument, in seconds since 1970, and may jump.
//!
//! A cycle goes through all blobs in the order of their hashes, so what lies behind its position was read last, and what comes next was read
//! longest ago. What arrives behind it meanwhile was proved as it came, and is read in the next cycle.

use p2pweights_protocol::ids::BlobHash;
use serde::{Deserialize, Serialize};

/// A place in the order in which blobs are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The blob that was begun last.
    pub blob: BlobHash,
    /// Its first group that was not read; [`END`]: it has been read to its end.
    pub group: u64,
}

/// The group after all groups of any blob.
pub const END: u64 = u64::MAX;

/// A cycle under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cycle {
    /// Where it is; `None`: at its very beginning.
    pub position: Option<Position>,
    /// Bytes read in it.
    pub checked_bytes: u64,
}

/// Where the scrub stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Round {
    /// When the latest cycle began.
    pub began_s: Option<u64>,
    /// When the latest full one ended.
    pub finished_s: Option<u64>,
    /// The one under way.
    pub cycle: Option<Cycle>,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Read this blob from this group on.
    Read(BlobHash, u64),
    /// That was the last: the cycle is over.
    Over,
    /// Nothing for so many seconds.
    Wait(u64),
}

impl Round {
    /// What is to be done at this time. `first_from` finds the first blob at or after a hash of which something is held.
    pub fn next(&mut self, now_s: u64, period_s: u64, first_from: impl Fn(Option<BlobHash>) -> Option<BlobHash>) -> Next {
        self.doubt(now_s);
        let Some(cycle) = &mut self.cycle else {
            let due = self.due_s(period_s);
            if due > now_s {
                return Next::Wait(due - now_s);
            }
            self.began_s = Some(now_s);
            self.cycle = Some(Cycle { position: None, checked_bytes: 0 });
            return self.next(now_s, period_s, first_from);
        };
        let found = match cycle.position {
            None => first_from(None).map(|blob| (blob, 0)),
            Some(Position { blob, group: END }) => after(blob).and_then(|from| first_from(Some(from))).map(|blob| (blob, 0)),
            Some(Position { blob, group }) => first_from(Some(blob)).map(|found| (found, if found == blob { group } else { 0 })),
        };
        match found {
            Some((blob, group)) => Next::Read(blob, group),
            None => {
                (self.cycle, self.finished_s) = (None, Some(now_s));
                Next::Over
            }
        }
    }

    /// So many bytes were read, and the cycle stands here now.
    pub fn advance(&mut self, position: Position, bytes: u64) {
        if let Some(cycle) = &mut self.cycle {
            // Never back: a cycle has an end.
            cycle.position = cycle.position.max(Some(position));
            cycle.checked_bytes += bytes;
        }
    }

    /// When the next cycle is to begin.
    pub fn due_s(&self, period_s: u64) -> u64 {
        self.began_s.map_or(0, |began| began.saturating_add(period_s))
    }

    /// A time that has yet to come was never: the clock was wrong when it was written down, or is now. At worst a cycle begins a period
    /// from now.
    fn doubt(&mut self, now_s: u64) {
        for time in [&mut self.began_s, &mut self.finished_s] {
            *time = time.map(|time| time.min(now_s));
        }
    }
}

/// The next hash in the order of bytes.
fn after(blob: BlobHash) -> Option<BlobHash> {
    let mut bytes = blob.0;
    for byte in bytes.iter_mut().rev() {
        let (next, carried) = byte.overflowing_add(1);
        *byte = next;
        if !carried {
            return Some(BlobHash(bytes));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const PERIOD: u64 = 1000;

    fn blob(name: u8) -> BlobHash {
        BlobHash([name; 32])
    }

    fn first_from(blobs: &BTreeSet<BlobHash>) -> impl Fn(Option<BlobHash>) -> Option<BlobHash> + '_ {
        |from| blobs.range(from.unwrap_or(BlobHash([0; 32]))..).next().copied()
    }

    fn blobs(names: &[u8]) -> BTreeSet<BlobHash> {
        names.iter().copied().map(blob).collect()
    }

    #[test]
    fn a_cycle_reads_each_blob_once_and_goes_on_where_it_was() {
        let mut round = Round::default();
        let all = blobs(&[0, 7, 255]);
        assert_eq!(round.next(50, PERIOD, first_from(&all)), Next::Read(blob(0), 0));
        round.advance(Position { blob: blob(0), group: END }, 10);
        assert_eq!(round.next(60, PERIOD, first_from(&all)), Next::Read(blob(7), 0));
        round.advance(Position { blob: blob(7), group: 3 }, 10);
        // As after a restart, in which the blob went away.
        assert_eq!(round.next(70, PERIOD, first_from(&all)), Next::Read(blob(7), 3));
        assert_eq!(round.next(70, PERIOD, first_from(&blobs(&[0, 255]))), Next::Read(blob(255), 0));
        round.advance(Position { blob: blob(255), group: END }, 10);
        assert_eq!(round.next(80, PERIOD, first_from(&all)), Next::Over);
        assert_eq!((round.began_s, round.finished_s, round.cycle), (Some(50), Some(80), None));
        assert_eq!(round.next(80, PERIOD, first_from(&all)), Next::Wait(970));
        assert_eq!(round.next(1050, PERIOD, first_from(&all)), Next::Read(blob(0), 0));
    }

    #[test]
    fn a_cycle_that_takes_longer_than_the_period_is_followed_at_once_by_the_next() {
        let mut round = Round::default();
        let all = blobs(&[1]);
        assert_eq!(round.next(0, PERIOD, first_from(&all)), Next::Read(blob(1), 0));
        round.advance(Position { blob: blob(1), group: END }, 1);
        assert_eq!(round.next(5 * PERIOD, PERIOD, first_from(&all)), Next::Over);
        assert_eq!(round.next(5 * PERIOD, PERIOD, first_from(&all)), Next::Read(blob(1), 0));
    }

    #[test]
    fn a_clock_that_was_wrong_delays_by_one_period_at_most() {
        let mut round = Round { began_s: Some(1 << 40), finished_s: Some(1 << 41), cycle: None };
        assert_eq!(round.next(100, PERIOD, |_| None), Next::Wait(PERIOD));
        assert_eq!(round.finished_s, Some(100));
    }

    proptest! {
        #[test]
        fn whatever_the_clock_does_cycles_end_and_miss_no_blob_that_was_there(
            names in prop::collection::btree_set(any::<u8>(), 0..8),
            groups in 1u64..5,
            clock in prop::collection::vec(0u64..10_000, 200),
        ) {
            let all: BTreeSet<BlobHash> = names.iter().copied().map(blob).collect();
            let mut round = Round::default();
            let mut seen = Vec::new();
            let mut cycles = 0;
            for now in clock {
                // Written down and read again, as by a restart.
                round = serde_json::from_str(&serde_json::to_string(&round).expect("plain")).expect("read back");
                match round.next(now, PERIOD, first_from(&all)) {
                    Next::Wait(seconds) => prop_assert!((1..=PERIOD).contains(&seconds)),
                    Next::Over => {
                        let expected: Vec<_> = all.iter().flat_map(|blob| (0..groups).map(|group| (*blob, group))).collect();
                        prop_assert_eq!(&std::mem::take(&mut seen), &expected, "each group once");
                        cycles += 1;
                    }
                    Next::Read(blob, group) => {
                        seen.push((blob, group));
                        let group = if group + 1 == groups { END } else { group + 1 };
                        round.advance(Position { blob, group }, 1);
                    }
                }
                prop_assert!(round.began_s.is_none_or(|began| began <= now));
            }
            prop_assert!(cycles >= 1, "200 steps are enough for 40 groups");
        }
    }
}
