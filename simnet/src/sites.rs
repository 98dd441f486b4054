//! The links that several hosts share: those of sites, and the relay's. Each carries one block after the other in each direction, in
//! the order in which they come; control messages slip in between. Blocks are numbers here; knows nothing of hosts or engines.

use std::collections::BTreeMap;
use std::time::Duration;

use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::span_set::SpanSet;

use crate::link::{Link, Uplink};
use crate::report::SiteReport;
use crate::routes::Way;
use crate::scenario::{Site, SiteId};

/// One site's link.
#[derive(Debug)]
struct Shared {
    out: Uplink<u64>,
    into: Uplink<u64>,
    left: Option<u64>,
    /// What has come in, or is coming in.
    seen: BTreeMap<BlobHash, SpanSet>,
    report: SiteReport,
}

/// All shared links.
#[derive(Debug)]
pub struct Sites {
    sites: Vec<Shared>,
    relay: Option<Uplink<u64>>,
}

impl Sites {
    /// Idle links.
    pub fn new(sites: &[Site], relay: Option<Link>) -> Self {
        let shared = |site: &Site| Shared {
            out: Uplink::new(site.link.up_bytes_per_s),
            into: Uplink::new(site.link.down_bytes_per_s),
            left: site.quota,
            seen: BTreeMap::new(),
            report: SiteReport { name: site.name.clone(), ..SiteReport::default() },
        };
        // What comes in at the relay goes out again: the slower direction decides.
        let relay = relay.map(|link| Uplink::new(link.up_bytes_per_s.min(link.down_bytes_per_s)));
        Self { sites: sites.iter().map(shared).collect(), relay }
    }

    /// The queue of a shared link.
    pub fn queue(&mut self, way: Way) -> Option<&mut Uplink<u64>> {
        match way {
            Way::OutOf(site) => self.sites.get_mut(site.0).map(|shared| &mut shared.out),
            Way::Into(site) => self.sites.get_mut(site.0).map(|shared| &mut shared.into),
            Way::Relay => self.relay.as_mut(),
        }
    }

    /// A control message passes: how long it takes. The second says whether the quota has run out.
    pub fn control(&mut self, way: Way, bytes: u64) -> (Duration, bool) {
        let time = self.queue(way).map_or(Duration::ZERO, |queue| queue.control(bytes));
        (time, self.use_up(way, bytes))
    }

    /// A block begins to pass: how long it occupies the link, and whether the quota has run out.
    pub fn carry(&mut self, way: Way, wire: u64, payload: u64) -> (Duration, bool) {
        match way {
            Way::OutOf(site) => self.sites[site.0].report.bytes_out += payload,
            Way::Into(site) => self.sites[site.0].report.bytes_in += payload,
            Way::Relay => (),
        }
        let time = self.queue(way).map_or(Duration::ZERO, |queue| queue.occupy(wire, None));
        (time, self.use_up(way, wire))
    }

    fn use_up(&mut self, way: Way, bytes: u64) -> bool {
        let (Way::OutOf(site) | Way::Into(site)) = way else { return false };
        let Some(left) = &mut self.sites[site.0].left else { return false };
        let was_left = *left > 0;
        *left = left.saturating_sub(bytes);
        was_left && *left == 0
    }

    /// A site holds this, or is being sent it; what it has been sent before is counted.
    pub fn sees(&mut self, site: SiteId, blob: BlobHash, size: u64, span: Span, counted: bool) {
        let shared = &mut self.sites[site.0];
        let seen = shared.seen.entry(blob).or_default();
        if counted {
            shared.report.bytes_again += seen.overlaps(span).map(|again| Geometry::of(size).bytes_in(again)).sum::<u64>();
        }
        seen.insert(span);
    }

    /// What was on its way to a site did not come after all.
    pub fn missed(&mut self, site: SiteId, blob: BlobHash, span: Span) {
        if let Some(seen) = self.sites[site.0].seen.get_mut(&blob) {
            seen.remove(span);
        }
    }

    /// Hands out what was noted.
    pub fn into_reports(self) -> Vec<SiteReport> {
        self.sites.into_iter().map(|shared| shared.report).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_runs_out_once_and_what_comes_again_is_counted() {
        let (site, blob) = (SiteId(0), BlobHash([1; 32]));
        let link = Link::mbit(8, 8, 1);
        let plan = Site { name: "s".into(), link, lan: true, metered: true, outages: Vec::new(), quota: Some(2_000_000) };
        let mut sites = Sites::new(&[plan], None);
        assert_eq!(sites.carry(Way::Into(site), 1_000_000, 900_000), (Duration::from_secs(1), false));
        assert!(!sites.carry(Way::OutOf(site), 999_999, 0).1);
        assert_eq!([sites.control(Way::Into(site), 1).1, sites.control(Way::Into(site), 1).1], [true, false]);
        let span = |start, end| Span::new(start, end).unwrap();
        sites.sees(site, blob, 1 << 20, span(0, 4), true);
        sites.missed(site, blob, span(2, 4));
        sites.sees(site, blob, 1 << 20, span(1, 4), true);
        let report = &sites.into_reports()[0];
        assert_eq!((report.bytes_in, report.bytes_again), (900_000, 16 * 1024));
    }
}
