//! Who misbehaved, who is banned until when, who is left alone for a while. Identities are free to mint, so memory is bounded.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::config::EngineConfig;
use crate::engine::io::Misdeed;
use crate::ids::PeerId;
use crate::limits;
use crate::time::Instant;

/// Points at which a peer is banned.
const BAN_POINTS: u32 = 100;
/// Time in which points halve: an honest peer on a bad line recovers.
const FORGET_HALF: Duration = Duration::from_secs(600);
/// Longest pause before a failing peer is tried again: a dial a minute costs nothing, and a source that was away is soon found back.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// What a misdeed weighs. Bad bytes cannot be an accident: they were proved to the sender before they left, if it is honest.
fn points(misdeed: Misdeed) -> u32 {
    match misdeed {
        Misdeed::BadBytes => BAN_POINTS,
        Misdeed::FalseClaim | Misdeed::BadMessage | Misdeed::Late => 34,
        Misdeed::Unsolicited => 2,
    }
}

#[derive(Debug, Clone, Default)]
struct Record {
    points: u32,
    since: Instant,
    strikes: u32,
    bans: u32,
    banned_until: Option<Instant>,
    failures: u32,
    back_off_until: Option<Instant>,
}

impl Record {
    fn fade(&mut self, now: Instant) {
        let halvings = (now - self.since).as_secs() / FORGET_HALF.as_secs();
        if halvings > 0 {
            self.points = self.points.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0);
            self.since = now;
        }
    }
}

/// The memory of misdeeds.
#[derive(Debug, Clone, Default)]
pub struct Reputation {
    records: BTreeMap<PeerId, Record>,
}

impl Reputation {
    /// Records a misdeed; returns until when the peer is banned if this was the last straw.
    pub fn strike(&mut self, config: &EngineConfig, now: Instant, peer: PeerId, misdeed: Misdeed) -> Option<Instant> {
        let record = self.record(now, peer);
        record.fade(now);
        record.points += points(misdeed);
        record.strikes += 1;
        if record.points < BAN_POINTS {
            return None;
        }
        record.points = 0;
        let until = now + config.ban * 2u32.pow(record.bans.min(6));
        record.bans += 1;
        record.banned_until = Some(until);
        Some(until)
    }

    /// A connection or dial failed, or the peer was hung up on: returns until when to leave it alone.
    pub fn failed(&mut self, config: &EngineConfig, now: Instant, peer: PeerId) -> Instant {
        let record = self.record(now, peer);
        let pause = (config.back_off * 2u32.pow(record.failures.min(7))).min(BACK_OFF_MAX);
        record.failures += 1;
        record.back_off_until = Some(now + pause);
        now + pause
    }

    /// The peer delivered: its failures are forgotten.
    pub fn delivered(&mut self, peer: PeerId) {
        if let Some(record) = self.records.get_mut(&peer) {
            record.failures = 0;
            record.back_off_until = None;
        }
    }

    /// Whether the peer is banned.
    pub fn is_banned(&self, now: Instant, peer: PeerId) -> bool {
        self.records.get(&peer).and_then(|record| record.banned_until).is_some_and(|until| until > now)
    }

    /// Until when the peer is not to be dialled, if that lies ahead.
    pub fn not_before(&self, now: Instant, peer: PeerId) -> Option<Instant> {
        let record = self.records.get(&peer)?;
        record.banned_until.max(record.back_off_until).filter(|until| *until > now)
    }

    /// Strikes so far.
    pub fn strikes(&self, peer: PeerId) -> u32 {
        self.records.get(&peer).map_or(0, |record| record.strikes)
    }

    /// Every peer with strikes, and how many.
    pub fn struck(&self) -> impl Iterator<Item = (PeerId, u32)> + '_ {
        self.records.iter().map(|(peer, record)| (*peer, record.strikes)).filter(|(_, strikes)| *strikes > 0)
    }

    fn record(&mut self, now: Instant, peer: PeerId) -> &mut Record {
        if !self.records.contains_key(&peer) && self.records.len() >= limits::REMEMBERED_PEERS {
            let oldest = self.records.iter().min_by_key(|(_, record)| (record.banned_until > Some(now), record.since));
            if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
                self.records.remove(&oldest);
            }
        }
        self.records.entry(peer).or_insert_with(|| Record { since: now, ..Record::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId([1; 32]);

    #[test]
    fn bad_bytes_ban_at_once_and_longer_each_time() {
        let (config, mut reputation) = (EngineConfig::default(), Reputation::default());
        let first = reputation.strike(&config, Instant::START, PEER, Misdeed::BadBytes).expect("banned");
        assert_eq!(first, Instant::START + config.ban);
        assert!(reputation.is_banned(Instant::START, PEER));
        assert!(!reputation.is_banned(first, PEER));
        assert_eq!(reputation.strike(&config, first, PEER, Misdeed::BadBytes), Some(first + config.ban * 2));
    }

    #[test]
    fn small_misdeeds_add_up_and_fade() {
        let (config, mut reputation) = (EngineConfig::default(), Reputation::default());
        let mut now = Instant::START;
        for _ in 0..2 {
            assert_eq!(reputation.strike(&config, now, PEER, Misdeed::Late), None);
        }
        now = now + FORGET_HALF * 7;
        assert_eq!(reputation.strike(&config, now, PEER, Misdeed::Late), None, "they have faded");
        assert_eq!(reputation.strike(&config, now, PEER, Misdeed::BadMessage), None);
        assert!(reputation.strike(&config, now, PEER, Misdeed::BadMessage).is_some(), "the third in a short time");
    }

    #[test]
    fn memory_is_bounded_and_bans_outlive_the_rest() {
        let (config, mut reputation) = (EngineConfig::default(), Reputation::default());
        reputation.strike(&config, Instant::START, PEER, Misdeed::BadBytes);
        for index in 0..2 * limits::REMEMBERED_PEERS as u64 {
            let mut id = [9; 32];
            id[..8].copy_from_slice(&index.to_be_bytes());
            reputation.failed(&config, Instant(index), PeerId(id));
        }
        assert!(reputation.records.len() <= limits::REMEMBERED_PEERS);
        assert!(reputation.is_banned(Instant(1), PEER));
    }
}
