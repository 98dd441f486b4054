//! The `simnet` program: runs scenario files and says whether their worlds are as they should be. What each step does is in `cli`; the
//! library below it opens no file and reads no clock.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
