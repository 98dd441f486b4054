//! Bars on a terminal: one for all of it, and above that some for single files. Nothing where there is no terminal.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::CommandError;
use crate::logging::bars;
use crate::output::Output;

/// Bars of single files drawn at once: what fits above a prompt on the smallest usual terminal (24 lines).
const MAX_FILE_BARS: usize = 8;
/// A bar's name is cut to this, so that bar and figures fit on 80 columns.
const NAME_WIDTH: usize = 32;
/// How often a bar turns that has nothing to show.
const TURN: Duration = Duration::from_millis(120);
/// How the bar for all of it looks.
const TOTAL: &str = "total {bar:20.cyan/blue} {msg}";

/// The bars; they go when this is dropped.
#[derive(Debug)]
pub(super) struct BarSet {
    total: Option<ProgressBar>,
    files: BTreeMap<String, ProgressBar>,
}

impl BarSet {
    /// With the bar for all of it.
    pub(super) fn new(output: Output) -> Self {
        let total = output.is_terminal().then(|| bars().add(ProgressBar::new(0).with_style(style(TOTAL))));
        Self { total, files: BTreeMap::new() }
    }

    /// The same, turning until there is something to show.
    pub(super) fn spinning(output: Output, text: &'static str) -> Self {
        let set = Self::new(output);
        if let Some(bar) = &set.total {
            bar.set_style(style("{spinner} {msg}"));
            bar.set_message(text);
            bar.enable_steady_tick(TURN);
        }
        set
    }

    /// Now there is.
    pub(super) fn settle(&self) {
        if let Some(bar) = &self.total {
            bar.disable_steady_tick();
            bar.set_style(style(TOTAL));
            bar.set_message("");
        }
    }

    /// Whether there are any: else lines have to do.
    pub(super) fn is_drawn(&self) -> bool {
        self.total.is_some()
    }

    /// Says something in the bar for all of it.
    pub(super) fn say(&self, text: String) {
        if let Some(bar) = &self.total {
            bar.set_message(text);
        }
    }

    /// How far all of it is.
    pub(super) fn show(&self, bytes: u64, total: u64, text: String) {
        if let Some(bar) = &self.total {
            bar.set_length(total);
            bar.set_position(bytes);
        }
        self.say(text);
    }

    /// How far one file is.
    pub(super) fn show_file(&mut self, path: &str, bytes: u64, total: u64) {
        let Some(below) = &self.total else { return };
        if let Some(bar) = self.files.get(path) {
            bar.set_position(bytes);
        } else if self.files.len() < MAX_FILE_BARS {
            let bar = bars().insert_before(below, ProgressBar::new(total));
            bar.set_style(style("{msg} {bar:20} {percent:>3} % of {binary_total_bytes}"));
            bar.set_message(shortened(path));
            bar.set_position(bytes);
            self.files.insert(path.to_owned(), bar);
        }
    }

    /// A file is done.
    pub(super) fn remove(&mut self, path: &str) {
        self.files.remove(path).into_iter().for_each(take_away);
    }

    /// A line beside the bars.
    pub(super) fn aside(&self, output: Output, text: &str) -> Result<(), CommandError> {
        if self.is_drawn() { bars().suspend(|| output.line(text)) } else { output.line(text) }
    }

    /// All is done.
    pub(super) fn clear(&mut self) {
        std::mem::take(&mut self.files).into_values().chain(self.total.take()).for_each(take_away);
    }
}

impl Drop for BarSet {
    fn drop(&mut self) {
        self.clear();
    }
}

fn take_away(bar: ProgressBar) {
    bar.finish_and_clear();
    bars().remove(&bar);
}

/// The last characters of a path, padded: the end tells one shard from another.
fn shortened(path: &str) -> String {
    let count = path.chars().count();
    if count <= NAME_WIDTH {
        return format!("{path:NAME_WIDTH$}");
    }
    let tail: String = path.chars().skip(count - NAME_WIDTH + 1).collect();
    format!("…{tail}")
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a template written in this file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(shortened("a").chars().count(), NAME_WIDTH);
        let name = shortened(&format!("{}-00001-of-00004.safetensors", "x".repeat(40)));
        assert_eq!(name.chars().count(), NAME_WIDTH);
        assert!(name.ends_with("00001-of-00004.safetensors"));
    }
}
