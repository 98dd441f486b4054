//! A blob's hash and post-order outboard from one pass over its bytes, in memory that does not grow with the blob.

use std::io::{self, Read, Write};

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use thiserror::Error;

use crate::geometry::GROUP_BYTES;
use crate::ids::BlobHash;

/// Bytes read at a time by [`write_outboard`]: large enough that the reads cost nothing, small enough to stay in the cache.
const READ_BYTES: usize = 256 * 1024;

/// Why an outboard could not be made.
#[derive(Debug, Error)]
pub enum OutboardError {
    /// The data has not the size it should have: it is being written to, or the size was wrong.
    #[error("expected {expected} bytes, found {found}")]
    Size {
        /// The size promised.
        expected: u64,
        /// The size found; when there is more than promised, no more than needed was read.
        found: u64,
    },
    /// The data could not be read.
    #[error("the data could not be read")]
    Read(#[source] io::Error),
    /// The outboard could not be written.
    #[error("the outboard could not be written")]
    Write(#[source] io::Error),
}

/// Takes a blob's bytes in any portions and writes its parents in post-order as they become known. The size need not be known before.
///
/// Writes are of 64 bytes: give it something buffered.
pub struct OutboardBuilder<W> {
    out: W,
    /// The unfinished group: never empty once there was input, never full for long, so that the last group is known to be the last.
    group: blake3::Hasher,
    group_bytes: u64,
    spine: Spine,
}

impl<W: Write> OutboardBuilder<W> {
    /// Nothing hashed yet; parents will go to `out`.
    pub fn new(out: W) -> Self {
        Self { out, group: blake3::Hasher::new(), group_bytes: 0, spine: Spine::default() }
    }

    /// Bytes taken so far.
    pub fn bytes(&self) -> u64 {
        self.spine.leaves() * GROUP_BYTES + self.group_bytes
    }

    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.group_bytes == GROUP_BYTES {
                self.finish_group()?;
            }
            let room = usize::try_from(GROUP_BYTES - self.group_bytes).expect("a group fits into memory");
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.group.update(now);
            self.group_bytes += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// A group is full and more input follows, so it is not the root.
    fn finish_group(&mut self) -> io::Result<()> {
        self.spine.push(self.group.finalize_non_root(), &mut self.out)?;
        self.group = group_hasher(self.spine.leaves());
        self.group_bytes = 0;
        Ok(())
    }

    /// No more bytes: the last parents are written. Returns the blob's hash, and the writer for flushing.
    pub fn finish(mut self) -> io::Result<(BlobHash, W)> {
        let root = if self.spine.leaves() == 0 {
            self.group.finalize()
        } else {
            self.spine.finish_root(self.group.finalize_non_root(), &mut self.out)?
        };
        Ok((BlobHash(*root.as_bytes()), self.out))
    }
}

/// A hasher for the group of this index. A new one each, for `reset` of blake3 1.8 does not forget the offset.
pub(super) fn group_hasher(index: u64) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(index * GROUP_BYTES);
    hasher
}

/// The right edge of a growing tree: its finished subtrees, largest first, by the binary digits of the count of leaves. Leaves come in
/// order, the last one apart, because the last merge of all may be the root, which is hashed differently.
#[derive(Debug, Default)]
pub(super) struct Spine {
    leaves: u64,
    subtrees: Vec<ChainingValue>,
}

impl Spine {
    /// Leaves taken so far.
    pub fn leaves(&self) -> u64 {
        self.leaves
    }

    /// Takes a leaf that is not the last; writes the parents that are finished by it.
    pub fn push(&mut self, leaf: ChainingValue, out: &mut impl Write) -> io::Result<()> {
        self.subtrees.push(leaf);
        self.leaves += 1;
        // Each trailing zero bit of the count is a subtree that has both halves now.
        for _ in 0..self.leaves.trailing_zeros() {
            let (left, right) = self.pop_pair(out)?;
            self.subtrees.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
        Ok(())
    }

    /// Takes the last leaf, of a tree that is a part of a larger one.
    pub fn finish_part(&mut self, last: ChainingValue, out: &mut impl Write) -> io::Result<ChainingValue> {
        self.subtrees.push(last);
        while self.subtrees.len() > 1 {
            let (left, right) = self.pop_pair(out)?;
            self.subtrees.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
        self.leaves = 0;
        Ok(self.subtrees.pop().expect("one was pushed above"))
    }

    /// Takes the last leaf, which is not the first, of a whole tree.
    pub fn finish_root(&mut self, last: ChainingValue, out: &mut impl Write) -> io::Result<blake3::Hash> {
        self.subtrees.push(last);
        loop {
            let (left, right) = self.pop_pair(out)?;
            if self.subtrees.is_empty() {
                return Ok(merge_subtrees_root(&left, &right, Mode::Hash));
            }
            self.subtrees.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
    }

    /// Takes the last two subtrees and writes their parent.
    fn pop_pair(&mut self, out: &mut impl Write) -> io::Result<(ChainingValue, ChainingValue)> {
        let right = self.subtrees.pop().expect("a merge has a right half");
        let left = self.subtrees.pop().expect("a merge has a left half");
        out.write_all(&left)?;
        out.write_all(&right)?;
        Ok((left, right))
    }
}

/// Reads a blob to its end and writes its outboard. Returns hash and size; an error if the size is not the `expected` one.
pub fn write_outboard(
    mut data: impl Read,
    expected: Option<u64>,
    out: &mut impl Write,
) -> Result<(BlobHash, u64), OutboardError> {
    let mut builder = OutboardBuilder::new(out);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = match data.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(OutboardError::Read(error)),
        };
        builder.update(&buffer[..count]).map_err(OutboardError::Write)?;
        let found = builder.bytes();
        match expected {
            Some(expected) if found > expected || count == 0 && found < expected => {
                return Err(OutboardError::Size { expected, found });
            }
            _ if count == 0 => {
                let (hash, _) = builder.finish().map_err(OutboardError::Write)?;
                return Ok((hash, found));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixtures::{Blob, SIZES};
    use super::*;

    #[test]
    fn hash_and_outboard_are_those_of_bao_tree_and_blake3() {
        for size in SIZES {
            let blob = Blob::of_size(size);
            let mut outboard = Vec::new();
            let (hash, found) = write_outboard(&blob.bytes[..], None, &mut outboard).unwrap();
            assert_eq!((hash, found), (blob.hash, size));
            assert_eq!(outboard, blob.outboard, "size {size}");
        }
    }

    #[test]
    fn an_unexpected_size_is_an_error() {
        let blob = Blob::of_size(40_000);
        for expected in [0, 39_999, 40_001] {
            let result = write_outboard(&blob.bytes[..], Some(expected), &mut Vec::new());
            assert!(matches!(result, Err(OutboardError::Size { .. })), "{expected}: {result:?}");
        }
        assert!(write_outboard(&blob.bytes[..], Some(40_000), &mut Vec::new()).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_portions_do_not_matter(size in 0u64..40 * GROUP_BYTES, portions in prop::collection::vec(1usize..60_000, 1..20)) {
            let blob = Blob::of_size(size);
            let mut builder = OutboardBuilder::new(Vec::new());
            let (mut rest, mut portion) = (&blob.bytes[..], portions.iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(*portion.next().expect("cycles")));
                builder.update(now).unwrap();
                rest = later;
            }
            prop_assert_eq!(builder.bytes(), size);
            let (hash, outboard) = builder.finish().unwrap();
            prop_assert_eq!((hash, outboard), (blob.hash, blob.outboard));
        }
    }
}
