//! How an import is shown while it runs.

use std::collections::BTreeMap;

use indicatif::ProgressBar;
use p2pweights_node::report::{FileReading, ImportEvent};

use super::{LineClock, MAX_FILE_BARS, shortened, style};
use crate::failure::CommandError;
use crate::logging::bars;
use crate::output::Output;
use crate::size;

/// Shows an import.
#[derive(Debug)]
pub struct ImportProgress {
    output: Output,
    clock: LineClock,
    total_bar: Option<ProgressBar>,
    file_bars: BTreeMap<String, ProgressBar>,
}

impl ImportProgress {
    /// For this output.
    pub fn new(output: Output) -> Self {
        let total_bar = output.is_terminal().then(|| {
            let bar = bars().add(ProgressBar::new(0));
            bar.set_style(style("total {bar:20.cyan/blue} {msg}"));
            bar
        });
        Self { output, clock: LineClock::new(), total_bar, file_bars: BTreeMap::new() }
    }

    /// Shows what happened. `Failed` is not for here: whoever ends the command says it once.
    pub fn event(&mut self, event: &ImportEvent) -> Result<(), CommandError> {
        if self.output.is_json() {
            return self.output.json(event);
        }
        match event {
            ImportEvent::Plan { repo, revision, commit, files, bytes, held, gated, private } => {
                let held = if *held > 0 { format!(", {} here already", size::bytes(*held)) } else { String::new() };
                let files = size::count(*files, "file");
                self.aside(&format!("importing {repo} @ {revision} ({commit}): {files}, {}{held}", size::bytes(*bytes)))?;
                match (gated, private) {
                    (true, _) => self.aside("the repository is gated: it will not be announced nor given to others"),
                    (_, true) => self.aside("the repository is private: it will not be announced nor given to others"),
                    _ => Ok(()),
                }
            }
            ImportEvent::Progress { bytes, total, rate, eta_s, files } => {
                self.draw(files);
                let eta = eta_s.map_or_else(String::new, |seconds| format!(", {} left", size::duration(seconds)));
                let tail = format!("{} of {}, {}{eta}", size::percent(*bytes, *total), size::bytes(*total), size::rate(*rate));
                if let Some(bar) = &self.total_bar {
                    bar.set_length(*total);
                    bar.set_position(*bytes);
                    bar.set_message(tail);
                } else if self.clock.is_due(*bytes, *total) {
                    self.output.line(&format!("imported {} ({tail})", size::bytes(*bytes)))?;
                }
                Ok(())
            }
            ImportEvent::File { path, .. } => {
                self.drop_bar(path);
                Ok(())
            }
            ImportEvent::Warning { message } => self.aside(&format!("warning: {message}")),
            ImportEvent::Done(_) => {
                self.clear();
                Ok(())
            }
            ImportEvent::Failed(_) => Ok(()),
        }
    }

    fn draw(&mut self, files: &[FileReading]) {
        let Some(total_bar) = &self.total_bar else { return };
        for file in files {
            if let Some(bar) = self.file_bars.get(&file.path) {
                bar.set_position(file.bytes);
            } else if self.file_bars.len() < MAX_FILE_BARS {
                let bar = bars().insert_before(total_bar, ProgressBar::new(file.total));
                bar.set_style(style("{msg} {bar:20} {percent:>3} % of {binary_total_bytes}"));
                bar.set_message(shortened(&file.path));
                bar.set_position(file.bytes);
                self.file_bars.insert(file.path.clone(), bar);
            }
        }
    }

    /// A line beside the bars.
    fn aside(&self, text: &str) -> Result<(), CommandError> {
        if self.total_bar.is_some() { bars().suspend(|| self.output.line(text)) } else { self.output.line(text) }
    }

    fn drop_bar(&mut self, path: &str) {
        if let Some(bar) = self.file_bars.remove(path) {
            bar.finish_and_clear();
            bars().remove(&bar);
        }
    }

    fn clear(&mut self) {
        for bar in std::mem::take(&mut self.file_bars).into_values().chain(self.total_bar.take()) {
            bar.finish_and_clear();
            bars().remove(&bar);
        }
    }
}

impl Drop for ImportProgress {
    fn drop(&mut self) {
        self.clear();
    }
}
