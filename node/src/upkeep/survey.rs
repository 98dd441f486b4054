//! Who else holds a model: those whom the DHT names and those who are connected are asked, each about all that it holds of it. A claim is
//! all that this can bring; who lies here can make a node evict what it could fetch no more.

use std::collections::BTreeMap;
use std::time::Duration;

use p2pweights_protocol::engine::Command;
use p2pweights_protocol::ids::BlobHash;
use tokio::time::{Instant, timeout};

use super::policy::Unit;
use crate::node::Core;

/// How long the DHT may take to name providers.
const LOOKUP: Duration = Duration::from_secs(10);
/// How long providers may take to be reached and to answer.
const ANSWERS: Duration = Duration::from_secs(5);
/// Between two looks at what has been answered.
const LOOK: Duration = Duration::from_millis(100);
/// Providers that are called: one that answers will do.
const CALLED: usize = 8;
/// Blobs asked about: the largest, which are what a model is. A peer is asked about no more than 64 at a time.
const BLOBS: usize = 48;

impl Core {
    /// How many others say that they hold all of it, as far as that can be learned in time.
    pub(super) async fn copies(&self, unit: &Unit, sizes: &BTreeMap<BlobHash, u64>) -> usize {
        let mut blobs: Vec<BlobHash> = unit.blobs.iter().copied().filter(|blob| self.store.is_complete(*blob)).collect();
        blobs.retain(|blob| !self.store.is_empty(*blob));
        blobs.sort_by_key(|blob| std::cmp::Reverse(sizes.get(blob).copied().unwrap_or(0)));
        blobs.truncate(BLOBS);
        if blobs.is_empty() {
            return 0;
        }
        let providers = timeout(LOOKUP, self.driver.providers(unit.hash)).await;
        let mut providers = providers.ok().and_then(Result::ok).unwrap_or_default();
        providers.truncate(CALLED);
        for peer in providers {
            // Not reached is not counted.
            let _ = self.net.dial(peer, Vec::new());
        }
        // What was said while it was fetched is not known any more of everybody, and is old: all are asked anew.
        let _ = self.driver.command(Command::Survey { blobs: blobs.clone(), ends: true }).await;
        let until = Instant::now() + ANSWERS;
        let mut copies = 0;
        while Instant::now() < until {
            // Again and again: those who are connected meanwhile are asked, too, and nobody twice.
            let asked = self.driver.command(Command::Survey { blobs: blobs.clone(), ends: false }).await;
            let Ok(found) = self.driver.copies(blobs.clone()).await else { break };
            copies = found;
            if copies > 0 || asked.is_err() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        // Fails only when the driver has stopped.
        let _ = self.driver.command(Command::Survey { blobs, ends: true }).await;
        copies
    }
}
