//! How fast publishing, importing and fetching are and what they cost, as ratios to yardsticks taken in the same rounds: machines are noisy, ratios
//! less so. What each bench does and what came out: `docs/performance.md`.
//!
//! `cargo bench -p p2pweights` runs all of it, `-- --quick` a small form, `-- --help` says the rest.

mod chart;
mod figures;
mod http;
mod hub;
mod lab;
mod machine;
mod process;
mod runs;
mod vices;
mod yardstick;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use crate::figures::Report;
use crate::lab::{Lab, Scale};
use crate::machine::Machine;

const MIB: u64 = 1 << 20;
/// First argument of this program when it plays one end of a yardstick or a hostile source.
const ROLE: &str = "--as";

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome<T = ()> = Result<T, Failure>;

/// Speed, memory and processor time of publishing and fetching, held against their targets.
#[derive(Debug, Parser)]
struct Options {
    /// A small form: one round, 256 MiB
    #[arg(long)]
    quick: bool,
    /// The smallest form, which only shows that everything runs: 8 MiB, no figure means anything
    #[arg(long, conflicts_with = "quick")]
    smoke: bool,
    /// Only these benches; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Measured rounds of each bench [default: 5, in small forms 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rounds: Option<u64>,
    /// Where to work; 30 GiB for all of it, and 130 GiB for the largest file [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Write all figures there, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the targets there, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Name the benches and end
    #[arg(long)]
    list: bool,
    /// What `cargo bench` passes on; changes nothing
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [ROLE, ref role @ ..] => play(role),
        _ => measure(&Options::parse()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play(role: &[&str]) -> Outcome {
    yardstick::play(role)
        .or_else(|| vices::play(role))
        .or_else(|| hub::play(role))
        .or_else(|| http::play(role))
        .unwrap_or_else(|| Err(format!("no role {role:?}").into()))
}

fn measure(options: &Options) -> Outcome {
    if options.list {
        runs::ALL.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    if let Some(unknown) = options.only.iter().find(|only| runs::ALL.iter().all(|(name, _)| name != only)) {
        return Err(format!("there is no bench {unknown}; --list names them").into());
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix("p2pweights-bench-");
    let folder = match &options.folder {
        Some(folder) => builder.tempdir_in(folder)?,
        None => builder.tempdir()?,
    };
    let folder_path = fs::canonicalize(folder.path())?;
    let scale = match options {
        Options { quick: true, .. } => Scale::Quick,
        Options { smoke: true, .. } => Scale::Smoke,
        _ => Scale::Full,
    };
    let rounds = options.rounds.unwrap_or(if let Scale::Full = scale { 5 } else { 1 });
    let lab = Lab::new(&folder_path, rounds as usize, scale);
    let machine = Machine::here(&folder_path);
    println!("{}", machine.line());
    println!(
        "{rounds} rounds after one that is not measured; transfers of {} MiB over loopback, file to file",
        lab.file_bytes() / MIB
    );
    println!("median [least–most], and the median of the ratios taken round by round");

    let mut report = Report::default();
    let mut failures = Vec::new();
    for (name, run) in runs::ALL {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            report.begin(name);
            if let Err(error) = run(&lab, &mut report) {
                println!("  FAILED: {error}");
                failures.push(format!("{name}: {error}"));
            }
        }
    }
    println!("\n{}", report.table());
    if let Some(path) = &options.json {
        let all = json!({
            "machine": machine, "rounds": rounds, "file_bytes": lab.file_bytes(),
            "report": report, "failures": failures,
        });
        fs::write(path, format!("{all:#}\n"))?;
    }
    if let Some(path) = &options.svg {
        fs::write(path, chart::svg(&report.targets, &machine.caption()))?;
    }
    if failures.is_empty() { Ok(()) } else { Err(format!("{} of the benches failed", failures.len()).into()) }
}
