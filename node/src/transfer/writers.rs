//! The blobs being filled: one open writer each, for as long as something of it is fetched.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::verify::Feed;
use p2pweights_protocol::wire::BulkRequest;

use super::locked;
use crate::store::{BlobWriter, Receipt, Store, StoreError};

/// Open writers by blob.
#[derive(Debug)]
pub struct Writers {
    store: Store,
    open: Mutex<BTreeMap<BlobHash, Arc<BlobWriter>>>,
}

impl Writers {
    /// None yet.
    pub fn new(store: Store) -> Self {
        Self { store, open: Mutex::default() }
    }

    /// The writer of a blob, opened if need be. Touches the disk: for blocking threads.
    pub fn writer(&self, blob: BlobHash, size: u64) -> Result<Arc<BlobWriter>, StoreError> {
        if let Some(writer) = locked(&self.open).get(&blob) {
            return Ok(Arc::clone(writer));
        }
        // Two threads may get here at once; the store gives both the same writer.
        let writer = self.store.writer(blob, size)?;
        locked(&self.open).insert(blob, Arc::clone(&writer));
        Ok(writer)
    }

    /// Receives a span of a blob: a small one that comes whole is kept by the store, anything else goes to its writer. Touches the disk:
    /// for blocking threads.
    pub fn receive(&self, request: &BulkRequest, feed: &mut impl Feed) -> Result<Receipt, StoreError> {
        let BulkRequest { blob, size, span, .. } = *request;
        if self.store.takes_small(blob, size, span) {
            return Ok(self.store.receive_small(blob, size, feed));
        }
        Ok(self.writer(blob, size)?.receive(span, feed))
    }

    /// The writers open now.
    pub fn all(&self) -> Vec<Arc<BlobWriter>> {
        locked(&self.open).values().cloned().collect()
    }

    /// The writer of a blob, if it is open.
    pub fn opened(&self, blob: BlobHash) -> Option<Arc<BlobWriter>> {
        locked(&self.open).get(&blob).cloned()
    }

    /// Closes a writer, once its last user lets go.
    pub fn close(&self, blob: BlobHash) {
        locked(&self.open).remove(&blob);
    }
}
