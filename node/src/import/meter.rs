//! How far an import is, over the files that come at the same time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use crate::report::{FileReading, ImportEvent};
use crate::speed::Speed;
use crate::store::locked;

/// Counts bytes.
pub(super) struct Meter {
    total: u64,
    state: Mutex<State>,
}

struct State {
    /// Bytes of files that are here.
    finished: u64,
    /// Bytes that came over the network.
    fetched: u64,
    coming: BTreeMap<usize, FileReading>,
    speed: Speed,
}

impl Meter {
    /// For so many bytes, of which some are here.
    pub(super) fn new(total: u64, held: u64) -> Self {
        let mut speed = Speed::default();
        speed.record(Instant::now(), 0);
        Self { total, state: Mutex::new(State { finished: held, fetched: 0, coming: BTreeMap::new(), speed }) }
    }

    /// A file is begun, of which so much is here.
    pub(super) fn begin(&self, file: usize, path: &str, bytes: u64, total: u64) {
        locked(&self.state).coming.insert(file, FileReading { path: path.to_owned(), bytes, total });
    }

    /// Bytes of a file came.
    pub(super) fn came(&self, file: usize, bytes: u64) {
        let mut state = locked(&self.state);
        state.fetched += bytes;
        if let Some(coming) = state.coming.get_mut(&file) {
            coming.bytes += bytes;
        }
    }

    /// All of a file is here.
    pub(super) fn end(&self, file: usize, bytes: u64) {
        let mut state = locked(&self.state);
        state.coming.remove(&file);
        state.finished += bytes;
    }

    /// Bytes that came over the network.
    pub(super) fn fetched(&self) -> u64 {
        locked(&self.state).fetched
    }

    /// What to tell now.
    pub(super) fn progress(&self) -> ImportEvent {
        let mut state = locked(&self.state);
        let state = &mut *state;
        state.speed.record(Instant::now(), state.fetched);
        let files: Vec<FileReading> = state.coming.values().cloned().collect();
        let bytes = state.finished + files.iter().map(|file| file.bytes).sum::<u64>();
        let rate = state.speed.bytes_per_s();
        ImportEvent::Progress { bytes, total: self.total, rate, eta_s: self.total.saturating_sub(bytes).checked_div(rate), files }
    }
}
