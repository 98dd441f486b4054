//! What befalls a world.

use std::time::Duration;

use super::site::SiteId;
use crate::network::HostId;

/// Something that befalls a world at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub at: Duration,
    /// What.
    pub what: Trouble,
}

/// What can befall a world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// A host loses what was not synced, and is away for so long; `None`: for ever.
    Crash {
        /// Whom.
        host: HostId,
        /// For how long.
        away: Option<Duration>,
    },
    /// A host sleeps: nothing happens to it for so long, and then everything at once. A laptop's lid.
    Sleep {
        /// Whom.
        host: HostId,
        /// For how long.
        lasts: Duration,
    },
    /// Nothing passes between these hosts and all others; `one_way`: nothing gets out of them, though things get in.
    Partition {
        /// One side.
        side: Vec<HostId>,
        /// For how long.
        lasts: Duration,
        /// Only outwards.
        one_way: bool,
    },
    /// A site's link is down.
    SiteDown {
        /// Whose.
        site: SiteId,
        /// For how long.
        lasts: Duration,
    },
    /// A host's link carries only so many thousandths of its rate.
    Slow {
        /// Whose.
        host: HostId,
        /// Thousandths left.
        permille: u64,
        /// For how long.
        lasts: Duration,
    },
    /// A host's disk takes nothing more; when there is room again its owner lets it go on.
    DiskFull {
        /// Whose.
        host: HostId,
        /// For how long.
        lasts: Duration,
    },
    /// Writes to a host's disk fail.
    DiskFails {
        /// Whose.
        host: HostId,
        /// For how long.
        lasts: Duration,
    },
    /// Groups that a host holds rot; noticed when they are served.
    Rot {
        /// Whose.
        host: HostId,
        /// How many groups, chosen by the seed.
        groups: u64,
    },
}

impl Trouble {
    /// The host it befalls, if it is one.
    pub fn host(&self) -> Option<HostId> {
        match self {
            Self::Crash { host, .. }
            | Self::Sleep { host, .. }
            | Self::Slow { host, .. }
            | Self::DiskFull { host, .. }
            | Self::DiskFails { host, .. }
            | Self::Rot { host, .. } => Some(*host),
            Self::Partition { .. } | Self::SiteDown { .. } => None,
        }
    }
}
