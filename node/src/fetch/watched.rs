//! The blobs that the driver watches for one fetch.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use p2pweights_protocol::ids::BlobHash;

use super::stopped;
use crate::driver::DriverHandle;
use crate::report::Failure;

/// Blobs watched for one fetch.
pub(super) struct Watched<'a> {
    driver: &'a DriverHandle,
    blobs: Mutex<BTreeSet<BlobHash>>,
}

impl<'a> Watched<'a> {
    /// None yet.
    pub(super) fn start(driver: &'a DriverHandle) -> Self {
        Self { driver, blobs: Default::default() }
    }

    /// Watches these, too.
    pub(super) async fn add(&self, blobs: &[BlobHash]) -> Result<(), Failure> {
        let new: Vec<BlobHash> = {
            let mut known = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
            blobs.iter().filter(|blob| known.insert(**blob)).copied().collect()
        };
        self.driver.watch(new).await.map_err(stopped)
    }

    /// Watches none any more, and makes durable what has arrived.
    pub(super) async fn end(self) {
        let blobs: Vec<BlobHash> = self.blobs.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect();
        // Fails only when the driver has stopped, and then nothing is watched.
        let _ = self.driver.unwatch(blobs.clone()).await;
        let _ = self.driver.release(blobs).await;
    }
}
