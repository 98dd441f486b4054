//! The sender's book of credits: how many are out, to whom, how fast they are used. The sender chooses whom; the receiver, what.
//!
//! A credit is *granted*, then *serving* from the request to its end; or it is returned, or it expires. So that every uplink always
//! has work and queues stay short, about rate × delay are out at a time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::ids::{PeerId, RequestId};
use crate::limits;
use crate::swarm::rate::{Rate, ServiceTime};
use crate::time::Instant;

/// A block should occupy the uplink for about this long: long enough that its request costs little.
const BLOCK_TIME: Duration = Duration::from_millis(8);
/// Shortest life of a credit; below it, a round trip over a satellite would expire it.
const CREDIT_LIFE_MIN: Duration = Duration::from_secs(3);
/// A block that takes so many times the usual is stuck behind a slow reader: it no longer counts as work for the uplink.
const STUCK_FACTOR: u32 = 4;
/// The shortest time over which the uplink is judged: shorter, and one burst of requests looks like a steady stream.
const JUDGE_TIME: Duration = Duration::from_millis(50);
/// Fewest credits out: a link that has idled starts from these.
const WINDOW_MIN: u64 = 4;
/// Shortest time after which an unused credit no longer counts as work.
const IDLE_MIN: Duration = Duration::from_millis(250);
/// The same for the first blocks, of which no usual time is known.
const STUCK_UNKNOWN: Duration = Duration::from_millis(500);

/// Credits out and requests being served.
#[derive(Debug, Clone, Default)]
pub struct Uploads {
    granted: BTreeMap<PeerId, VecDeque<Instant>>,
    serving: BTreeMap<(PeerId, RequestId), (Instant, u64)>,
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
    /// When each peer last used a credit.
    redeemed_at: BTreeMap<PeerId, Instant>,
    /// Largest block granted lately to each peer with credits out.
    block_bytes: BTreeMap<PeerId, u32>,
}

impl Uploads {
    /// The block size that suits the uplink now.
    pub fn block_bytes(&self, now: Instant) -> u32 {
        let wanted = self.rate.bytes_per_s(now) as f64 * BLOCK_TIME.as_secs_f64();
        let wanted = (wanted as u64).clamp(limits::BLOCK_MIN_BYTES.into(), limits::BLOCK_MAX_BYTES.into());
        1 << wanted.ilog2()
    }

    /// How many more credits should be out now.
    pub fn wanting(&self, now: Instant, first_credits: u16) -> u16 {
        let target = self.window.unwrap_or(first_credits.into());
        let out = self.fresh(now) + self.working(now);
        u16::try_from(target.saturating_sub(out as u64)).unwrap_or(0)
    }

    /// Credits that are about to be used: those that lie about for much longer than usual no longer count as work for the uplink, so
    /// that a hoarder holds it up for a few turnarounds only. They are valid all the same.
    fn fresh(&self, now: Instant) -> usize {
        let usual = self.usual_turnaround();
        self.granted.values().flatten().filter(|at| now - **at < usual).count()
    }

    fn usual_turnaround(&self) -> Duration {
        self.turnaround.mean().map_or(STUCK_UNKNOWN, |mean| (mean * STUCK_FACTOR).max(IDLE_MIN))
    }

    /// Blocks being served that are not stuck behind a slow reader.
    fn working(&self, now: Instant) -> usize {
        let usual = self.service.mean().map_or(STUCK_UNKNOWN, |mean| (mean * STUCK_FACTOR).max(STUCK_UNKNOWN));
        self.serving.values().filter(|(since, _)| now - *since < usual).count()
    }

    /// Everything that could be granted has been: notes whether the window is full.
    pub fn granted_all(&mut self, now: Instant) {
        self.was_full |= self.window.is_some_and(|window| (self.fresh(now) + self.working(now)) as u64 >= window);
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

    /// Credits granted to the peer and requests being served for it.
    pub fn out_to(&self, peer: PeerId) -> usize {
        let serving = self.serving.range((peer, RequestId(0))..=(peer, RequestId(u64::MAX))).count();
        self.granted.get(&peer).map_or(0, VecDeque::len) + serving
    }

    /// Requests being served for the peer.
    pub fn serving_for(&self, peer: PeerId) -> usize {
        self.serving.range((peer, RequestId(0))..=(peer, RequestId(u64::MAX))).count()
    }

    /// A credit goes out.
    pub fn grant(&mut self, now: Instant, peer: PeerId, block_bytes: u32) {
        self.granted.entry(peer).or_default().push_back(now);
        let largest = self.block_bytes.entry(peer).or_default();
        *largest = block_bytes.max(*largest);
    }

    /// A request came: uses the oldest credit. `false` if there is none, or the span is longer than any block granted.
    pub fn redeem(&mut self, now: Instant, peer: PeerId, request: RequestId, bytes: u64) -> bool {
        let allowed = self.block_bytes.get(&peer).is_some_and(|&block| bytes <= block.into());
        if !allowed || self.serving.contains_key(&(peer, request)) {
            return false;
        }
        let Some(granted) = self.granted.get_mut(&peer).and_then(VecDeque::pop_front) else { return false };
        self.turnaround.record(now - granted);
        self.redeemed_at.insert(peer, now);
        self.serving.insert((peer, request), (now, bytes));
        true
    }

    /// The peer hands credits back.
    pub fn returned(&mut self, peer: PeerId, credits: u16) {
        if let Some(granted) = self.granted.get_mut(&peer) {
            granted.truncate(granted.len().saturating_sub(credits.into()));
        }
    }

    /// A request has been served, or not; `sent` says whether its bytes went out. `false` if it was not being served.
    pub fn ended(&mut self, now: Instant, peer: PeerId, request: RequestId, sent: bool) -> bool {
        let Some((since, bytes)) = self.serving.remove(&(peer, request)) else { return false };
        if sent {
            self.rate.record(now, bytes);
            self.service.record(now - since);
        }
        if sent {
            self.judge(now);
        }
        true
    }

    /// Takes back credits that were not used in time; returns who has used none since: one that lags behind hoards nothing.
    pub fn expire(&mut self, now: Instant) -> Vec<PeerId> {
        let life = self.credit_life();
        let mut held = Vec::new();
        self.granted.retain(|peer, granted| {
            let oldest = granted.front().copied();
            granted.retain(|at| now - *at < life);
            if let Some(oldest) = oldest.filter(|at| now - *at >= life)
                && self.redeemed_at.get(peer).is_none_or(|at| *at < oldest)
            {
                held.push(*peer);
            }
            !granted.is_empty()
        });
        held
    }

    /// When the next credit expires.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.granted.values().filter_map(VecDeque::front).min().map(|at| *at + self.credit_life())
    }

    /// When the next request being served will count as stuck, freeing its place.
    pub fn next_stuck(&self, now: Instant) -> Option<Instant> {
        let usual = self.service.mean().map_or(STUCK_UNKNOWN, |mean| (mean * STUCK_FACTOR).max(STUCK_UNKNOWN));
        let stuck = self.serving.values().map(|(since, _)| *since + usual).filter(|at| *at > now).min();
        let idle = self.granted.values().flatten().map(|at| *at + self.usual_turnaround()).filter(|at| *at > now).min();
        stuck.into_iter().chain(idle).min()
    }

    /// The peer is gone.
    pub fn forget(&mut self, peer: PeerId) {
        self.granted.remove(&peer);
        self.block_bytes.remove(&peer);
        self.redeemed_at.remove(&peer);
        self.serving.retain(|(other, _), _| *other != peer);
    }

    /// Credits granted and not yet used, all peers together.
    #[cfg(test)]
    fn granted(&self) -> usize {
        self.granted.values().map(VecDeque::len).sum()
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

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    #[test]
    fn a_request_needs_a_credit_and_a_credit_pays_for_one() {
        let mut uploads = Uploads::default();
        assert!(!uploads.redeem(at(0), PEER, RequestId(1), 10));
        uploads.grant(at(0), PEER, 1 << 18);
        assert!(!uploads.redeem(at(1), PEER, RequestId(1), 1 << 19), "longer than a block");
        assert!(uploads.redeem(at(1), PEER, RequestId(1), 1 << 18));
        assert!(!uploads.redeem(at(1), PEER, RequestId(2), 1 << 18));
        assert!(uploads.ended(at(2), PEER, RequestId(1), true));
        assert!(!uploads.ended(at(2), PEER, RequestId(1), true));
        assert_eq!(uploads.out_to(PEER), 0);
    }

    #[test]
    fn unused_credits_expire_and_make_room() {
        let mut uploads = Uploads::default();
        assert_eq!(uploads.wanting(at(0), 8), 8);
        (0..8).for_each(|_| uploads.grant(at(0), PEER, 1 << 18));
        assert_eq!(uploads.wanting(at(0), 8), 0);
        uploads.returned(PEER, 3);
        assert_eq!((uploads.wanting(at(0), 8), uploads.granted()), (3, 5));
        let expiry = uploads.next_expiry().expect("credits are out");
        uploads.expire(expiry);
        assert_eq!((uploads.wanting(expiry, 8), uploads.next_expiry()), (8, None));
    }

    #[test]
    fn credits_follow_rate_and_delay_and_blocks_the_rate() {
        let mut uploads = Uploads::default();
        let mut now = 0;
        for index in 0..2000 {
            uploads.grant(at(now), PEER, 1 << 22);
            uploads.redeem(at(now + 40), PEER, RequestId(index), 1 << 20);
            now += 4;
            uploads.ended(at(now + 50), PEER, RequestId(index), true);
        }
        // 250 MB/s and 40 ms: 10 MB in transit, in blocks of 2 MB (8 ms).
        assert_eq!(uploads.block_bytes(at(now)), 1 << 21);
        assert!((10..16).contains(&uploads.wanting(at(now), 8)), "{}", uploads.wanting(at(now), 8));
    }

    #[test]
    fn a_stuck_reader_does_not_hold_the_uplink() {
        let mut uploads = Uploads::default();
        for index in 0..8 {
            uploads.grant(at(0), PEER, 1 << 18);
            uploads.redeem(at(0), PEER, RequestId(index), 1 << 18);
        }
        assert_eq!(uploads.wanting(at(100), 8), 0);
        assert_eq!(uploads.next_stuck(at(100)), Some(at(500)));
        assert!(uploads.wanting(at(600), 8) > 0);
    }
}
