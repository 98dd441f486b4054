//! Bytes counted for each peer, and for all of them.

use std::collections::BTreeMap;

use p2pweights_protocol::ids::PeerId;
use p2pweights_protocol::limits;

/// What came from, or went to, peers since the start. Only so many of them are known one by one; the sum is of all.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    peers: BTreeMap<PeerId, u64>,
    total: u64,
}

impl Tally {
    /// So many bytes more.
    pub fn count(&mut self, peer: PeerId, bytes: u64) {
        self.total += bytes;
        if bytes > 0 && (self.peers.len() < limits::REMEMBERED_PEERS || self.peers.contains_key(&peer)) {
            *self.peers.entry(peer).or_default() += bytes;
        }
    }

    /// Of one peer.
    pub fn of(&self, peer: PeerId) -> u64 {
        self.peers.get(&peer).copied().unwrap_or(0)
    }

    /// Of all.
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_of_all_however_many_there_are() {
        let mut tally = Tally::default();
        let peer = |number: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            PeerId(id)
        };
        for number in 0..limits::REMEMBERED_PEERS + 10 {
            tally.count(peer(number), 3);
        }
        tally.count(peer(1), 4);
        assert_eq!((tally.of(peer(0)), tally.of(peer(1)), tally.of(peer(limits::REMEMBERED_PEERS))), (3, 7, 0));
        assert_eq!(tally.total(), 3 * (limits::REMEMBERED_PEERS as u64 + 10) + 4);
    }
}
