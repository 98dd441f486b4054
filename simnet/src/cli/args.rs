//! The command line as clap reads it: verbs, flags, their help. Knows spellings and what can be checked on the text alone.
// The documentation of each flag is its help text: plain text, where `<seed>` is no HTML.
#![allow(rustdoc::invalid_html_tags)]

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use p2pweights_simnet::file::Form;

const EXAMPLES: &str = "\
Examples:
  simnet run 05-homes --short              a standing scenario in its short form
  simnet run --all --report ./report       all of them at full size: hours
  simnet run my.toml --seeds 1..100        a file of your own, seeds 1 to 99
  simnet replay my.toml --seed 17          what happened before it went wrong
  simnet minimise my.toml --seed 17        the smallest world in which it goes wrong

A FILE is a path, or the name of a standing scenario as `simnet list` prints it.
Exit codes: 0 all bounds are met, 1 one is not or a rule was broken, 2 usage or a bad scenario file, 5 disk.
Ctrl-C ends it at once; what was finished by then has been printed, seed by seed.
The format of scenario files: docs/simnet.md.";

/// Run real engines in virtual time and judge how they do.
#[derive(Debug, Parser)]
#[command(name = "simnet", version, after_help = EXAMPLES, max_term_width = 120, arg_required_else_help = true)]
pub struct Arguments {
    /// Print JSON lines on standard output, and no progress
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

impl Arguments {
    /// Reads the process's arguments.
    pub fn read() -> Result<Self, clap::Error> {
        Self::try_parse()
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run scenarios; prints each bound beside the result of the worst seed
    Run(RunArguments),
    /// List the standing scenarios
    List,
    /// Run one seed again and print what happened before it went wrong
    Replay(ReplayArguments),
    /// Find the fewest faults, hosts and bytes with which a seed still goes wrong, and write them as a scenario file
    Minimise(MinimiseArguments),
    /// Run one seed with this engine and with models of others
    Compare(CompareArguments),
}

/// Which form of a scenario.
#[derive(Debug, Clone, Copy, Args)]
pub struct FormArguments {
    /// The short form: seconds
    #[arg(long, conflicts_with = "full")]
    pub short: bool,
    /// The full form, the default: minutes to hours
    #[arg(long)]
    pub full: bool,
}

impl FormArguments {
    /// Which.
    pub fn form(self) -> Form {
        if self.short { Form::Short } else { Form::Full }
    }
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Scenario files, or names of standing scenarios
    #[arg(value_name = "FILE", required_unless_present = "all", conflicts_with = "all")]
    pub files: Vec<String>,
    /// All standing scenarios
    #[arg(long)]
    pub all: bool,
    /// This seed only
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// These seeds: A..B without B, A..=B with it [default: as many as the file says]
    #[arg(long, value_name = "A..B")]
    pub seeds: Option<Seeds>,
    #[command(flatten)]
    pub form: FormArguments,
    /// Write a report of each run into this folder
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Seeds run at a time [default: one a core]
    #[arg(long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
}

/// One seed of one scenario.
#[derive(Debug, Args)]
pub struct SeedArguments {
    /// A scenario file, or the name of a standing scenario
    #[arg(value_name = "FILE")]
    pub file: String,
    /// The seed [default: the file's first]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    #[command(flatten)]
    pub form: FormArguments,
}

/// `replay`.
#[derive(Debug, Args)]
pub struct ReplayArguments {
    #[command(flatten)]
    pub seed: SeedArguments,
    /// How many of the last lines to print
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub lines: usize,
}

/// `minimise`.
#[derive(Debug, Args)]
pub struct MinimiseArguments {
    #[command(flatten)]
    pub seed: SeedArguments,
    /// Where to write the smallest world [default: <name>-seed-<seed>.toml here]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Worlds to run at most
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub runs: usize,
}

/// `compare`.
#[derive(Debug, Args)]
pub struct CompareArguments {
    #[command(flatten)]
    pub seed: SeedArguments,
}

/// Some seeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeds(pub Range<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no range of seeds; write it like 1..9, or 1..=8");
        let (from, to) = text.split_once("..").ok_or_else(wrong)?;
        let from: u64 = from.trim().parse().map_err(|_| wrong())?;
        let (to, more) = to.strip_prefix('=').map_or((to, 0), |to| (to, 1));
        let to: u64 = to.trim().parse().map_err(|_| wrong())?;
        let to = to.checked_add(more).ok_or_else(wrong)?;
        if from < to {
            Ok(Self(from..to))
        } else {
            Err(format!("{text:?} has no seed in it; the last must not be below the first"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_seeds_are_read() {
        let read = |text: &str| text.parse::<Seeds>().map(|seeds| seeds.0);
        assert_eq!([read("1..9").unwrap(), read("1..=8").unwrap(), read("5..6").unwrap()], [1..9, 1..9, 5..6]);
        for text in ["", "3", "9..1", "1..1", "a..b", "1...3"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }
}
