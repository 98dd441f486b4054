//! `completions`: a script for a shell.

use std::io::Write;

use clap::CommandFactory;

use crate::args::{Arguments, CompletionsArguments};
use crate::failure::CommandError;

pub fn run(arguments: &CompletionsArguments) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "p2pweights", &mut script);
    std::io::stdout().write_all(&script).map_err(|_| CommandError::OutputClosed)
}
