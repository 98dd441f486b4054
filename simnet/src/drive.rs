//! How a host's disk behaves: how fast it writes, how much fits, when it fails, what has rotten on it. What lies on it is `store`'s.

use std::collections::BTreeMap;

use p2pweights_protocol::geometry::Span;
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::span_set::SpanSet;
use p2pweights_protocol::time::Instant;

use crate::link::time_for;
use crate::scenario::Disk;

/// How a host's disk behaves.
#[derive(Debug, Default)]
pub struct Drive {
    disk: Disk,
    free_at: Instant,
    /// Takes nothing until then.
    full_until: Instant,
    /// Writes and syncs fail until then.
    fails_until: Instant,
    rotten: BTreeMap<BlobHash, SpanSet>,
}

impl Drive {
    /// A disk without faults.
    pub fn new(disk: Disk) -> Self {
        Self { disk, ..Self::default() }
    }

    /// Whether it takes whatever comes at once.
    pub fn is_plain(&self, now: Instant) -> bool {
        self.disk == Disk::default() && self.full_until.max(self.fails_until) <= now
    }

    /// When a write that begins now is done: writes queue up.
    pub fn write(&mut self, now: Instant, bytes: u64) -> Instant {
        let Some(rate) = self.disk.bytes_per_s else { return now };
        self.free_at = self.free_at.max(now) + time_for(bytes, rate);
        self.free_at
    }

    /// Whether it is still writing.
    pub fn is_behind(&self, now: Instant) -> bool {
        self.free_at > now
    }

    /// Whether a write fails now, given how much lies on it already.
    pub fn refuses(&self, now: Instant, used: u64, bytes: u64) -> bool {
        let full = self.disk.capacity.is_some_and(|capacity| used + bytes > capacity);
        full || self.full_until.max(self.fails_until) > now
    }

    /// Whether it has an end.
    pub fn is_limited(&self) -> bool {
        self.disk.capacity.is_some()
    }

    /// Whether syncs fail now.
    pub fn fails(&self, now: Instant) -> bool {
        self.fails_until > now
    }

    /// It takes nothing more until then.
    pub fn fill(&mut self, until: Instant) {
        self.full_until = self.full_until.max(until);
    }

    /// Writes and syncs fail until then.
    pub fn fail(&mut self, until: Instant) {
        self.fails_until = self.fails_until.max(until);
    }

    /// Power was gone: nothing is being written.
    pub fn crash(&mut self) {
        self.free_at = Instant::START;
    }

    /// A group rots.
    pub fn rot(&mut self, blob: BlobHash, group: u64) {
        if let Some(span) = Span::new(group, group + 1) {
            self.rotten.entry(blob).or_default().insert(span);
        }
    }

    /// The first rotten groups of a span that is being read.
    pub fn rotten(&self, blob: BlobHash, span: Span) -> Option<Span> {
        self.rotten.get(&blob)?.overlaps(span).next()
    }

    /// Groups are not on it any more, or were written anew.
    pub fn forget_rot(&mut self, blob: BlobHash, span: Span) {
        if let Some(rotten) = self.rotten.get_mut(&blob) {
            rotten.remove(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_queue_up_and_fail_when_there_is_no_room() {
        let mut drive = Drive::new(Disk { bytes_per_s: Some(1000), capacity: Some(5000) });
        assert_eq!(
            [drive.write(Instant(0), 1000), drive.write(Instant(5), 500)],
            [Instant(1_000_000_000), Instant(1_500_000_000)]
        );
        assert!(drive.is_behind(Instant(7)) && !drive.refuses(Instant(0), 4000, 1000) && drive.refuses(Instant(0), 4000, 1001));
        drive.fail(Instant(9));
        drive.fill(Instant(20));
        assert!(drive.refuses(Instant(10), 0, 1) && !drive.fails(Instant(10)) && drive.fails(Instant(8)));
    }

    #[test]
    fn rot_is_found_where_it_is() {
        let (blob, span, mut drive) = (BlobHash([1; 32]), |start, end| Span::new(start, end).unwrap(), Drive::default());
        drive.rot(blob, 7);
        assert_eq!((drive.rotten(blob, span(0, 7)), drive.rotten(blob, span(0, 9))), (None, Some(span(7, 8))));
        drive.forget_rot(blob, span(0, 9));
        assert_eq!(drive.rotten(blob, span(0, 9)), None);
    }
}
