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
    /// Groups finished.
    groups: u64,
    /// The finished subtrees, largest first, by the binary digits of `groups`; merged only once more input is known to follow,
    /// because the last merge of all is the root and hashed differently.
    subtrees: Vec<ChainingValue>,
}

impl<W: Write> OutboardBuilder<W> {
    /// Nothing hashed yet; parents will go to `out`.
    pub fn new(out: W) -> Self {
        Self { out, group: blake3::Hasher::new(), group_bytes: 0, groups: 0, subtrees: Vec::new() }
    }

    /// Bytes taken so far.
    pub fn bytes(&self) -> u64 {
        self.groups * GROUP_BYTES + self.group_bytes
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
        // Merge what earlier groups completed; each trailing one bit of the count is a subtree waiting for its right half.
        self.subtrees.push(self.group.finalize_non_root());
        self.groups += 1;
        for _ in 0..self.groups.trailing_zeros() {
            let (left, right) = self.pop_pair()?;
            self.subtrees.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
        // A new hasher, for `reset` of blake3 1.8 does not forget the offset.
        self.group = blake3::Hasher::new();
        self.group.set_input_offset(self.groups * GROUP_BYTES);
        self.group_bytes = 0;
        Ok(())
    }

    /// Takes the last two subtrees and writes their parent.
    fn pop_pair(&mut self) -> io::Result<(ChainingValue, ChainingValue)> {
        let right = self.subtrees.pop().expect("a merge has a right half");
        let left = self.subtrees.pop().expect("a merge has a left half");
        self.out.write_all(&left)?;
        self.out.write_all(&right)?;
        Ok((left, right))
    }

    /// No more bytes: the last parents are written. Returns the blob's hash, and the writer for flushing.
    pub fn finish(mut self) -> io::Result<(BlobHash, W)> {
        if self.groups == 0 {
            return Ok((BlobHash(*self.group.finalize().as_bytes()), self.out));
        }
        self.subtrees.push(self.group.finalize_non_root());
        loop {
            let (left, right) = self.pop_pair()?;
            if self.subtrees.is_empty() {
                let root = merge_subtrees_root(&left, &right, Mode::Hash);
                return Ok((BlobHash(*root.as_bytes()), self.out));
            }
            self.subtrees.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
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
