//! How an import is shown while it runs.

use p2pweights_node::report::ImportEvent;

use super::file_bars::FileBars;
use crate::failure::CommandError;
use crate::output::Output;
use crate::size;

/// Shows an import.
#[derive(Debug)]
pub struct ImportProgress {
    output: Output,
    bars: FileBars,
}

impl ImportProgress {
    /// For this output.
    pub fn new(output: Output) -> Self {
        Self { output, bars: FileBars::new(output, "imported") }
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
                self.bars.aside(&format!("importing {repo} @ {revision} ({commit}): {files}, {}{held}", size::bytes(*bytes)))?;
                match (gated, private) {
                    (true, _) => self.bars.aside("the repository is gated: it will not be announced nor given to others"),
                    (_, true) => self.bars.aside("the repository is private: it will not be announced nor given to others"),
                    _ => Ok(()),
                }
            }
            ImportEvent::Progress { bytes, total, rate, eta_s, files } => self.bars.show(*bytes, *total, *rate, *eta_s, files),
            ImportEvent::File { path, .. } => {
                self.bars.remove(path);
                Ok(())
            }
            ImportEvent::Warning { message } => self.bars.aside(&format!("warning: {message}")),
            ImportEvent::Done(_) => {
                self.bars.clear();
                Ok(())
            }
            ImportEvent::Failed(_) => Ok(()),
        }
    }
}
