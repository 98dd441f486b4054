//! What the driver answers those who ask how it stands. Changes nothing.

use p2pweights_protocol::engine::BlobProgress;
use p2pweights_protocol::ids::{BlobHash, SwarmId};

use super::Driver;
use super::handle::{BlobLook, Look, News, Overview, SwarmLook};

impl Driver {
    pub(super) fn look(&mut self, swarm: SwarmId, blobs: &[BlobHash]) -> Look {
        let mut look =
            Look { connected: self.engine.connected(), providers: self.engine.known_providers(swarm), ..Look::default() };
        for blob in blobs {
            look.blobs.push(self.look_at(*blob));
            for (peer, bytes) in self.watched.find(*blob).into_iter().flat_map(|watched| &watched.sources) {
                *look.sources.entry(*peer).or_default() += bytes;
            }
        }
        look
    }

    fn look_at(&mut self, blob: BlobHash) -> BlobLook {
        let Some(watched) = self.watched.find(blob) else { return BlobLook::default() };
        if let Some(progress) = self.engine.progress(blob) {
            watched.look.size = progress.size.or(watched.look.size);
            watched.look.verified = progress.verified;
            watched.look.in_flight = progress.in_flight;
            watched.look.providers = progress.providers;
            watched.look.unavailable = progress.unavailable;
        } else {
            watched.look.in_flight = 0;
        }
        watched.look
    }

    pub(super) fn news(&mut self, since: u64) -> News {
        let (until, changed) = self.watched.since(since);
        News {
            until,
            changed: changed.into_iter().map(|blob| (blob, self.look_at(blob))).collect(),
            busy: self.engine.busy_sources().len(),
            paused: self.paused.as_ref().map(|(paused, _)| paused.clone()),
            warnings: self.warnings.iter().cloned().collect(),
        }
    }

    pub(super) fn overview(&self) -> Overview {
        let swarms = self
            .engine
            .swarms()
            .filter(|(_, wants)| !wants.is_empty())
            .map(|(swarm, wants)| {
                let mut sum = BlobProgress::default();
                for progress in wants.iter().filter_map(|blob| self.engine.progress(*blob)) {
                    sum.size = Some(sum.size.unwrap_or(0) + progress.size.unwrap_or(0));
                    sum.verified += progress.verified;
                    sum.in_flight += progress.in_flight;
                    sum.providers = sum.providers.max(progress.providers);
                    sum.unavailable += progress.unavailable;
                }
                SwarmLook { swarm, progress: sum }
            })
            .collect();
        Overview {
            swarms,
            paused: self.paused.as_ref().map(|(paused, _)| paused.clone()),
            received: self.received.clone(),
            sent: self.transfers.sent(),
            paths: self.transfers.paths(),
            strikes: self.engine.struck().collect(),
        }
    }
}
