//! Many seeds at a time, one world a thread. Outcomes are handed out in the order in which they were asked for, whatever finished first.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use p2pweights_simnet::Progress;
use p2pweights_simnet::pages::RunRecord;

use super::failure::Failure;
use super::output::{Output, duration};
use super::progress::Show;
use super::source::Source;
use super::trial::{self, Outcome};

/// One seed of one scenario.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The scenario.
    pub source: &'a Source,
    /// The seed.
    pub seed: u64,
}

/// A job that has ended.
#[derive(Debug)]
pub struct Ended {
    /// What came of it.
    pub outcome: Outcome,
    /// What pages show of it, if they are wanted.
    pub record: Option<RunRecord>,
}

enum Word {
    Begin(usize, usize),
    At(usize, Progress),
    /// The outcome of a job; none if nobody wanted it any more.
    End(usize, usize, Box<Result<Option<Ended>, Failure>>),
}

/// Runs all jobs, and hands each outcome on in order.
pub fn run(
    jobs: &[Job<'_>],
    workers: usize,
    records: bool,
    output: Output,
    mut next: impl FnMut(usize, Ended) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (sender, receiver) = mpsc::channel();
    let taken = AtomicUsize::new(0);
    let workers = workers.min(jobs.len()).max(1);
    thread::scope(|scope| {
        for worker in 0..workers {
            let (sender, taken) = (sender.clone(), &taken);
            scope.spawn(move || {
                while let Some((index, job)) = take(jobs, taken) {
                    // Whoever listens has gone only if the command has failed: then nothing more is wanted.
                    if sender.send(Word::Begin(worker, index)).is_err() {
                        return;
                    }
                    let result = one(job, records, &mut |progress| sender.send(Word::At(worker, *progress)).is_ok());
                    if sender.send(Word::End(worker, index, Box::new(result))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut show = Show::new(output, workers);
        let mut waiting: Vec<Option<Ended>> = jobs.iter().map(|_| None).collect();
        let mut handed = 0;
        // Dropped when this ends, so that workers stop when something went wrong here.
        for word in receiver {
            match word {
                Word::Begin(worker, index) => {
                    show.begin(worker, format!("{} seed {}", jobs[index].source.file.name, jobs[index].seed));
                }
                Word::At(worker, progress) => show.at(worker, &progress),
                Word::End(worker, index, result) => {
                    show.end(worker);
                    waiting[index] = (*result)?;
                    if let Some(ended) = &waiting[index] {
                        show.above(|| tell(jobs, index, &ended.outcome, output))?;
                    }
                    while let Some(ended) = waiting.get_mut(handed).and_then(Option::take) {
                        show.above(|| next(handed, ended))?;
                        handed += 1;
                    }
                }
            }
        }
        Ok(())
    })
}

/// Tells of a seed as soon as it has ended, in whatever order: a scenario with many of them may take hours.
fn tell(jobs: &[Job<'_>], index: usize, outcome: &Outcome, output: Output) -> Result<(), Failure> {
    let (source, seed) = (jobs[index].source, outcome.seed);
    if output.is_json() {
        return output.json(&serde_json::json!({ "event": "seed", "scenario": source.file.name, "outcome": outcome }));
    }
    let missed: Vec<String> =
        outcome.figures.iter().filter(|figure| !figure.met).map(|figure| format!("{} {}", figure.name, figure.result)).collect();
    let verdict = match (outcome.passed(), missed.len()) {
        (true, _) => "ok".into(),
        (false, 0) => "a rule was broken".into(),
        (false, _) => format!("MISSED: {}", missed.join(", ")),
    };
    output.aside(&format!("{} seed {seed}: {verdict}; {}", source.file.name, duration(Duration::from_secs_f64(outcome.wall_s))));
    Ok(())
}

fn take<'a>(jobs: &[Job<'a>], taken: &AtomicUsize) -> Option<(usize, Job<'a>)> {
    let index = taken.fetch_add(1, Ordering::Relaxed);
    Some((index, *jobs.get(index)?))
}

fn one(job: Job<'_>, records: bool, tell: &mut dyn FnMut(&Progress) -> bool) -> Result<Option<Ended>, Failure> {
    let mut watch = |progress: &Progress| if tell(progress) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
    let Some((outcome, report)) = trial::run(&job.source.file, job.seed, &mut watch)? else { return Ok(None) };
    let record = records.then(|| trial::record(job.source, &outcome, &report));
    Ok(Some(Ended { outcome, record }))
}
