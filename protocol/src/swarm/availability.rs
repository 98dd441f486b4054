//! How many connected providers hold each piece of a blob: what "rarest" is measured by.

use crate::geometry::Piece;
use crate::have_map::HaveMap;

/// A count for each piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Availability {
    counts: Vec<u16>,
    /// Pieces with fewer than two providers.
    below_two: u32,
}

impl Availability {
    /// Nobody holds anything.
    pub fn new(pieces: u32) -> Self {
        Self { counts: vec![0; pieces as usize], below_two: pieces }
    }

    /// A provider with this map has come.
    pub fn add(&mut self, map: &HaveMap) {
        map.iter().for_each(|piece| self.add_piece(piece));
    }

    /// A provider with this map has gone.
    pub fn remove(&mut self, map: &HaveMap) {
        for piece in map.iter() {
            let count = &mut self.counts[piece.0 as usize];
            *count = count.checked_sub(1).expect("a map is removed only after it was added");
            self.below_two += u32::from(*count == 1);
        }
    }

    /// A known provider has one piece more.
    pub fn add_piece(&mut self, piece: Piece) {
        // Peers are bounded by limits::PEERS, far below 2^16.
        let count = &mut self.counts[piece.0 as usize];
        *count += 1;
        self.below_two -= u32::from(*count == 2);
    }

    /// How many providers hold the piece.
    pub fn count(&self, piece: Piece) -> u16 {
        self.counts.get(piece.0 as usize).copied().unwrap_or(0)
    }

    /// Pieces with fewer than two providers.
    pub fn below_two(&self) -> u32 {
        self.below_two
    }

    /// Pieces that no provider holds, among those in the map.
    pub fn unavailable(&self, among: &HaveMap) -> u32 {
        among.iter().filter(|&piece| self.count(piece) == 0).count() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::drawing;

    #[test]
    fn counts_follow_providers_that_come_and_go() {
        let mut availability = Availability::new(4);
        availability.add(&drawing::have_map("##.."));
        availability.add(&drawing::have_map(".##."));
        assert_eq!(availability, drawing::availability("1210"));
        availability.remove(&drawing::have_map("##.."));
        assert_eq!(availability, drawing::availability("0110"));
        assert_eq!(availability.below_two(), 4);
        availability.add(&drawing::have_map(".#.#"));
        assert_eq!(availability.below_two(), 3);
        availability.remove(&drawing::have_map(".#.#"));
        assert_eq!((availability.below_two(), &availability), (4, &drawing::availability("0110")));
        assert_eq!(availability.unavailable(&drawing::have_map("#..#")), 2);
    }
}
