//! Parse → load → run → exit code. Whatever is finished is printed at once, so that Ctrl-C needs no handling: it loses what is under way.
//! From the ground up: `failure output` ← `source` ← `trial` ← `progress pool` ← `summary` ←
//! the verbs.

mod args;
mod compare;
mod failure;
mod list;
mod minimise;
mod output;
mod pool;
mod progress;
mod replay;
mod run;
mod source;
mod summary;
mod trial;

use std::process::ExitCode;

use args::{Arguments, Verb};
use failure::Failure;
use output::Output;

/// Everything.
pub fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(error) => return output::report_usage(&error),
    };
    let output = Output::new(arguments.json);
    match verb(arguments.verb, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.report(&failure),
    }
}

fn verb(verb: Verb, output: Output) -> Result<(), Failure> {
    match verb {
        Verb::Run(arguments) => run::run(&arguments, output),
        Verb::List => list::run(output),
        Verb::Replay(arguments) => replay::run(&arguments, output),
        Verb::Minimise(arguments) => minimise::run(&arguments, output),
        Verb::Compare(arguments) => compare::run(&arguments, output),
    }
}
