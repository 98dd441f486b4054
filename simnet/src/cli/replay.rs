//! `simnet replay`: one seed again, and what happened before it went wrong. The first run finds the moment, the second keeps the lines.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use p2pweights_protocol::time::Instant;
use p2pweights_simnet::{Progress, Report, World, flight};

use super::args::ReplayArguments;
use super::failure::Failure;
use super::output::{Output, duration, grouped};
use super::progress::Show;
use super::source::Source;
use super::trial::{self, Outcome, rule_line};

/// What the flight log of a real node begins with.
const FLIGHT: &[u8] = b"{\"flight\"";

/// Replays a seed of a scenario, or the flight log of a node.
pub fn run(arguments: &ReplayArguments, output: Output) -> Result<(), Failure> {
    let given = &arguments.seed.file;
    if let Some(log) = flight_log(Path::new(given)) {
        return flight(given, log, output);
    }
    let source = Source::load(given, arguments.seed.form.form())?;
    let seed = arguments.seed.seed.unwrap_or(source.file.seed);
    let (outcome, report) = watched(&source, seed, output)?;
    let why = why(&outcome, &report);
    let mut scenario = source.file.scenario(seed)?;
    scenario.keep_lines = arguments.lines;
    if let Some(violation) = report.violations.first() {
        scenario.until = scenario.until.min(violation.at - Instant::START);
    }
    let again = World::run(scenario);
    if output.is_json() {
        return output.json(&serde_json::json!({ "outcome": outcome, "why": why, "lines": again.lines }));
    }
    again.lines.iter().try_for_each(|line| output.line(line))?;
    output.line("")?;
    why.iter().try_for_each(|line| output.line(line))?;
    output.line(&format!("seed {seed}, digest {}; {} transfers", outcome.digest, outcome.transfers))
}

/// The log, if the file is one. What can't be opened is reported by whoever takes it for a scenario.
fn flight_log(path: &Path) -> Option<BufReader<File>> {
    let mut log = BufReader::new(File::open(path).ok()?);
    log.fill_buf().ok()?.starts_with(FLIGHT).then_some(log)
}

/// A flight log is gone through again on a bare engine.
fn flight(given: &str, log: BufReader<File>, output: Output) -> Result<(), Failure> {
    let replay = flight::replay(log).map_err(|error| {
        let source = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
        Failure::Usage(format!("{given}: {error}{source}"))
    })?;
    let difference = replay.difference.as_ref().map(ToString::to_string);
    if output.is_json() {
        output.json(&serde_json::json!({ "steps": replay.steps, "difference": difference }))?;
    } else {
        output.line(&format!("{} facts until {:?}, engine of {}", grouped(replay.steps), replay.until, replay.header.program))?;
        output.line(difference.as_deref().unwrap_or("the same wishes at every step"))?;
    }
    match difference {
        None => Ok(()),
        Some(_) => Err(Failure::Missed("this engine decides otherwise than the one that flew".into())),
    }
}

/// Runs a seed with its progress shown.
pub fn watched(source: &Source, seed: u64, output: Output) -> Result<(Outcome, Report), Failure> {
    let mut show = Show::new(output, 1);
    show.begin(0, format!("{} seed {seed}", source.file.name));
    let ended = trial::run(&source.file, seed, &mut |progress: &Progress| {
        show.at(0, progress);
        ControlFlow::Continue(())
    });
    show.end(0);
    // Only a watcher that says so ends a world early.
    Ok(ended?.expect("it ran to its end"))
}

/// What went wrong, or that nothing did.
fn why(outcome: &Outcome, report: &Report) -> Vec<String> {
    let mut lines: Vec<String> = report.violations.iter().map(|rule| format!("a rule was broken: {}", rule_line(rule))).collect();
    let missed = outcome.figures.iter().filter(|figure| !figure.met);
    lines.extend(missed.map(|figure| format!("{} is {}, and should be {}", figure.name, figure.result, figure.target)));
    if !outcome.gone.is_empty() {
        lines.push(format!("bytes are gone for good: {}", outcome.gone.join(", ")));
    }
    if outcome.storm {
        lines.push("stopped because too much happened".into());
    }
    if lines.is_empty() {
        let last = outcome.last_s.map(|last| duration(Duration::from_secs_f64(last)));
        let last = last.map_or_else(String::new, |last| format!("; the last finished after {last}"));
        lines.push(format!("nothing went wrong{last}"));
    }
    lines
}
