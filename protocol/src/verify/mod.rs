//! Proving bytes: the Bao encoding of one span, its decoding, and the outboard that both lean on.
//!
//! Pure and synchronous: generic over [`std::io::Read`], [`std::io::Write`] and [`ReadAt`]; opens no file and knows no peer. The only
//! module that knows bao-tree. An encoded span is the pre-order walk of the part of the hash tree that leads to its groups: 64 bytes a
//! parent, then 16 KiB a leaf, with no size prefix (the size comes from whoever names the blob, and the last group proves it).

mod check;
mod decode;
mod encode;
mod outboard;
mod parents;
mod remake;
mod runs;
mod walk;

use bao_tree::{BaoTree, BlockSize, ChunkNum, ChunkRanges, TreeNode};

pub use self::check::check_span;
pub use self::decode::{DecodeError, Feed, SpanSink, decode_span};
pub use self::encode::{EncodeError, encode_span};
pub use self::outboard::{OutboardBuilder, OutboardError, write_outboard};
pub use self::parents::{Braid, Parents, WrongParents, outboard_parts};
pub use self::remake::{REMAKE_GROUPS, Remade, remake_parents};
pub use self::runs::{RUN_BYTES, Run, RunBuilder};
pub use bao_tree::io::sync::ReadAt;

use crate::geometry::{GROUP_CHUNK_LOG, Geometry, Span};

/// Bytes of one parent in an outboard: the hashes of its two children.
pub const PAIR_BYTES: u64 = 64;

/// The size of a blob's outboard: a parent less than it has groups, so nothing for a blob of one group.
pub fn outboard_bytes(geometry: Geometry) -> u64 {
    geometry.groups().saturating_sub(1) * PAIR_BYTES
}

fn tree(geometry: Geometry) -> BaoTree {
    BaoTree::new(geometry.size(), BlockSize::from_chunk_log(GROUP_CHUNK_LOG))
}

/// The span as bao-tree's range set, which has no end where the blob ends: its last group may be cut short.
fn ranges(geometry: Geometry, span: Span) -> ChunkRanges {
    let chunk = |group: u64| ChunkNum(group << GROUP_CHUNK_LOG);
    if span.end() == geometry.groups() {
        ChunkRanges::from(chunk(span.start())..)
    } else {
        ChunkRanges::from(chunk(span.start())..chunk(span.end()))
    }
}

fn group_of(chunk: ChunkNum) -> u64 {
    chunk.0 >> GROUP_CHUNK_LOG
}

/// The groups below a parent.
fn span_below(node: TreeNode, geometry: Geometry) -> Span {
    let chunks = node.chunk_range();
    let end = chunks.end.0.div_ceil(1 << GROUP_CHUNK_LOG).min(geometry.groups());
    Span::new(group_of(chunks.start), end).expect("every parent of a tree has groups below it")
}

#[cfg(test)]
mod fixtures {
    //! Blobs of every awkward size, and their outboards by the slow way.

    use bao_tree::io::outboard::PostOrderMemOutboard;

    use super::*;
    use crate::geometry::GROUP_BYTES;
    use crate::ids::BlobHash;

    /// Around every boundary: empty, one byte, one chunk, one group, powers of two of groups and their neighbours.
    pub(super) const SIZES: [u64; 16] = [
        0,
        1,
        1023,
        1024,
        1025,
        GROUP_BYTES - 1,
        GROUP_BYTES,
        GROUP_BYTES + 1,
        2 * GROUP_BYTES,
        3 * GROUP_BYTES - 7,
        3 * GROUP_BYTES,
        4 * GROUP_BYTES,
        4 * GROUP_BYTES + 1,
        7 * GROUP_BYTES + 1024,
        8 * GROUP_BYTES,
        13 * GROUP_BYTES + 5,
    ];

    pub(super) struct Blob {
        pub(super) bytes: Vec<u8>,
        pub(super) hash: BlobHash,
        pub(super) geometry: Geometry,
        pub(super) outboard: Vec<u8>,
    }

    impl Blob {
        pub(super) fn of_size(size: u64) -> Self {
            // No two groups alike: a byte taken from the wrong place must not go unnoticed.
            let bytes: Vec<u8> =
                (0..size).map(|at| (at ^ (at >> 8).wrapping_mul(31) ^ (at >> 14).wrapping_mul(101)) as u8).collect();
            let oracle = PostOrderMemOutboard::create(&bytes, BlockSize::from_chunk_log(GROUP_CHUNK_LOG));
            let hash = BlobHash(*oracle.root.as_bytes());
            assert_eq!(hash, BlobHash::of(&bytes));
            Self { bytes, hash, geometry: Geometry::of(size), outboard: oracle.data }
        }

        pub(super) fn encode(&self, span: Span) -> Vec<u8> {
            let mut encoded = Vec::new();
            encode_span(&self.bytes[..], &self.outboard[..], self.hash, self.geometry, span, &mut encoded).unwrap();
            encoded
        }

        /// Every span of the blob.
        pub(super) fn spans(&self) -> impl Iterator<Item = Span> + use<> {
            let groups = self.geometry.groups();
            (0..groups).flat_map(move |start| (start + 1..=groups).filter_map(move |end| Span::new(start, end)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outboard_of_small_blobs_is_empty() {
        assert_eq!(outboard_bytes(Geometry::of(0)), 0);
        assert_eq!(outboard_bytes(Geometry::of(16 * 1024)), 0);
        assert_eq!(outboard_bytes(Geometry::of(16 * 1024 + 1)), 64);
        assert_eq!(outboard_bytes(Geometry::of(1 << 30)), ((1 << 16) - 1) * 64);
    }
}
