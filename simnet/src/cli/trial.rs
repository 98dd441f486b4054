//! One seed of one scenario: run, measured, judged.

use std::fs;
use std::ops::ControlFlow;
use std::time::Instant;

use p2pweights_simnet::expect::{Cost, Evidence, Yardstick};
use p2pweights_simnet::file::{FileError, Form, ScenarioFile};
use p2pweights_simnet::pages::{self, Facts, RunRecord};
use p2pweights_simnet::{Progress, Report, Violation, World};
use serde::Serialize;

use super::source::Source;

/// Pieces that are gone and named one by one; of more, only the number is told.
const NAMED: usize = 8;

/// A bound, and the figure of one run.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// Its name.
    pub name: String,
    /// The bound.
    pub target: String,
    /// The figure, in its unit.
    pub result: String,
    /// The figure in millionths; none if there is none.
    pub millionths: Option<u64>,
    /// Whether it meets the bound.
    pub met: bool,
}

/// What is kept of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Every bound that the file sets, in its order.
    pub figures: Vec<Figure>,
    /// Rules that were broken.
    pub violations: Vec<String>,
    /// Pieces that are gone, and of which blob.
    pub gone: Vec<String>,
    /// Stopped because too much happened.
    pub storm: bool,
    /// Fetchers that finished.
    pub finished: usize,
    /// Fetchers.
    pub fetchers: usize,
    /// When the last one finished, in virtual seconds; none if one did not.
    pub last_s: Option<f64>,
    /// The bound that no protocol can beat, in virtual seconds.
    pub bound_s: f64,
    /// Blocks asked for.
    pub transfers: u64,
    /// How much happened.
    pub events: u64,
    /// How long the run took on this machine, in seconds.
    pub wall_s: f64,
    /// One number for all that happened.
    pub digest: String,
}

impl Outcome {
    /// Whether no rule was broken and there was no storm; bounds are another matter.
    pub fn is_lawful(&self) -> bool {
        self.violations.is_empty() && !self.storm
    }

    /// Whether this run, by itself, is as it should be.
    pub fn passed(&self) -> bool {
        self.is_lawful() && self.figures.iter().all(|figure| figure.met)
    }
}

/// A broken rule as one line.
pub fn rule_line(violation: &Violation) -> String {
    format!("{:?} at {:?}: {} ({})", violation.host, violation.at, violation.what, violation.rule)
}

/// Runs a seed. The report is there for whoever wants more than what is kept; `None` if the watcher stopped it.
pub fn run(
    file: &ScenarioFile,
    seed: u64,
    watch: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Option<(Outcome, Report)>, FileError> {
    let scenario = file.scenario(seed)?;
    let wanted = file.wanted_figures();
    let yardstick = Yardstick::of(&scenario, &wanted);
    let began = Instant::now();
    let mut stopped = false;
    let report = World::run_with(scenario, &mut |progress| {
        let flow = watch(progress);
        stopped |= flow.is_break();
        flow
    });
    if stopped {
        return Ok(None);
    }
    let cost = Cost { wall: began.elapsed(), peak_bytes: peak_bytes() };
    let evidence = Evidence { report: &report, yardstick, cost: Some(cost) };
    let figures = wanted.iter().map(|wanted| {
        let value = wanted.value(&evidence);
        Figure {
            name: wanted.name(),
            target: wanted.expectation.to_string(),
            result: wanted.show(value),
            millionths: value,
            met: wanted.expectation.is_met(value),
        }
    });
    let figures: Vec<Figure> = figures.collect();
    let allowed = figures.iter().any(|figure| figure.name == "violations" && figure.met);
    let broken = if allowed { &[] } else { &report.violations[..] };
    let outcome = Outcome {
        seed,
        figures,
        violations: broken.iter().map(rule_line).collect(),
        gone: gone(&report),
        storm: report.ran_out_of_events,
        finished: report.fetchers.iter().filter(|host| report.hosts[host.0].finished_at.is_some()).count(),
        fetchers: report.fetchers.len(),
        last_s: report.last_finish().map(|last| last.as_secs_f64()),
        bound_s: report.bound.as_secs_f64(),
        transfers: report.traffic.requests,
        events: report.events,
        wall_s: cost.wall.as_secs_f64(),
        digest: format!("{:016x}", report.digest),
    };
    Ok(Some((outcome, report)))
}

fn gone(report: &Report) -> Vec<String> {
    let pieces = report.gone_pieces.iter();
    let mut named: Vec<String> =
        pieces.take(NAMED).map(|(blob, piece)| format!("piece {piece} of {}", short(&format!("{blob:?}")))).collect();
    if report.gone_pieces.len() > NAMED {
        named.push(format!("and {} more", report.gone_pieces.len() - NAMED));
    }
    named
}

fn short(name: &str) -> String {
    name.chars().take(20).collect()
}

/// Most memory that this process has held, as Linux tells it; 0 elsewhere.
fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// What pages show of a run.
pub fn record(source: &Source, outcome: &Outcome, report: &Report) -> RunRecord {
    let facts = Facts {
        name: source.file.name.clone(),
        row: source.file.row,
        about: source.file.about.clone(),
        seed: outcome.seed,
        full: source.form == Form::Full,
        command: source.command("run", outcome.seed),
    };
    let wanted = source.file.wanted_figures();
    let expectations = wanted.iter().zip(&outcome.figures).map(|(wanted, figure)| pages::Expectation {
        name: figure.name.clone(),
        target: figure.target.clone(),
        result: figure.result.clone(),
        passed: figure.met,
        limit_permille: wanted.expectation.at_most().filter(|_| wanted.metric.is_completion()).map(|most| most / 1000),
        badness: figure.millionths.map(|value| wanted.expectation.badness(value)),
    });
    RunRecord::of(facts, report, expectations.collect())
}
