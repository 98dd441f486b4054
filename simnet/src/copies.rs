//! How many hosts hold each piece: those that are there, and those that are there or will come back. Counted as things change, so that a
//! look costs no more than the pieces there are.

use std::collections::BTreeMap;

use crate::group_set::GroupSet;
use p2pweights_protocol::geometry::{Geometry, Piece, Span};
use p2pweights_protocol::ids::BlobHash;

/// Copies of one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// At hosts that are there.
    pub present: u32,
    /// At hosts that are there or will come.
    pub lasting: u32,
}

/// Copies of the pieces of all blobs.
#[derive(Debug, Default)]
pub struct Copies {
    blobs: BTreeMap<BlobHash, (Geometry, Vec<Count>)>,
}

impl Copies {
    /// Nobody holds anything.
    pub fn new(blobs: impl Iterator<Item = (BlobHash, u64)>) -> Self {
        let counts = |geometry: Geometry| vec![Count::default(); geometry.pieces() as usize];
        Self { blobs: blobs.map(|(blob, size)| (blob, (Geometry::of(size), counts(Geometry::of(size))))).collect() }
    }

    /// Changes the count of every piece that is whole in `held`.
    pub fn each(&mut self, blob: BlobHash, held: &GroupSet, change: impl Fn(&mut Count)) {
        let Some((geometry, counts)) = self.blobs.get_mut(&blob) else { return };
        for run in held.runs() {
            for piece in whole_pieces(*geometry, run) {
                counts.get_mut(piece.0 as usize).into_iter().for_each(&change);
            }
        }
    }

    /// Changes the count of the pieces that touch `span` and are whole in `held`.
    pub fn touched(&mut self, blob: BlobHash, held: &GroupSet, span: Span, change: impl Fn(&mut Count)) {
        let Some((geometry, counts)) = self.blobs.get_mut(&blob) else { return };
        for piece in geometry.pieces_touching(span) {
            if geometry.piece_span(piece).is_some_and(|whole| held.covers(whole))
                && let Some(count) = counts.get_mut(piece.0 as usize)
            {
                change(count);
            }
        }
    }

    /// Fewest, sum, and most of the copies that are there, and over how many pieces.
    pub fn spread(&self) -> (u32, u64, u32, u64) {
        let counts = || self.blobs.values().flat_map(|(_, counts)| counts).map(|count| count.present);
        let sum = counts().map(u64::from).sum();
        (counts().min().unwrap_or(0), sum, counts().max().unwrap_or(0), counts().count() as u64)
    }

    /// Pieces that nobody holds who is there or will come.
    pub fn gone(&self) -> Vec<(BlobHash, u32)> {
        let pieces = self
            .blobs
            .iter()
            .flat_map(|(blob, (_, counts))| counts.iter().zip(0..).map(move |(count, piece)| (*blob, count, piece)));
        pieces.filter(|(_, count, _)| count.lasting == 0).map(|(blob, _, piece)| (blob, piece)).collect()
    }
}

/// The pieces that lie in a run of groups, whole.
fn whole_pieces(geometry: Geometry, run: Span) -> impl Iterator<Item = Piece> {
    geometry.pieces_touching(run).filter(move |piece| geometry.piece_span(*piece).is_some_and(|whole| run.covers(whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_pieces_count() {
        let (blob, geometry) = (BlobHash([1; 32]), Geometry::of(4 * 256 * 1024));
        let groups = geometry.piece_groups();
        let mut copies = Copies::new([(blob, geometry.size())].into_iter());
        let mut held = GroupSet::default();
        held.insert(Span::new(0, 2 * groups + 1).unwrap());
        copies.each(blob, &held, |count| (count.present, count.lasting) = (count.present + 1, count.lasting + 1));
        assert_eq!((copies.spread(), copies.gone()), ((0, 2, 1, 4), vec![(blob, 2), (blob, 3)]));
        copies.touched(blob, &held, Span::new(0, 1).unwrap(), |count| count.lasting -= 1);
        assert_eq!(copies.gone(), [(blob, 0), (blob, 2), (blob, 3)]);
    }
}
