//! The walk through the proof of one span, shared by both sides: what comes next in the encoding, and whether it is right.

use bao_tree::iter::{BaoChunk, ResponseIter};
use bao_tree::{BaoTree, ChunkNum};
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use super::{PAIR_BYTES, group_of, ranges, span_below, tree};
use crate::geometry::{Geometry, Span};
use crate::ids::BlobHash;

/// What comes next in an encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A pair of hashes, whose place in the post-order outboard is this, in bytes; it is above this many levels of further pairs.
    Parent { outboard_offset: u64, levels: u32 },
    /// So many bytes of data, which lie here.
    Leaf { offset: u64, bytes: usize },
}

impl Step {
    /// Bytes it takes in the encoding.
    pub fn bytes(self) -> usize {
        match self {
            Self::Parent { .. } => PAIR_BYTES as usize,
            Self::Leaf { bytes, .. } => bytes,
        }
    }
}

/// The bytes do not hash to what the parents above say; the blame falls on these groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mismatch(pub Span);

/// The steps of a walk, in order, without checking anything.
pub(super) fn steps(geometry: Geometry, span: Span) -> impl Iterator<Item = Step> {
    let tree = tree(geometry);
    ResponseIter::new(tree, ranges(geometry, span)).map(move |item| step_of(&tree, &item))
}

fn step_of(tree: &BaoTree, item: &BaoChunk) -> Step {
    match *item {
        BaoChunk::Parent { node, .. } => {
            let place = tree.post_order_offset(node).expect("a parent of whole groups is stored");
            let levels = node.level().saturating_sub(u32::from(tree.block_size().chunk_log()));
            Step::Parent { outboard_offset: place.value() * PAIR_BYTES, levels }
        }
        BaoChunk::Leaf { start_chunk, size, .. } => Step::Leaf { offset: start_chunk.to_bytes(), bytes: size },
    }
}

/// A walk in pre-order. Bytes count only once [`Walk::check`] has taken them.
pub(super) struct Walk {
    tree: BaoTree,
    geometry: Geometry,
    items: ResponseIter,
    next: Option<BaoChunk>,
    /// What the subtrees still to come must hash to, the next one last.
    expected: Vec<blake3::Hash>,
}

impl Walk {
    pub fn new(hash: BlobHash, geometry: Geometry, span: Span) -> Self {
        assert!(geometry.contains(span), "{span:?} is not within a blob of {} groups", geometry.groups());
        let tree = tree(geometry);
        let mut items = ResponseIter::new(tree, ranges(geometry, span));
        let next = items.next();
        Self { tree, geometry, items, next, expected: vec![blake3::Hash::from_bytes(hash.0)] }
    }

    /// What comes next; `None` at the end.
    pub fn step(&self) -> Option<Step> {
        self.next.as_ref().map(|item| step_of(&self.tree, item))
    }

    /// Goes on past a leaf that nobody checks.
    pub fn skip_leaf(&mut self) {
        debug_assert!(matches!(self.next, Some(BaoChunk::Leaf { .. })), "what lies below a parent hangs on it");
        self.expected.pop();
        self.next = self.items.next();
    }

    /// On which groups the blame falls if the bytes of the current step are missing.
    pub fn blame(&self) -> Span {
        match self.next.as_ref() {
            Some(BaoChunk::Parent { node, .. }) => span_below(*node, self.geometry),
            Some(BaoChunk::Leaf { start_chunk, .. }) => one_group(*start_chunk),
            None => unreachable!("nothing is missing at the end"),
        }
    }

    /// What the bytes of the current step must hash to.
    pub fn expected(&self) -> Option<blake3::Hash> {
        self.expected.last().copied()
    }

    /// Checks the bytes of the current step, all of them, and goes on to the next.
    pub fn check(&mut self, bytes: &[u8]) -> Result<(), Mismatch> {
        let Some(item) = &self.next else { return Ok(()) };
        let expected = self.expected.pop();
        match *item {
            BaoChunk::Parent { is_root, left, right, .. } => {
                let (hashes, _) = bytes.as_chunks::<32>();
                let &[left_hash, right_hash] = hashes else { return Err(Mismatch(self.blame())) };
                let found = if is_root {
                    merge_subtrees_root(&left_hash, &right_hash, Mode::Hash)
                } else {
                    merge_subtrees_non_root(&left_hash, &right_hash, Mode::Hash).into()
                };
                if expected != Some(found) {
                    return Err(Mismatch(self.blame()));
                }
                if right {
                    self.expected.push(right_hash.into());
                }
                if left {
                    self.expected.push(left_hash.into());
                }
            }
            BaoChunk::Leaf { start_chunk, is_root, .. } => {
                let found = if is_root {
                    blake3::hash(bytes)
                } else {
                    let mut hasher = blake3::Hasher::new();
                    hasher.set_input_offset(start_chunk.to_bytes()).update(bytes);
                    hasher.finalize_non_root().into()
                };
                if expected != Some(found) {
                    return Err(Mismatch(one_group(start_chunk)));
                }
            }
        }
        self.next = self.items.next();
        Ok(())
    }
}

fn one_group(start: ChunkNum) -> Span {
    let group = group_of(start);
    Span::new(group, group + 1).expect("one group is not nothing")
}
