//! Who comes, finishes, and goes for good: when, and what the others see of it.

use std::time::Duration;

use p2pweights_protocol::geometry::Geometry;
use p2pweights_protocol::ids::BlobHash;

use super::{Happening, World};
use crate::copies::Count;
use crate::network::HostId;
use crate::scenario::Stay;

/// How long the directory names a host that has left: what was announced is not taken back. In the DHT it is up to two days; here it is
/// short enough to be over while most worlds last, long enough to be in everybody's way.
const RECORD_STAYS: Duration = Duration::from_secs(600);
/// Until a host that begins has asked its local network who is there, at most.
const LOOKS_AROUND_MS: u64 = 1000;

impl World {
    /// A host has begun, with what its disk says.
    pub(super) fn settle_in(&mut self, here: HostId) {
        let (now, incarnation) = (self.now(), self.hosts[here.0].incarnation);
        if self.routes.is_in_lan(here) {
            let delay = Duration::from_millis(self.random.below(LOOKS_AROUND_MS));
            self.after(delay, Happening::LooksAround(here, incarnation));
        }
        let host = &self.hosts[here.0];
        if !host.plan.fetches {
            if incarnation == 1 {
                self.begin_to_go(here);
            }
            return;
        }
        if self.reads_first(here).is_some_and(|first| host.store.has_written(first, 0)) {
            self.host(here).report.first_bytes_at.get_or_insert(now);
        }
        let host = &self.hosts[here.0];
        let complete = self.scenario.blobs_of(here).into_iter().all(|(blob, size)| host.store.is_complete(blob, size));
        if complete && host.report.finished_at.is_none() {
            self.finished(here);
        }
    }

    /// A host holds all it wants, durably.
    pub(super) fn finished(&mut self, here: HostId) {
        let now = self.now();
        self.awaited -= usize::from(self.hosts[here.0].is_awaited());
        self.host(here).report.finished_at = Some(now);
        self.begin_to_go(here);
    }

    /// From now on a host stays for what it does for the others.
    fn begin_to_go(&mut self, here: HostId) {
        let blobs = self.scenario.blobs_of(here);
        let host = &mut self.hosts[here.0];
        let bytes = |(blob, size): &(BlobHash, u64)| {
            let runs = host.store.durable(*blob).runs();
            runs.map(|run| Geometry::of(*size).bytes_in(run)).sum::<u64>()
        };
        let held = blobs.iter().map(bytes).sum();
        let piece = blobs.iter().map(|(_, size)| Geometry::of(*size)).map(|geometry| {
            geometry.piece_span(p2pweights_protocol::geometry::Piece(0)).map_or(0, |span| geometry.bytes_in(span))
        });
        host.count_down(held, piece.max().unwrap_or(0));
        match host.plan.stay {
            Stay::After(stay) => self.after(stay, Happening::Leaves(here)),
            _ if host.report.sent >= host.leaves_at_sent => self.agenda.now_too(Happening::Leaves(here)),
            Stay::LeaveSafe => self.leave_if_safe(here),
            _ => (),
        }
    }

    /// An engine says that everything it holds of a blob is held by others too.
    pub(super) fn safe_to_leave(&mut self, here: HostId, blob: BlobHash) {
        self.host(here).safe.insert(blob);
        self.leave_if_safe(here);
    }

    fn leave_if_safe(&mut self, here: HostId) {
        let host = &self.hosts[here.0];
        let done = !host.plan.fetches || host.report.finished_at.is_some();
        if host.plan.stay != Stay::LeaveSafe || !done {
            return;
        }
        let mut held = self.scenario.blobs_of(here).into_iter().filter(|(blob, _)| !host.store.durable(*blob).is_empty());
        if held.all(|(blob, _)| host.safe.contains(&blob)) {
            self.agenda.now_too(Happening::Leaves(here));
        }
    }

    /// A host goes for good, and says so.
    pub(super) fn leave(&mut self, here: HostId) {
        let now = self.now();
        if self.hosts[here.0].gone {
            return;
        }
        if self.hosts[here.0].up {
            self.count_copies(here, |count| count.present -= 1);
            // It shuts down in peace: what it has written it syncs.
            let synced = self.host(here).store.sync();
            synced.iter().for_each(|(blob, span)| self.checker.synced(now, here, *blob, *span));
            self.host(here).crash();
            self.checker.crashed(here);
            self.transfers.cut(now, here);
            let neighbours: Vec<HostId> = self.network.neighbours(here).collect();
            for there in neighbours {
                if let Some(connection) = self.network.close(here, there) {
                    self.after(self.latency(here, there), Happening::Gone { here: there, there: here, connection });
                }
            }
        }
        self.goes_for_good(here);
    }

    /// A host will not come back.
    pub(super) fn goes_for_good(&mut self, here: HostId) {
        let now = self.now();
        self.awaited -= usize::from(self.hosts[here.0].is_awaited());
        self.host(here).gone = true;
        self.host(here).report.left_at = Some(now);
        self.count_copies(here, |count| count.lasting -= 1);
        for (blob, _) in self.scenario.blobs_of(here) {
            self.after(RECORD_STAYS, Happening::Recorded(here, Box::new(blob), false));
        }
    }

    /// Changes the counts of all pieces that a host holds whole.
    pub(super) fn count_copies(&mut self, here: HostId, change: impl Fn(&mut Count)) {
        let host = &self.hosts[here.0];
        if host.gives() {
            for (blob, _) in self.scenario.blobs_of(here) {
                self.copies.each(blob, host.store.durable(blob), &change);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use p2pweights_protocol::engine::Event;
    use p2pweights_protocol::time::Instant;

    use super::*;
    use crate::link::Link;
    use crate::scenario::{Holding, Scenario};

    #[test]
    fn a_host_goes_when_its_engine_says_that_all_it_holds_is_safe() {
        let stays = |fetches| {
            Scenario::new(1).blob(1 << 20).blob(1 << 20).blob(1 << 20).add("all", 1, Link::mbit(1, 1, 1), |plan| {
                (plan.holding, plan.fetches) = (if fetches { Holding::Drawn("#.".into()) } else { Holding::All }, fetches);
                (plan.stay, plan.swarms) = (Stay::LeaveSafe, vec![0, 1]);
            })
        };
        for fetches in [false, true] {
            let mut world = World::new(stays(fetches));
            world.happen(Happening::Begin(HostId(0)));
            let blobs = world.scenario.blobs_of(HostId(0));
            for (blob, _) in &blobs {
                assert_eq!(world.hosts[0].safe.len(), usize::from(*blob != blobs[0].0), "not before both are safe");
                world.act(HostId(0), p2pweights_protocol::engine::Output::Notify(Event::LeaveSafe { blob: *blob }));
            }
            while world.agenda.next_at() == Some(Instant::START) {
                let next = world.agenda.pop().unwrap();
                world.happen(next);
            }
            assert_eq!(world.hosts[0].gone, !fetches, "who fetches stays until it has finished");
            assert_eq!(world.hosts[0].report.left_at.is_some(), !fetches);
        }
    }
}
