//! How a blob is divided: chunk groups that are proved, pieces that are scheduled, spans that are asked for.
//! All rounding lives here. Knows sizes only; no hashes, no peers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes of a chunk group, the smallest part that is proved: 16 BLAKE3 chunks of 1 KiB. The root hash does not depend on it;
/// 16 KiB keeps the outboard at 0.39 % of the data and a lie at one group.
pub const GROUP_BYTES: u64 = 16 * 1024;
/// log2 of the BLAKE3 chunks in a group, the form bao-tree wants.
pub const GROUP_CHUNK_LOG: u8 = 4;
/// The smallest piece, in groups (256 KiB): below it the have-map costs more than it tells.
const PIECE_MIN_GROUPS: u64 = 16;
/// The largest piece, in groups (64 MiB): above it a partial peer has too little to say.
const PIECE_MAX_GROUPS: u64 = 4096;
/// Pieces aimed at, at most: a have-map of 2 KiB.
const PIECES_AIM: u64 = 16 * 1024;

/// Index of a chunk group within its blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Group(pub u64);

/// Index of a piece within its blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Piece(pub u32);

/// A run of chunk groups of one blob, `start..end`, never empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u64, u64)", into = "(u64, u64)")]
pub struct Span {
    start: u64,
    end: u64,
}

impl Span {
    /// The groups `start..end`, or `None` when there are none.
    pub fn new(start: u64, end: u64) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    /// The first group.
    pub fn start(self) -> u64 {
        self.start
    }

    /// One past the last group.
    pub fn end(self) -> u64 {
        self.end
    }

    /// How many groups; at least one.
    pub fn groups(self) -> u64 {
        self.end - self.start
    }

    /// Whether all of `other` lies within.
    pub fn covers(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// The groups both have.
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }

    /// The first `groups` groups, or all if there are fewer.
    pub fn prefix(self, groups: u64) -> Self {
        Self { start: self.start, end: self.end.min(self.start + groups.max(1)) }
    }
}

impl TryFrom<(u64, u64)> for Span {
    type Error = &'static str;

    fn try_from((start, groups): (u64, u64)) -> Result<Self, Self::Error> {
        let end = start.checked_add(groups).ok_or("a span's end overflows")?;
        Self::new(start, end).ok_or("a span has at least one group")
    }
}

impl From<Span> for (u64, u64) {
    fn from(span: Span) -> Self {
        (span.start, span.groups())
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// The division of a blob of a given size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    size: u64,
    piece_groups: u64,
}

impl Geometry {
    /// The division every node derives from the size alone, so that have-maps of different nodes line up.
    pub fn of(size: u64) -> Self {
        let wanted = size.div_ceil(GROUP_BYTES).div_ceil(PIECES_AIM).next_power_of_two();
        Self { size, piece_groups: wanted.clamp(PIECE_MIN_GROUPS, PIECE_MAX_GROUPS) }
    }

    /// Size of the blob in bytes.
    pub fn size(self) -> u64 {
        self.size
    }

    /// Number of chunk groups. An empty blob has none: there is nothing to fetch.
    pub fn groups(self) -> u64 {
        self.size.div_ceil(GROUP_BYTES)
    }

    /// Number of pieces.
    pub fn pieces(self) -> u32 {
        let pieces = self.groups().div_ceil(self.piece_groups);
        u32::try_from(pieces).expect("limits::BLOB_BYTES keeps the piece count within 32 bits")
    }

    /// Groups of a full piece; the last one may have fewer.
    pub fn piece_groups(self) -> u64 {
        self.piece_groups
    }

    /// All groups, or `None` for an empty blob.
    pub fn whole(self) -> Option<Span> {
        Span::new(0, self.groups())
    }

    /// The last group: proving it proves the size.
    pub fn last_group(self) -> Option<Span> {
        Span::new(self.groups().saturating_sub(1), self.groups())
    }

    /// The groups of a piece; `None` when the blob has no such piece.
    pub fn piece_span(self, piece: Piece) -> Option<Span> {
        let start = u64::from(piece.0) * self.piece_groups;
        Span::new(start, (start + self.piece_groups).min(self.groups()))
    }

    /// The piece that a group belongs to.
    pub fn piece_of(self, group: u64) -> Piece {
        Piece(u32::try_from(group / self.piece_groups).expect("a group of this blob"))
    }

    /// The pieces that a span touches, in whole or in part.
    pub fn pieces_touching(self, span: Span) -> impl Iterator<Item = Piece> + use<> {
        (self.piece_of(span.start()).0..=self.piece_of(span.end() - 1).0).map(Piece)
    }

    /// Whether the span lies within the blob.
    pub fn contains(self, span: Span) -> bool {
        span.end() <= self.groups()
    }

    /// The bytes of a span, as `start..end` within the blob.
    pub fn byte_range(self, span: Span) -> std::ops::Range<u64> {
        (span.start() * GROUP_BYTES).min(self.size)..(span.end() * GROUP_BYTES).min(self.size)
    }

    /// The number of payload bytes in a span.
    pub fn bytes_in(self, span: Span) -> u64 {
        let range = self.byte_range(span);
        range.end - range.start
    }
}

/// How many groups a block of so many bytes has: rounded down to a power of two, at least one.
pub fn groups_in_block(bytes: u64) -> u64 {
    let groups = (bytes / GROUP_BYTES).max(1);
    1 << groups.ilog2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;
    const GIB: u64 = 1024 * MIB;

    #[test]
    fn pieces_grow_with_the_blob_and_the_map_stays_small() {
        for (size, piece_kib, pieces) in [
            (1, 256, 1),
            (256 * KIB, 256, 1),
            (256 * KIB + 1, 256, 2),
            (GIB, 256, 4096),
            (10 * GIB, 1024, 10_240),
            (1024 * GIB, 64 * 1024, 16_384),
        ] {
            let geometry = Geometry::of(size);
            assert_eq!((geometry.piece_groups() * 16, geometry.pieces()), (piece_kib, pieces), "size {size}");
        }
    }

    #[test]
    fn an_empty_blob_has_nothing_to_fetch() {
        let geometry = Geometry::of(0);
        assert_eq!((geometry.groups(), geometry.pieces()), (0, 0));
        assert_eq!((geometry.whole(), geometry.last_group()), (None, None));
    }

    #[test]
    fn a_span_that_is_empty_or_overflows_does_not_exist() {
        assert_eq!(Span::new(3, 3), None);
        assert!(Span::try_from((u64::MAX, 2)).is_err());
        assert!(Span::try_from((4, 0)).is_err());
    }

    proptest! {
        #[test]
        fn pieces_tile_the_blob_exactly(size in 0u64..8 * GIB) {
            let geometry = Geometry::of(size);
            let mut next = 0;
            for index in 0..geometry.pieces() {
                let span = geometry.piece_span(Piece(index)).expect("piece exists");
                prop_assert_eq!(span.start(), next);
                prop_assert_eq!(geometry.piece_of(span.start()), Piece(index));
                prop_assert_eq!(geometry.piece_of(span.end() - 1), Piece(index));
                next = span.end();
            }
            prop_assert_eq!(next, geometry.groups());
            prop_assert_eq!(geometry.piece_span(Piece(geometry.pieces())), None);
            prop_assert_eq!(geometry.whole().map_or(0, |whole| geometry.bytes_in(whole)), size);
        }
    }
}
