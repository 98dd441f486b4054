//! Who else holds what of a blob that we hold whole: what tells a lone source which pieces are still rare, and when it may leave.

use std::collections::BTreeMap;

use crate::geometry::Piece;
use crate::have_map::HaveMap;
use crate::ids::PeerId;
use crate::swarm::availability::Availability;

/// What others are known to hold of one blob.
#[derive(Debug, Clone)]
pub struct Holders {
    maps: BTreeMap<PeerId, HaveMap>,
    counts: Availability,
}

impl Holders {
    /// Nobody is known to hold anything of a blob with so many pieces.
    pub fn new(pieces: u32) -> Self {
        Self { maps: BTreeMap::new(), counts: Availability::new(pieces) }
    }

    /// Takes note of all that a peer holds.
    pub fn set(&mut self, peer: PeerId, map: HaveMap) {
        self.remove(peer);
        self.counts.add(&map);
        self.maps.insert(peer, map);
    }

    /// Takes note of what more a peer holds; returns the pieces that are news. `None` if it never said what it holds.
    pub fn add(&mut self, peer: PeerId, pieces: impl Iterator<Item = Piece>) -> Option<Vec<Piece>> {
        let map = self.maps.get_mut(&peer)?;
        let fresh: Vec<Piece> = pieces.filter(|&piece| map.insert(piece)).collect();
        fresh.iter().for_each(|&piece| self.counts.add_piece(piece));
        Some(fresh)
    }

    /// A peer is gone; returns what it held.
    pub fn remove(&mut self, peer: PeerId) -> Option<HaveMap> {
        let map = self.maps.remove(&peer)?;
        self.counts.remove(&map);
        Some(map)
    }

    /// What a peer is known to hold.
    pub fn map_of(&self, peer: PeerId) -> Option<&HaveMap> {
        self.maps.get(&peer)
    }

    /// Who holds all of it.
    pub fn whole(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.maps.iter().filter(|(_, map)| map.is_full()).map(|(peer, _)| *peer)
    }

    /// How many hold a piece.
    pub fn count(&self, piece: Piece) -> u16 {
        self.counts.count(piece)
    }

    /// Whether every piece is held by two at least: one may fail.
    pub fn all_held_twice(&self) -> bool {
        self.counts.below_two() == 0
    }
}
