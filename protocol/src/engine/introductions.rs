//! Peers that want the same are told of one another by whoever both have asked: a crowd that begins at once finds itself within a round
//! trip, long before the DHT knows of anybody but the source (peer exchange, BEP 11, narrowed to the moment it matters).

use super::{Engine, HangupReason, Output};
use crate::ids::{BlobHash, PeerId};

/// Peers named in one introduction: each is dialled by every later comer too, so that twice as many become neighbours.
const OTHERS: usize = 8;
/// Introductions to one peer: one for a manifest, one for its files, and some models more. Asking again and again must not make us list
/// everybody with their addresses.
const INTRODUCTIONS: u32 = 8;

impl Engine {
    /// Tells a peer of some others that want or hold the blob it has just asked for.
    pub(super) fn introduce_others(&mut self, peer: PeerId, blob: BlobHash) {
        let others = self.others(peer, blob);
        if others.is_empty() {
            return;
        }
        let told = self.peers.get_mut(&peer).map_or(0, |state| {
            state.told_of_others += 1;
            state.told_of_others
        });
        if told <= INTRODUCTIONS {
            self.emit(Output::Introduce { peer, blob, others });
        }
    }

    /// Turns a peer away for want of room, though not without a word on where else to go.
    pub(super) fn turn_away(&mut self, peer: PeerId) {
        // What it wants is not known yet. A node that has no room for it is busy with one swarm, or with many: then it is a guess.
        if let Some(blob) = self.offers.keys().chain(self.downloads.keys()).next().copied() {
            self.introduce_others(peer, blob);
        }
        self.emit(Output::Hangup { peer, reason: HangupReason::Full });
    }

    /// Some at random, but of two drawn for each place the one named less often so far. Named wholly at random, the first to come would
    /// end up with three times as many neighbours as the last, who would finish a fifth later; named by count alone, each newcomer would
    /// meet the ones just before it, and a crowd become a chain.
    fn others(&mut self, peer: PeerId, blob: BlobHash) -> Vec<PeerId> {
        let wants = self.peers.iter().filter(|(other, state)| **other != peer && state.interests.contains(&blob));
        let mut known: Vec<(u32, PeerId)> = wants.map(|(other, state)| (state.introduced, *other)).collect();
        let mut others = Vec::new();
        while others.len() < OTHERS && !known.is_empty() {
            let mut draw = || self.random.below(known.len() as u64) as usize;
            let (one, other) = (draw(), draw());
            let (_, chosen) = known.swap_remove(if known[other] < known[one] { other } else { one });
            if let Some(state) = self.peers.get_mut(&chosen) {
                state.introduced += 1;
            }
            others.push(chosen);
        }
        others
    }
}
