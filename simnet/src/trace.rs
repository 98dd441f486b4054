//! A rolling digest of all that happened, so that two runs can be compared by one number; and, if asked for, the last lines of it.

use std::collections::VecDeque;
use std::fmt::{self, Write};

use p2pweights_protocol::time::Instant;

use crate::network::HostId;

/// FNV-1a, 64 bits: its result is fixed by its definition, unlike that of the standard library's hashers.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The digest, and the last lines.
#[derive(Debug)]
pub struct Trace {
    digest: u64,
    events: u64,
    keep: usize,
    lines: VecDeque<String>,
}

struct Hasher(u64);

impl Write for Hasher {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(PRIME);
        }
        Ok(())
    }
}

impl Trace {
    /// Nothing has happened; the last `keep` lines will be kept as text.
    pub fn new(keep: usize) -> Self {
        Self { digest: OFFSET, events: 0, keep, lines: VecDeque::new() }
    }

    /// Something happened at a host.
    pub fn note(&mut self, now: Instant, host: HostId, what: &dyn fmt::Debug) {
        self.events += 1;
        let mut hasher = Hasher(self.digest);
        if writeln!(hasher, "{} {} {what:?}", now.0, host.0).is_ok() {
            self.digest = hasher.0;
        }
        if self.keep > 0 {
            if self.lines.len() >= self.keep {
                self.lines.pop_front();
            }
            self.lines.push_back(format!("{now:?} {host:?} {what:?}"));
        }
    }

    /// One number for all that happened.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// How much happened.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The last lines.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_events_shows_in_the_digest() {
        let digest = |order: [u32; 2]| {
            let mut trace = Trace::new(1);
            order.iter().for_each(|what| trace.note(Instant(7), HostId(0), what));
            assert_eq!((trace.events(), trace.lines.len()), (2, 1));
            trace.digest()
        };
        assert_eq!(digest([1, 2]), digest([1, 2]));
        assert_ne!(digest([1, 2]), digest([2, 1]));
    }
}
