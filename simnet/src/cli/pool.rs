//! Many seeds at a time, one world a thread. Outcomes are handed out in the order in which they were asked for, whatever finished first.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use p2pweights_simnet::Progress;

use super::failure::Failure;
use super::interrupts::Interrupts;
use super::output::Output;
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

enum Word {
    Begin(usize, usize),
    At(usize, Progress),
    /// The outcome of a job; none if it was interrupted.
    End(usize, usize, Box<Result<Option<Outcome>, Failure>>),
}

/// Runs all jobs, and hands each outcome on in order. Returns whether all were finished.
pub fn run(
    jobs: &[Job<'_>],
    workers: usize,
    report: Option<&Path>,
    output: Output,
    interrupts: &Interrupts,
    mut next: impl FnMut(usize, Outcome) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    let (sender, receiver) = mpsc::channel();
    let taken = AtomicUsize::new(0);
    let workers = workers.min(jobs.len()).max(1);
    thread::scope(|scope| {
        for worker in 0..workers {
            let (sender, taken) = (sender.clone(), &taken);
            scope.spawn(move || {
                while let Some((index, job)) = take(jobs, taken, interrupts) {
                    // Whoever listens has gone only if the command has failed: then nothing more is wanted.
                    if sender.send(Word::Begin(worker, index)).is_err() {
                        return;
                    }
                    let result = one(job, report, interrupts, &mut |progress| sender.send(Word::At(worker, *progress)).is_ok());
                    if sender.send(Word::End(worker, index, Box::new(result))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut show = Show::new(output, workers);
        let mut waiting: Vec<Option<Outcome>> = jobs.iter().map(|_| None).collect();
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
                    while let Some(outcome) = waiting.get_mut(handed).and_then(Option::take) {
                        show.above(|| next(handed, outcome))?;
                        handed += 1;
                    }
                }
            }
        }
        // Interrupted: what was finished out of order counts too.
        for (index, slot) in waiting.iter_mut().enumerate() {
            slot.take().map_or(Ok(()), |outcome| next(index, outcome))?;
        }
        Ok(handed == jobs.len())
    })
}

fn take<'a>(jobs: &[Job<'a>], taken: &AtomicUsize, interrupts: &Interrupts) -> Option<(usize, Job<'a>)> {
    if interrupts.wanted() {
        return None;
    }
    let index = taken.fetch_add(1, Ordering::Relaxed);
    Some((index, *jobs.get(index)?))
}

fn one(
    job: Job<'_>,
    folder: Option<&Path>,
    interrupts: &Interrupts,
    tell: &mut dyn FnMut(&Progress) -> bool,
) -> Result<Option<Outcome>, Failure> {
    let mut watch = |progress: &Progress| {
        if tell(progress) && !interrupts.wanted() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let Some((outcome, report)) = trial::run(&job.source.file, job.seed, &mut watch)? else { return Ok(None) };
    if let Some(folder) = folder {
        trial::keep(folder, &job.source.file, &outcome, &report).map_err(|error| Failure::writing(folder, error))?;
    }
    Ok(Some(outcome))
}
