//! One process owns a store at a time.

use std::fs::TryLockError;
use std::io::Read;

use super::disk::DiskFile;
use super::error::{AtPath, StoreError};
use super::layout::Layout;

/// Held for as long as the store is open; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct ProcessLock {
    _file: DiskFile,
}

impl ProcessLock {
    /// Takes the lock, or says who has it.
    pub(super) fn take(layout: &Layout) -> Result<Self, StoreError> {
        let path = layout.lock();
        let file = layout.disk().open_or_create(&path).at(&path)?;
        match file.file().try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Without a readable number the message is only less helpful.
                let _ = file.file().read_to_string(&mut text);
                return Err(StoreError::InUse { dir: layout.root().to_owned(), pid: text.trim().parse().ok() });
            }
            // Without locks, nothing would keep two nodes apart that both write here.
            Err(TryLockError::Error(source)) => return Err(StoreError::NoLock { dir: layout.root().to_owned(), source }),
        }
        file.set_len(0).at(&path)?;
        file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0).at(&path)?;
        Ok(Self { _file: file })
    }
}
