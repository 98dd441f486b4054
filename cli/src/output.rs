//! Standard output and the last word on standard error, for people or as JSON. The only file that prints results.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use p2pweights_node::report::{Failure, FailureKind};
use serde::Serialize;

use crate::exit_code;
use crate::failure::CommandError;

/// How results are printed.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

#[derive(Serialize)]
#[serde(tag = "event", rename = "failed")]
struct FailedLine<'a> {
    #[serde(flatten)]
    failure: &'a Failure,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl Output {
    /// For people, or as JSON lines.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether JSON lines are wanted.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Whether a person watches, so that bars may be drawn.
    pub fn is_terminal(self) -> bool {
        !self.json && io::stdout().is_terminal() && io::stderr().is_terminal()
    }

    /// Prints a line and flushes: other programs wait for it.
    pub fn line(self, text: &str) -> Result<(), CommandError> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => CommandError::OutputClosed,
            _ => CommandError::disk("write to standard output", &error),
        })
    }

    /// Prints a value as one line of JSON.
    pub fn json(self, value: &impl Serialize) -> Result<(), CommandError> {
        let text = serde_json::to_string(value).map_err(|error| CommandError::internal(format!("cannot write JSON: {error}")))?;
        self.line(&text)
    }

    /// The value as JSON, or else these lines.
    pub fn value(self, value: &impl Serialize, lines: impl FnOnce() -> Vec<String>) -> Result<(), CommandError> {
        if self.json {
            return self.json(value);
        }
        lines().iter().try_for_each(|line| self.line(line))
    }

    /// Says why the command failed; gives its exit code.
    pub fn report(self, error: &CommandError) -> ExitCode {
        let CommandError::Failed { failure, hint } = error else { return ExitCode::SUCCESS };
        // Nothing can be done about an error that can't be told: the exit code still tells it.
        if self.json {
            let _ = self.json(&FailedLine { failure, hint: hint.as_deref() });
        } else {
            let _ = writeln!(io::stderr(), "error: {}", failure.message);
            if let Some(hint) = hint {
                let _ = writeln!(io::stderr(), "hint: {hint}");
            }
        }
        ExitCode::from(exit_code::of(failure.kind))
    }
}

/// Prints what clap has to say, be it help or an error; gives the exit code.
pub fn report_usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let text = error.to_string();
        let message = text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned();
        return Output::new(true).report(&CommandError::from(Failure { kind: FailureKind::Usage, message }));
    }
    // As above: the exit code still tells it.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(exit_code::USAGE) } else { ExitCode::SUCCESS }
}

/// Lines of columns, each as wide as its widest cell; a right-aligned column is marked by `>` before its title.
pub fn table(titles: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let right: Vec<bool> = titles.iter().map(|title| title.starts_with('>')).collect();
    let titles: Vec<String> = titles.iter().map(|title| title.trim_start_matches('>').to_owned()).collect();
    let width = |column: usize| {
        rows.iter().chain([&titles]).filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let format_row = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .zip(&right)
            .map(|((cell, &width), &right)| if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    [&titles].into_iter().filter(|titles| titles.iter().any(|title| !title.is_empty())).chain(rows).map(format_row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "1 B".to_owned()], vec!["long".to_owned(), "12 KiB".to_owned()]];
        assert_eq!(table(&["file", ">size"], &rows), ["file    size", "a        1 B", "long  12 KiB"]);
        assert_eq!(table(&["", ">"], &rows), ["a        1 B", "long  12 KiB"]);
    }
}
