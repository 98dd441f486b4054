//! When a fetch is killed, and what else happens, drawn from a seed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use p2pweights_protocol::random::Random;

use super::evidence::files;

/// When to kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// So long after the start: starting, finding sources, receiving, syncing.
    After(Duration),
    /// So long after this share of all bytes, in thousandths, was said to be verified.
    AtShare(u64, Duration),
    /// So long after so many files were placed: exporting.
    AtFile(u64, Duration),
    /// So long after it said that it is done: the last sync.
    AtDone(Duration),
}

impl Moment {
    /// Any; most of them while bytes arrive.
    pub fn draw(random: &mut Random) -> Self {
        let then = Duration::from_micros(random.below(60_000));
        match random.below(12) {
            0..=1 => Self::After(Duration::from_micros(random.below(300_000))),
            2..=6 => Self::After(Duration::from_micros(200_000 + random.below(700_000))),
            7 => Self::AtShare(random.below(1000), then),
            8 => Self::AtShare(960 + random.below(40), then),
            9..=10 => Self::AtFile(1 + random.below(44), then),
            _ => Self::AtDone(Duration::from_micros(random.below(30_000))),
        }
    }
}

/// What befalls a source during a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// Which of the two.
    pub source: usize,
    /// When it is killed.
    pub after: Duration,
}

impl Outage {
    /// Now and then.
    pub fn draw(random: &mut Random) -> Option<Self> {
        let (source, after) = (random.below(2) as usize, Duration::from_millis(random.below(700)));
        (random.below(10) == 0).then_some(Self { source, after })
    }
}

/// Now and then, the index is not what it was. Says what was done to it.
pub fn spoil_index(data_dir: &Path, random: &mut Random) -> Option<&'static str> {
    let index = data_dir.join("index");
    let kind = random.below(12);
    let (which, at, byte) = (random.any(), random.any(), random.any() as u8);
    let mut found = files(&index);
    found.sort();
    match kind {
        0 => fs::remove_dir_all(&index).ok().map(|()| "deleted"),
        1 => fs::write(data_dir.join("index.clean"), "3 0 a lie\n").ok().map(|()| "vouched for by a liar"),
        2 | 3 if !found.is_empty() => {
            let path = &found[(which % found.len() as u64) as usize];
            let mut bytes = fs::read(path).ok()?;
            if kind == 2 {
                bytes.truncate(at as usize % (bytes.len() + 1));
            } else if !bytes.is_empty() {
                let at = at as usize % bytes.len();
                bytes[at] ^= byte | 1;
            }
            fs::write(path, bytes).ok().map(|()| if kind == 2 { "torn" } else { "damaged" })
        }
        _ => None,
    }
}
