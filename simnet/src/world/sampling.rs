//! Looking in from outside now and then: does an uplink idle though a neighbour lacks what it could send?

use std::time::Duration;

use p2pweights_protocol::geometry::Geometry;

use super::{Happening, World};
use crate::network::HostId;

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(97);
/// In worlds that last long, so many samples from one moment to the next are enough: a look at everybody costs more than what happens.
const SAMPLES_A_MOMENT: u32 = 20;
/// In worlds larger than this, looking costs more than it tells.
const HOSTS: usize = 40;
/// A downlink that is behind by this much has no room.
const BUSY: Duration = Duration::from_millis(20);

impl World {
    pub(super) fn sample(&mut self) {
        if self.hosts.len() > HOSTS {
            return;
        }
        for here in (0..self.hosts.len()).map(HostId) {
            let host = &self.hosts[here.0];
            if !host.up || !host.is_honest() {
                continue;
            }
            let neighbours: Vec<HostId> = self.network.neighbours(here).collect();
            let useful = neighbours.iter().any(|there| self.could_send(here, *there, false));
            let idle = useful && host.uplink.is_idle() && neighbours.iter().any(|there| self.could_send(here, *there, true));
            let report = &mut self.host(here).report;
            report.samples_useful += u64::from(useful);
            report.samples_idle += u64::from(idle);
        }
        self.look();
        self.after(PAUSE.max(self.moments.step() / SAMPLES_A_MOMENT), Happening::Sample);
    }

    /// Whether `there` lacks something that `here` holds durably; `now`: has not asked anybody for it, and has room on its downlink.
    pub(super) fn could_send(&self, here: HostId, there: HostId, now: bool) -> bool {
        let (host, peer) = (&self.hosts[here.0], &self.hosts[there.0]);
        let wants = peer.is_honest() && peer.up && peer.plan.fetches && peer.report.finished_at.is_none();
        if !wants || (now && peer.downlink.backlog(self.now()) > BUSY) {
            return false;
        }
        let asked = |blob, group| now && peer.asked_for(blob, group);
        self.scenario.blobs_of(there).into_iter().any(|(blob, size)| {
            let groups = Geometry::of(size).piece_groups();
            let pieces = host.store.durable(blob).runs().flat_map(|run| (run.start()..run.end()).step_by(groups as usize));
            let mut pieces = pieces;
            pieces.any(|group| !peer.store.has_written(blob, group) && !asked(blob, group))
        })
    }
}
