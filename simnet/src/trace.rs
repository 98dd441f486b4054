//! A rolling digest of all that happened, so that two runs can be compared by one number; and, if asked for, the last lines of it as
//! text. What is folded in of a fact or a wish is said in `fold`.

use std::collections::VecDeque;
use std::fmt;

use p2pweights_protocol::time::Instant;

use crate::fold::{Fold, Folding};
use crate::network::HostId;

/// The digest, and the last lines.
#[derive(Debug)]
pub struct Trace {
    folding: Folding,
    events: u64,
    keep: usize,
    lines: VecDeque<String>,
}

impl Trace {
    /// Nothing has happened; the last `keep` lines will be kept as text.
    pub fn new(keep: usize) -> Self {
        Self { folding: Folding::default(), events: 0, keep, lines: VecDeque::new() }
    }

    /// Something happened at a host.
    pub fn note(&mut self, now: Instant, host: HostId, what: &(impl Fold + fmt::Debug)) {
        self.events += 1;
        self.folding.number(now.0);
        self.folding.number(host.0 as u64);
        what.fold(&mut self.folding);
        if self.keep > 0 {
            self.keep_line(format!("{now:?} {host:?} {what:?}"));
        }
    }

    /// One number for all that happened.
    pub fn digest(&self) -> u64 {
        self.folding.digest()
    }

    /// How much happened.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The last lines.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }

    fn keep_line(&mut self, line: String) {
        if self.lines.len() >= self.keep {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use p2pweights_protocol::engine::Input;
    use p2pweights_protocol::ids::PeerId;

    use super::*;

    #[test]
    fn the_order_of_events_shows_in_the_digest() {
        let peers = |order: [u8; 2]| order.map(|byte| Input::PeerGone { peer: PeerId([byte; 32]) });
        let digest = |order: [u8; 2]| {
            let mut trace = Trace::new(1);
            peers(order).iter().for_each(|what| trace.note(Instant(7), HostId(0), what));
            assert_eq!((trace.events(), trace.lines.len()), (2, 1));
            trace.digest()
        };
        assert_eq!(digest([1, 2]), digest([1, 2]));
        assert_ne!(digest([1, 2]), digest([2, 1]));
    }
}
