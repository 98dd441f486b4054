//! What happens when: a queue in virtual time with a total order. Two things due at the same moment happen in the order in which they
//! were put down, so a run never depends on anything but its seed.

use std::collections::BTreeMap;

use p2pweights_protocol::time::Instant;

/// Things to come.
#[derive(Debug)]
pub struct Agenda<T> {
    now: Instant,
    next: u64,
    due: BTreeMap<(Instant, u64), T>,
}

impl<T> Agenda<T> {
    /// Nothing to come; the time is the start.
    pub fn new() -> Self {
        Self { now: Instant::START, next: 0, due: BTreeMap::new() }
    }

    /// The present.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Puts something down; what should have been in the past happens now.
    pub fn at(&mut self, at: Instant, what: T) {
        self.due.insert((at.max(self.now), self.next), what);
        self.next += 1;
    }

    /// Puts something down for now, after what is due now already.
    pub fn now_too(&mut self, what: T) {
        self.at(self.now, what);
    }

    /// When the next thing is due.
    pub fn next_at(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// Moves on to the next thing.
    pub fn pop(&mut self) -> Option<T> {
        let ((at, _), what) = self.due.pop_first()?;
        self.now = at;
        Some(what)
    }
}

#[cfg(test)]
mod tests {
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
}
