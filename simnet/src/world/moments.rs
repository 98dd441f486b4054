//! Looks at the whole world at equal steps, for the report; and whether there is anything left that it could do.

use std::collections::BTreeSet;
use std::time::Duration;

use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::time::Instant;

use super::{Happening, World};
use crate::host::Host;
use crate::network::HostId;
use crate::report::{Moment, SiteReport};
use crate::scenario::SiteId;
use crate::sites::Sites;

/// Most moments in a report: enough for a plot, and a look at a world of 100,000 hosts takes a millisecond.
const MOST: usize = 400;
/// Moments in the time that a world takes at least.
const PLANNED: u32 = 100;
/// Shortest step.
const STEP_MIN: Duration = Duration::from_millis(10);

/// The moments so far.
#[derive(Debug)]
pub(super) struct Moments {
    step: Duration,
    moments: Vec<Moment>,
    busy: Duration,
}

impl Moments {
    /// None yet, of a world that takes so long at least.
    pub fn new(bound: Duration) -> Self {
        Self { step: (bound / PLANNED).max(STEP_MIN), moments: Vec::new(), busy: Duration::ZERO }
    }

    /// From one to the next.
    pub fn step(&self) -> Duration {
        self.step
    }

    /// Hands them out.
    pub fn into_moments(self) -> Vec<Moment> {
        self.moments
    }

    /// Keeps one, given the time that uplinks have been busy in all, and how many there are. If there are too many, every second goes
    /// and the steps are twice as long.
    fn keep(&mut self, mut moment: Moment, busy: Duration, uplinks: u32) {
        let could = self.step.as_nanos() * u128::from(uplinks.max(1));
        // A block counts when it begins, so a step may seem more than full.
        let permille = busy.saturating_sub(self.busy).as_nanos() * 1000 / could;
        moment.uplinks_busy_permille = u64::try_from(permille.min(1000)).unwrap_or(1000);
        self.busy = busy;
        self.moments.push(moment);
        if self.moments.len() >= MOST {
            let pairs = self.moments.chunks_exact(2);
            let mean = |a: &Moment, b: &Moment| (a.uplinks_busy_permille + b.uplinks_busy_permille) / 2;
            self.moments = pairs.map(|pair| Moment { uplinks_busy_permille: mean(&pair[0], &pair[1]), ..pair[1] }).collect();
            self.step *= 2;
        }
    }
}

/// Hosts whose engines are weighed at each moment: enough to find the heaviest kind, few enough to cost nothing.
const WEIGHED: usize = 64;

impl World {
    pub(super) fn moment(&mut self) {
        let (mut moment, mut busy, mut uplinks) = (Moment { at: self.now(), ..Moment::default() }, Duration::ZERO, 0);
        for host in &self.hosts {
            moment.sent += host.report.sent;
            moment.finished += u32::from(host.plan.fetches && host.is_honest() && host.report.finished_at.is_some());
            busy += host.report.uplink_busy + host.uplink.busy_time();
            if host.up {
                moment.present += 1;
                uplinks += 1;
            }
        }
        for host in self.hosts.iter_mut().take(WEIGHED) {
            let bytes = host.engine.as_ref().map_or(0, p2pweights_protocol::engine::Engine::memory_bytes);
            host.report.engine_bytes = host.report.engine_bytes.max(bytes);
        }
        let (rarest, sum, commonest, pieces) = self.copies.spread();
        (moment.rarest, moment.commonest, moment.mean_permille) = (rarest, commonest, sum * 1000 / pieces.max(1));
        self.moments.keep(moment, busy, uplinks);
        self.name_what_is_gone();
        self.after(self.moments.step(), Happening::Moment);
    }

    /// If pieces are gone that somebody wants, and there is nothing left to do but to want them, the world is over.
    fn name_what_is_gone(&mut self) {
        if !self.gone_pieces.is_empty() {
            return;
        }
        let gone: BTreeSet<(BlobHash, u32)> = self.copies.gone().into_iter().collect();
        if gone.is_empty() {
            return;
        }
        let mut wanted = BTreeSet::new();
        for (index, host) in self.hosts.iter().enumerate().filter(|(_, host)| host.is_awaited()) {
            if !host.fetching.is_empty() || host.sync_due || host.drive.is_behind(self.now()) {
                return;
            }
            for (blob, size) in self.scenario.blobs_of(HostId(index)) {
                for piece in lacked(host, blob, size) {
                    if !gone.contains(&(blob, piece)) {
                        return;
                    }
                    wanted.insert((blob, piece));
                }
            }
        }
        self.gone_pieces = wanted.into_iter().collect();
    }

    /// What was noted of each site's link.
    pub(super) fn site_reports(&mut self) -> Vec<SiteReport> {
        let sites = std::mem::replace(&mut self.sites, Sites::new(&[], None));
        let mut reports = sites.into_reports();
        for (index, report) in reports.iter_mut().enumerate() {
            let fetchers =
                self.routes.members(SiteId(index)).iter().map(|host| &self.hosts[host.0]).filter(|host| host.plan.fetches);
            let finishes: Option<Vec<Instant>> = fetchers.map(|host| host.report.finished_at).collect();
            let until = finishes.and_then(|finishes| finishes.into_iter().max()).unwrap_or(self.now());
            report.down_time = self.cuts.down_time(SiteId(index), until);
        }
        reports
    }
}

/// The pieces of a blob that a host lacks, in whole or in part.
fn lacked(host: &Host, blob: BlobHash, size: u64) -> Vec<u32> {
    let geometry = Geometry::of(size);
    let gaps: Vec<Span> = geometry.whole().map(|whole| host.store.durable(blob).gaps(whole).collect()).unwrap_or_default();
    let mut pieces: Vec<u32> = gaps.into_iter().flat_map(|gap| geometry.pieces_touching(gap)).map(|piece| piece.0).collect();
    pieces.dedup();
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_double_when_there_are_too_many() {
        let mut moments = Moments::new(Duration::from_secs(1));
        for step in 1..=1000 {
            let at = Instant::START + Duration::from_millis(10) * step;
            if at.0.is_multiple_of(u64::try_from(moments.step().as_nanos()).unwrap()) {
                moments.keep(Moment { at, ..Moment::default() }, Duration::from_millis(5) * step, 1);
            }
        }
        assert_eq!((moments.step(), moments.moments.len()), (Duration::from_millis(40), 250));
        let ats: Vec<u64> = moments.moments.iter().map(|moment| moment.at.0 / 1_000_000).collect();
        assert_eq!((ats[0], ats[249]), (40, 10_000));
        assert!(moments.moments.iter().all(|moment| moment.uplinks_busy_permille == 500));
    }
}
