//! A host's virtual disk: which groups are written, and which of them have been synced. A crash loses the rest.

use std::collections::BTreeMap;

use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::span_set::SpanSet;

/// What is on the disk of one blob.
#[derive(Debug, Clone, Default)]
struct Shelf {
    durable: SpanSet,
    pending: SpanSet,
}

/// A host's virtual disk.
#[derive(Debug, Clone, Default)]
pub struct Store {
    shelves: BTreeMap<BlobHash, Shelf>,
    empty: SpanSet,
}

impl Store {
    /// Puts something there before the world begins.
    pub fn place(&mut self, blob: BlobHash, span: Span) {
        self.shelves.entry(blob).or_default().durable.insert(span);
    }

    /// Writes groups; returns how many were not there yet.
    pub fn write(&mut self, blob: BlobHash, span: Span) -> u64 {
        let shelf = self.shelves.entry(blob).or_default();
        let mut new = 0;
        for gap in shelf.durable.gaps(span) {
            new += shelf.pending.insert(gap);
        }
        new
    }

    /// Makes everything durable; returns what became so.
    pub fn sync(&mut self) -> Vec<(BlobHash, Span)> {
        let mut synced = Vec::new();
        for (blob, shelf) in &mut self.shelves {
            for run in std::mem::take(&mut shelf.pending).runs() {
                shelf.durable.insert(run);
                synced.push((*blob, run));
            }
        }
        synced
    }

    /// Power is gone: what was not synced is lost; returns how many groups.
    pub fn crash(&mut self) -> u64 {
        self.shelves.values_mut().map(|shelf| std::mem::take(&mut shelf.pending).groups()).sum()
    }

    /// What waits for a sync.
    pub fn pending(&self) -> Vec<(BlobHash, Span)> {
        self.shelves.iter().flat_map(|(blob, shelf)| shelf.pending.runs().map(|run| (*blob, run))).collect()
    }

    /// Takes groups off the disk.
    pub fn lose(&mut self, blob: BlobHash, span: Span) {
        if let Some(shelf) = self.shelves.get_mut(&blob) {
            shelf.durable.remove(span);
            shelf.pending.remove(span);
        }
    }

    /// Groups on it, synced or not.
    pub fn groups(&self) -> u64 {
        self.shelves.values().map(|shelf| shelf.durable.groups() + shelf.pending.groups()).sum()
    }

    /// What is durable of a blob.
    pub fn durable(&self, blob: BlobHash) -> &SpanSet {
        self.shelves.get(&blob).map_or(&self.empty, |shelf| &shelf.durable)
    }

    /// Whether all of a span is written, synced or not.
    pub fn has_written(&self, blob: BlobHash, group: u64) -> bool {
        self.shelves.get(&blob).is_some_and(|shelf| shelf.durable.contains(group) || shelf.pending.contains(group))
    }

    /// Whether all of a blob is durable.
    pub fn is_complete(&self, blob: BlobHash, size: u64) -> bool {
        Geometry::of(size).whole().is_none_or(|whole| self.durable(blob).covers(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_loses_what_was_not_synced() {
        let (blob, span) = (BlobHash([1; 32]), |start, end| Span::new(start, end).unwrap());
        let mut store = Store::default();
        assert_eq!(store.write(blob, span(0, 4)), 4);
        assert_eq!(store.sync(), [(blob, span(0, 4))]);
        assert_eq!(store.write(blob, span(2, 8)), 4, "two of the six are there already");
        assert!(store.has_written(blob, 7) && store.groups() == 8);
        assert_eq!(store.pending(), [(blob, span(4, 8))]);
        assert_eq!(store.crash(), 4);
        assert!(!store.has_written(blob, 7) && store.is_complete(blob, 4 * 16 * 1024));
        store.lose(blob, span(1, 3));
        assert_eq!(store.groups(), 2);
    }
}
