//! `simnet minimise`: the fewest faults, then the fewest hosts and bytes, with which a seed still goes wrong in the same way. Delta
//! debugging: each world that is tried is smaller than the last that failed.

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use p2pweights_simnet::file::{FaultTable, ScenarioFile};

use super::args::MinimiseArguments;
use super::failure::Failure;
use super::output::{Output, grouped};
use super::replay::watched;
use super::source::Source;
use super::trial::{self, Outcome};

/// The smallest blob that is tried, and the step in which blobs get smaller: a block of the smallest size.
const UNIT: u64 = 256 << 10;

/// What must still go wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wrong {
    /// A rule is broken: its words, without the figures in them.
    Rule(String),
    /// A figure misses its bound.
    Figure(String),
}

impl Wrong {
    /// What went wrong first; `None` if nothing did.
    fn of(outcome: &Outcome) -> Option<Self> {
        let rule = outcome.violations.first().map(|line| Self::Rule(words(line)));
        rule.or_else(|| outcome.figures.iter().find(|figure| !figure.met).map(|figure| Self::Figure(figure.name.clone())))
    }

    fn is_in(&self, outcome: &Outcome) -> bool {
        match self {
            Self::Rule(rule) => outcome.violations.iter().any(|line| words(line) == *rule),
            Self::Figure(name) => outcome.figures.iter().any(|figure| figure.name == *name && !figure.met),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Rule(rule) => format!("a rule is broken: {rule}"),
            Self::Figure(name) => format!("{name} misses its bound"),
        }
    }
}

/// What a broken rule says, without host, time and numbers.
fn words(line: &str) -> String {
    let text = line.split_once(": ").map_or(line, |(_, text)| text);
    text.split_whitespace().filter(|word| !word.bytes().any(|byte| byte.is_ascii_digit())).collect::<Vec<_>>().join(" ")
}

/// Tries smaller and smaller worlds.
struct Search {
    best: ScenarioFile,
    wrong: Wrong,
    runs_left: usize,
    output: Output,
    path: PathBuf,
    name: String,
}

impl Search {
    /// Whether this world fails in the same way; then it is the best so far.
    fn still_fails(&mut self, candidate: ScenarioFile) -> Result<bool, Failure> {
        if self.runs_left == 0 || !candidate.is_sound() {
            return Ok(false);
        }
        self.runs_left -= 1;
        let Some((outcome, _)) = trial::run(&candidate, candidate.seed, &mut |_| ControlFlow::Continue(()))? else {
            return Ok(false);
        };
        let fails = self.wrong.is_in(&outcome);
        if fails {
            self.best = candidate;
            self.output.aside(&format!("still fails with {}", measure(&self.best)));
            self.write()?;
        }
        Ok(fails)
    }

    /// Writes the best so far: whoever stops the search has that much.
    fn write(&self) -> Result<(), Failure> {
        let about = format!("{} seed {}, made small: {}", self.name, self.best.seed, self.wrong.describe());
        let named = ScenarioFile { name: format!("{}-seed-{}", self.name, self.best.seed), about, ..self.best.clone() };
        fs::write(&self.path, named.to_toml()).map_err(|error| Failure::writing(&self.path, error))
    }

    /// Leaves out as many faults as can be: none at all, or else ever smaller parts of them.
    fn fewer_faults(&mut self) -> Result<(), Failure> {
        if self.best.fault.is_empty() || self.still_fails(with_faults(&self.best, Vec::new()))? {
            return Ok(());
        }
        let mut parts = 2;
        while parts <= self.best.fault.len() {
            let size = self.best.fault.len().div_ceil(parts);
            parts = match self.leave_a_part_out(size)? {
                true => (parts - 1).max(2),
                false if size == 1 => break,
                false => (parts * 2).min(self.best.fault.len()),
            };
        }
        Ok(())
    }

    /// Leaves so many faults in a row out, if it fails without them; whether there are such.
    fn leave_a_part_out(&mut self, size: usize) -> Result<bool, Failure> {
        let base = self.best.clone();
        for first in (0..base.fault.len()).step_by(size) {
            let mut faults = base.fault.clone();
            faults.drain(first..(first + size).min(base.fault.len()));
            if self.still_fails(with_faults(&base, faults))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes a number as small as can be, given how a world with a smaller one looks.
    fn smaller(&mut self, from: u64, least: u64, with: impl Fn(&ScenarioFile, u64) -> ScenarioFile) -> Result<(), Failure> {
        let (mut now, mut step) = (from, from.saturating_sub(least));
        while step > 0 {
            let candidate = with(&self.best, now - step);
            if self.still_fails(candidate)? {
                now -= step;
                step = step.min(now - least);
            } else {
                step /= 2;
            }
        }
        Ok(())
    }
}

fn with_faults(file: &ScenarioFile, fault: Vec<FaultTable>) -> ScenarioFile {
    ScenarioFile { fault, ..file.clone() }
}

fn measure(file: &ScenarioFile) -> String {
    let hosts: usize = file.group.iter().filter_map(|group| group.count).sum();
    let plural =
        |count: usize, noun: &str| if count == 1 { format!("1 {noun}") } else { format!("{} {noun}s", grouped(count as u64)) };
    format!("{}, {}, {} KiB", plural(file.fault.len(), "fault"), plural(hosts, "host"), grouped(file.largest_blob() / 1024))
}

/// Finds the smallest world, and writes it.
pub fn run(arguments: &MinimiseArguments, output: Output) -> Result<(), Failure> {
    let source = Source::load(&arguments.seed.file, arguments.seed.form.form())?;
    let seed = arguments.seed.seed.unwrap_or(source.file.seed);
    let (outcome, _) = watched(&source, seed, output)?;
    let Some(wrong) = Wrong::of(&outcome) else {
        return Err(Failure::Usage(format!("nothing goes wrong with seed {seed}; give a seed that fails")));
    };
    output.aside(&format!("{}: {}", wrong.describe(), measure(&source.file)));
    let mut file = ScenarioFile { seed, seeds: 1, row: None, ..source.file.clone() };
    if let Wrong::Figure(name) = &wrong {
        let metric = name.split('.').next().unwrap_or(name);
        file.expect.retain(|expected, _| expected == metric);
    }
    let path = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}-seed-{seed}.toml", file.name)));
    let mut search = Search { best: file, wrong, runs_left: arguments.runs, output, path, name: source.file.name.clone() };
    search.write()?;
    search.fewer_faults()?;
    let single = search.best.with_single_faults(seed)?;
    if !single.fault.is_empty() && search.still_fails(single)? {
        search.fewer_faults()?;
    }
    for group in 0..search.best.group.len() {
        if let Some(count) = search.best.group[group].count {
            let with = |file: &ScenarioFile, count| file.with_count(group, usize::try_from(count).unwrap_or(usize::MAX));
            search.smaller(count as u64, 1, with)?;
        }
    }
    let units = search.best.largest_blob().div_ceil(UNIT);
    search.smaller(units, 1, |file, units| file.with_blobs_up_to(units * UNIT))?;
    // Faults that a large world needed a small one may not.
    search.fewer_faults()?;
    tell(&search, arguments.runs - search.runs_left, output)
}

fn tell(search: &Search, used: usize, output: Output) -> Result<(), Failure> {
    let (best, path) = (&search.best, &search.path);
    if output.is_json() {
        return output.json(&serde_json::json!({
            "file": path, "wrong": search.wrong.describe(), "faults": best.fault.len(), "runs": used,
            "hosts": best.group.iter().filter_map(|group| group.count).sum::<usize>(), "largest_blob_bytes": best.largest_blob(),
        }));
    }
    output.line(&format!("{}: {} after {used} runs", search.wrong.describe(), measure(best)))?;
    output.line(&format!("written to {}; again: simnet replay {} --seed {}", path.display(), path.display(), best.seed))
}
