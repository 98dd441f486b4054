//! Standard output and the last word on standard error, for people or as JSON. The only file that prints.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::failure::Failure;

/// How results are printed.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
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
        !self.json && io::stderr().is_terminal()
    }

    /// Prints a line and flushes: other programs wait for it.
    pub fn line(self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Disk("write to standard output".into(), error),
        })
    }

    /// Prints a value as one line of JSON.
    pub fn json(self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| Failure::Disk("write JSON".into(), error.into()))?;
        self.line(&text)
    }

    /// Says on standard error how things go; not where JSON is wanted.
    pub fn aside(self, text: &str) {
        if !self.json {
            // Nothing depends on it, and nobody could be told.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Says why the command failed; gives its exit code.
    pub fn report(self, failure: &Failure) -> ExitCode {
        if !matches!(failure, Failure::OutputClosed) {
            if self.json {
                let _ = self.json(&serde_json::json!({ "event": "failed", "message": failure.to_string() }));
            } else {
                // The exit code still tells it.
                let _ = writeln!(io::stderr(), "error: {failure}");
            }
        }
        ExitCode::from(failure.exit_code())
    }
}

/// Prints what clap has to say, be it help or an error; gives the exit code.
pub fn report_usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// Cells in columns of these widths; a column marked by `>` before its title is right-aligned.
pub fn row(titles: &[&str], widths: &[usize], cells: &[String]) -> String {
    let cell = |((title, &width), cell): ((&&str, &usize), &String)| {
        if title.starts_with('>') { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
    };
    titles.iter().zip(widths).zip(cells).map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

/// A whole table, each column as wide as its widest cell.
pub fn table(titles: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let heads: Vec<String> = titles.iter().map(|title| title.trim_start_matches('>').to_owned()).collect();
    let width = |column: usize| rows.iter().chain([&heads]).map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    [&heads].into_iter().chain(rows).map(|cells| row(titles, &widths, cells)).collect()
}

/// `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `42.1 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`.
pub fn duration(time: std::time::Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}.{} s", time.subsec_millis() / 100),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well_and_columns_line_up() {
        assert_eq!([grouped(0), grouped(999), grouped(1_234_567)], ["0", "999", "1,234,567"]);
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "12".to_owned()]];
        assert_eq!(table(&["name", ">n"], &rows), ["name   n", "a      1", "long  12"]);
    }
}
