//! `<data-dir>/scrub.json`: where the scrub stands and what was found ever. Losing it costs reading again, no more.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::round::Round;
use crate::report::{DamageCount, ScrubReport};
use crate::store::locked;

const NAME: &str = "scrub.json";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct Saved {
    round: Round,
    ever: DamageCount,
}

#[derive(Debug)]
struct State {
    saved: Saved,
    since_start: DamageCount,
}

/// What the scrub, and whoever else finds or mends damage, write down together.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    state: Mutex<State>,
    /// One writes the file at a time.
    writing: Mutex<()>,
}

/// Seconds since 1970 by the system's clock; before that, 0.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Record {
    /// Reads the record of a data dir; one that is missing or unreadable begins anew.
    pub fn open(data_dir: &Path) -> Self {
        let path = data_dir.join(NAME);
        let saved = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                warn!(path = %path.display(), %error, "the scrub's record is unreadable; it begins anew");
                Saved::default()
            }),
            Err(_) => Saved::default(),
        };
        Self { path, state: Mutex::new(State { saved, since_start: DamageCount::default() }), writing: Mutex::new(()) }
    }

    /// Looks at where the scrub stands, or changes it.
    pub fn round<T>(&self, change: impl FnOnce(&mut Round) -> T) -> T {
        change(&mut locked(&self.state).saved.round)
    }

    /// Takes note of damage found or mended.
    pub fn count(&self, found: DamageCount) {
        let mut state = locked(&self.state);
        let State { saved, since_start } = &mut *state;
        for count in [since_start, &mut saved.ever] {
            count.damaged += found.damaged;
            count.mended += found.mended;
            count.outboards += found.outboards;
        }
    }

    /// Writes it down, whole or not at all. Touches the disk.
    pub fn save(&self) {
        let _one_at_a_time = locked(&self.writing);
        let saved = locked(&self.state).saved;
        if let Err(error) = self.write(&saved) {
            warn!(path = %self.path.display(), %error, "the scrub's record is not written; after a restart it reads some again");
        }
    }

    fn write(&self, saved: &Saved) -> io::Result<()> {
        let temp = self.path.with_extension("json.new");
        let mut file = File::create(&temp)?;
        file.write_all(&serde_json::to_vec_pretty(saved).map_err(io::Error::other)?)?;
        file.sync_data()?;
        fs::rename(temp, &self.path)
    }

    /// What is told of it, with nothing said of settings and of the store.
    pub fn report(&self) -> ScrubReport {
        let state = locked(&self.state);
        let Round { began_s, finished_s, cycle } = state.saved.round;
        ScrubReport {
            last_cycle_s: finished_s,
            cycle_began_s: cycle.and(began_s),
            checked: cycle.map_or(0, |cycle| cycle.checked_bytes),
            since_start: state.since_start,
            ever: state.saved.ever,
            ..ScrubReport::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back_and_what_is_torn_begins_anew() {
        let dir = tempfile::tempdir().expect("temp dir");
        let record = Record::open(dir.path());
        record.round(|round| round.began_s = Some(7));
        record.count(DamageCount { damaged: 3, mended: 2, outboards: 1 });
        record.save();
        let again = Record::open(dir.path());
        let report = again.report();
        assert_eq!((report.ever.damaged, report.ever.mended, report.ever.outboards), (3, 2, 1));
        assert_eq!(report.since_start, DamageCount::default());
        assert_eq!(again.round(|round| round.began_s), Some(7));
        let text = fs::read(dir.path().join(NAME)).expect("it is there");
        for cut in [0, 1, text.len() / 2] {
            fs::write(dir.path().join(NAME), &text[..cut]).expect("written");
            assert_eq!(Record::open(dir.path()).round(|round| *round), Round::default());
        }
    }
}
