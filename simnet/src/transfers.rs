//! Blocks on their way: each leaves through the sender's uplink and comes in through the receiver's downlink, the second beginning
//! before the first has ended.

use std::time::Duration;

use p2pweights_protocol::geometry::Span;
use p2pweights_protocol::ids::RequestId;
use p2pweights_protocol::time::Instant;

use crate::network::{ConnectionId, HostId};
use crate::routes::Path;

/// A block that waits for the uplink, or is on its way.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// Over which connection.
    pub connection: ConnectionId,
    /// From whom.
    pub from: HostId,
    /// To whom.
    pub to: HostId,
    /// The receiver's name for it.
    pub request: RequestId,
    /// The groups.
    pub span: Span,
    /// Payload bytes.
    pub payload: u64,
    /// Bytes on the wire.
    pub wire: u64,
    /// The first groups of it that prove; fewer than it has when its sender lies.
    pub good_groups: u64,
    /// A limit on its speed.
    pub bytes_per_s: Option<u64>,
    /// What it passes on its way.
    pub path: Path,
}

/// A block on its way.
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    /// What.
    pub block: Block,
    /// When its last byte leaves the sender.
    pub out_at: Instant,
    /// When it is taken in by the receiver, from and to; not known before its first byte arrives.
    pub taken_in: Option<(Instant, Instant)>,
    /// When its sender fell silent.
    pub cut: Option<Instant>,
    /// The sender has reported its end.
    pub sent: bool,
}

impl Transfer {
    /// Whether the receiver is done with it.
    pub fn has_ended(&self, now: Instant) -> bool {
        self.cut.is_some() || self.taken_in.is_some_and(|(_, to)| to < now)
    }

    /// Groups that have come and proved by `now`.
    pub fn groups_by(&self, now: Instant, latency: Duration) -> u64 {
        let Some((from, to)) = self.taken_in else { return 0 };
        let now = self.cut.map_or(now, |cut| now.min(cut + latency));
        let (passed, whole) = ((now - from).as_nanos(), (to - from).as_nanos().max(1));
        let groups = u128::from(self.block.span.groups()) * passed.min(whole) / whole;
        u64::try_from(groups).unwrap_or(u64::MAX).min(self.block.good_groups)
    }
}

/// A place for a block, used again and again.
#[derive(Debug, Default)]
struct Slot {
    /// How many blocks had it before.
    generation: u32,
    transfer: Option<Transfer>,
}

/// A block that is on its way to somebody, as an answer.
#[derive(Debug, Clone, Copy)]
struct Answer {
    connection: ConnectionId,
    request: RequestId,
    id: u64,
}

/// All blocks on their way. A number names a place (lower half) and how many blocks had it before (upper half): a number is never
/// given twice, and that of a block which has ended finds nothing.
#[derive(Debug, Default)]
pub struct Transfers {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// By receiver: what is on its way to it. Few at a time.
    answers: Vec<Vec<Answer>>,
    /// By sender: what has left it and not ended.
    leaving: Vec<Vec<u64>>,
}

impl Transfers {
    /// A block sets out; returns its number.
    pub fn begin(&mut self, block: Block, out_at: Instant) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 blocks on their way")
        });
        let slot = &mut self.slots[index as usize];
        slot.transfer = Some(Transfer { block, out_at, taken_in: None, cut: None, sent: false });
        let id = u64::from(slot.generation) << 32 | u64::from(index);
        let answers = of(&mut self.answers, block.to);
        answers.retain(|answer| (answer.connection, answer.request) != (block.connection, block.request));
        answers.push(Answer { connection: block.connection, request: block.request, id });
        of(&mut self.leaving, block.from).push(id);
        id
    }

    /// A block on its way.
    pub fn find(&self, id: u64) -> Option<&Transfer> {
        let slot = self.slots.get(id as u32 as usize)?;
        slot.transfer.as_ref().filter(|_| u64::from(slot.generation) == id >> 32)
    }

    /// A block on its way, to be changed.
    pub fn find_mut(&mut self, id: u64) -> Option<&mut Transfer> {
        let slot = self.slots.get_mut(id as u32 as usize)?;
        slot.transfer.as_mut().filter(|_| u64::from(slot.generation) == id >> 32)
    }

    /// The block that answers a request made over a connection.
    pub fn answer(&self, connection: ConnectionId, to: HostId, request: RequestId) -> Option<&Transfer> {
        let mut answers = self.answers.get(to.0)?.iter();
        let answer = answers.find(|answer| (answer.connection, answer.request) == (connection, request))?;
        self.find(answer.id)
    }

    /// A block has arrived, or will not.
    pub fn end(&mut self, id: u64) {
        let Some(&Transfer { block, .. }) = self.find(id) else { return };
        of(&mut self.answers, block.to).retain(|answer| answer.id != id);
        of(&mut self.leaving, block.from).retain(|other| *other != id);
        let slot = &mut self.slots[id as u32 as usize];
        slot.transfer = None;
        // A place that has had 2^32 blocks is given up, so that no number is given twice.
        if let Some(generation) = slot.generation.checked_add(1) {
            slot.generation = generation;
            self.free.push(id as u32);
        }
    }

    /// A sender falls silent: what has not left by now never will.
    pub fn cut(&mut self, now: Instant, from: HostId) {
        for id in of(&mut self.leaving, from).clone() {
            if let Some(transfer) = self.find_mut(id).filter(|transfer| transfer.out_at > now) {
                transfer.cut = Some(now);
            }
        }
    }
}

fn of<T: Default>(by_host: &mut Vec<T>, host: HostId) -> &mut T {
    if host.0 >= by_host.len() {
        by_host.resize_with(host.0 + 1, T::default);
    }
    &mut by_host[host.0]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::network::Network;

    proptest! {
        /// The slow oracle: everything in ordered maps, under numbers that only grow.
        #[test]
        fn agrees_with_ordered_maps(steps in prop::collection::vec((0..5u8, 0..4usize, 0..4usize, 0..6u64), 0..200)) {
            let mut network = Network::default();
            let connections = [network.connect(), network.connect()];
            let mut transfers = Transfers::default();
            let mut numbers = Vec::new();
            let mut oracle: BTreeMap<usize, Transfer> = BTreeMap::new();
            let mut answers: BTreeMap<(ConnectionId, HostId, RequestId), usize> = BTreeMap::new();
            for (now, (what, from, to, request)) in steps.into_iter().enumerate() {
                let (from, to, connection, now) = (HostId(from), HostId(to), connections[from % 2], Instant(now as u64));
                let (request, span) = (RequestId(request), Span::new(0, 1).unwrap());
                match what {
                    0 | 1 => {
                        let (payload, wire, good_groups, bytes_per_s) = (1, 1, 1, None);
                        let block = Block { connection, from, to, request, span, payload, wire, good_groups, bytes_per_s, path: Path::default() };
                        let out_at = now + Duration::from_nanos(3);
                        answers.insert((connection, to, request), numbers.len());
                        oracle.insert(numbers.len(), Transfer { block, out_at, taken_in: None, cut: None, sent: false });
                        numbers.push(transfers.begin(block, out_at));
                    }
                    2 => {
                        transfers.cut(now, from);
                        let theirs = oracle.values_mut().filter(|transfer| transfer.block.from == from && transfer.out_at > now);
                        theirs.for_each(|transfer| transfer.cut = Some(now));
                    }
                    _ => {
                        let Some(which) = numbers.len().checked_sub(1).map(|last| last.min(to.0 * 3 + from.0)) else { continue };
                        transfers.end(numbers[which]);
                        oracle.remove(&which);
                        answers.retain(|_, answer| *answer != which);
                    }
                }
                let plain = |transfer: Option<&Transfer>| transfer.map(|transfer| format!("{transfer:?}"));
                for (which, number) in numbers.iter().enumerate() {
                    prop_assert_eq!(plain(transfers.find(*number)), plain(oracle.get(&which)));
                }
                let expected = answers.get(&(connection, to, request)).and_then(|answer| oracle.get(answer));
                prop_assert_eq!(plain(transfers.answer(connection, to, request)), plain(expected));
            }
        }
    }
}
