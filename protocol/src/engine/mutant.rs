//! Wrong lines, each behind a switch that only tests can turn: a checker is worth what it catches. Without the feature `mutants` there is
//! no switch, `Engine::is` is `false` wherever it stands, and the compiler drops what hangs on it.

#[cfg(feature = "mutants")]
use serde::{Deserialize, Serialize};

use super::Engine;

/// One wrong line each. `docs/simnet.md` says which rule catches which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "mutants", derive(Serialize, Deserialize))]
pub enum Mutant {
    /// Serves whatever it is asked for of a blob of which it holds something.
    ServeAnything,
    /// Serves requests that no credit pays for.
    ServeUnpaid,
    /// Asks a source for as much as it has credits for, whatever it has proved.
    NoLimits,
    /// Asks others for what it has already asked for.
    AskTwice,
    /// Lets idle sources behind a shared or metered link double the requests of slow ones.
    AskTwiceOverLink,
    /// Takes no note of what a request has brought.
    ForgetVerified,
    /// Bans a peer and deals with it all the same.
    IgnoreBan,
    /// On a local network, takes every piece for its own.
    EverybodyOwns,
    /// Says that it holds what is written but not yet durable.
    AnnounceEarly,
    /// What a request did not bring stays taken.
    NeverRelease,
    /// Never again grants anything to a peer that once had no use for it.
    NeverAgain,
    /// Counts blocks as being sent that have been sent.
    ServedForever,
    /// Grants everything to the first of the peers that want something.
    FirstPeer,
}

impl Engine {
    /// Whether this engine is meant to be wrong in this way.
    #[cfg(feature = "mutants")]
    pub(super) fn is(&self, mutant: Mutant) -> bool {
        self.config.mutant == Some(mutant)
    }

    /// No engine is wrong on purpose.
    #[cfg(not(feature = "mutants"))]
    #[inline(always)]
    pub(super) const fn is(&self, _: Mutant) -> bool {
        false
    }
}
