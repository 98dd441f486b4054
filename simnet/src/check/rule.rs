//! The rules by name.

use std::fmt;

/// A rule that must hold in every world: I1 to I15 always, L1 to L7 once nothing befalls it any more.
///
/// `docs/simnet.md` says which of them are looked at here, where the others are, and which wrong engine each of them catches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A byte marked present equals the true byte.
    I1,
    /// Nothing is served that is not verified and durable.
    I2,
    /// Granted is what was served, returned or expired; never is more served than granted.
    I3,
    /// What is in flight stays within its limits, and each request ends exactly once.
    I4,
    /// A group is asked for twice only when all that is left has been asked for, and never over a link that is shared or metered.
    I5,
    /// All bytes sent are received, lost or in flight.
    I6,
    /// Nobody is sent what it has.
    I7,
    /// Memory, queues and timers stay under their caps for any input.
    I8,
    /// Rates and quotas are never exceeded.
    I9,
    /// No packet leaves a sealed network.
    I10,
    /// A banned peer is asked nothing and granted nothing.
    I11,
    /// On a local network one member at most asks outside for a piece.
    I12,
    /// Before a peer has proved who it is, it is sent no more than three times what it sent.
    I13,
    /// What is claimed, offered or reported as stored is synced.
    I14,
    /// The same seed makes the same world.
    I15,
    /// All finish, within 1.25 of the bound and a minute.
    L1,
    /// No pair in which one lacks what the other has idles while that other's uplink idles.
    L2,
    /// When all is over and quiet, no credit is out and no request open.
    L3,
    /// Nobody starves while others are served.
    L4,
    /// The rarest piece's copies never fall while somebody with a credit to give is connected to a seeker.
    L5,
    /// Half a minute after a disk has room again, things go on.
    L6,
    /// What cannot be finished is named, piece by piece.
    L7,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
