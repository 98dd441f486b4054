//! The benches, one noun a file.

mod bad_sources;
mod gateway;
mod idle;
mod import;
mod memory;
mod partial_sources;
mod publish;
mod restart;
mod resume;
mod small_files;
mod transfers;

use crate::Outcome;
use crate::figures::Report;
use crate::lab::Lab;

/// Measures, and puts what it found into the report.
pub type Run = fn(&Lab, &mut Report) -> Outcome;

/// All benches, in the order in which they are run.
pub const ALL: [(&str, Run); 13] = [
    ("publish", publish::run),
    ("import", import::run),
    ("one-to-one", transfers::one_to_one),
    ("four-to-one", transfers::four_to_one),
    ("one-to-four", transfers::one_to_four),
    ("partial-sources", partial_sources::run),
    ("resume", resume::run),
    ("small-files", small_files::run),
    ("bad-sources", bad_sources::run),
    ("restart", restart::run),
    ("gateway", gateway::run),
    ("memory", memory::run),
    ("idle", idle::run),
];

/// Bytes a second, in MB.
fn rate(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 / seconds / 1e6
}

/// Bytes, in MB.
fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// One column of what the rounds brought.
fn column<T>(rounds: &[T], pick: impl Fn(&T) -> f64) -> Vec<f64> {
    rounds.iter().map(pick).collect()
}
