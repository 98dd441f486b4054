//! L4: who was last given something, and how much others were given since.

use std::time::Duration;

use p2pweights_protocol::time::Instant;

use super::Checker;
use crate::network::HostId;

/// So many blocks to others for each one that waits, and none for this one: it starves.
const SHARES: u64 = 10;

/// Who was fed when.
#[derive(Debug)]
pub(super) struct Meals {
    /// Blocks that arrived, in the whole world.
    blocks: u64,
    /// Since when each host has gone without, and how many blocks there had been then.
    without: Vec<(Instant, u64)>,
}

impl Meals {
    pub fn new(hosts: usize) -> Self {
        Self { blocks: 0, without: vec![(Instant::START, 0); hosts] }
    }

    pub fn fed(&mut self, now: Instant, host: HostId) {
        self.blocks += 1;
        self.without[host.0] = (now, self.blocks);
    }
}

impl Checker {
    /// Nobody could give this host anything now, or it wants nothing.
    pub fn content(&mut self, now: Instant, host: HostId) {
        self.meals.without[host.0] = (now, self.meals.blocks);
    }

    /// Whether a host has gone without for this long while the others, of `hungry` in all, were given ten times its share.
    pub fn is_starving(&self, now: Instant, host: HostId, hungry: u64, grace: Duration) -> bool {
        let (since, blocks) = self.meals.without[host.0];
        now - since >= grace && self.meals.blocks - blocks >= SHARES * hungry
    }
}
