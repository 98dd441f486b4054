//! A peer as somewhere to fetch from: its credits, how long it takes, how far it is trusted.

use std::collections::VecDeque;
use std::time::Duration;

use crate::geometry::Piece;
use crate::ids::BlobHash;
use crate::limits;
use crate::swarm::rate::ServiceTime;
use crate::time::Instant;

/// Requests open at a source before its first delivery: a peer that accepts and stays silent then costs two blocks, not all.
const UNPROVED_IN_FLIGHT: usize = 2;
/// Patience with a source of which nothing is known yet. 256 KiB in this time is 210 kbit/s.
const UNKNOWN_PATIENCE: Duration = Duration::from_secs(10);
/// How long an unused credit is kept: a trip over a satellite less than the shortest life that its granter gives it (3 s).
const CREDIT_KEPT: Duration = Duration::from_secs(2);
/// Payload in flight at a source beside what its path holds: as many credits as a source may give away at first can be used at once.
const WINDOW_MIN: u64 = 8 * limits::BLOCK_MIN_BYTES as u64;
/// What is kept of the rate at each delivery that shows less.
const RATE_KEPT: (u64, u64) = (31, 32);
/// Deadlines missed in a row after which a source is hung up on.
const LATE_LIMIT: u32 = 3;
/// Streams broken in a row after which a source is hung up on.
const BREAK_LIMIT: u32 = 3;
/// Requests lost within this time are one broken stream.
const BREAK_BURST: Duration = Duration::from_secs(1);
/// Refusals in a row for want of a credit after which a source is hung up on. More than are in flight when a link breaks for a while.
const REFUSED_LIMIT: u32 = 2 * limits::REQUESTS_PER_PEER as u32;

/// A peer as a source.
#[derive(Debug, Clone, Default)]
pub struct Source {
    credits: u16,
    granted_at: Instant,
    block_bytes: u32,
    /// Pieces that it wants to be asked for, one for each of as many credits: it names each piece once before any twice.
    hints: VecDeque<(BlobHash, Piece)>,
    in_flight: usize,
    in_flight_bytes: u64,
    service: ServiceTime,
    /// The shortest service so far: what a request takes when none waits before it.
    fastest: Option<Duration>,
    /// The most it delivered during one service lately: in use, a link shows its rate; an idle one keeps it.
    rate_bytes_per_s: u64,
    late_in_a_row: u32,
    late_at: Option<Instant>,
    breaks: u32,
    broken_at: Option<Instant>,
    refused_in_a_row: u32,
    delivered_bytes: u64,
    delivered_at: Option<Instant>,
    last: Option<(BlobHash, u64)>,
}

impl Source {
    /// More credits, for blocks of this size. Credits above the limit are dropped: they could not be used in time anyway.
    pub fn grant(&mut self, now: Instant, credits: u16, block_bytes: u32, hint: Option<(BlobHash, Piece)>) {
        self.granted_at = now;
        self.credits = self.credits.saturating_add(credits).min(limits::CREDITS_PER_PEER);
        self.block_bytes = block_bytes;
        if self.hints.len() < usize::from(limits::CREDITS_PER_PEER) {
            self.hints.extend(hint);
        }
    }

    /// Unused credits.
    pub fn credits(&self) -> u16 {
        self.credits
    }

    /// Whether its credits are so old that they may expire before a request gets there: better handed back.
    pub fn credits_are_stale(&self, now: Instant) -> bool {
        self.credits > 0 && now - self.granted_at >= CREDIT_KEPT
    }

    /// Gives all unused credits back.
    pub fn take_credits(&mut self) -> u16 {
        self.hints.clear();
        std::mem::take(&mut self.credits)
    }

    /// Gives back one credit, and the hint that came with it.
    pub fn decline(&mut self) {
        self.hints.pop_front();
        self.credits = self.credits.saturating_sub(1);
    }

    /// The longest block it serves.
    pub fn block_bytes(&self) -> u32 {
        self.block_bytes.clamp(limits::BLOCK_MIN_BYTES, limits::BLOCK_MAX_BYTES)
    }

    /// The piece that its next credit is for.
    pub fn hint(&self) -> Option<(BlobHash, Piece)> {
        self.hints.front().copied()
    }

    /// The blob last asked for and the group where that span ended.
    pub fn last(&self) -> Option<(BlobHash, u64)> {
        self.last
    }

    /// Payload to have in flight at it: twice what arrives during the shortest service, and a reserve. Taking the mean instead would
    /// count the queue as part of the path, and let it grow without end.
    pub fn window(&self, first: u64) -> u64 {
        if self.fastest.is_none() {
            return first;
        }
        2 * self.path_bytes() + WINDOW_MIN.max(2 * u64::from(self.block_bytes()))
    }

    /// What its path holds: what it delivers during the shortest service.
    pub fn path_bytes(&self) -> u64 {
        let during_one = u128::from(self.rate_bytes_per_s) * self.fastest.unwrap_or_default().as_nanos() / 1_000_000_000;
        u64::try_from(during_one).unwrap_or(u64::MAX)
    }

    /// The most it delivered during one service lately, as a rate.
    pub fn rate_bytes_per_s(&self) -> u64 {
        self.rate_bytes_per_s
    }

    /// Payload asked for and not yet here.
    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    /// Until when its last delivery speaks for it.
    pub fn alive_until(&self) -> Option<Instant> {
        self.delivered_at.map(|at| at + self.patience())
    }

    /// How long after a delivery the next one may be awaited.
    pub fn patience(&self) -> Duration {
        (self.service.patience(UNKNOWN_PATIENCE) * 2u32.pow(self.late_in_a_row.min(4))).min(limits::DEADLINE_MAX)
    }

    /// Whether it may be asked for another span now.
    pub fn may_ask(&self) -> bool {
        let allowed = match (self.late_in_a_row, self.delivered_bytes) {
            (1.., _) => 1,
            (0, 0) => UNPROVED_IN_FLIGHT,
            (0, _) => limits::REQUESTS_PER_PEER,
        };
        self.credits > 0 && self.in_flight < allowed
    }

    /// A request goes out: uses a credit; returns the time it is given.
    pub fn asked(&mut self, blob: BlobHash, end: u64, bytes: u64) -> Duration {
        self.in_flight_bytes += bytes;
        self.credits = self.credits.saturating_sub(1);
        self.in_flight += 1;
        self.last = Some((blob, end));
        self.hints.pop_front();
        self.patience()
    }

    /// A request was answered in full; returns the shortest time that one took.
    pub fn delivered(&mut self, now: Instant, took: Duration, asked: u64, bytes: u64, delivered_before: u64) -> Duration {
        self.in_flight -= 1;
        self.in_flight_bytes -= asked;
        self.delivered_at = Some(now);
        self.service.record(took);
        let fastest = self.fastest.map_or(took, |fastest| fastest.min(took));
        self.fastest = Some(fastest);
        self.refused_in_a_row = 0;
        self.delivered_bytes += bytes;
        let bytes = u128::from(self.delivered_bytes - delivered_before);
        let during = u64::try_from(bytes * 1_000_000_000 / took.as_nanos().max(1000)).unwrap_or(u64::MAX);
        let (kept, of) = RATE_KEPT;
        self.rate_bytes_per_s = during.max(self.rate_bytes_per_s / of * kept);
        self.late_in_a_row = 0;
        self.breaks = 0;
        fastest
    }

    /// A request ended without delivering all; what did come counts.
    pub fn ended(&mut self, asked: u64, bytes: u64) {
        self.in_flight -= 1;
        self.in_flight_bytes -= asked;
        self.delivered_bytes += bytes;
    }

    /// A request was lost with its stream; says whether that is once too often.
    pub fn lost(&mut self, now: Instant, asked: u64, bytes: u64) -> bool {
        self.ended(asked, bytes);
        if self.broken_at.is_none_or(|at| now - at >= BREAK_BURST) {
            self.broken_at = Some(now);
            self.breaks += 1;
        }
        self.breaks >= BREAK_LIMIT
    }

    /// A request's deadline passed; says whether that is once too often. Patience doubles: a slow link is not a dead one.
    ///
    /// Requests that fall due together were held up by one thing: they count once.
    pub fn late(&mut self, now: Instant, asked: u64) -> bool {
        self.in_flight -= 1;
        self.in_flight_bytes -= asked;
        if self.late_at.is_none_or(|at| now - at >= BREAK_BURST) {
            self.late_at = Some(now);
            self.late_in_a_row += 1;
        }
        self.late_in_a_row >= LATE_LIMIT
    }

    /// A request was refused for want of a credit; says whether that is once too often. Credits may expire on the way; all of them,
    /// again and again, do not.
    pub fn refused(&mut self) -> bool {
        self.refused_in_a_row += 1;
        self.refused_in_a_row >= REFUSED_LIMIT
    }

    /// All it has delivered.
    pub fn delivered_bytes(&self) -> u64 {
        self.delivered_bytes
    }

    /// Whether it ever sent something that proved.
    pub fn has_delivered(&self) -> bool {
        self.delivered_bytes > 0
    }

    /// Requests open.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// When a request asked at `asked_at` may be expected to be done, as of `now`. An overdue one is given as long again.
    pub fn expected(&self, asked_at: Instant, now: Instant) -> Instant {
        let usual = asked_at + self.mean_service();
        if usual > now { usual } else { now + (now - asked_at) }
    }

    /// The mean time of a request, or a guess.
    pub fn mean_service(&self) -> Duration {
        self.service.mean().unwrap_or(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: BlobHash = BlobHash([1; 32]);

    #[test]
    fn a_newcomer_gets_two_requests_until_it_delivers() {
        let mut source = Source::default();
        source.grant(Instant::START, 10, 1 << 20, None);
        source.asked(BLOB, 4, 0);
        source.asked(BLOB, 8, 0);
        assert!(!source.may_ask());
        source.delivered(Instant::START, Duration::from_millis(50), 0, 100, 0);
        assert!(source.may_ask());
    }

    #[test]
    fn patience_doubles_and_ends_when_a_source_is_late() {
        let mut source = Source::default();
        source.grant(Instant::START, 10, 1 << 20, None);
        assert_eq!(source.asked(BLOB, 4, 0), Duration::from_secs(10));
        let at = |s| Instant::START + Duration::from_secs(s);
        source.asked(BLOB, 4, 0);
        assert!(!source.late(at(10), 0) && !source.late(at(10), 0), "two at once are one");
        assert_eq!(source.asked(BLOB, 4, 0), Duration::from_secs(20));
        assert!(!source.may_ask(), "one at a time while it is late");
        assert!(!source.late(at(30), 0));
        source.asked(BLOB, 4, 0);
        assert!(source.late(at(70), 0));
    }

    #[test]
    fn a_stream_that_breaks_counts_once_however_much_was_asked_on_it() {
        let mut source = Source::default();
        let break_at = |source: &mut Source, at| {
            source.grant(Instant::START, 64, 1 << 20, None);
            source.delivered_bytes = 1;
            (0..10).for_each(|_| _ = source.asked(BLOB, 4, 0));
            (0..10).fold(false, |_, _| source.lost(Instant::START + Duration::from_secs(at), 0, 0))
        };
        assert!(!break_at(&mut source, 1));
        assert!(!break_at(&mut source, 5));
        assert!(break_at(&mut source, 9));
    }

    #[test]
    fn credits_are_bounded() {
        let mut source = Source::default();
        (0..10).for_each(|_| source.grant(Instant::START, limits::CREDITS_PER_PEER, u32::MAX, None));
        assert_eq!((source.credits(), source.block_bytes()), (limits::CREDITS_PER_PEER, limits::BLOCK_MAX_BYTES));
        assert_eq!((source.take_credits(), source.credits()), (limits::CREDITS_PER_PEER, 0));
    }
}
