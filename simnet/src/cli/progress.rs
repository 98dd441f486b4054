//! How running worlds are shown: a bar each on a terminal, a line now and then when piped, nothing where JSON is wanted.

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use p2pweights_simnet::Progress;

use super::output::{Output, duration, grouped};

/// From one plain line of a world to the next.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// The worlds that are running, by worker.
#[derive(Debug)]
pub struct Show {
    output: Output,
    bars: Option<MultiProgress>,
    running: Vec<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    name: String,
    began: Instant,
    told: Instant,
    bar: Option<ProgressBar>,
}

impl Show {
    /// For so many workers.
    pub fn new(output: Output, workers: usize) -> Self {
        let bars = output.is_terminal().then(MultiProgress::new);
        Self { output, bars, running: (0..workers).map(|_| None).collect() }
    }

    /// A worker has begun with a world.
    pub fn begin(&mut self, worker: usize, name: String) {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(1000));
            let style = ProgressStyle::with_template("{prefix} {bar:20} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style);
            bar.set_prefix(name.clone());
            bar.tick();
            bar
        });
        let now = Instant::now();
        self.running[worker] = Some(Running { name, began: now, told: now, bar });
    }

    /// A world is so far.
    pub fn at(&mut self, worker: usize, progress: &Progress) {
        let Some(running) = &mut self.running[worker] else { return };
        let text = describe(progress, running.began.elapsed());
        match &running.bar {
            Some(bar) => {
                bar.set_position(permille(progress));
                bar.set_message(text);
            }
            None if running.told.elapsed() >= LINE_INTERVAL => {
                running.told = Instant::now();
                self.output.aside(&format!("{}: {text}", running.name));
            }
            None => (),
        }
    }

    /// A worker's world has ended.
    pub fn end(&mut self, worker: usize) {
        if let Some(bar) = self.running[worker].take().and_then(|running| running.bar) {
            bar.finish_and_clear();
        }
    }

    /// Prints something above the bars.
    pub fn above<R>(&self, print: impl FnOnce() -> R) -> R {
        match &self.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }
}

fn permille(progress: &Progress) -> u64 {
    u64::try_from(u128::from(progress.received) * 1000 / u128::from(progress.wanted.max(1))).unwrap_or(1000).min(1000)
}

fn describe(progress: &Progress, took: Duration) -> String {
    let permille = permille(progress);
    let rate = u128::from(progress.transfers) * 1000 / took.as_millis().max(1);
    let left = (permille > 0 && permille < 1000)
        .then(|| took * u32::try_from(1000 - permille).unwrap_or(0) / u32::try_from(permille).unwrap_or(1));
    let left = left.map_or_else(String::new, |left| format!(", about {} left", duration(left)));
    format!(
        "{} there, {}.{} % delivered, {} of {} finished, {} transfers/s{left}",
        duration(progress.at),
        permille / 10,
        permille % 10,
        grouped(progress.finished as u64),
        grouped(progress.fetchers as u64),
        grouped(u64::try_from(rate).unwrap_or(u64::MAX)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_and_how_fast() {
        let progress = Progress {
            at: Duration::from_secs(3725),
            received: 250,
            wanted: 1000,
            finished: 3,
            fetchers: 1000,
            transfers: 120_000,
            events: 0,
        };
        assert_eq!(
            describe(&progress, Duration::from_secs(10)),
            "1 h 02 min there, 25.0 % delivered, 3 of 1,000 finished, 12,000 transfers/s, about 30.0 s left"
        );
    }
}
