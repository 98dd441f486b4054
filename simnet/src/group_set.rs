//! A set of chunk groups that is quick to change wherever it is changed, and small when it is whole or made of long runs. The same set
//! as the protocol's `SpanSet`, for those who keep one for every host of a large world.

use std::fmt;

use p2pweights_protocol::geometry::Span;

/// Groups of a word, and words of a chunk.
const BITS: u64 = u64::BITS as u64;
/// Groups of a chunk.
const CHUNK: u64 = BITS * BITS;

/// Some groups: those before `prefix`, and those in the chunks.
#[derive(Clone, Default)]
pub struct GroupSet {
    /// The first group that is not in the set; what the chunks say of groups before it does not count.
    prefix: u64,
    groups: u64,
    chunks: Vec<Chunk>,
}

/// 64 words of 64 groups each; only words that are neither empty nor full are written out.
#[derive(Debug, Clone, Default)]
struct Chunk {
    full: u64,
    mixed: u64,
    words: Vec<u64>,
}

impl GroupSet {
    /// Adds a span; returns how many of its groups are new.
    pub fn insert(&mut self, span: Span) -> u64 {
        let before = self.groups;
        if span.start() <= self.prefix && self.chunks.is_empty() {
            self.prefix = self.prefix.max(span.end());
            self.groups = self.prefix;
        } else if let Some(span) = Span::new(span.start().max(self.prefix), span.end()) {
            self.groups += words(span).map(|(word, mask)| self.chunk_mut(word).insert(word, mask)).sum::<u64>();
            self.grow_prefix();
        }
        self.groups - before
    }

    /// Takes a span out; returns how many of its groups were there. Builds the set anew: it is only done when something is lost.
    pub fn remove(&mut self, span: Span) -> u64 {
        let gone = self.groups_within(span);
        let before = |run: Span| Span::new(run.start(), run.end().min(span.start()));
        let behind = |run: Span| Span::new(run.start().max(span.end()), run.end());
        let kept: Vec<Span> = self.runs().flat_map(|run| before(run).into_iter().chain(behind(run))).collect();
        *self = Self::default();
        kept.into_iter().for_each(|run| _ = self.insert(run));
        gone
    }

    /// Groups in the set.
    pub fn groups(&self) -> u64 {
        self.groups
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.groups == 0
    }

    /// The parts of `within` that are in the set, in order.
    pub fn overlaps(&self, within: Span) -> impl Iterator<Item = Span> + '_ {
        let mut start = within.start();
        std::iter::from_fn(move || {
            let run = self.next(start, within.end(), true);
            start = self.next(run, within.end(), false);
            Span::new(run, start)
        })
    }

    /// How many groups of a span are in the set.
    pub fn groups_within(&self, within: Span) -> u64 {
        self.overlaps(within).map(Span::groups).sum()
    }

    /// Whether every group of the span is in the set.
    pub fn covers(&self, span: Span) -> bool {
        Span::new(span.start().max(self.prefix), span.end())
            .is_none_or(|span| words(span).all(|(word, mask)| self.word(word) & mask == mask))
    }

    /// Whether the group is in the set.
    pub fn contains(&self, group: u64) -> bool {
        group < self.prefix || self.word(group / BITS) >> (group % BITS) & 1 == 1
    }

    /// The runs of groups in `within` that the set lacks, in order.
    pub fn gaps(&self, within: Span) -> impl Iterator<Item = Span> + '_ {
        let mut start = within.start();
        std::iter::from_fn(move || {
            let gap = self.next(start, within.end(), false);
            start = self.next(gap, within.end(), true);
            Span::new(gap, start)
        })
    }

    /// The runs of the set, in order.
    pub fn runs(&self) -> impl Iterator<Item = Span> + '_ {
        let end = self.prefix.max(self.chunks.len() as u64 * CHUNK);
        let mut start = 0;
        std::iter::from_fn(move || {
            let run = self.next(start, end, true);
            start = self.next(run, end, false);
            Span::new(run, start)
        })
    }

    /// The first group from `start` on that is in the set, or is not; `end` if there is none before.
    fn next(&self, start: u64, end: u64, there: bool) -> u64 {
        let mut group = start;
        if group < self.prefix {
            if there {
                return group.min(end);
            }
            group = self.prefix;
        }
        while group < end {
            let word = self.word(group / BITS);
            let found = if there { word } else { !word } >> (group % BITS);
            if found != 0 {
                return (group + u64::from(found.trailing_zeros())).min(end);
            }
            group = (group / BITS + 1) * BITS;
        }
        end
    }

    fn word(&self, word: u64) -> u64 {
        self.chunks.get((word / BITS) as usize).map_or(0, |chunk| chunk.word(word))
    }

    fn chunk_mut(&mut self, word: u64) -> &mut Chunk {
        let index = (word / BITS) as usize;
        if index >= self.chunks.len() {
            self.chunks.reserve_exact(index + 1 - self.chunks.len());
            self.chunks.resize_with(index + 1, Chunk::default);
        }
        &mut self.chunks[index]
    }

    fn grow_prefix(&mut self) {
        self.prefix = self.next(self.prefix, self.chunks.len() as u64 * CHUNK, false);
        if self.prefix == self.groups {
            self.chunks = Vec::new();
        }
    }
}

impl Chunk {
    fn word(&self, word: u64) -> u64 {
        let bit = 1 << (word % BITS);
        if self.full & bit != 0 {
            u64::MAX
        } else if self.mixed & bit != 0 {
            self.words[self.place(bit)]
        } else {
            0
        }
    }

    /// Where a word is written out, or would be.
    fn place(&self, bit: u64) -> usize {
        (self.mixed & (bit - 1)).count_ones() as usize
    }

    /// Adds groups to a word; returns how many are new.
    fn insert(&mut self, word: u64, mask: u64) -> u64 {
        let (old, bit) = (self.word(word), 1 << (word % BITS));
        let new = old | mask;
        let place = self.place(bit);
        if new == old {
            return 0;
        }
        match (new == u64::MAX, self.mixed & bit != 0) {
            (true, true) => {
                self.words.remove(place);
                self.mixed &= !bit;
                if self.words.is_empty() {
                    self.words = Vec::new();
                }
            }
            (true, false) => (),
            (false, true) => self.words[place] = new,
            (false, false) => {
                self.words.insert(place, new);
                self.mixed |= bit;
            }
        }
        if new == u64::MAX {
            self.full |= bit;
        }
        u64::from((new & !old).count_ones())
    }
}

impl FromIterator<Span> for GroupSet {
    fn from_iter<I: IntoIterator<Item = Span>>(spans: I) -> Self {
        let mut set = Self::default();
        for span in spans {
            set.insert(span);
        }
        set
    }
}

impl fmt::Debug for GroupSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.runs()).finish()
    }
}

/// The words that a span touches, with its groups in each as bits.
fn words(span: Span) -> impl Iterator<Item = (u64, u64)> {
    (span.start() / BITS..=(span.end() - 1) / BITS).map(move |word| {
        let from = span.start().max(word * BITS) - word * BITS;
        let groups = span.end().min((word + 1) * BITS) - word * BITS - from;
        (word, (u64::MAX >> (BITS - groups)) << from)
    })
}

#[cfg(test)]
mod tests {
    use p2pweights_protocol::span_set::SpanSet;
    use proptest::prelude::*;

    use super::*;

    fn span() -> impl Strategy<Value = Span> {
        let groups = prop_oneof![1..9u64, Just(16), Just(64), 1..6000u64];
        (0..150u64, prop_oneof![Just(1u64), Just(16), Just(64), Just(200)], groups)
            .prop_map(|(place, unit, groups)| Span::new(place * unit, place * unit + groups).expect("not empty"))
    }

    proptest! {
        /// The slow oracle: the protocol's own set, which has a plain set of numbers for its oracle.
        #[test]
        fn is_the_same_set_as_the_protocols(spans in prop::collection::vec(span(), 0..80), asked in prop::collection::vec(span(), 20)) {
            let (mut set, mut oracle) = (GroupSet::default(), SpanSet::new());
            for span in spans {
                prop_assert_eq!(set.insert(span), oracle.insert(span));
                prop_assert_eq!(set.groups, oracle.groups());
            }
            prop_assert_eq!(set.runs().collect::<Vec<_>>(), oracle.runs().collect::<Vec<_>>());
            for span in asked {
                prop_assert_eq!(set.covers(span), oracle.covers(span));
                prop_assert_eq!(set.contains(span.start()), oracle.contains(span.start()));
                prop_assert_eq!(set.gaps(span).collect::<Vec<_>>(), oracle.gaps(span));
            }
        }
    }

    #[test]
    fn a_whole_blob_is_one_number() {
        let blocks = (0..1000u64).rev().chain(0..1000);
        let set: GroupSet = blocks.map(|block| Span::new(block * 64, block * 64 + 64).expect("not empty")).collect();
        assert_eq!((set.groups, set.prefix, set.chunks.capacity()), (64_000, 64_000, 0));
    }
}
