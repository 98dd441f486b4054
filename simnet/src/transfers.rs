//! Blocks on their way: each leaves through the sender's uplink and comes in through the receiver's downlink, the second beginning
//! before the first has ended.

use std::collections::BTreeMap;
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

/// All blocks on their way.
#[derive(Debug, Default)]
pub struct Transfers {
    next: u64,
    under_way: BTreeMap<u64, Transfer>,
    answers: BTreeMap<(ConnectionId, HostId, RequestId), u64>,
}

impl Transfers {
    /// A block sets out; returns its number.
    pub fn begin(&mut self, block: Block, out_at: Instant) -> u64 {
        self.next += 1;
        self.answers.insert((block.connection, block.to, block.request), self.next);
        self.under_way.insert(self.next, Transfer { block, out_at, taken_in: None, cut: None, sent: false });
        self.next
    }

    /// A block on its way.
    pub fn find(&self, id: u64) -> Option<&Transfer> {
        self.under_way.get(&id)
    }

    /// A block on its way, to be changed.
    pub fn find_mut(&mut self, id: u64) -> Option<&mut Transfer> {
        self.under_way.get_mut(&id)
    }

    /// The block that answers a request made over a connection.
    pub fn answer(&self, connection: ConnectionId, to: HostId, request: RequestId) -> Option<&Transfer> {
        self.under_way.get(self.answers.get(&(connection, to, request))?)
    }

    /// A block has arrived, or will not.
    pub fn end(&mut self, id: u64) {
        let Some(Transfer { block, .. }) = self.under_way.remove(&id) else { return };
        let key = (block.connection, block.to, block.request);
        if self.answers.get(&key) == Some(&id) {
            self.answers.remove(&key);
        }
    }

    /// A sender falls silent: what has not left by now never will.
    pub fn cut(&mut self, now: Instant, from: HostId) {
        for transfer in self.under_way.values_mut().filter(|transfer| transfer.block.from == from && transfer.out_at > now) {
            transfer.cut = Some(now);
        }
    }
}
