//! `simnet minimise`: the fewest faults, then the fewest hosts and bytes, with which a seed still goes wrong in the same way. Delta
//! debugging: each world that is tried is smaller than the last that failed.

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use p2pweights_simnet::file::{FaultTable, ScenarioFile};

use super::args::MinimiseArguments;
use super::failure::Failure;
use super::interrupts::Interrupts;
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
struct Search<'a> {
    best: ScenarioFile,
    wrong: Wrong,
    runs_left: usize,
    output: Output,
    interrupts: &'a Interrupts,
}

impl Search<'_> {
    /// Whether this world fails in the same way; then it is the best so far.
    fn still_fails(&mut self, candidate: ScenarioFile) -> bool {
        if self.runs_left == 0 || self.interrupts.wanted() || !candidate.is_sound() {
            return false;
        }
        self.runs_left -= 1;
        let interrupts = self.interrupts;
        let flow = &mut |_: &_| if interrupts.wanted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let Ok(Some((outcome, _))) = trial::run(&candidate, candidate.seed, flow) else { return false };
        let fails = self.wrong.is_in(&outcome);
        if fails {
            self.best = candidate;
            self.output.aside(&format!("still fails with {}", measure(&self.best)));
        }
        fails
    }

    /// Leaves out as many faults as can be: none at all, or else ever smaller parts of them.
    fn fewer_faults(&mut self) {
        if self.best.fault.is_empty() || self.still_fails(with_faults(&self.best, Vec::new())) {
            return;
        }
        let mut parts = 2;
        while parts <= self.best.fault.len() {
            let faults = self.best.fault.clone();
            let size = faults.len().div_ceil(parts);
            let without = |part: usize| {
                faults.chunks(size).enumerate().filter(|(at, _)| *at != part).flat_map(|(_, part)| part.to_vec()).collect()
            };
            let base = self.best.clone();
            let found = (0..faults.len().div_ceil(size)).any(|part| self.still_fails(with_faults(&base, without(part))));
            parts = match found {
                true => (parts - 1).max(2),
                false if size == 1 => break,
                false => (parts * 2).min(faults.len()),
            };
        }
    }

    /// Makes a number as small as can be, given how a world with a smaller one looks.
    fn smaller(&mut self, from: u64, least: u64, with: impl Fn(&ScenarioFile, u64) -> ScenarioFile) {
        let (mut now, mut step) = (from, from.saturating_sub(least));
        while step > 0 {
            let candidate = with(&self.best, now - step);
            if now - step >= least && self.still_fails(candidate) {
                now -= step;
                step = step.min(now.saturating_sub(least));
            } else {
                step /= 2;
            }
        }
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
pub fn run(arguments: &MinimiseArguments, output: Output, interrupts: &Interrupts) -> Result<(), Failure> {
    let source = Source::load(&arguments.seed.file, arguments.seed.form.form())?;
    let seed = arguments.seed.seed.unwrap_or(source.file.seed);
    let (outcome, _) = watched(&source, seed, output, interrupts)?;
    let Some(wrong) = Wrong::of(&outcome) else {
        return Err(Failure::Usage(format!("nothing goes wrong with seed {seed}; give a seed that fails")));
    };
    output.aside(&format!("{}: {}", wrong.describe(), measure(&source.file)));
    let mut file = ScenarioFile { seed, seeds: 1, row: None, ..source.file.clone() };
    if let Wrong::Figure(name) = &wrong {
        let metric = name.split('.').next().unwrap_or(name);
        file.expect.retain(|expected, _| expected == metric);
    }
    let mut search = Search { best: file, wrong, runs_left: arguments.runs, output, interrupts };
    search.fewer_faults();
    if !search.best.fault.is_empty() {
        let single = search.best.with_single_faults(seed)?;
        if search.still_fails(single) {
            search.fewer_faults();
        }
    }
    for group in 0..search.best.group.len() {
        if let Some(count) = search.best.group[group].count {
            search.smaller(count as u64, 1, |file, count| file.with_count(group, usize::try_from(count).unwrap_or(usize::MAX)));
        }
    }
    let units = search.best.largest_blob().div_ceil(UNIT);
    search.smaller(units, 1, |file, units| file.with_blobs_up_to(units * UNIT));
    // Faults that a large world needed a small one may not.
    search.fewer_faults();
    write(arguments, &search, &source, seed, output)
}

fn write(arguments: &MinimiseArguments, search: &Search<'_>, source: &Source, seed: u64, output: Output) -> Result<(), Failure> {
    let mut best = search.best.clone();
    best.about = format!("{} seed {seed}, made small: {}", source.file.name, search.wrong.describe());
    best.name = format!("{}-seed-{seed}", source.file.name);
    let path = arguments.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.toml", best.name)));
    fs::write(&path, best.to_toml()).map_err(|error| Failure::writing(&path, error))?;
    let used = arguments.runs - search.runs_left;
    if output.is_json() {
        output.json(&serde_json::json!({
            "file": path, "wrong": search.wrong.describe(), "faults": best.fault.len(), "runs": used,
            "hosts": best.group.iter().filter_map(|group| group.count).sum::<usize>(), "largest_blob_bytes": best.largest_blob(),
        }))?;
    } else {
        output.line(&format!("{}: {} after {used} runs", search.wrong.describe(), measure(&best)))?;
        output.line(&format!("written to {}; again: simnet replay {} --seed {seed}", path.display(), path.display()))?;
    }
    if search.interrupts.wanted() { Err(Failure::Interrupted) } else { Ok(()) }
}
