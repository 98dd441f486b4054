//! Blocks on their way over links that several hosts share: they queue up at each, and go on to the next as their first byte leaves.
//! What nobody waits for any more is dropped where it queues, as it would never have left a sender that is held up.

use std::time::Duration;

use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::time::Instant;

use super::{Happening, World};
use crate::network::HostId;
use crate::routes::{Path, Way};
use crate::transfers::Block;

/// A block on its way over shared links.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crossing {
    /// The shared link it comes to next; `None`: none, it is past them.
    way: Option<Way>,
    /// When its last byte gets there.
    last_at: Instant,
    /// Latency between its sender and there.
    travelled: Duration,
    /// When its last byte would have left the sender if that had waited for the links, as far as is known.
    clear_at: Instant,
    /// It has left the sender's own uplink.
    out: bool,
    incarnation: u64,
}

impl World {
    /// A block begins to leave its sender.
    pub(super) fn set_out(&mut self, id: u64, block: &Block, out_at: Instant) {
        let way = self.routes.first_way(block.from, block.to, block.path);
        let leg = self.routes.leg(block.from, block.to, None, way);
        let incarnation = self.hosts[block.from.0].incarnation;
        let crossing = Crossing { way, last_at: out_at + leg, travelled: leg, clear_at: out_at, out: false, incarnation };
        self.crossings.insert(id, crossing);
        self.after(leg, Happening::FirstByte(id));
    }

    /// A block's first byte has come to a shared link, where it waits, or past all of them: then returns when its last one comes.
    pub(super) fn cross(&mut self, id: u64) -> Option<Instant> {
        let crossing = self.crossings.get(&id).copied()?;
        let Some(way) = crossing.way else {
            if crossing.out {
                self.crossings.remove(&id);
            }
            return Some(crossing.last_at);
        };
        self.sites.queue(way)?.enqueue(id);
        self.next_over(way);
        None
    }

    /// A shared link is free.
    pub(super) fn way_free(&mut self, way: Way) {
        if let Some(queue) = self.sites.queue(way) {
            queue.done();
        }
        self.next_over(way);
    }

    /// The next block that somebody waits for passes over a shared link, if it is free and up.
    pub(super) fn next_over(&mut self, way: Way) {
        if let Way::OutOf(site) | Way::Into(site) = way
            && self.cuts.is_down(self.now(), site)
        {
            return;
        }
        while let Some(id) = self.sites.queue(way).and_then(|queue| queue.start()) {
            let wanted = self.transfers.find(id).filter(|transfer| transfer.cut.is_none()).map(|transfer| transfer.block);
            let wanted = wanted.filter(|block| self.is_awaited(block.to, block.request, block.connection));
            if let Some(block) = wanted {
                return self.pass(way, id, &block);
            }
            if let Some(queue) = self.sites.queue(way) {
                queue.done();
            }
            self.drop_crossing(id);
        }
    }

    fn pass(&mut self, way: Way, id: u64, block: &Block) {
        let now = self.now();
        let (time, used_up) = self.sites.carry(way, block.wire, block.payload);
        if let Way::Into(site) = way
            && let Some(fetching) = self.hosts[block.to.0].fetching.get(&block.request)
            && !fetching.probe
        {
            let size = self.sizes.get(&fetching.blob).copied().unwrap_or_default();
            self.sites.sees(site, fetching.blob, size, block.span, true);
        }
        self.after(time, Happening::WayFree(way));
        let next = self.routes.next_way(block.to, block.path, way);
        let leg = self.routes.leg(block.from, block.to, Some(way), next);
        if let Some(crossing) = self.crossings.get_mut(&id) {
            let last_out = crossing.last_at.max(now + time);
            crossing.clear_at = crossing.clear_at.max(Instant(last_out.0.saturating_sub(nanos(crossing.travelled))));
            crossing.way = next;
            crossing.last_at = last_out + leg;
            crossing.travelled += leg;
            let (clear_at, crossing) = (crossing.clear_at, *crossing);
            if next.is_none() && crossing.out {
                self.agenda.at(clear_at, Happening::BlockSent(block.from, crossing.incarnation, id));
            }
        }
        self.after(leg, Happening::FirstByte(id));
        if let (true, Way::OutOf(site) | Way::Into(site)) = (used_up, way) {
            self.used_up(site);
        }
    }

    /// A block has left its sender's own uplink; returns whether it is past the shared links already.
    pub(super) fn out_of_crossing(&mut self, id: u64) -> bool {
        let Some(crossing) = self.crossings.get_mut(&id) else { return true };
        crossing.out = true;
        crossing.way.is_none()
    }

    /// When a block that has crossed would have left its sender.
    pub(super) fn clear_at(&mut self, block: &Block, id: u64) -> Instant {
        if block.path == Path::Direct {
            return Instant::START;
        }
        let Some(crossing) = self.crossings.get(&id).copied() else { return Instant::START };
        if self.transfers.find(id).is_some_and(|transfer| transfer.taken_in.is_some() || transfer.cut.is_some()) {
            self.crossings.remove(&id);
        }
        crossing.clear_at
    }

    /// Nobody waits for a block any more that queues at a shared link.
    fn drop_crossing(&mut self, id: u64) {
        let Some(crossing) = self.crossings.get_mut(&id) else { return };
        crossing.way = None;
        let crossing = *crossing;
        let now = self.agenda.now();
        let Some(transfer) = self.transfers.find_mut(id) else { return self.forget_crossing(id) };
        let (from, cut_off) = (transfer.block.from, transfer.cut.is_some());
        transfer.cut.get_or_insert(now);
        if crossing.out {
            let payload = transfer.block.payload;
            self.host(from).report.sent -= payload;
            self.crossings.remove(&id);
            self.block_sent(from, crossing.incarnation, id);
        } else if cut_off {
            self.forget_crossing(id);
        }
    }

    /// A block will not come.
    pub(super) fn forget_crossing(&mut self, id: u64) {
        if self.crossings.remove(&id).is_some() {
            self.transfers.end(id);
        }
    }

    /// Whether a block has yet to pass a shared link.
    pub(super) fn queues(&self, id: u64) -> bool {
        self.crossings.get(&id).is_some_and(|crossing| crossing.way.is_some())
    }

    /// What was to come to a site over its link has not come: it is not there, unless another host of the site has it.
    pub(super) fn missed(&mut self, block: &Block, blob: BlobHash, groups: u64) {
        let Some(site) = self.hosts[block.to.0].plan.site else { return };
        let Some(rest) = p2pweights_protocol::geometry::Span::new(block.span.start() + groups, block.span.end()) else { return };
        let there = |host: &HostId| {
            let host = &self.hosts[host.0];
            host.store.has_written(blob, rest.start()) || host.asked_for(blob, rest.start())
        };
        if !self.routes.members(site).iter().any(there) {
            self.sites.missed(site, blob, rest);
        }
    }

    /// A control message passes the shared links between two hosts: what it takes beyond the latency.
    pub(super) fn control_across(&mut self, here: HostId, there: HostId, bytes: u64) -> Duration {
        let path = self.routes.path(here, there).unwrap_or_default();
        if path == Path::Direct {
            return Duration::ZERO;
        }
        let (mut time, mut way) = (Duration::ZERO, self.routes.first_way(here, there, path));
        while let Some(now) = way {
            let (taken, used_up) = self.sites.control(now, bytes);
            time += taken;
            if let (true, Way::OutOf(site) | Way::Into(site)) = (used_up, now) {
                self.used_up(site);
            }
            way = self.routes.next_way(there, path, now);
        }
        time
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
