//! How far something is that goes through files: bars on a terminal, else a line now and then.

use p2pweights_node::report::FileReading;

use super::LineClock;
use super::bar_set::BarSet;
use crate::failure::CommandError;
use crate::output::Output;
use crate::size;

/// The bars, or the lines.
#[derive(Debug)]
pub(super) struct FileBars {
    output: Output,
    /// What has been done to the bytes, such as `hashed`.
    done: &'static str,
    clock: LineClock,
    bars: BarSet,
}

impl FileBars {
    pub(super) fn new(output: Output, done: &'static str) -> Self {
        Self { output, done, clock: LineClock::new(), bars: BarSet::new(output) }
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
        for file in files {
            self.bars.show_file(&file.path, file.bytes, file.total);
        }
        let eta = eta_s.map_or_else(String::new, |seconds| format!(", {} left", size::duration(seconds)));
        let tail = format!("{} of {}, {}{eta}", size::percent(bytes, total), size::bytes(total), size::rate(rate));
        if self.bars.is_drawn() {
            self.bars.show(bytes, total, tail);
        } else if bytes > 0 && self.clock.is_due(bytes, total) {
            self.output.line(&format!("{} {} ({tail})", self.done, size::bytes(bytes)))?;
        }
        Ok(())
    }

    /// What is going on instead.
    pub(super) fn say(&mut self, text: String) -> Result<(), CommandError> {
        if self.bars.is_drawn() {
            self.bars.say(text);
        } else if self.clock.is_due(0, 1) {
            self.output.line(&text)?;
        }
        Ok(())
    }

    /// A line beside the bars.
    pub(super) fn aside(&self, text: &str) -> Result<(), CommandError> {
        self.bars.aside(self.output, text)
    }

    /// A file is done.
    pub(super) fn remove(&mut self, path: &str) {
        self.bars.remove(path);
    }

    /// All is done.
    pub(super) fn clear(&mut self) {
        self.bars.clear();
    }
}
