//! The `p2pweights` program: parse → resolve → run → exit code. What each step does is in the file of its name.

mod args;
mod commands;
mod exit_code;
mod failure;
mod interrupts;
mod logging;
mod output;
mod progress;
mod settings;
mod size;

use std::process::ExitCode;
use std::time::Duration;

use args::Arguments;
use failure::CommandError;
use output::Output;

fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(error) => return output::report_usage(&error),
    };
    let output = Output::new(arguments.global.json);
    match run(arguments, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output.report(&error),
    }
}

fn run(arguments: Arguments, output: Output) -> Result<(), CommandError> {
    logging::start(arguments.global.verbose)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::internal(format!("no runtime: {error}")))?;
    let result = runtime.block_on(commands::run(arguments, output));
    // By now every command has closed what it opened; a blocked read of standard input must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}
