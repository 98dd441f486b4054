//! A host's virtual disk: which groups are written, and which of them have been synced. A crash loses the rest.

use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::BlobHash;

use crate::group_set::GroupSet;

/// What is on the disk of one blob.
#[derive(Debug, Clone, Default)]
struct Shelf {
    durable: GroupSet,
    /// Runs that wait for a sync, in order; they do not touch one another, nor what is durable.
    pending: Vec<Span>,
}

/// A host's virtual disk.
#[derive(Debug, Clone, Default)]
pub struct Store {
    /// By blob, in order.
    shelves: Vec<(BlobHash, Shelf)>,
    /// Shelves with something pending.
    dirty: usize,
    empty: GroupSet,
}

impl Store {
    /// Puts something there before the world begins.
    pub fn place(&mut self, blob: BlobHash, span: Span) {
        self.shelf(blob).durable.insert(span);
    }

    /// Writes groups; returns how many were not there yet.
    pub fn write(&mut self, blob: BlobHash, span: Span) -> u64 {
        let shelf = self.shelf(blob);
        let (clean, mut new) = (shelf.pending.is_empty(), 0);
        for gap in shelf.durable.gaps(span) {
            new += merge(&mut shelf.pending, gap);
        }
        self.dirty += usize::from(clean && new > 0);
        new
    }

    /// Makes everything durable; returns what became so.
    pub fn sync(&mut self) -> Vec<(BlobHash, Span)> {
        let mut synced = Vec::new();
        for (blob, shelf) in &mut self.shelves {
            for run in std::mem::take(&mut shelf.pending) {
                shelf.durable.insert(run);
                synced.push((*blob, run));
            }
        }
        self.dirty = 0;
        synced
    }

    /// Power is gone: what was not synced is lost; returns how many groups.
    pub fn crash(&mut self) -> u64 {
        self.dirty = 0;
        self.shelves.iter_mut().flat_map(|(_, shelf)| std::mem::take(&mut shelf.pending)).map(Span::groups).sum()
    }

    /// What waits for a sync.
    pub fn pending(&self) -> Vec<(BlobHash, Span)> {
        self.shelves.iter().flat_map(|(blob, shelf)| shelf.pending.iter().map(|run| (*blob, *run))).collect()
    }

    /// Takes groups off the disk.
    pub fn lose(&mut self, blob: BlobHash, span: Span) {
        let shelf = self.shelf(blob);
        shelf.durable.remove(span);
        let dirty = !shelf.pending.is_empty();
        let before = |run: Span| Span::new(run.start(), run.end().min(span.start()));
        let behind = |run: Span| Span::new(run.start().max(span.end()), run.end());
        let pending = std::mem::take(&mut shelf.pending);
        shelf.pending = pending.into_iter().flat_map(|run| before(run).into_iter().chain(behind(run))).collect();
        let clean = dirty && shelf.pending.is_empty();
        self.dirty -= usize::from(clean);
    }

    /// Groups on it, synced or not.
    pub fn groups(&self) -> u64 {
        let pending = |shelf: &Shelf| shelf.pending.iter().map(|run| run.groups()).sum::<u64>();
        self.shelves.iter().map(|(_, shelf)| shelf.durable.groups() + pending(shelf)).sum()
    }

    /// What is durable of a blob.
    pub fn durable(&self, blob: BlobHash) -> &GroupSet {
        self.find(blob).map_or(&self.empty, |shelf| &shelf.durable)
    }

    /// Whether a group is written, synced or not.
    pub fn has_written(&self, blob: BlobHash, group: u64) -> bool {
        let pending = |shelf: &Shelf| {
            let after = shelf.pending.partition_point(|run| run.start() <= group);
            after > 0 && shelf.pending[after - 1].end() > group
        };
        self.find(blob).is_some_and(|shelf| shelf.durable.contains(group) || pending(shelf))
    }

    /// Whether all of a blob is durable.
    pub fn is_complete(&self, blob: BlobHash, size: u64) -> bool {
        Geometry::of(size).whole().is_none_or(|whole| self.durable(blob).covers(whole))
    }

    fn find(&self, blob: BlobHash) -> Option<&Shelf> {
        let index = self.shelves.binary_search_by(|(other, _)| other.cmp(&blob)).ok()?;
        Some(&self.shelves[index].1)
    }

    fn shelf(&mut self, blob: BlobHash) -> &mut Shelf {
        let index = self.shelves.binary_search_by(|(other, _)| other.cmp(&blob)).unwrap_or_else(|index| {
            self.shelves.insert(index, (blob, Shelf::default()));
            index
        });
        &mut self.shelves[index].1
    }
}

/// Adds a span to runs that are in order and do not touch one another; returns how many groups are new.
fn merge(runs: &mut Vec<Span>, span: Span) -> u64 {
    let from = runs.partition_point(|run| run.end() < span.start());
    let to = from + runs[from..].partition_point(|run| run.start() <= span.end());
    let touched = &runs[from..to];
    let there: u64 = touched.iter().map(|run| run.groups()).sum();
    let start = touched.first().map_or(span.start(), |run| run.start().min(span.start()));
    let end = touched.last().map_or(span.end(), |run| run.end().max(span.end()));
    let merged = Span::new(start, end).expect("holds the span");
    runs.splice(from..to, [merged]);
    merged.groups() - there
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use p2pweights_protocol::span_set::SpanSet;
    use proptest::prelude::*;

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

    proptest! {
        /// The slow oracle: two of the protocol's sets a blob.
        #[test]
        fn agrees_with_two_sets_a_blob(steps in prop::collection::vec((0..8u8, 0..3u8, 0..90u64, 1..12u64), 0..120)) {
            let mut store = Store::default();
            let mut oracle: BTreeMap<BlobHash, (SpanSet, SpanSet)> = BTreeMap::new();
            for (what, blob, start, groups) in steps {
                let (blob, span) = (BlobHash([blob; 32]), Span::new(start, start + groups).unwrap());
                match what {
                    0 => {
                        let mut synced = Vec::new();
                        for (blob, (durable, pending)) in &mut oracle {
                            for run in std::mem::take(pending).runs() {
                                durable.insert(run);
                                synced.push((*blob, run));
                            }
                        }
                        prop_assert_eq!(store.sync(), synced);
                    }
                    1 => {
                        let lost = oracle.values_mut().map(|(_, pending)| std::mem::take(pending).groups()).sum::<u64>();
                        prop_assert_eq!(store.crash(), lost);
                    }
                    _ => {
                        let (durable, pending) = oracle.entry(blob).or_default();
                        let new = durable.gaps(span).into_iter().map(|gap| pending.insert(gap)).sum::<u64>();
                        prop_assert_eq!(store.write(blob, span), new);
                    }
                }
                prop_assert_eq!(!store.pending().is_empty(), oracle.values().any(|(_, pending)| !pending.is_empty()));
                for (blob, (durable, pending)) in &oracle {
                    prop_assert_eq!(store.durable(*blob).runs().collect::<Vec<_>>(), durable.runs().collect::<Vec<_>>());
                    let written = |group| durable.contains(group) || pending.contains(group);
                    prop_assert!((0..110).all(|group| store.has_written(*blob, group) == written(group)));
                }
            }
        }
    }
}
