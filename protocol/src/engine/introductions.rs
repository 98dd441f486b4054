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

    /// Those named least often so far, ties at random: named at random, the first to come would end up with three times as many
    /// neighbours as the last, who would finish a fifth later.
    fn others(&mut self, peer: PeerId, blob: BlobHash) -> Vec<PeerId> {
        let random = &mut self.random;
        let wants = self.peers.iter().filter(|(other, state)| **other != peer && state.interests.contains(&blob));
        let mut known: Vec<(u32, u64, PeerId)> = wants.map(|(other, state)| (state.introduced, random.any(), *other)).collect();
        known.sort_unstable();
        let others: Vec<PeerId> = known.into_iter().take(OTHERS).map(|(_, _, other)| other).collect();
        for other in &others {
            if let Some(state) = self.peers.get_mut(other) {
                state.introduced += 1;
            }
        }
        others
    }
}
