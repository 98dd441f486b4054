//! Blocks: from the queue of an uplink to the disk of whoever asked for them.

use std::time::Duration;

use p2pweights_protocol::engine::{FetchOutcome, Input, ServeOutcome};
use p2pweights_protocol::geometry::{GROUP_BYTES, Geometry, Span};
use p2pweights_protocol::ids::{BlobHash, RequestId};
use p2pweights_protocol::time::Instant;

use super::{Happening, World};
use crate::network::{ConnectionId, HostId};
use crate::transfers::Transfer;

impl World {
    pub(super) fn start_uplink(&mut self, here: HostId) {
        let now = self.now();
        let host = &mut self.hosts[here.0];
        let incarnation = host.incarnation;
        let Some(block) = host.uplink.start() else { return };
        let time = host.uplink.occupy(block.wire, block.bytes_per_s);
        let id = self.transfers.begin(block, now + time);
        self.after(time, Happening::BlockOut(here, incarnation, id));
        self.after(self.latency(block.from, block.to), Happening::FirstByte(id));
    }

    pub(super) fn block_out(&mut self, here: HostId, incarnation: u64, id: u64) {
        if !self.is(here, incarnation) {
            return;
        }
        self.host(here).uplink.done();
        if let Some(transfer) = self.transfers.find(id).copied() {
            self.host(here).report.sent += transfer.block.payload;
            // A reader that falls behind holds its sender up, though not the uplink.
            let latency = self.latency(transfer.block.from, transfer.block.to);
            let read_at = transfer.taken_in.map(|(_, to)| to.since(Instant::START + latency));
            let wait = read_at.map_or(Duration::ZERO, |read_at| (Instant::START + read_at) - self.now());
            self.after(wait, Happening::BlockSent(here, incarnation, id));
        }
        self.start_uplink(here);
    }

    pub(super) fn block_sent(&mut self, here: HostId, incarnation: u64, id: u64) {
        let Some(transfer) = self.transfers.find_mut(id) else { return };
        transfer.sent = true;
        let (block, arrived) = (transfer.block, transfer.taken_in.is_some_and(|(_, to)| to < self.agenda.now()));
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
            return;
        }
        let block = transfer.block;
        let last_at = transfer.out_at + self.latency(block.from, block.to);
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
        }
        if transfer.sent {
            self.transfers.end(id);
        }
    }

    fn is_awaited(&self, here: HostId, request: RequestId, connection: ConnectionId) -> bool {
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
        if let Some(Transfer { block, cut, .. }) = transfer {
            let span = Span::new(block.span.start(), block.span.start() + groups).filter(|_| !fetching.probe);
            let size = self.sizes.get(&fetching.blob).copied().unwrap_or_default();
            let good = span.map_or(0, |span| Geometry::of(size).bytes_in(span));
            let report = &mut self.hosts[here.0].report;
            report.received += good;
            *report.received_from.entry(from).or_default() += good;
            // What belongs to a request given up still comes down the line, and is thrown away.
            report.wasted += if fetching.probe || cut.is_some() { 0 } else { block.payload.saturating_sub(good) };
            if let Some(span) = span {
                let holder = Some(from).filter(|from| self.hosts[from.0].is_honest());
                self.checker.received(now, here, holder, fetching.blob, span);
                self.write(here, fetching.blob, span);
            }
        }
        self.tell(here, Input::FetchEnded { request, outcome, verified_groups: groups });
    }

    fn write(&mut self, here: HostId, blob: BlobHash, span: Span) {
        let host = &mut self.hosts[here.0];
        let new = host.store.write(blob, span);
        host.report.duplicate += (span.groups() - new) * GROUP_BYTES;
        if host.store.is_dirty() && !host.sync_due {
            host.sync_due = true;
            let incarnation = host.incarnation;
            self.after(self.scenario.timing.sync_delay, Happening::Sync(here, incarnation));
        }
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
