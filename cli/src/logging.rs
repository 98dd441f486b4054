//! The log: to standard error, without tearing the progress bars that are drawn there.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;

use crate::failure::CommandError;

/// Overrides what is logged, in the syntax of `tracing_subscriber::EnvFilter`.
const FILTER_VARIABLE: &str = "P2PWEIGHTS_LOG";

/// Every bar of the process is drawn by this one, so that a log line can step aside of all of them.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Where all bars of the process are drawn.
pub fn bars() -> &'static MultiProgress {
    BARS.get_or_init(MultiProgress::new)
}

/// Starts the log. Each `-v` tells more of our own crates, and one step less of all others.
pub fn start(verbose: u8) -> Result<(), CommandError> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(text) => EnvFilter::try_new(&text).map_err(|error| {
            CommandError::usage(format!("environment variable {FILTER_VARIABLE}: {text:?} is no log filter: {error}"))
        })?,
        Err(_) => EnvFilter::new(match verbose {
            0 => "error,p2pweights=warn,p2pweights_node=warn,p2pweights_protocol=warn",
            1 => "error,p2pweights=info,p2pweights_node=info,p2pweights_protocol=info",
            2 => "warn,p2pweights=debug,p2pweights_node=debug,p2pweights_protocol=debug",
            _ => "debug,p2pweights=trace,p2pweights_node=trace,p2pweights_protocol=trace",
        }),
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(io::stderr().is_terminal()).with_writer(|| LogWriter).init();
    Ok(())
}

struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match BARS.get() {
            Some(bars) => bars.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
