//! Where somebody reads in blobs that are still being fetched: whoever drives the engine says so, and what lies ahead of a reader is asked
//! for first. Bounded, though only the node's owner can make it grow.

use std::collections::BTreeMap;

use crate::ids::BlobHash;
use crate::limits;

/// The positions of all readers, as groups.
#[derive(Debug, Clone, Default)]
pub struct Readers(BTreeMap<BlobHash, Vec<u64>>);

impl Readers {
    /// The readers of a blob are here from now on; nowhere if there are none. Of too many the first are kept.
    pub fn set(&mut self, blob: BlobHash, mut at: Vec<u64>) {
        at.sort_unstable();
        at.dedup();
        at.truncate(limits::READERS_PER_BLOB);
        if at.is_empty() {
            self.0.remove(&blob);
        } else if self.0.len() < limits::BLOBS_READ || self.0.contains_key(&blob) {
            self.0.insert(blob, at);
        }
    }

    /// Every reader's blob and group.
    pub fn iter(&self) -> impl Iterator<Item = (BlobHash, u64)> + '_ {
        self.0.iter().flat_map(|(blob, at)| at.iter().map(|group| (*blob, *group)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_come_and_go_and_are_few() {
        let mut readers = Readers::default();
        let blob = |index: usize| BlobHash::of(&index.to_le_bytes());
        readers.set(blob(0), vec![9, 4, 9]);
        assert_eq!(readers.iter().collect::<Vec<_>>(), [(blob(0), 4), (blob(0), 9)]);
        readers.set(blob(0), vec![]);
        assert_eq!(readers.iter().count(), 0);
        for index in 0..2 * limits::BLOBS_READ {
            readers.set(blob(index), (0..1000).rev().collect());
        }
        assert_eq!(readers.iter().count(), limits::BLOBS_READ * limits::READERS_PER_BLOB);
        assert!(readers.iter().all(|(_, group)| group < limits::READERS_PER_BLOB as u64), "the first of them");
    }
}
