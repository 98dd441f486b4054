//! What happens when: a queue in virtual time with a total order. Two things due at the same moment happen in the order in which they
//! were put down, so a run never depends on anything but its seed.
//!
//! A wheel of wheels: time is read as digits of six bits, and a thing lies at the level of the highest digit in which its time differs
//! from the present, in the slot of its own digit there. When the present enters a slot, its things move to lower levels, in the order
//! in which they lie. Things of one moment are in one slot at any time, behind one another as they were put down: the order needs no
//! sequence numbers. Costs do not grow with how much is to come.

use std::collections::VecDeque;

use p2pweights_protocol::time::Instant;

/// Bits of a digit: a level's slots are the bits of one word.
const DIGIT_BITS: u32 = 6;
/// Slots of a level.
const SLOTS: usize = 1 << DIGIT_BITS;
/// Digits of a time.
const LEVELS: usize = u64::BITS.div_ceil(DIGIT_BITS) as usize;
/// Room that an empty slot may keep for what comes next; more is given back.
const KEPT_ROOM: usize = 256;

/// A thing's time and place.
#[derive(Debug, Clone, Copy)]
struct Entry {
    at: Instant,
    index: u32,
}

/// Things to come.
#[derive(Debug)]
pub struct Agenda<T> {
    now: Instant,
    /// What is due now.
    ready: VecDeque<u32>,
    /// Level by level: what is due later.
    slots: Vec<Vec<Entry>>,
    /// Slots with something in them, one bit each.
    occupied: [u64; LEVELS],
    things: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Agenda<T> {
    /// Nothing to come; the time is the start.
    pub fn new() -> Self {
        Self {
            now: Instant::START,
            ready: VecDeque::new(),
            slots: (0..LEVELS * SLOTS).map(|_| Vec::new()).collect(),
            occupied: [0; LEVELS],
            things: Vec::new(),
            free: Vec::new(),
        }
    }

    /// The present.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Puts something down; what should have been in the past happens now.
    pub fn at(&mut self, at: Instant, what: T) {
        let index = match self.free.pop() {
            Some(index) => {
                self.things[index as usize] = Some(what);
                index
            }
            None => {
                self.things.push(Some(what));
                u32::try_from(self.things.len() - 1).expect("fewer than 2^32 things to come")
            }
        };
        if at <= self.now {
            self.ready.push_back(index);
        } else {
            self.put(Entry { at, index });
        }
    }

    /// Puts something down for now, after what is due now already.
    pub fn now_too(&mut self, what: T) {
        self.at(self.now, what);
    }

    /// When the next thing is due.
    pub fn next_at(&self) -> Option<Instant> {
        if !self.ready.is_empty() {
            return Some(self.now);
        }
        self.slots[self.next_slot()?].iter().map(|entry| entry.at).min()
    }

    /// Moves on to the next thing.
    pub fn pop(&mut self) -> Option<T> {
        if self.ready.is_empty() {
            self.advance();
        }
        let index = self.ready.pop_front()?;
        self.free.push(index);
        self.things[index as usize].take()
    }

    /// Moves the present on to the next moment at which something is due.
    fn advance(&mut self) {
        let Some(slot) = self.next_slot() else { return };
        self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
        let mut entries = std::mem::take(&mut self.slots[slot]);
        let Some(next) = entries.iter().map(|entry| entry.at).min() else { return };
        self.now = next;
        for entry in entries.drain(..) {
            if entry.at == next {
                self.ready.push_back(entry.index);
            } else {
                self.put(entry);
            }
        }
        if entries.capacity() <= KEPT_ROOM {
            self.slots[slot] = entries;
        }
    }

    /// The slot in which what is due next lies: of the lowest level with something in it, the first.
    fn next_slot(&self) -> Option<usize> {
        let level = self.occupied.iter().position(|slots| *slots != 0)?;
        Some(level * SLOTS + self.occupied[level].trailing_zeros() as usize)
    }

    fn put(&mut self, entry: Entry) {
        let level = (entry.at.0 ^ self.now.0).ilog2() / DIGIT_BITS;
        let digit = (entry.at.0 >> (level * DIGIT_BITS)) as usize % SLOTS;
        self.occupied[level as usize] |= 1 << digit;
        self.slots[level as usize * SLOTS + digit].push(entry);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn time_first_then_the_order_of_putting_down() {
        let mut agenda = Agenda::new();
        agenda.at(Instant(5), 'c');
        agenda.at(Instant(3), 'a');
        agenda.at(Instant(3), 'b');
        assert_eq!(agenda.pop(), Some('a'));
        agenda.at(Instant(1), 'x');
        assert_eq!([agenda.pop(), agenda.pop()], [Some('b'), Some('x')]);
        assert_eq!((agenda.now(), agenda.next_at()), (Instant(3), Some(Instant(5))));
    }

    /// Delays of every size, many of them equal.
    fn delay() -> impl Strategy<Value = u64> {
        prop_oneof![0..4u64, 0..300u64, Just(100_000_000), 0..1u64 << 33, any::<u64>()]
    }

    proptest! {
        /// The slow oracle: a map by time and sequence.
        #[test]
        fn agrees_with_a_map_by_time_and_sequence(steps in prop::collection::vec((delay(), 0..3usize), 1..300)) {
            let (mut agenda, mut oracle, mut now) = (Agenda::new(), BTreeMap::new(), Instant::START);
            for (sequence, (delay, pops)) in steps.into_iter().enumerate() {
                // Some of them in what is already the past.
                let at = Instant(now.0.saturating_add(delay).saturating_sub(2));
                agenda.at(at, sequence);
                oracle.insert((at.max(now), sequence), sequence);
                for _ in 0..pops {
                    prop_assert_eq!(agenda.next_at(), oracle.first_key_value().map(|((at, _), _)| *at));
                    let expected = oracle.pop_first();
                    now = expected.map_or(now, |((at, _), _)| at);
                    prop_assert_eq!((agenda.pop(), agenda.now()), (expected.map(|(_, what)| what), now));
                }
            }
            let rest: Vec<usize> = std::iter::from_fn(|| agenda.pop()).collect();
            prop_assert_eq!(rest, oracle.into_values().collect::<Vec<_>>());
            prop_assert_eq!(agenda.free.len(), agenda.things.len());
        }
    }
}
