//! A blob's hash and outboard from runs of its bytes that were hashed apart, in whatever order and by however many threads.

use std::io::{self, Write};

use blake3::hazmat::{ChainingValue, HasherExt};

use super::outboard::{Spine, group_hasher};
use crate::geometry::{GROUP_BYTES, Geometry};
use crate::ids::BlobHash;

/// Bytes of a run: a power of two of groups, so that every run is a subtree of the blob's tree. Large enough that handing it to another
/// thread costs nothing beside hashing it, small enough for a core's own cache.
pub const RUN_BYTES: u64 = 64 * GROUP_BYTES;

/// What hashing one run gives. Made again and again in place, so that nothing is allocated for each.
#[derive(Debug, Default)]
pub struct Run {
    bytes: u64,
    chaining_value: ChainingValue,
    /// In post-order.
    parents: Vec<u8>,
    spine: Spine,
}

impl Run {
    /// Hashes the run of this index of a blob that has several: [`RUN_BYTES`], or what is left for the last.
    pub fn hash(&mut self, index: u64, bytes: &[u8]) {
        assert!(!bytes.is_empty() && bytes.len() as u64 <= RUN_BYTES, "a run of {} bytes", bytes.len());
        self.bytes = bytes.len() as u64;
        self.parents.clear();
        let first = index * (RUN_BYTES / GROUP_BYTES);
        let mut groups = bytes.chunks(GROUP_BYTES as usize).zip(first..).map(|(bytes, group)| {
            let mut hasher = group_hasher(group);
            hasher.update(bytes);
            hasher.finalize_non_root()
        });
        let mut last = groups.next().expect("there is a byte");
        let in_memory = "memory takes everything";
        for group in groups {
            self.spine.push(last, &mut self.parents).expect(in_memory);
            last = group;
        }
        self.chaining_value = self.spine.finish_part(last, &mut self.parents).expect(in_memory);
    }
}

/// Takes a blob's runs in order and writes its outboard.
///
/// Writes are of 64 bytes and of a run's parents: give it something buffered.
pub struct RunBuilder<W> {
    out: W,
    size: u64,
    bytes: u64,
    spine: Spine,
    /// The last run taken: it is not known to be the last of all.
    pending: Option<ChainingValue>,
}

impl<W: Write> RunBuilder<W> {
    /// For a blob of this geometry; `None` if it is a single run, whose hash is the root and made by
    /// [`OutboardBuilder`](super::OutboardBuilder).
    pub fn new(geometry: Geometry, out: W) -> Option<Self> {
        let size = geometry.size();
        (size > RUN_BYTES).then_some(Self { out, size, bytes: 0, spine: Spine::default(), pending: None })
    }

    /// Bytes in the runs taken so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the next run.
    pub fn push(&mut self, run: &Run) -> io::Result<()> {
        let length = (self.size - self.bytes).min(RUN_BYTES);
        assert!(run.bytes == length && length > 0, "a run of {} bytes where one of {length} comes", run.bytes);
        if let Some(before) = self.pending.replace(run.chaining_value) {
            self.spine.push(before, &mut self.out)?;
        }
        self.bytes += length;
        self.out.write_all(&run.parents)
    }

    /// All runs are there: the last parents are written. Returns the blob's hash, and the writer for flushing.
    pub fn finish(mut self) -> io::Result<(BlobHash, W)> {
        assert!(self.bytes == self.size, "{} of {} bytes", self.bytes, self.size);
        let last = self.pending.expect("a blob of several runs has a last one");
        let root = self.spine.finish_root(last, &mut self.out)?;
        Ok((BlobHash(*root.as_bytes()), self.out))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixtures::Blob;
    use super::super::write_outboard;
    use super::*;

    /// By runs, hashed in an order drawn from `seed`.
    fn by_runs(bytes: &[u8], seed: u64) -> (BlobHash, Vec<u8>) {
        let chunks: Vec<&[u8]> = bytes.chunks(RUN_BYTES as usize).collect();
        let mut order: Vec<usize> = (0..chunks.len()).collect();
        order.sort_by_key(|index| (*index as u64 + 1).wrapping_mul(seed | 1));
        let mut runs: Vec<Run> = std::iter::repeat_with(Run::default).take(chunks.len()).collect();
        // One is used over and over, as by a thread that has only so many.
        let mut used = Run::default();
        for index in order {
            used.hash(index as u64, chunks[index]);
            std::mem::swap(&mut runs[index], &mut used);
        }
        let mut builder = RunBuilder::new(Geometry::of(bytes.len() as u64), Vec::new()).unwrap();
        runs.iter().for_each(|run| builder.push(run).unwrap());
        assert_eq!(builder.bytes(), bytes.len() as u64);
        builder.finish().unwrap()
    }

    #[test]
    fn at_every_boundary_it_is_what_bao_tree_says() {
        assert!(RunBuilder::new(Geometry::of(RUN_BYTES), Vec::new()).is_none());
        for runs in 1..6 {
            for more in [1, 1024, GROUP_BYTES, GROUP_BYTES + 1, 3 * GROUP_BYTES, RUN_BYTES - 1, RUN_BYTES] {
                let blob = Blob::of_size(runs * RUN_BYTES + more);
                assert_eq!(by_runs(&blob.bytes, runs), (blob.hash, blob.outboard), "{runs} runs and {more} bytes");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn by_runs_or_in_one_pass_is_the_same(size in RUN_BYTES + 1..20 * RUN_BYTES, seed: u64) {
            let bytes: Vec<u8> = (0..size).map(|at| (at ^ (at >> 9).wrapping_mul(seed | 1)) as u8).collect();
            let mut outboard = Vec::new();
            let (hash, _) = write_outboard(&bytes[..], None, &mut outboard).unwrap();
            prop_assert_eq!(by_runs(&bytes, seed), (hash, outboard));
        }
    }
}
