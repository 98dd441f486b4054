//! The exit codes, a public format: `docs/cli.md` lists them for people.

use p2pweights_node::report::FailureKind;

/// A fault of the program, or one nobody thought of.
pub const INTERNAL: u8 = 1;
/// The order makes no sense as given: flags, config file, environment. What clap uses too.
pub const USAGE: u8 = 2;
/// Nobody provides it, or it is not in the store.
pub const NOT_FOUND: u8 = 3;
/// Refused: hostile manifest, other content in the way, changed file.
pub const REFUSED: u8 = 4;
/// Disk full or failing, or damaged bytes in the store.
pub const DISK: u8 = 5;
/// The network could not be used as told.
pub const NETWORK: u8 = 6;
/// Providers were found, but not all of it could be had from them in time.
pub const INCOMPLETE: u8 = 7;
/// Stopped by the user: 128 + SIGINT, as shells count.
pub const INTERRUPTED: u8 = 130;

/// The exit code for a failure of this kind.
pub fn of(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::Internal => INTERNAL,
        FailureKind::Usage => USAGE,
        FailureKind::NotFound => NOT_FOUND,
        FailureKind::Refused => REFUSED,
        FailureKind::Disk => DISK,
        FailureKind::Network => NETWORK,
        FailureKind::Incomplete => INCOMPLETE,
        FailureKind::Interrupted => INTERRUPTED,
    }
}
