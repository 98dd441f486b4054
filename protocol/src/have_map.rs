//! Which pieces a provider can prove it holds: one bit a piece. Knows geometry, not peers.

use serde::{Deserialize, Serialize};

use crate::geometry::{Geometry, Piece};
use crate::random::Random;
use crate::span_set::SpanSet;

const WORD_BITS: u32 = u64::BITS;
/// Pieces that a sample takes from one word: few, so that it comes from many places.
const SAMPLED_PER_WORD: usize = 2;

/// A set of pieces of one blob, as wide as the blob has pieces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaveMap {
    pieces: u32,
    held: u32,
    words: Vec<u64>,
}

impl HaveMap {
    /// No piece of `pieces`.
    pub fn empty(pieces: u32) -> Self {
        Self { pieces, held: 0, words: vec![0; pieces.div_ceil(WORD_BITS) as usize] }
    }

    /// Every piece of `pieces`.
    pub fn full(pieces: u32) -> Self {
        let mut words = vec![u64::MAX; pieces.div_ceil(WORD_BITS) as usize];
        if let (Some(last), 1..) = (words.last_mut(), pieces % WORD_BITS) {
            *last >>= WORD_BITS - pieces % WORD_BITS;
        }
        Self { pieces, held: pieces, words }
    }

    /// The pieces of which every group is held.
    pub fn of_held(geometry: Geometry, held: &SpanSet) -> Self {
        let mut map = Self::empty(geometry.pieces());
        for run in held.runs() {
            for piece in geometry.pieces_touching(run) {
                if geometry.piece_span(piece).is_some_and(|span| run.covers(span)) {
                    map.insert(piece);
                }
            }
        }
        map
    }

    /// Number of pieces of the blob.
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// Number of pieces in the map.
    pub fn held(&self) -> u32 {
        self.held
    }

    /// Whether every piece is there.
    pub fn is_full(&self) -> bool {
        self.held == self.pieces
    }

    /// Whether the piece is there.
    pub fn contains(&self, piece: Piece) -> bool {
        piece.0 < self.pieces && self.words[(piece.0 / WORD_BITS) as usize] >> (piece.0 % WORD_BITS) & 1 == 1
    }

    /// Adds a piece; says whether it is new. A piece beyond the blob is ignored.
    pub fn insert(&mut self, piece: Piece) -> bool {
        if piece.0 >= self.pieces || self.contains(piece) {
            return false;
        }
        self.words[(piece.0 / WORD_BITS) as usize] |= 1 << (piece.0 % WORD_BITS);
        self.held += 1;
        true
    }

    /// Takes a piece out; says whether it was there.
    pub fn remove(&mut self, piece: Piece) -> bool {
        if !self.contains(piece) {
            return false;
        }
        self.words[(piece.0 / WORD_BITS) as usize] &= !(1 << (piece.0 % WORD_BITS));
        self.held -= 1;
        true
    }

    /// The pieces in the map, in order.
    pub fn iter(&self) -> impl Iterator<Item = Piece> + '_ {
        bits(self.words.iter().copied())
    }

    /// The first piece of the map.
    pub fn first(&self) -> Option<Piece> {
        self.iter().next()
    }

    /// The first piece from `from` on that both maps have.
    pub fn first_common(&self, other: &Self, from: Piece) -> Option<Piece> {
        let first = (from.0 / WORD_BITS) as usize;
        let both = self.words.iter().zip(&other.words).map(|(a, b)| a & b).enumerate().skip(first);
        let after = both.map(|(index, word)| if index == first { word & (u64::MAX << (from.0 % WORD_BITS)) } else { word });
        let (word, index) = after.zip(from.0 / WORD_BITS..).find(|(word, _)| *word != 0)?;
        Some(Piece(index * WORD_BITS + word.trailing_zeros()))
    }

    /// The pieces of this map that the other one lacks, in order.
    pub fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Piece> + 'a {
        bits(self.words.iter().zip(&other.words).map(|(a, b)| a & !b))
    }

    /// Whether the maps share a piece.
    pub fn intersects(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).any(|(a, b)| a & b != 0)
    }

    /// Keeps the pieces that the other map has too.
    pub fn retain_common(&mut self, other: &Self) {
        let theirs = other.words.iter().chain(std::iter::repeat(&0));
        self.words.iter_mut().zip(theirs).for_each(|(word, other)| *word &= other);
        self.recount();
    }

    /// Keeps the pieces that the other map lacks.
    pub fn retain_without(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= !other);
        self.recount();
    }

    fn recount(&mut self) {
        self.held = self.words.iter().map(|word| word.count_ones()).sum();
    }

    /// Some pieces that both maps have, scattered over the whole map; at least one if there is one, and each at most once. Looks at no
    /// more of the maps than it must: with many pieces in common that is a few words.
    pub fn sample_common(&self, other: &Self, random: &mut Random, most: usize) -> Vec<Piece> {
        let words = self.words.len().min(other.words.len());
        let mut sample = Vec::with_capacity(most);
        if words == 0 {
            return sample;
        }
        let per_word = SAMPLED_PER_WORD.max(most.div_ceil(words));
        let (start, stride) = (random.below(words as u64) as usize, stride(words));
        for step in 0..words {
            let index = (start + step * stride) % words;
            let mut word = self.words[index] & other.words[index];
            for _ in 0..per_word {
                if word == 0 || sample.len() >= most {
                    break;
                }
                let bit = nth_bit(word, random.below_u32(word.count_ones()));
                word &= !(1 << bit);
                sample.push(Piece(u32::try_from(index).expect("a map has fewer than 2^32 words") * WORD_BITS + bit));
            }
            if sample.len() >= most {
                break;
            }
        }
        sample
    }

    /// How many pieces both maps have.
    pub fn common(&self, other: &Self) -> u32 {
        self.words.iter().zip(&other.words).map(|(a, b)| (a & b).count_ones()).sum()
    }

    /// The `rank`-th piece, counted from 0, which both maps have.
    pub fn nth_common(&self, other: &Self, rank: u32) -> Option<Piece> {
        let mut left = rank;
        for (index, (a, b)) in self.words.iter().zip(&other.words).enumerate() {
            let word = a & b;
            if left >= word.count_ones() {
                left -= word.count_ones();
                continue;
            }
            let index = u32::try_from(index).expect("a map has fewer than 2^32 words");
            return Some(Piece(index * WORD_BITS + nth_bit(word, left)));
        }
        None
    }

    /// The map as it travels: one bit a piece, least significant bit first, unused bits zero.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate(self.pieces.div_ceil(8) as usize);
        bytes
    }

    /// Reads a map for a blob of so many pieces; `None` if its length is wrong or an unused bit is set.
    pub fn from_bytes(pieces: u32, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != pieces.div_ceil(8) as usize {
            return None;
        }
        let mut map = Self::empty(pieces);
        for (index, byte) in bytes.iter().enumerate() {
            map.words[index / 8] |= u64::from(*byte) << (index % 8 * 8);
        }
        map.recount();
        let unused = map.words.len() as u32 * WORD_BITS - pieces;
        let stray = unused > 0 && map.words.last().is_some_and(|last| last.leading_zeros() < unused);
        (!stray).then_some(map)
    }
}

/// The pieces whose bits are set.
fn bits(words: impl Iterator<Item = u64>) -> impl Iterator<Item = Piece> {
    words.zip(0u32..).flat_map(|(mut word, index)| {
        std::iter::from_fn(move || {
            let bit = (word != 0).then(|| word.trailing_zeros())?;
            word &= word - 1;
            Some(Piece(index * WORD_BITS + bit))
        })
    })
}

/// The place of the bit before which so many others are set.
fn nth_bit(mut word: u64, rank: u32) -> u32 {
    for _ in 0..rank {
        word &= word - 1;
    }
    word.trailing_zeros()
}

/// A step that visits each of so many words once before any twice, in an order that looks scattered.
fn stride(words: usize) -> usize {
    // The golden section scatters best; the next number without a common divisor will do.
    let wanted = (words * 618 / 1000).max(1);
    (wanted..).find(|step| divisor(*step, words) == 1).unwrap_or(1)
}

fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::geometry::Span;

    #[test]
    fn only_whole_pieces_count() {
        let geometry = Geometry::of(3 * 256 * 1024);
        let held = SpanSet::from(Span::new(5, 40).expect("not empty"));
        assert_eq!(HaveMap::of_held(geometry, &held).iter().collect::<Vec<_>>(), [Piece(1)]);
    }

    #[test]
    fn stray_bits_and_wrong_lengths_are_refused() {
        assert!(HaveMap::from_bytes(3, &[0b0000_0111]).is_some());
        assert!(HaveMap::from_bytes(3, &[0b0000_1000]).is_none());
        assert!(HaveMap::from_bytes(3, &[1, 0]).is_none());
        assert!(HaveMap::from_bytes(0, &[]).is_some());
    }

    proptest! {
        #[test]
        fn bytes_read_back_and_common_pieces_are_found(
            pieces in 1u32..300, a in prop::collection::vec(0u32..300, 0..80), b in prop::collection::vec(0u32..300, 0..80), seed in any::<u64>(),
        ) {
            let (mut left, mut right) = (HaveMap::empty(pieces), HaveMap::empty(pieces));
            a.iter().for_each(|&piece| { left.insert(Piece(piece)); });
            b.iter().for_each(|&piece| { right.insert(Piece(piece)); });
            prop_assert_eq!(HaveMap::from_bytes(pieces, &left.to_bytes()), Some(left.clone()));
            let common: Vec<Piece> = left.iter().filter(|&piece| right.contains(piece)).collect();
            prop_assert_eq!(left.common(&right) as usize, common.len());
            for (rank, piece) in common.iter().enumerate() {
                prop_assert_eq!(left.nth_common(&right, rank as u32), Some(*piece));
            }
            prop_assert_eq!(left.nth_common(&right, common.len() as u32), None);
            for from in (0..pieces).step_by(7).map(Piece) {
                prop_assert_eq!(left.first_common(&right, from), common.iter().copied().find(|piece| *piece >= from));
            }
            prop_assert_eq!(left.first(), left.iter().next());
            prop_assert_eq!(left.intersects(&right), !common.is_empty());
            let lacking: Vec<Piece> = left.iter().filter(|&piece| !right.contains(piece)).collect();
            prop_assert_eq!(left.without(&right).collect::<Vec<_>>(), lacking.clone());
            let (mut kept, mut rest) = (left.clone(), left.clone());
            kept.retain_common(&right);
            rest.retain_without(&right);
            prop_assert_eq!((kept.iter().collect::<Vec<_>>(), kept.held() as usize), (common.clone(), common.len()));
            prop_assert_eq!((rest.iter().collect::<Vec<_>>(), rest.held() as usize), (lacking.clone(), lacking.len()));
            let mut sample = left.sample_common(&right, &mut Random::new(seed), 24);
            prop_assert_eq!(sample.is_empty(), common.is_empty());
            prop_assert!(sample.iter().all(|piece| common.contains(piece)) && sample.len() <= 24);
            let drawn = sample.len();
            sample.sort_unstable();
            sample.dedup();
            prop_assert_eq!(sample.len(), drawn, "a piece is drawn once");
        }
    }
}
