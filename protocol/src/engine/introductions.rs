//! Peers that want the same are told of one another by whoever both have asked: a crowd that begins at once finds itself within a round
//! trip, long before the DHT knows of anybody but the source (peer exchange, BEP 11, narrowed to the moment it matters).

use super::{Engine, HangupReason, Output};
use crate::ids::{BlobHash, PeerId};

/// Peers named in one introduction: each is dialled by every later comer too, so that twice as many become neighbours.
const OTHERS: usize = 8;

impl Engine {
    /// Tells a peer of some others that want or hold the blob it has just asked for.
    pub(super) fn introduce_others(&mut self, peer: PeerId, blob: BlobHash) {
        let others = self.others(peer, blob);
        if !others.is_empty() {
            self.emit(Output::Introduce { peer, blob, others });
        }
    }

    /// Turns a peer away for want of room, though not without a word on where else to go.
    pub(super) fn turn_away(&mut self, peer: PeerId) {
        // What it wants is not known yet: the swarm that most others here are in is the best guess.
        if let Some(blob) = self.offers.keys().next().copied() {
            self.introduce_others(peer, blob);
        }
        self.emit(Output::Hangup { peer, reason: HangupReason::Full });
    }

    fn others(&mut self, peer: PeerId, blob: BlobHash) -> Vec<PeerId> {
        let wants = self.peers.iter().filter(|(other, state)| **other != peer && state.interests.contains(&blob));
        let mut known: Vec<PeerId> = wants.map(|(other, _)| *other).collect();
        let others = OTHERS.min(known.len());
        for place in 0..others {
            let other = place + self.random.below((known.len() - place) as u64) as usize;
            known.swap(place, other);
        }
        known.truncate(others);
        known
    }
}
