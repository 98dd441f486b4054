//! Scenario files: from TOML to a [`Scenario`], and back for those that are written by the program. Errors name file, line and key. Reads
//! text, not the disk; all keys are listed in `docs/simnet.md`.
//!
//! From the ground up: `either place merge` ← `tables` ← `arrivals befalling refuse` ← `build` ← `singling standing`.

mod arrivals;
mod befalling;
mod build;
mod either;
mod merge;
mod place;
mod refuse;
mod singling;
mod standing;
mod tables;

use p2pweights_protocol::geometry::{GROUP_BYTES, Geometry};
use p2pweights_protocol::limits;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use crate::scenario::Scenario;
use place::{Step, key_of, line_at, offset_of, path_at};

pub use either::Either;
pub use standing::STANDING;
pub use tables::*;

/// In which size a scenario is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// As the file says.
    Full,
    /// With what stands under `[short]` laid over it; the same as full where nothing does.
    Short,
}

/// Something in a scenario file is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}, line {line}: {}{message}", if key.is_empty() { String::new() } else { format!("`{key}`: ") })]
pub struct FileError {
    /// Which file.
    pub file: String,
    /// Its line, counted from 1.
    pub line: usize,
    /// The key, with those around it; empty if the text is no TOML.
    pub key: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// What is wrong, where: a path of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    path: Vec<Step>,
    message: String,
}

impl Wrong {
    fn at<const N: usize>(path: [Step; N], message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl ScenarioFile {
    /// Reads a scenario in one of its forms. `file` is what errors call it. Both forms are checked, whichever is wanted.
    pub fn parse(file: &str, text: &str, form: Form) -> Result<Self, FileError> {
        let full = Self::read(file, text, Form::Full)?;
        let short = Self::read(file, text, Form::Short)?;
        Ok(if form == Form::Full { full } else { short })
    }

    fn read(file: &str, text: &str, form: Form) -> Result<Self, FileError> {
        let fault = |place: usize, key: String, message: String| FileError {
            file: file.into(),
            line: line_at(text, place),
            key,
            message,
        };
        let place = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
        let root = DeTable::parse(text).map_err(|error| fault(place(&error), String::new(), error.message().to_owned()))?;
        let span = root.span();
        let mut table = root.into_inner();
        if let Some(short) = table.remove("short") {
            let at = short.span().start;
            match short.into_inner() {
                DeValue::Table(short) if form == Form::Short => merge::lay_over(&mut table, short),
                DeValue::Table(_) => (),
                _ => {
                    return Err(fault(
                        at,
                        "short".into(),
                        "must be a table: write [short] and the keys that differ below it".into(),
                    ));
                }
            }
        }
        let read = Self::deserialize(Deserializer::from(Spanned::new(span, table.clone())));
        let parsed = read.map_err(|error| {
            let at = place(&error);
            fault(at, key_of(&path_at(&table, at)), helpful(error.message()))
        })?;
        let wrong = |wrong: Wrong| fault(offset_of(&table, &wrong.path), key_of(&wrong.path), wrong.message);
        parsed.expectations().map_err(wrong)?;
        parsed.check().map_err(wrong)?;
        // Only the world itself shows that somebody can finish: a small part of the work of running it.
        parsed.build(parsed.seed).map_err(wrong)?;
        Ok(parsed)
    }

    /// The world of a seed.
    ///
    /// # Errors
    ///
    /// For a file that was changed since it was read, if it makes no sense any more; the line is unknown then.
    pub fn scenario(&self, seed: u64) -> Result<Scenario, FileError> {
        self.build(seed).map_err(|wrong| FileError {
            file: self.name.clone(),
            line: 0,
            key: key_of(&wrong.path),
            message: wrong.message,
        })
    }

    /// Blocks that the world transfers at least, about: as large as the uplinks of its fetchers, on average, make them.
    pub fn transfers(&self) -> u64 {
        let Ok(scenario) = self.build(self.seed) else { return 0 };
        let fetchers = scenario.awaited();
        let rates: u64 = scenario.hosts.iter().map(|plan| plan.link.up_bytes_per_s).sum();
        let rate = rates / (scenario.hosts.len() as u64).max(1);
        let blocks =
            fetchers.iter().flat_map(|host| scenario.blobs_of(*host)).map(|(_, size)| size.div_ceil(block_bytes(size, rate)));
        blocks.sum()
    }

    /// The file's text.
    pub fn to_toml(&self) -> String {
        // Tables are written after plain values by their order in `ScenarioFile`; nothing in them has no form in TOML.
        toml::to_string(self).expect("a scenario file can be written as TOML")
    }
}

/// How large the blocks of a blob are over an uplink of this rate: the engine's rule, as far as it follows from these two.
fn block_bytes(size: u64, bytes_per_s: u64) -> u64 {
    let piece = Geometry::of(size).piece_groups() * GROUP_BYTES;
    let coarse = (piece / 2).min(bytes_per_s / 2);
    let wanted = (bytes_per_s / 125).max(coarse);
    1 << wanted.clamp(limits::BLOCK_MIN_BYTES.into(), limits::BLOCK_MAX_BYTES.into()).ilog2()
}

/// Serde's words for an unknown key or word, with the nearest one that is known.
fn helpful(message: &str) -> String {
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let (true, Some((wrong, known))) = (unknown, names.split_first()) else { return message.to_owned() };
    let what = if message.starts_with("unknown field") { "key" } else { "word" };
    let hint = nearest(wrong, known).map_or_else(|| ";".to_owned(), |near| format!("; did you mean `{near}`?"));
    format!("unknown {what} `{wrong}`{hint} known here: {}", known.join(", "))
}

/// The name that takes the fewest changes to become.
pub(crate) fn nearest<'a>(wrong: &str, known: &[&'a str]) -> Option<&'a str> {
    known.iter().copied().min_by_key(|name| distance(wrong, name)).filter(|name| distance(wrong, name) <= 1 + name.len() / 3)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            let cheapest = changed.min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cheapest);
        }
    }
    row[b.len()]
}
