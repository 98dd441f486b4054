//! How far a running world is, for whoever waits for it.

use std::time::Duration;

use p2pweights_protocol::time::Instant;

use super::World;

/// Happenings from one look to the next: some tenths of a second.
pub(super) const PROGRESS_EVERY: u32 = 1 << 16;

/// How far a world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// What time it is there.
    pub at: Duration,
    /// Payload bytes that fetchers have received.
    pub received: u64,
    /// Payload bytes that they want in all.
    pub wanted: u64,
    /// Fetchers that have finished.
    pub finished: usize,
    /// Fetchers.
    pub fetchers: usize,
    /// Blocks asked for so far.
    pub transfers: u64,
    /// How much has happened.
    pub events: u64,
}

impl World {
    pub(super) fn progress(&self) -> Progress {
        let mut progress = Progress {
            at: self.now() - Instant::START,
            transfers: self.traffic.requests,
            events: self.trace.events(),
            ..Progress::default()
        };
        for host in self.hosts.iter().filter(|host| host.plan.fetches && host.is_honest()) {
            progress.fetchers += 1;
            progress.finished += usize::from(host.report.finished_at.is_some());
            progress.received += host.report.received;
            let blobs = host.plan.swarms.iter().flat_map(|swarm| &self.scenario.swarms[*swarm]);
            progress.wanted += blobs.map(|(_, size)| size).sum::<u64>();
        }
        progress
    }
}
