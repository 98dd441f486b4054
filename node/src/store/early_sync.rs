//! A file that is made durable while it still grows: whoever syncs it only at its end waits until the disk has all of it.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use super::disk::DiskFile;

/// Bytes after which what is there is synced: some tenths of a second of a cheap disk.
const BATCH_BYTES: u64 = 64 << 20;

/// One sync at a time, on a thread of its own.
#[derive(Debug)]
pub(super) struct EarlySync {
    file: Arc<DiskFile>,
    unsynced: u64,
    under_way: Option<JoinHandle<io::Result<()>>>,
}

impl EarlySync {
    /// Of a file that was just opened.
    pub(super) fn new(file: Arc<DiskFile>) -> Self {
        Self { file, unsynced: 0, under_way: None }
    }

    /// So many bytes more were written. An error is that of a sync before: what was written then may be lost, so all of it is forgotten.
    pub(super) fn wrote(&mut self, bytes: u64) -> io::Result<()> {
        self.unsynced += bytes;
        if self.unsynced < BATCH_BYTES || self.under_way.as_ref().is_some_and(|sync| !sync.is_finished()) {
            return Ok(());
        }
        self.join()?;
        self.unsynced = 0;
        let file = Arc::clone(&self.file);
        self.under_way = Some(Builder::new().name("sync".to_owned()).spawn(move || file.sync())?);
        Ok(())
    }

    /// Everything is written: makes it durable.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.join()?;
        self.file.sync().inspect_err(|_| self.forget())
    }

    fn join(&mut self) -> io::Result<()> {
        let Some(sync) = self.under_way.take() else { return Ok(()) };
        let synced = sync.join().unwrap_or_else(|_| Err(io::Error::other("the syncing thread failed")));
        synced.inspect_err(|_| self.forget())
    }

    /// What could not be made durable is not believed the next time, whatever the system says of it then: it tells an error once.
    fn forget(&self) {
        // The first error is the one to tell of.
        let _ = self.file.set_len(0);
    }
}

impl Drop for EarlySync {
    /// Nobody else would hear of an error.
    fn drop(&mut self) {
        let _ = self.join();
    }
}
