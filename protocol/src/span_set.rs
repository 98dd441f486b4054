//! A set of chunk groups kept as maximal runs: what is held, what is in flight, what is left to fetch.
//! Pure data; knows spans and nothing above them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::geometry::Span;

/// A set of groups. Its runs never touch one another, so equal sets are equal values.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Span>", into = "Vec<Span>")]
pub struct SpanSet {
    /// start → end of each run.
    runs: BTreeMap<u64, u64>,
    groups: u64,
}

impl SpanSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of groups in the set.
    pub fn groups(&self) -> u64 {
        self.groups
    }

    /// Whether the set has no group.
    pub fn is_empty(&self) -> bool {
        self.groups == 0
    }

    /// The runs, in order.
    pub fn runs(&self) -> impl Iterator<Item = Span> + '_ {
        self.runs.iter().map(|(&start, &end)| Span::new(start, end).expect("runs are never empty"))
    }

    /// Number of runs: what the set takes in memory.
    pub fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// Adds a span; returns how many of its groups are new.
    pub fn insert(&mut self, span: Span) -> u64 {
        let before = self.groups;
        let (mut start, mut end) = (span.start(), span.end());
        if let Some((&left, &left_end)) = self.runs.range(..=start).next_back()
            && left_end >= start
        {
            start = left;
            end = end.max(left_end);
        }
        while let Some((&next, &next_end)) = self.runs.range(start..=end).next() {
            end = end.max(next_end);
            self.runs.remove(&next);
            self.groups -= next_end - next;
        }
        self.runs.insert(start, end);
        self.groups += end - start;
        self.groups - before
    }

    /// Takes a span out; returns how many groups went.
    pub fn remove(&mut self, span: Span) -> u64 {
        let mut removed = 0;
        let first = self.runs.range(..=span.start()).next_back().map_or(span.start(), |(&start, _)| start);
        let touched: Vec<_> = self.runs.range(first..span.end()).map(|(&start, &end)| (start, end)).collect();
        for (start, end) in touched {
            let Some(gone) = Span::new(start, end).and_then(|run| run.intersection(span)) else { continue };
            self.runs.remove(&start);
            if start < gone.start() {
                self.runs.insert(start, gone.start());
            }
            if gone.end() < end {
                self.runs.insert(gone.end(), end);
            }
            removed += gone.groups();
        }
        self.groups -= removed;
        removed
    }

    /// Whether every group of the span is in the set.
    pub fn covers(&self, span: Span) -> bool {
        self.runs.range(..=span.start()).next_back().is_some_and(|(_, &end)| end >= span.end())
    }

    /// Whether the group is in the set.
    pub fn contains(&self, group: u64) -> bool {
        Span::new(group, group + 1).is_some_and(|span| self.covers(span))
    }

    /// The parts of `within` which are in the set, in order.
    pub fn overlaps(&self, within: Span) -> impl Iterator<Item = Span> + '_ {
        let first = self.runs.range(..=within.start()).next_back().map_or(within.start(), |(&start, _)| start);
        self.runs
            .range(first..within.end())
            .filter_map(move |(&start, &end)| Span::new(start, end).and_then(|run| run.intersection(within)))
    }

    /// The first run of groups in `within` that the set lacks.
    pub fn first_gap(&self, within: Span) -> Option<Span> {
        let mut start = within.start();
        for run in self.overlaps(within) {
            if run.start() > start {
                return Span::new(start, run.start());
            }
            start = run.end();
        }
        Span::new(start, within.end())
    }

    /// All runs of groups in `within` that the set lacks, in order.
    pub fn gaps(&self, within: Span) -> Vec<Span> {
        let mut gaps = Vec::new();
        let mut rest = Some(within);
        while let Some(gap) = rest.and_then(|rest| self.first_gap(rest)) {
            gaps.push(gap);
            rest = Span::new(gap.end(), within.end());
        }
        gaps
    }

    /// How many groups of `within` are in the set.
    pub fn groups_within(&self, within: Span) -> u64 {
        self.overlaps(within).map(Span::groups).sum()
    }
}

impl FromIterator<Span> for SpanSet {
    fn from_iter<I: IntoIterator<Item = Span>>(spans: I) -> Self {
        let mut set = Self::new();
        for span in spans {
            set.insert(span);
        }
        set
    }
}

impl From<Span> for SpanSet {
    fn from(span: Span) -> Self {
        std::iter::once(span).collect()
    }
}

impl From<Vec<Span>> for SpanSet {
    fn from(spans: Vec<Span>) -> Self {
        spans.into_iter().collect()
    }
}

impl From<SpanSet> for Vec<Span> {
    fn from(set: SpanSet) -> Self {
        set.runs().collect()
    }
}

impl fmt::Debug for SpanSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.runs()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn span(start: u64, end: u64) -> Span {
        Span::new(start, end).expect("not empty")
    }

    #[test]
    fn neighbours_merge_into_one_run() {
        let set: SpanSet = [span(0, 2), span(4, 6), span(2, 4)].into_iter().collect();
        assert_eq!(set.runs().collect::<Vec<_>>(), [span(0, 6)]);
    }

    proptest! {
        /// The slow oracle: a plain set of numbers.
        #[test]
        fn behaves_like_a_set_of_numbers(steps in prop::collection::vec((any::<bool>(), 0u64..60, 1u64..12), 0..60)) {
            let mut set = SpanSet::new();
            let mut oracle = BTreeSet::new();
            for (insert, start, groups) in steps {
                let span = span(start, start + groups);
                let members = (span.start()..span.end()).filter(|group| oracle.contains(group)).count() as u64;
                if insert {
                    prop_assert_eq!(set.insert(span), groups - members);
                    oracle.extend(span.start()..span.end());
                } else {
                    prop_assert_eq!(set.remove(span), members);
                    oracle.retain(|group| !(span.start()..span.end()).contains(group));
                }
                prop_assert_eq!(set.groups(), oracle.len() as u64);
                prop_assert_eq!(set.runs().flat_map(|run| run.start()..run.end()).collect::<BTreeSet<_>>(), oracle.clone());
                let runs: Vec<_> = set.runs().collect();
                prop_assert!(runs.windows(2).all(|pair| pair[0].end() < pair[1].start()), "runs touch: {:?}", runs);
            }
            let all = span(0, 80);
            let gaps: BTreeSet<u64> = set.gaps(all).into_iter().flat_map(|gap| gap.start()..gap.end()).collect();
            prop_assert_eq!(gaps, (0..80).filter(|group| !oracle.contains(group)).collect::<BTreeSet<_>>());
            prop_assert_eq!(set.groups_within(span(10, 30)), oracle.range(10..30).count() as u64);
            prop_assert_eq!(set.covers(span(5, 9)), (5..9).all(|group| oracle.contains(&group)));
        }
    }
}
