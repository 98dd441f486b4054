//! A scenario's seeds put together: each bound beside the result of the worst seed, and what went wrong.

use std::time::Duration;

use p2pweights_simnet::expect::Wanted;
use p2pweights_simnet::file::Form;
use serde::Serialize;

use super::output::{duration, grouped};
use super::source::Source;
use super::trial::Outcome;

/// The columns of the table of results.
pub const TITLES: [&str; 10] =
    [">row", "scenario", "figure", "target", ">result", ">seed", "verdict", ">transfers", ">wall", ">µs/transfer"];
/// Seeds whose trouble is told in full; of more, one line each would bury the rest.
const TOLD: usize = 3;

/// A bound, over all seeds.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The figure's name.
    pub figure: String,
    /// The bound.
    pub target: String,
    /// The worst result.
    pub result: String,
    /// Its seed.
    pub worst_seed: u64,
    /// Whether enough seeds meet the bound.
    pub met: bool,
}

/// A scenario's seeds put together.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "summary")]
pub struct Summary {
    /// The scenario.
    pub scenario: String,
    /// Its row in the table of targets.
    pub row: Option<u32>,
    /// Its form.
    pub form: &'static str,
    /// Whether all is as it should be.
    pub passed: bool,
    /// Every bound.
    pub figures: Vec<Line>,
    /// Blocks asked for, in all seeds.
    pub transfers: u64,
    /// The time of all runs, in seconds.
    pub wall_s: f64,
    /// Every seed.
    pub seeds: Vec<Outcome>,
    #[serde(skip)]
    again: Vec<String>,
}

impl Summary {
    /// Of a scenario's outcomes, of which there is one at least.
    pub fn of(source: &Source, seeds: Vec<Outcome>) -> Self {
        let wanted = source.file.wanted_figures();
        let figures: Vec<Line> = wanted.iter().enumerate().map(|(place, wanted)| line(wanted, place, &seeds)).collect();
        let lawful = seeds.iter().all(Outcome::is_lawful);
        let failed = |outcome: &&Outcome| !outcome.passed();
        Self {
            scenario: source.file.name.clone(),
            row: source.file.row,
            form: if source.form == Form::Short { "short" } else { "full" },
            passed: lawful && figures.iter().all(|line| line.met),
            figures,
            transfers: seeds.iter().map(|outcome| outcome.transfers).sum(),
            wall_s: seeds.iter().map(|outcome| outcome.wall_s).sum(),
            again: seeds.iter().filter(failed).map(|outcome| source.command("replay", outcome.seed)).collect(),
            seeds,
        }
    }

    /// Its rows of the table.
    pub fn rows(&self) -> Vec<[String; TITLES.len()]> {
        let row = self.row.map_or_else(String::new, |row| row.to_string());
        // Nanoseconds, so that nothing needs to be counted in fractions.
        let wall = Duration::from_secs_f64(self.wall_s);
        let each = wall.as_nanos() / 10 / u128::from(self.transfers.max(1));
        let cost = [grouped(self.transfers), duration(wall), format!("{}.{:02}", each / 100, each % 100)];
        let mut lines = self.figures.clone();
        if lines.is_empty() {
            let result = if self.passed { "none" } else { "broken" };
            let seed = self.seeds.first().map_or(0, |outcome| outcome.seed);
            lines.push(Line {
                figure: "rules".into(),
                target: "none broken".into(),
                result: result.into(),
                worst_seed: seed,
                met: self.passed,
            });
        }
        let rows = lines.into_iter().enumerate().map(|(place, line)| {
            let first = |text: &str| if place == 0 { text.to_owned() } else { String::new() };
            [
                first(&row),
                first(&self.scenario),
                line.figure,
                line.target,
                line.result,
                line.worst_seed.to_string(),
                (if line.met { "ok" } else { "MISSED" }).into(),
                first(&cost[0]),
                first(&cost[1]),
                first(&cost[2]),
            ]
        });
        rows.collect()
    }

    /// What went wrong, and how to look at it; nothing if nothing did.
    pub fn troubles(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for outcome in self.seeds.iter().filter(|outcome| !outcome.passed()).take(TOLD) {
            let seed = outcome.seed;
            lines.extend(outcome.violations.iter().take(TOLD).map(|rule| format!("  seed {seed}: a rule was broken: {rule}")));
            if !outcome.gone.is_empty() {
                lines.push(format!("  seed {seed}: bytes are gone for good: {}", outcome.gone.join(", ")));
            }
            if outcome.storm {
                lines.push(format!(
                    "  seed {seed}: stopped after {} events; raise `max_events` if that is no storm",
                    grouped(outcome.events)
                ));
            }
            if outcome.finished < outcome.fetchers {
                let left = outcome.fetchers - outcome.finished;
                lines.push(format!(
                    "  seed {seed}: {} of {} never finished",
                    grouped(left as u64),
                    grouped(outcome.fetchers as u64)
                ));
            }
        }
        if let (false, Some(again)) = (self.passed, self.again.first()) {
            lines.push(format!("  again: {again}"));
        }
        lines
    }
}

fn line(wanted: &Wanted, place: usize, seeds: &[Outcome]) -> Line {
    let mut worst: Option<&Outcome> = None;
    let value = |outcome: &Outcome| outcome.figures.get(place).and_then(|figure| figure.millionths);
    for outcome in seeds {
        let is_worse = worst.is_none_or(|worst| {
            let (old, new) = (value(worst), value(outcome));
            new != old && wanted.expectation.worse(old, new) == new
        });
        if is_worse {
            worst = Some(outcome);
        }
    }
    let met = seeds.iter().filter(|outcome| wanted.expectation.is_met(value(outcome))).count();
    Line {
        figure: wanted.name(),
        target: wanted.expectation.to_string(),
        result: wanted.show(worst.and_then(value)),
        worst_seed: worst.map_or(0, |outcome| outcome.seed),
        met: wanted.expectation.is_met_by(met, seeds.len()),
    }
}
