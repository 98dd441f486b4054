//! How far a publish is, over the files that are read at the same time, and who is told of it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::report::{FileReading, PublishEvent};
use crate::speed::Speed;
use crate::store::{Published, locked};

/// Progress is told at most once in this time.
const TICK: Duration = Duration::from_millis(200);

/// Counts bytes, and tells.
pub(super) struct Meter<'a> {
    events: &'a mpsc::Sender<PublishEvent>,
    total: u64,
    state: Mutex<State>,
}

struct State {
    /// Bytes of files that are finished.
    finished: u64,
    /// Of which none had to be read.
    known: u64,
    reading: BTreeMap<usize, FileReading>,
    speed: Speed,
    told: Instant,
    stopped: bool,
}

impl<'a> Meter<'a> {
    /// For files of so many bytes in total.
    pub fn new(events: &'a mpsc::Sender<PublishEvent>, total: u64) -> Self {
        let told = Instant::now();
        let mut speed = Speed::default();
        speed.record(told, 0);
        let state = State { finished: 0, known: 0, reading: BTreeMap::new(), speed, told, stopped: false };
        Self { events, total, state: Mutex::new(state) }
    }

    /// A file is begun.
    pub fn begin(&self, file: usize, path: &str, total: u64) {
        locked(&self.state).reading.insert(file, FileReading { path: path.to_owned(), bytes: 0, total });
    }

    /// So much of a file is read; says whether to go on.
    pub fn read(&self, file: usize, bytes: u64) -> ControlFlow<()> {
        let now = Instant::now();
        let mut state = locked(&self.state);
        if let Some(reading) = state.reading.get_mut(&file) {
            reading.bytes = bytes;
        }
        if now.duration_since(state.told) >= TICK {
            state.told = now;
            // A queue that is full has news enough.
            let _ = self.events.try_send(state.progress(now, self.total));
        }
        if state.stopped || self.events.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// A file is published.
    pub fn end(&self, file: usize, published: &Published) {
        let path = {
            let mut state = locked(&self.state);
            state.finished += published.size;
            state.known += if published.read { 0 } else { published.size };
            state.reading.remove(&file).map(|reading| reading.path).unwrap_or_default()
        };
        let &Published { hash, sha256, size, read } = published;
        let sha256 = sha256.map(|sha256| sha256.to_string());
        // Fails only when nobody listens any more, which the next read sees.
        let _ = self.events.blocking_send(PublishEvent::File { path, hash: hash.to_string(), sha256, bytes: size, read });
    }

    /// A file failed: the others need not go on.
    pub fn stop(&self) {
        locked(&self.state).stopped = true;
    }

    /// Whether the rest is in vain.
    pub fn is_stopped(&self) -> bool {
        locked(&self.state).stopped || self.events.is_closed()
    }
}

impl State {
    fn progress(&mut self, now: Instant, total: u64) -> PublishEvent {
        let files: Vec<FileReading> = self.reading.values().cloned().collect();
        let bytes = self.finished + files.iter().map(|file| file.bytes).sum::<u64>();
        self.speed.record(now, bytes - self.known);
        let rate = self.speed.bytes_per_s();
        let eta_s = total.saturating_sub(bytes).checked_div(rate);
        PublishEvent::Progress { bytes, total, rate, eta_s, files }
    }
}

#[cfg(test)]
mod tests {
    use p2pweights_protocol::ids::BlobHash;

    use super::*;

    #[test]
    fn files_read_at_once_add_up_and_what_was_known_is_no_speed() {
        let (events, mut queue) = mpsc::channel(8);
        let meter = Meter::new(&events, 1000);
        let published = |size, read| Published { hash: BlobHash::of(b""), sha256: None, size, read };
        meter.begin(0, "known", 300);
        meter.end(0, &published(300, false));
        meter.begin(1, "one", 400);
        meter.begin(2, "other", 300);
        assert!(meter.read(1, 200).is_continue() && meter.read(2, 100).is_continue());
        assert!(matches!(queue.try_recv(), Ok(PublishEvent::File { path, read: false, .. }) if path == "known"));
        let after = Instant::now() + Duration::from_secs(3);
        let PublishEvent::Progress { bytes, total, rate, eta_s, files } = locked(&meter.state).progress(after, 1000) else {
            panic!("progress is progress")
        };
        assert_eq!((bytes, total, files.len()), (600, 1000, 2));
        assert!((50..=100).contains(&rate) && eta_s.is_some_and(|eta| (4..=8).contains(&eta)), "{rate} {eta_s:?}");
        meter.stop();
        assert!(meter.read(1, 300).is_break());
        drop(queue);
        assert!(Meter::new(&events, 1).is_stopped());
    }
}
