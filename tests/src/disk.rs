//! What a folder takes on the disk, counted as `du` does and without any code of the store's.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Allocated bytes of everything below a folder, itself included. A file counts once, also if it is renamed meanwhile.
pub fn du(folder: &Path) -> u64 {
    let mut seen = BTreeSet::new();
    let mut bytes = 0;
    let mut paths = vec![folder.to_owned()];
    while let Some(path) = paths.pop() {
        // What goes away while it is looked at takes no room.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if seen.insert(metadata.ino()) {
            bytes += metadata.blocks() * 512;
        }
        if metadata.is_dir() {
            paths.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    bytes
}

/// Counts again and again, until it is asked for the most that it saw.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u64, usize)>,
}

impl Watch {
    /// Begins.
    pub fn start(folder: &Path) -> Self {
        let (stop, folder) = (Arc::new(AtomicBool::new(false)), folder.to_owned());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut most, mut looks) = (0, 0);
            while !stopped.load(Ordering::Relaxed) {
                most = most.max(du(&folder));
                looks += 1;
            }
            (most, looks)
        });
        Self { stop, thread }
    }

    /// The most bytes seen, and how often it looked.
    pub fn most(self) -> (u64, usize) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("counting does not fail")
    }
}
