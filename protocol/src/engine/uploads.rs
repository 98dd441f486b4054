//! The sender's book of credits: how many are out, to whom, how fast they are used. The sender chooses whom; the receiver, what.
//!
//! A credit is *granted*, then *serving* from the request to its end; or it is returned, or it expires. So that every uplink always
//! has work and queues stay short, about rate × delay are out at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::io::PeerClass;
use super::neediest::neediest;
use super::taker::{Serving, Taker};
use crate::ids::{PeerId, Prefix, RequestId};
use crate::limits;
use crate::random::Random;
use crate::swarm::rate::{Rate, ServiceTime};
use crate::time::Instant;

/// A block should occupy the uplink for about this long: long enough that its request costs little.
const BLOCK_TIME: Duration = Duration::from_millis(8);
/// And no longer than this, so that a deadline or a cancelled block costs little.
const BLOCK_TIME_MAX: Duration = Duration::from_millis(500);
/// Shortest life of a credit; below it, a round trip over a satellite would expire it.
const CREDIT_LIFE_MIN: Duration = Duration::from_secs(3);
/// A block that takes so many times the usual is stuck behind a slow reader: it no longer counts as work for the uplink.
const STUCK_FACTOR: u32 = 4;
/// The shortest time over which the uplink is judged: shorter, and one burst of requests looks like a steady stream.
const JUDGE_TIME: Duration = Duration::from_millis(50);
/// Fewest credits out: a link that has idled starts from these.
const WINDOW_MIN: u64 = 3;
/// Shortest time after which an unused credit no longer counts as work.
const IDLE_MIN: Duration = Duration::from_millis(250);
/// The same for the first blocks, of which no usual time is known.
const STUCK_UNKNOWN: Duration = Duration::from_millis(500);

/// Credits out and requests being served, peer by peer.
#[derive(Debug, Clone, Default)]
pub struct Uploads {
    takers: BTreeMap<PeerId, Taker>,
    /// Every unused credit, oldest first; the second number tells those of one moment apart.
    granted: BTreeSet<(Instant, u64, PeerId)>,
    /// Every block being sent, oldest first.
    serving: BTreeSet<(Instant, PeerId, RequestId)>,
    /// When each peer that is passed over may be granted again; may hold more than still counts.
    resting: BTreeSet<(Instant, PeerId)>,
    grants_made: u64,
    /// Something has changed since credits were last given out.
    changed: bool,
    rate: Rate,
    service: ServiceTime,
    /// From a grant to the request that uses it.
    turnaround: ServiceTime,
    /// Credits out and blocks being served, as many as there should be; `None` before the first judgement.
    window: Option<u64>,
    /// When the queue was last judged.
    judged_at: Instant,
    /// Blocks served since then.
    served: u64,
    /// Whether nothing was being served at any time since then.
    ran_dry: bool,
    /// Whether the window was full at any time since then: if not, it is demand that lacks.
    was_full: bool,
}

impl Uploads {
    /// A peer has come.
    pub fn meet(&mut self, peer: PeerId, class: PeerClass, prefix: Prefix) {
        self.takers.insert(peer, Taker::new(class, prefix));
        self.changed = true;
    }

    /// A peer as somebody to serve, to be changed; its credits are changed by the methods below only.
    pub fn taker_mut(&mut self, peer: PeerId) -> Option<&mut Taker> {
        self.changed = true;
        self.takers.get_mut(&peer)
    }

    /// Passes a peer over until then.
    pub fn rest(&mut self, peer: PeerId, until: Instant) {
        if let Some(taker) = self.takers.get_mut(&peer) {
            taker.skip_until = taker.skip_until.max(until);
            self.resting.insert((taker.skip_until, peer));
        }
    }

    /// Whether anything has changed since this was last asked that could let a credit go out: if not, there is no need to look.
    pub fn take_changed(&mut self, now: Instant) -> bool {
        let resumed = self.resting.first().is_some_and(|(at, _)| *at <= now);
        while self.resting.first().is_some_and(|(at, _)| *at <= now) {
            self.resting.pop_first();
        }
        std::mem::take(&mut self.changed) || resumed
    }

    /// Peers that would take a block.
    pub fn hungry(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.takers.iter().filter(|(_, taker)| taker.is_hungry()).map(|(peer, _)| *peer)
    }

    /// The block size that suits the uplink now, for blobs with pieces of this size: eight milliseconds' worth, or more where pieces are
    /// so large that smaller blocks bring nothing, as long as one block takes no more than half a second.
    pub fn block_bytes(&self, now: Instant, piece_bytes: u64) -> u32 {
        let during = |time: Duration| u128::from(self.rate.bytes_per_s(now)) * time.as_nanos() / 1_000_000_000;
        let coarse = (u128::from(piece_bytes) / 2).min(during(BLOCK_TIME_MAX));
        // On a long fat path the number of credits is what bounds: half of them must fill it.
        let cycle = self.turnaround.mean().unwrap_or_default() + self.service.mean().unwrap_or_default();
        let filling = during(cycle) / (u128::from(limits::CREDITS_PER_PEER) / 2);
        let wanted =
            during(BLOCK_TIME).max(coarse).max(filling).clamp(limits::BLOCK_MIN_BYTES.into(), limits::BLOCK_MAX_BYTES.into());
        1 << wanted.ilog2()
    }

    /// Credits that should be out, and blocks being served, together.
    pub fn window(&self, first_credits: u16) -> u64 {
        self.window.unwrap_or(first_credits.into())
    }

    /// How many more credits should be out now.
    pub fn wanting(&self, now: Instant, first_credits: u16) -> u16 {
        let out = self.fresh(now) + self.working(now);
        u16::try_from(self.window(first_credits).saturating_sub(out as u64)).unwrap_or(0)
    }

    /// Whom to grant the next credit.
    pub fn neediest(&self, now: Instant, first_credits: u16, random: &mut Random) -> Option<PeerId> {
        neediest(&self.takers, now, self.grants_made, self.window(first_credits) as usize, self.usual_turnaround(), random)
    }

    /// Credits that are about to be used: those that lie about for much longer than usual no longer count as work for the uplink, so
    /// that a hoarder holds it up for a few turnarounds only. They are valid all the same.
    fn fresh(&self, now: Instant) -> usize {
        let usual = self.usual_turnaround();
        self.granted.iter().rev().take_while(|(at, ..)| now - *at < usual).count()
    }

    fn usual_turnaround(&self) -> Duration {
        self.turnaround.mean().map_or(STUCK_UNKNOWN, |mean| (mean * STUCK_FACTOR).max(IDLE_MIN))
    }

    fn usual_service(&self) -> Duration {
        self.service.mean().map_or(STUCK_UNKNOWN, |mean| (mean * STUCK_FACTOR).max(STUCK_UNKNOWN))
    }

    /// Blocks being served that are not stuck behind a slow reader.
    fn working(&self, now: Instant) -> usize {
        let usual = self.usual_service();
        self.serving.iter().rev().take_while(|(since, ..)| now - *since < usual).count()
    }

    /// Everything that could be granted has been: notes whether the window is full.
    pub fn granted_all(&mut self, now: Instant) {
        if !self.was_full {
            self.was_full = self.window.is_some_and(|window| (self.fresh(now) + self.working(now)) as u64 >= window);
        }
    }

    /// Once in a turnaround: as many credits out as blocks were served during one, and two to wait for their turn; twice as many if the
    /// uplink ran dry though all of them were out. Counting one turnaround follows a fast link within a few of them, and keeps the queue
    /// short: what is not yet granted can still go to whoever needs it most.
    fn judge(&mut self, now: Instant) {
        self.served += 1;
        self.ran_dry |= self.working(now) == 0;
        let turnaround = self.turnaround.mean().unwrap_or_default().max(JUDGE_TIME);
        let elapsed = now - self.judged_at;
        if elapsed < turnaround {
            return;
        }
        let in_transit = (u128::from(self.served) * turnaround.as_nanos()).div_ceil(elapsed.as_nanos()) as u64;
        let gain = if self.ran_dry && (self.was_full || self.window.is_none()) { 2 } else { 1 };
        self.window = Some((gain * in_transit + 2).clamp(WINDOW_MIN, limits::CREDITS_PER_PEER.into()));
        self.judged_at = now;
        self.served = 0;
        self.ran_dry = false;
        self.was_full = false;
    }

    /// Requests being served for the peer.
    pub fn serving_for(&self, peer: PeerId) -> usize {
        self.takers.get(&peer).map_or(0, |taker| taker.serving.len())
    }

    /// A credit goes out.
    pub fn grant(&mut self, now: Instant, peer: PeerId, block_bytes: u32) {
        let Some(taker) = self.takers.get_mut(&peer) else { return };
        self.grants_made += 1;
        taker.granted.push_back((now, self.grants_made));
        taker.granted_since += 1;
        self.granted.insert((now, self.grants_made, peer));
        taker.block_bytes = block_bytes.max(taker.block_bytes);
    }

    /// A request came: uses the oldest credit. `false` if there is none, or the span is longer than any block granted.
    pub fn redeem(&mut self, now: Instant, peer: PeerId, request: RequestId, bytes: u64) -> bool {
        let Some(taker) = self.takers.get_mut(&peer) else { return false };
        if bytes > taker.block_bytes.into() || taker.serving.iter().any(|serving| serving.request == request) {
            return false;
        }
        let Some((granted, number)) = taker.granted.pop_front() else { return false };
        self.changed = true;
        taker.redeemed(now);
        taker.serving.push(Serving { request, since: now, bytes });
        self.granted.remove(&(granted, number, peer));
        self.serving.insert((now, peer, request));
        self.turnaround.record(now - granted);
        true
    }

    /// The peer hands credits back; returns how many of them it had.
    pub fn returned(&mut self, peer: PeerId, credits: u16) -> usize {
        let Some(taker) = self.takers.get_mut(&peer) else { return 0 };
        let mut returned = 0;
        self.changed = true;
        while returned < usize::from(credits)
            && let Some((granted, number)) = taker.granted.pop_back()
        {
            self.granted.remove(&(granted, number, peer));
            returned += 1;
        }
        returned
    }

    /// A request has been served, or not; `sent` says whether its bytes went out. `false` if it was not being served.
    pub fn ended(&mut self, now: Instant, peer: PeerId, request: RequestId, sent: bool) -> bool {
        let Some(taker) = self.takers.get_mut(&peer) else { return false };
        let Some(place) = taker.serving.iter().position(|serving| serving.request == request) else { return false };
        let Serving { since, bytes, .. } = taker.serving.swap_remove(place);
        self.serving.remove(&(since, peer, request));
        self.changed = true;
        if sent {
            self.rate.record(now, bytes);
            self.service.record(now - since);
            self.judge(now);
        }
        true
    }

    /// Takes back credits that were not used in time; returns whose, and how many. Who has used none since is passed over for a while:
    /// one that merely lags behind hoards nothing.
    pub fn expire(&mut self, now: Instant) -> Vec<PeerId> {
        let life = self.credit_life();
        let mut held = Vec::new();
        while let Some((granted, number, peer)) = self.granted.first().copied().filter(|(at, ..)| now - *at >= life) {
            self.granted.remove(&(granted, number, peer));
            held.push(peer);
            self.changed = true;
            let Some(taker) = self.takers.get_mut(&peer) else { continue };
            taker.granted.retain(|credit| *credit != (granted, number));
            taker.idled();
            if taker.redeemed_at.is_none_or(|at| at < granted) && taker.skip_until <= now {
                taker.hoarded(now);
                self.resting.insert((taker.skip_until, peer));
            }
        }
        held
    }

    /// When the next credit expires.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.granted.first().map(|(at, ..)| *at + self.credit_life())
    }

    /// When the next request being served will count as stuck, or the next credit as idle, freeing its place.
    pub fn next_stuck(&self, now: Instant) -> Option<Instant> {
        let (service, turnaround) = (self.usual_service(), self.usual_turnaround());
        // The first moment from which on things are not stuck yet.
        let since = |usual: Duration| Instant(now.0.checked_sub(usual.as_nanos() as u64).map_or(0, |at| at + 1));
        let first = (since(service), PeerId([0; 32]), RequestId(0));
        let stuck = self.serving.range(first..).next().map(|(at, ..)| *at + service);
        let first = (since(turnaround), 0, PeerId([0; 32]));
        let idle = self.granted.range(first..).next().map(|(at, ..)| *at + turnaround);
        stuck.into_iter().chain(idle).filter(|at| *at > now).min()
    }

    /// When the next peer that waits may be granted again, whether or not anything else happens.
    pub fn next_resumed(&self, now: Instant) -> Option<Instant> {
        self.resting.iter().map(|(at, _)| *at).find(|at| *at > now)
    }

    /// The peer is gone.
    pub fn forget(&mut self, peer: PeerId) {
        let Some(taker) = self.takers.remove(&peer) else { return };
        self.changed = true;
        self.resting.remove(&(taker.skip_until, peer));
        for (granted, number) in taker.granted {
            self.granted.remove(&(granted, number, peer));
        }
        for serving in taker.serving {
            self.serving.remove(&(serving.since, peer, serving.request));
        }
    }

    /// Credits out and blocks being sent, all peers together.
    pub fn owed(&self) -> usize {
        self.granted.len() + self.serving.len()
    }

    /// Credits granted and not yet used, all peers together.
    #[cfg(test)]
    fn credits_out(&self) -> usize {
        self.granted.len()
    }

    /// # Panics
    /// If the books of single peers and those of all together disagree.
    pub fn check_invariants(&self) {
        let granted: usize = self.takers.values().map(|taker| taker.granted.len()).sum();
        let serving: usize = self.takers.values().map(|taker| taker.serving.len()).sum();
        assert_eq!((granted, serving), (self.granted.len(), self.serving.len()), "credits out, blocks being served");
        for taker in self.takers.values() {
            assert!(taker.out() <= limits::REQUESTS_PER_PEER * 2, "credits of one peer");
        }
    }

    fn credit_life(&self) -> Duration {
        let service = self.service.mean().unwrap_or_default() + self.turnaround.mean().unwrap_or_default();
        (service * 4).clamp(CREDIT_LIFE_MIN, limits::DEADLINE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId([1; 32]);

    fn uploads() -> Uploads {
        let mut uploads = Uploads::default();
        uploads.meet(PEER, PeerClass::Wan, Prefix(1));
        uploads
    }

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    #[test]
    fn a_request_needs_a_credit_and_a_credit_pays_for_one() {
        let mut uploads = uploads();
        assert!(!uploads.redeem(at(0), PEER, RequestId(1), 10));
        uploads.grant(at(0), PEER, 1 << 18);
        assert!(!uploads.redeem(at(1), PEER, RequestId(1), 1 << 19), "longer than a block");
        assert!(uploads.redeem(at(1), PEER, RequestId(1), 1 << 18));
        assert!(!uploads.redeem(at(1), PEER, RequestId(2), 1 << 18));
        assert!(uploads.ended(at(2), PEER, RequestId(1), true));
        assert!(!uploads.ended(at(2), PEER, RequestId(1), true));
        assert_eq!(uploads.takers[&PEER].out(), 0);
    }

    #[test]
    fn unused_credits_expire_and_make_room() {
        let mut uploads = uploads();
        assert_eq!(uploads.wanting(at(0), 8), 8);
        (0..8).for_each(|_| uploads.grant(at(0), PEER, 1 << 18));
        assert_eq!(uploads.wanting(at(0), 8), 0);
        uploads.returned(PEER, 3);
        assert_eq!((uploads.wanting(at(0), 8), uploads.credits_out()), (3, 5));
        let expiry = uploads.next_expiry().expect("credits are out");
        uploads.expire(expiry);
        assert_eq!((uploads.wanting(expiry, 8), uploads.next_expiry()), (8, None));
    }

    #[test]
    fn credits_follow_rate_and_delay_and_blocks_the_rate() {
        let mut uploads = uploads();
        let mut now = 0;
        for index in 0..2000 {
            uploads.grant(at(now), PEER, 1 << 22);
            uploads.redeem(at(now + 40), PEER, RequestId(index), 1 << 20);
            now += 4;
            uploads.ended(at(now + 50), PEER, RequestId(index), true);
        }
        // 250 MB/s and 40 ms: 10 MB in transit, in blocks of 2 MB (8 ms).
        assert_eq!(uploads.block_bytes(at(now), 0), 1 << 21);
        assert!((10..16).contains(&uploads.wanting(at(now), 8)), "{}", uploads.wanting(at(now), 8));
    }

    #[test]
    fn a_stuck_reader_does_not_hold_the_uplink() {
        let mut uploads = uploads();
        for index in 0..8 {
            uploads.grant(at(0), PEER, 1 << 18);
            uploads.redeem(at(0), PEER, RequestId(index), 1 << 18);
        }
        assert_eq!(uploads.wanting(at(100), 8), 0);
        assert_eq!(uploads.next_stuck(at(100)), Some(at(500)));
        assert!(uploads.wanting(at(600), 8) > 0);
    }
}
