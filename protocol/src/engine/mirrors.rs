//! Mirrors: web servers that the node speaks for as if they were peers. They hold whole blobs and grant at once, but their bytes cost
//! somebody who gets nothing for them, and who may close the door: so they are asked for what peers do not bring.
//!
//! How little or much that is, is decided here alone. What a mirror is like besides (never a neighbour, never told of what we hold, never
//! served, no copy to rely on) is said where peers are dealt with.

use std::collections::BTreeMap;
use std::time::Duration;

use super::peer::Peer;
use super::{Alarm, Engine, PeerClass};
use crate::have_map::HaveMap;
use crate::ids::{BlobHash, PeerId};
use crate::limits;
use crate::swarm::download::Download;
use crate::swarm::rate::Rate;
use crate::time::Instant;

/// How long peers are looked for before a mirror is asked: a look-up in the DHT and a dial take about a second each.
const HEAD_START: Duration = Duration::from_secs(3);
/// What peers must bring at least to be enough, in bytes a second: less is too little for any model.
const ENOUGH: u64 = 1024 * 1024;
/// And they must bring the rest within this time: nobody is to wait for longer because there is a swarm.
const IN_TIME: Duration = Duration::from_secs(600);
/// For so many bytes that peers bring, one may be taken from a mirror while they bring enough: it costs the origin little.
const PEER_BYTES_FOR_ONE: u64 = 7;
/// What a mirror may be asked for in this way at a time. It is not saved up beyond that.
const PURSE_BYTES: u64 = limits::BLOCK_MAX_BYTES as u64;
/// Requests at a mirror while peers do not bring enough: blocks of 4 MiB in these fill 1 Gbit/s at 100 ms. Browsers open six connections.
const REQUESTS: usize = 4;
/// How often a mirror that was not asked is thought of again: peers slow down without a sign.
const LOOK: Duration = Duration::from_millis(250);
/// How long a judgement holds: it looks at every download, of which a model may have thousands.
const JUDGED: Duration = Duration::from_millis(50);
/// Blobs looked at for one that has something left to a mirror, from a random one on.
pub(super) const LOOKS: usize = 256;

/// What peers bring, and what that leaves to mirrors.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shares {
    peers: Rate,
    /// Sevenths of bytes that may be taken from mirrors though peers bring enough.
    purse: u64,
    /// What peers bring is enough, as judged last.
    suffice: bool,
    judge_after: Instant,
}

pub(super) fn is_mirror(peers: &BTreeMap<PeerId, Peer>, peer: PeerId) -> bool {
    peers.get(&peer).is_some_and(|state| state.class == PeerClass::Mirror)
}

impl Engine {
    pub(super) fn is_mirror(&self, peer: PeerId) -> bool {
        is_mirror(&self.peers, peer)
    }

    /// Those connected.
    pub(super) fn mirrors(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.peers.iter().filter(|(_, state)| state.class == PeerClass::Mirror).map(|(peer, _)| *peer)
    }

    /// Requests that all of them have open.
    pub(super) fn asked_of_mirrors(&self) -> usize {
        self.peers.values().filter(|state| state.class == PeerClass::Mirror).map(|state| state.source.in_flight()).sum()
    }

    pub(super) fn mark_mirrors_ready(&mut self) {
        let mirrors: Vec<PeerId> = self.mirrors().collect();
        self.ready.extend(mirrors);
    }

    /// So many verified bytes came from a source of this class.
    pub(super) fn note_share(&mut self, class: Option<PeerClass>, bytes: u64) {
        if class != Some(PeerClass::Mirror) {
            self.shares.peers.record(self.now, bytes);
            self.shares.purse = (self.shares.purse + bytes).min(PURSE_BYTES * PEER_BYTES_FOR_ONE);
        }
    }

    /// So many bytes are asked of a source.
    pub(super) fn note_asked(&mut self, peer: PeerId, bytes: u64) {
        if self.is_mirror(peer) {
            self.shares.purse = self.shares.purse.saturating_sub(bytes * PEER_BYTES_FOR_ONE);
        }
    }

    /// Judges anew what peers bring, if a mirror may be asked now.
    pub(super) fn judge_peers(&mut self) {
        if self.now < self.shares.judge_after || !self.ready.iter().any(|peer| self.is_mirror(*peer)) {
            return;
        }
        self.shares.judge_after = self.now + JUDGED;
        let rate = self.shares.peers.bytes_per_s(self.now);
        let missing: u64 = self.downloads.values().map(Download::missing_bytes).sum();
        self.shares.suffice = rate >= ENOUGH.max(missing / IN_TIME.as_secs());
    }

    /// Whether what peers bring leaves little to mirrors.
    pub(super) fn peers_suffice(&self) -> bool {
        self.shares.suffice
    }

    /// Whether a mirror may have one more request open.
    pub(super) fn may_ask_mirror(&self, state: &Peer) -> bool {
        state.class != PeerClass::Mirror || state.source.in_flight() < if self.peers_suffice() { 1 } else { REQUESTS }
    }

    /// A mirror was not asked though something is open: that may change with time alone.
    pub(super) fn think_again(&mut self, peer: PeerId) {
        if !self.open.is_empty() && self.is_mirror(peer) {
            self.wake_in(Alarm::Mirrors, LOOK);
        }
    }

    /// Of the pieces that a mirror has, those which are left to it now. `None`: all of them, or it is no mirror.
    pub(super) fn left_to_mirror(&self, peer: PeerId, blob: BlobHash, has: &HaveMap) -> Option<HaveMap> {
        if !self.is_mirror(peer) {
            return None;
        }
        if self.now < self.wanted_since(blob)? + HEAD_START {
            return Some(HaveMap::empty(has.pieces()));
        }
        let block = self.peers.get(&peer).map_or(0, |state| u64::from(state.source.block_bytes()));
        let has_share = self.shares.purse >= block * PEER_BYTES_FOR_ONE && self.asked_of_mirrors() == 0;
        if !self.peers_suffice() || has_share {
            return None;
        }
        let mut lacking = has.clone();
        for (other, _) in self.peers.iter().filter(|(_, state)| state.class != PeerClass::Mirror) {
            if let Some(theirs) = self.downloads.get(&blob).and_then(|download| download.map_of(*other)) {
                lacking.retain_without(theirs);
            }
        }
        Some(lacking)
    }

    /// Since when a swarm wants this blob.
    fn wanted_since(&self, blob: BlobHash) -> Option<Instant> {
        self.swarms.values().filter(|swarm| swarm.wants.contains(&blob)).map(|swarm| swarm.joined_at).min()
    }
}
