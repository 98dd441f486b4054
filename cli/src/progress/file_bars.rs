//! A bar for all of it and one for each file on its way; lines now and then where there is no terminal.

use std::collections::BTreeMap;

use indicatif::ProgressBar;
use p2pweights_node::report::FileReading;

use super::{LineClock, MAX_FILE_BARS, shortened, style};
use crate::failure::CommandError;
use crate::logging::bars;
use crate::output::Output;
use crate::size;

/// The bars; they go when this is dropped.
#[derive(Debug)]
pub(super) struct FileBars {
    output: Output,
    /// What has been done to the bytes, such as `hashed`.
    done: &'static str,
    clock: LineClock,
    total: Option<ProgressBar>,
    files: BTreeMap<String, ProgressBar>,
}

impl FileBars {
    pub(super) fn new(output: Output, done: &'static str) -> Self {
        let total = output.is_terminal().then(|| {
            let bar = bars().add(ProgressBar::new(0));
            bar.set_style(style("total {bar:20.cyan/blue} {msg}"));
            bar
        });
        Self { output, done, clock: LineClock::new(), total, files: BTreeMap::new() }
    }

    /// How far all of it is, and the files on their way.
    pub(super) fn show(
        &mut self,
        bytes: u64,
        total: u64,
        rate: u64,
        eta_s: Option<u64>,
        files: &[FileReading],
    ) -> Result<(), CommandError> {
        self.draw(files);
        let eta = eta_s.map_or_else(String::new, |seconds| format!(", {} left", size::duration(seconds)));
        let tail = format!("{} of {}, {}{eta}", size::percent(bytes, total), size::bytes(total), size::rate(rate));
        if let Some(bar) = &self.total {
            bar.set_length(total);
            bar.set_position(bytes);
            bar.set_message(tail);
        } else if self.clock.is_due(bytes, total) {
            self.output.line(&format!("{} {} ({tail})", self.done, size::bytes(bytes)))?;
        }
        Ok(())
    }

    fn draw(&mut self, files: &[FileReading]) {
        let Some(total) = &self.total else { return };
        for file in files {
            if let Some(bar) = self.files.get(&file.path) {
                bar.set_position(file.bytes);
            } else if self.files.len() < MAX_FILE_BARS {
                let bar = bars().insert_before(total, ProgressBar::new(file.total));
                bar.set_style(style("{msg} {bar:20} {percent:>3} % of {binary_total_bytes}"));
                bar.set_message(shortened(&file.path));
                bar.set_position(file.bytes);
                self.files.insert(file.path.clone(), bar);
            }
        }
    }

    /// A line beside the bars.
    pub(super) fn aside(&self, text: &str) -> Result<(), CommandError> {
        if self.total.is_some() { bars().suspend(|| self.output.line(text)) } else { self.output.line(text) }
    }

    /// A file is done.
    pub(super) fn remove(&mut self, path: &str) {
        if let Some(bar) = self.files.remove(path) {
            bar.finish_and_clear();
            bars().remove(&bar);
        }
    }

    /// All is done.
    pub(super) fn clear(&mut self) {
        for bar in std::mem::take(&mut self.files).into_values().chain(self.total.take()) {
            bar.finish_and_clear();
            bars().remove(&bar);
        }
    }
}

impl Drop for FileBars {
    fn drop(&mut self) {
        self.clear();
    }
}
