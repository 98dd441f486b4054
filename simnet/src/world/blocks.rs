//! Blocks: from the queue of an uplink to the disk of whoever asked for them.

use std::time::Duration;

use p2pweights_protocol::engine::{FetchOutcome, Input, ServeOutcome};
use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::RequestId;
use p2pweights_protocol::time::Instant;

use super::disks::Writing;
use super::{Happening, World};
use crate::host::Host;
use crate::network::{ConnectionId, HostId};
use crate::routes::Path;
use crate::transfers::{Block, Transfer};

impl World {
    pub(super) fn start_uplink(&mut self, here: HostId) {
        let (now, incarnation) = (self.now(), self.hosts[here.0].incarnation);
        let block = loop {
            let Some(block) = self.host(here).uplink.start() else { return };
            let Some(until) = self.cut(block.from, block.to) else { break block };
            // A connection that has stalled does not keep the others from sending.
            self.host(here).uplink.done();
            self.agenda.at(until, Happening::Stalled(here, incarnation, Box::new(block)));
        };
        let time = self.host(here).uplink.occupy(block.wire, block.bytes_per_s);
        let out_at = now + time + self.resent(block.from, block.to);
        let id = self.transfers.begin(block, out_at);
        self.after(time, Happening::BlockOut(here, incarnation, id));
        match block.path {
            Path::Direct => self.after(self.latency(block.from, block.to), Happening::FirstByte(id)),
            Path::Crossing | Path::Relayed => self.set_out(id, &block, out_at),
        }
    }

    /// The cut that a block could not pass is over; its connection may be, too.
    pub(super) fn try_again(&mut self, here: HostId, incarnation: u64, block: Block) {
        let wanted = |host: &Host| host.serving.get(&(block.to, block.request)) == Some(&block.connection);
        if self.is(here, incarnation) && wanted(&self.hosts[here.0]) {
            self.host(here).uplink.enqueue(block);
            self.start_uplink(here);
        }
    }

    /// Bytes that go out for so many, given what is lost and sent again.
    pub(super) fn with_loss(&self, from: HostId, to: HostId, bytes: u64) -> u64 {
        match self.routes.loss_ppm(from, to) {
            0 => bytes,
            lost => (bytes * 1_000_000).div_ceil(1_000_000 - lost),
        }
    }

    /// The last packet of something is lost as often as any other, and then it takes a round trip more.
    pub(super) fn resent(&mut self, from: HostId, to: HostId) -> Duration {
        match self.routes.loss_ppm(from, to) {
            0 => Duration::ZERO,
            lost if self.random.below(1_000_000) >= lost => Duration::ZERO,
            _ => self.latency(from, to) * 2,
        }
    }

    pub(super) fn block_out(&mut self, here: HostId, incarnation: u64, id: u64) {
        if !self.is(here, incarnation) {
            return;
        }
        self.host(here).uplink.done();
        if let Some(transfer) = self.transfers.find(id).copied() {
            let dropped = transfer.cut.is_some() && transfer.block.path != Path::Direct;
            self.host(here).report.sent += if dropped { 0 } else { transfer.block.payload };
            if self.hosts[here.0].report.sent >= self.hosts[here.0].leaves_at_sent {
                self.agenda.now_too(Happening::Leaves(here));
            }
            if transfer.block.path != Path::Direct && !self.out_of_crossing(id) {
                return self.start_uplink(here);
            }
            // A reader that falls behind holds its sender up, though not the uplink.
            let latency = self.latency(transfer.block.from, transfer.block.to);
            let read_at = transfer.taken_in.map(|(_, to)| to.since(Instant::START + latency));
            let clear_at = self.clear_at(&transfer.block, id);
            let wait =
                read_at.map_or(Duration::ZERO, |read_at| (Instant::START + read_at) - self.now()).max(clear_at - self.now());
            self.after(wait, Happening::BlockSent(here, incarnation, id));
        }
        self.start_uplink(here);
    }

    pub(super) fn block_sent(&mut self, here: HostId, incarnation: u64, id: u64) {
        let Some(transfer) = self.transfers.find_mut(id) else { return };
        transfer.sent = true;
        let (block, arrived) = (transfer.block, transfer.has_ended(self.agenda.now()));
        if arrived {
            self.transfers.end(id);
        }
        if self.is(here, incarnation) && self.hosts[here.0].serving.get(&(block.to, block.request)) == Some(&block.connection) {
            self.end_serve(here, block.to, block.request, ServeOutcome::Sent);
        }
    }

    pub(super) fn first_byte(&mut self, id: u64) {
        let now = self.now();
        let Some(transfer) = self.transfers.find_mut(id) else { return };
        if transfer.cut.is_some() {
            return self.forget_crossing(id);
        }
        let (block, out_at) = (transfer.block, transfer.out_at);
        let last_at = match block.path {
            Path::Direct => out_at + self.latency(block.from, block.to),
            Path::Crossing | Path::Relayed => match self.cross(id) {
                Some(last_at) => last_at,
                None => return,
            },
        };
        let (from, to) = self.hosts[block.to.0].downlink.take_in(now, block.wire, last_at);
        if let Some(transfer) = self.transfers.find_mut(id) {
            transfer.taken_in = Some((from, to));
        }
        self.agenda.at(to, Happening::LastByte(id));
    }

    pub(super) fn last_byte(&mut self, id: u64) {
        let Some(transfer) = self.transfers.find(id).copied() else { return };
        let block = transfer.block;
        if transfer.cut.is_none() && self.is_awaited(block.to, block.request, block.connection) {
            let whole = block.good_groups == block.span.groups();
            let outcome = if whole { FetchOutcome::Delivered } else { FetchOutcome::BadBytes };
            self.end_fetch(block.to, block.request, outcome, block.good_groups);
        } else if transfer.cut.is_none() && block.path != Path::Direct {
            self.host(block.to).report.wasted += block.payload;
        }
        if transfer.sent {
            self.transfers.end(id);
        }
    }

    pub(super) fn is_awaited(&self, here: HostId, request: RequestId, connection: ConnectionId) -> bool {
        self.hosts[here.0].fetching.get(&request).is_some_and(|fetching| fetching.connection == connection)
    }

    /// Groups of a request that have come so far.
    pub(super) fn groups_here(&self, here: HostId, request: RequestId) -> u64 {
        let Some(fetching) = self.hosts[here.0].fetching.get(&request) else { return 0 };
        let Some(transfer) = self.transfers.answer(fetching.connection, here, request) else { return 0 };
        transfer.groups_by(self.now(), self.latency(transfer.block.from, transfer.block.to))
    }

    /// A request of this host's ends, as far as it got.
    pub(super) fn end_fetch(&mut self, here: HostId, request: RequestId, outcome: FetchOutcome, groups: u64) {
        let now = self.now();
        let Some(fetching) = self.host(here).fetching.remove(&request) else { return };
        let from = fetching.provider;
        let transfer = self.transfers.answer(fetching.connection, here, request).copied();
        if let Some(Transfer { block, cut, taken_in, .. }) = transfer {
            let span = Span::new(block.span.start(), block.span.start() + groups).filter(|_| !fetching.probe);
            let size = self.sizes.get(&fetching.blob).copied().unwrap_or_default();
            let good = span.map_or(0, |span| Geometry::of(size).bytes_in(span));
            // What has not come through a shared link yet may still be dropped there.
            let queued = block.path != Path::Direct && taken_in.is_none();
            let report = &mut self.hosts[here.0].report;
            report.received += good;
            report.relayed += if block.path == Path::Relayed { good } else { 0 };
            *report.received_from.entry(from).or_default() += good;
            // What belongs to a request given up still comes down the line, and is thrown away.
            report.wasted += if fetching.probe || cut.is_some() || queued { 0 } else { block.payload.saturating_sub(good) };
            if let Some(span) = span {
                let holder = Some(from).filter(|from| self.hosts[from.0].is_honest());
                self.checker.received(now, here, holder, fetching.blob, span);
            }
            if block.path != Path::Direct && groups < block.span.groups() && !fetching.probe {
                self.missed(&block, fetching.blob, groups);
            }
            if let Some(span) = span {
                return self.write(here, Writing { request, outcome, blob: fetching.blob, span });
            }
        }
        self.tell(here, Input::FetchEnded { request, outcome, verified_groups: groups });
    }

    pub(super) fn end_serve(&mut self, here: HostId, there: HostId, request: RequestId, outcome: ServeOutcome) {
        if self.host(here).serving.remove(&(there, request)).is_some() {
            let peer = self.hosts[there.0].peer;
            self.tell(here, Input::ServeEnded { peer, request, outcome });
        }
    }

    /// A connection is gone at this end: what was asked over it is lost, and so is what was being served.
    pub(super) fn lose_blocks(&mut self, here: HostId, there: HostId, connection: ConnectionId) {
        let asked: Vec<RequestId> =
            self.hosts[here.0].fetching.iter().filter(|(_, f)| f.connection == connection).map(|(request, _)| *request).collect();
        for request in asked {
            let groups = self.groups_here(here, request);
            self.end_fetch(here, request, FetchOutcome::Lost, groups);
        }
        self.host(here).uplink.take(|block| block.connection == connection);
        let served: Vec<RequestId> = self.hosts[here.0]
            .serving
            .iter()
            .filter(|(_, over)| **over == connection)
            .map(|((_, request), _)| *request)
            .collect();
        for request in served {
            self.end_serve(here, there, request, ServeOutcome::Lost);
        }
    }
}
