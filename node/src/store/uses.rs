//! In which order blobs were last of use: served, fetched or published. A count and no clock, so that a clock that jumps changes nothing.
//! Written now and then; losing the file costs the order, nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use p2pweights_protocol::ids::BlobHash;
use tracing::warn;

use super::layout::Layout;
use super::slot::Slot;
use super::{Shared, Store};

const MAGIC: &[u8; 8] = b"p2pwuse\x01";
/// A hash and when it was last of use.
const RECORD_BYTES: usize = 40;
const CHECKSUM_BYTES: usize = 8;

/// The count of uses.
#[derive(Debug, Default)]
pub(super) struct Uses {
    next: AtomicU64,
    /// Up to where the file knows it.
    saved: AtomicU64,
}

impl Uses {
    /// Reads the file, and gives each slot its place.
    pub(super) fn read(layout: &Layout, slots: &[Slot]) -> Self {
        // Without it, nothing was ever of use; that is all.
        let known = fs::read(layout.uses()).ok().and_then(|bytes| parse(&bytes)).unwrap_or_default();
        for slot in slots {
            slot.last_use.store(known.get(&slot.hash).copied().unwrap_or(0), Ordering::Relaxed);
        }
        let next = known.values().max().map_or(1, |last| last.saturating_add(1));
        Self { next: AtomicU64::new(next), saved: AtomicU64::new(next) }
    }

    /// A blob is of use now.
    pub(super) fn touch(&self, slot: &Slot) {
        slot.last_use.store(self.next.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }
}

fn parse(bytes: &[u8]) -> Option<BTreeMap<BlobHash, u64>> {
    let (content, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    let (records, rest) = content.strip_prefix(MAGIC)?.as_chunks::<RECORD_BYTES>();
    if *sum != checksum(content) || !rest.is_empty() {
        return None;
    }
    let record = |bytes: &[u8; RECORD_BYTES]| {
        let (hash, number) = bytes.split_first_chunk::<32>().expect("a record begins with a hash");
        Some((BlobHash(*hash), u64::from_le_bytes(*number.first_chunk::<8>()?)))
    };
    records.iter().map(record).collect()
}

fn encode(uses: &[(BlobHash, u64)]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for (hash, number) in uses {
        bytes.extend_from_slice(hash.as_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    *blake3::hash(content).as_bytes().first_chunk().expect("a hash has 32 bytes")
}

impl Store {
    /// When a blob was last of use: greater is later, 0 is never or not known.
    pub fn last_use(&self, hash: BlobHash) -> u64 {
        self.shared.slot(hash).map_or(0, |slot| slot.last_use.load(Ordering::Relaxed))
    }

    /// Somebody here made use of a blob.
    pub fn touch(&self, hash: BlobHash) {
        if let Some(slot) = self.shared.slot(hash) {
            self.shared.uses.touch(&slot);
        }
    }

    /// Whether a blob is being read for a peer at this moment.
    pub fn is_read(&self, hash: BlobHash) -> bool {
        self.shared.slot(hash).is_some_and(|slot| slot.is_read())
    }

    /// Writes the order of uses down, if it has changed.
    pub fn save_uses(&self) {
        self.shared.save_uses();
    }
}

impl Shared {
    pub(super) fn save_uses(&self) {
        let next = self.uses.next.load(Ordering::Relaxed);
        if self.uses.saved.swap(next, Ordering::Relaxed) == next {
            return;
        }
        let slots = self.slots();
        let used = slots.iter().map(|slot| (slot.hash, slot.last_use.load(Ordering::Relaxed))).filter(|(_, number)| *number > 0);
        let bytes = encode(&used.collect::<Vec<_>>());
        if let Err(error) = self.layout.write_whole(&self.layout.uses(), &bytes) {
            warn!(%error, "which blobs were of use is not written down");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_reads_back_and_a_damaged_one_is_none() {
        let uses = [(BlobHash::of(b"one"), 7), (BlobHash::of(b"two"), u64::MAX)];
        let bytes = encode(&uses);
        assert_eq!(parse(&bytes), Some(uses.into_iter().collect()));
        assert_eq!(parse(&encode(&[])), Some(BTreeMap::new()));
        for at in 0..bytes.len() {
            let mut rotten = bytes.clone();
            rotten[at] ^= 4;
            assert_eq!(parse(&rotten), None, "byte {at}");
            assert_eq!(parse(&bytes[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn golden_bytes() {
        let bytes = encode(&[(BlobHash::of(b"weights"), 3)]);
        assert_eq!((bytes.len(), &bytes[..8], &bytes[40..48]), (56, &b"p2pwuse\x01"[..], &3_u64.to_le_bytes()[..]));
    }
}
