//! `simnet run`: scenarios, seeds, and the table of targets and results.

use std::thread;

use p2pweights_simnet::pages;

use super::args::RunArguments;
use super::failure::Failure;
use super::output::{self, Output};
use super::pool::{self, Job};
use super::source::Source;
use super::summary::{Summary, TITLES};
use super::trial::Outcome;

/// Widths of the columns whose cells are not known before the worlds have run.
const RESULT_WIDTH: usize = 11;
const SEED_WIDTH: usize = 4;
const COST_WIDTH: usize = 11;

/// Runs them.
pub fn run(arguments: &RunArguments, output: Output) -> Result<(), Failure> {
    let form = arguments.form.form();
    let sources = if arguments.all {
        Source::standing(form)?
    } else {
        arguments.files.iter().map(|given| Source::load(given, form)).collect::<Result<Vec<_>, _>>()?
    };
    let seeds_of = |source: &Source| match (&arguments.seeds, arguments.seed) {
        (Some(seeds), _) => seeds.0.clone(),
        (None, Some(seed)) => seed..seed.saturating_add(1),
        (None, None) => source.file.seed..source.file.seed.saturating_add(source.file.seeds),
    };
    let jobs: Vec<Job<'_>> = sources.iter().flat_map(|source| seeds_of(source).map(move |seed| Job { source, seed })).collect();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let workers = arguments.jobs.map_or(cores, usize::from);
    let mut table = Table::new(&sources, output);
    let mut records = Vec::new();
    pool::run(&jobs, workers, arguments.report.is_some(), output, |index, ended| {
        let source = jobs[index].source;
        let last = jobs.get(index + 1).is_none_or(|next| !std::ptr::eq(next.source, source));
        table.add(source, ended.outcome)?;
        records.extend(ended.record);
        if !last {
            return Ok(());
        }
        table.end()?;
        // Written anew after each scenario: whoever stops a long run has the pages of what was finished.
        let write =
            |folder| pages::write(folder, &records, pages::Options::default()).map_err(|error| Failure::writing(folder, error));
        arguments.report.as_deref().map_or(Ok(()), write)
    })?;
    table.end()?;
    match table.missed.len() {
        0 => Ok(()),
        _ => Err(Failure::Missed(format!("not as it should be: {}", table.missed.join(", ")))),
    }
}

/// The table of results: a scenario's rows are printed when all its seeds are there.
struct Table<'a> {
    output: Output,
    widths: Vec<usize>,
    begun: bool,
    current: Option<(&'a Source, Vec<Outcome>)>,
    missed: Vec<String>,
}

impl<'a> Table<'a> {
    fn new(sources: &[Source], output: Output) -> Self {
        let wanted: Vec<(String, String)> = sources
            .iter()
            .flat_map(|source| source.file.wanted_figures())
            .map(|wanted| (wanted.name(), wanted.expectation.to_string()))
            .collect();
        let widest = |title: &str, cells: &mut dyn Iterator<Item = usize>| cells.max().unwrap_or(0).max(title.len());
        let widths = vec![
            3,
            widest(TITLES[1], &mut sources.iter().map(|source| source.file.name.len())),
            widest(TITLES[2], &mut wanted.iter().map(|(name, _)| name.len())),
            widest("none broken", &mut wanted.iter().map(|(_, target)| target.len())),
            RESULT_WIDTH,
            SEED_WIDTH,
            TITLES[6].len(),
            COST_WIDTH,
            COST_WIDTH,
            COST_WIDTH,
        ];
        Self { output, widths, begun: false, current: None, missed: Vec::new() }
    }

    fn add(&mut self, source: &'a Source, outcome: Outcome) -> Result<(), Failure> {
        if self.current.as_ref().is_some_and(|(current, _)| !std::ptr::eq(*current, source)) {
            self.end()?;
        }
        self.current.get_or_insert_with(|| (source, Vec::new())).1.push(outcome);
        Ok(())
    }

    /// All seeds of the current scenario are there.
    fn end(&mut self) -> Result<(), Failure> {
        let Some((source, outcomes)) = self.current.take() else { return Ok(()) };
        let summary = Summary::of(source, outcomes);
        if !summary.passed {
            self.missed.push(summary.scenario.clone());
        }
        if self.output.is_json() {
            return self.output.json(&summary);
        }
        if !std::mem::replace(&mut self.begun, true) {
            let heads = TITLES.map(|title| title.trim_start_matches('>').to_owned());
            self.output.line(&output::row(&TITLES, &self.widths, &heads))?;
        }
        for cells in summary.rows() {
            self.output.line(&output::row(&TITLES, &self.widths, &cells))?;
        }
        summary.troubles().iter().try_for_each(|line| self.output.line(line))
    }
}
