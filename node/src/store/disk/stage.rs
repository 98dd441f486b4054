//! Tests only: what a test may do to the disk under a store.

mod brake;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Verb;
pub(crate) use brake::Brake;

/// A disk that does what a test wants.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    /// How fast payload is written.
    pub(crate) brake: Brake,
    /// Nothing can be made durable.
    pub(crate) fail_syncs: AtomicBool,
}

impl Stage {
    pub(super) fn act<T>(&self, verb: &Verb<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match verb {
            Verb::Write { file, bytes, .. } if file.path.extension().is_some_and(|part| part == "data") => {
                self.brake.pass(bytes.len() as u64);
            }
            Verb::Sync { .. } | Verb::SyncPath { .. } | Verb::SyncFileSystem if self.fail_syncs.load(Ordering::Relaxed) => {
                return Err(io::ErrorKind::Other.into());
            }
            _ => {}
        }
        act()
    }
}
