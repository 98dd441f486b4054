//! How much more we could take, told to those who could send it: whether a source is of use at all, when that changes; and a cry to a few
//! of them when we run empty.
//!
//! Telling everybody of every change would cost more messages than blocks; telling rarely makes all sources rush to whoever was empty
//! then. So only emptiness is told, at once, to a few: the next free uplink among them will do.

use std::time::Duration;

use super::peer::{Load, Peer};
use super::{Engine, PeerClass};
use crate::ids::PeerId;
use crate::limits;
use crate::wire::Message;

/// Smallest number of requests we report wanting in flight.
const LIMIT_MIN: u64 = 4;
/// Largest number, whatever the rate: more could not be in flight within `limits::IN_FLIGHT_BYTES`.
const LIMIT_MAX: u64 = limits::IN_FLIGHT_BYTES / limits::BLOCK_MIN_BYTES as u64;
/// Requests in flight, besides those that the path holds, below which we are running empty.
const RESERVE: u64 = 2;
/// Sources that hear of it.
const CRIES: usize = 3;
/// Shortest time between two cries.
const PAUSE_MIN: Duration = Duration::from_millis(2);
/// Longest: one that nobody answered is repeated.
const PAUSE_MAX: Duration = Duration::from_millis(200);

impl Engine {
    /// Tells a source whether it is of use to us, if that has changed.
    pub(super) fn tell_use(&mut self, peer: PeerId) {
        if self.is_mirror(peer) {
            return; // It does not choose whom to serve.
        }
        let useful = !self.paused && self.is_useful(peer);
        let told = self.peers.get(&peer).is_some_and(|state| state.load_told.limit > 0);
        if useful != told {
            let limit = if useful { self.wanted_requests() } else { 0 };
            self.tell_load(peer, limit);
        }
    }

    /// With little in flight and something to ask for, lets a few sources know, chosen at random among those that could help.
    pub(super) fn cry(&mut self) {
        if self.open.is_empty() || self.paused || self.now < self.next_cry {
            return;
        }
        if self.asked_of_peers() as u64 >= self.in_path() + RESERVE {
            return;
        }
        let idle = |peer: &PeerId| {
            let of_use = |state: &Peer| state.class != PeerClass::Mirror && state.load_told.limit > 0;
            self.peers.get(peer).is_some_and(|state| of_use(state) && state.source.credits() == 0)
        };
        let mut sources: Vec<PeerId> = self.peers.keys().filter(|peer| idle(peer)).copied().collect();
        for _ in 0..CRIES.min(sources.len()) {
            let peer = sources.swap_remove(self.random.below(sources.len() as u64) as usize);
            let limit = self.wanted_requests();
            self.tell_load(peer, limit);
        }
    }

    /// Requests open, those at mirrors aside.
    fn asked_of_peers(&self) -> usize {
        self.ledger.in_flight().saturating_sub(self.asked_of_mirrors())
    }

    fn tell_load(&mut self, peer: PeerId, limit: u16) {
        // Credits of those who never delivered may be worth nothing, and must not make us look full.
        // What mirrors are asked for would be asked of peers, if they could: it does not count either.
        let proved = self.peers.values().filter(|state| state.class != PeerClass::Mirror && state.source.has_delivered());
        let credits: u64 = proved.map(|state| u64::from(state.source.credits())).sum();
        let asked = self.asked_of_peers();
        let held = u16::try_from(credits + asked as u64).unwrap_or(u16::MAX);
        self.next_cry = self.now + (self.path_time.mean().unwrap_or_default() / 2).clamp(PAUSE_MIN, PAUSE_MAX);
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.load_told = Load { held, limit };
        self.send(peer, Message::Load { held, limit });
    }

    /// Requests that we would like in flight: twice what the paths hold, so that a rate can double in a round trip, and some to wait.
    fn wanted_requests(&self) -> u16 {
        let first = self.config.first_in_flight_bytes / u64::from(limits::BLOCK_MIN_BYTES);
        let wanted = if self.path_time.mean().is_some() { 2 * (self.in_path() + RESERVE) } else { first };
        u16::try_from(wanted.clamp(LIMIT_MIN, LIMIT_MAX)).expect("at most LIMIT_MAX")
    }

    /// Requests that the paths in use hold at the rate of now, in spans as they are really asked for: shorter than blocks where what is
    /// open lies scattered.
    fn in_path(&self) -> u64 {
        let requests = self.ledger.in_flight() as u64;
        let asked = self.ledger.in_flight_bytes().checked_div(requests).unwrap_or(limits::BLOCK_MIN_BYTES.into()).max(1);
        let path = self.path_time.mean().unwrap_or_default();
        let held = u128::from(self.down_rate.bytes_per_s(self.now)) * path.as_nanos() / 1_000_000_000 / u128::from(asked);
        // The mean over seconds lags behind a single fat path that is just filling up.
        let widest = self.widest_path / asked;
        u64::try_from(held).unwrap_or(u64::MAX).max(widest).min(LIMIT_MAX)
    }
}
