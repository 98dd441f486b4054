//! A connected peer as the engine sees it: what it wants of us, what it was told, and what it is as a source.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::io::PeerClass;
use crate::geometry::Piece;
use crate::ids::{BlobHash, Prefix};
use crate::swarm::source::Source;
use crate::time::Instant;

/// How much a peer has in flight, and would like to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Credits held and requests in flight.
    pub held: u16,
    /// Requests it would like in flight; 0: nothing to ask of us.
    pub limit: u16,
}

impl Load {
    /// The order of need: how full, in 1/1000. The emptiest comes first.
    pub fn fullness(self) -> u32 {
        u32::from(self.held) * 1000 / u32::from(self.limit.max(1))
    }

    /// Whether this differs from `other` enough to be worth telling.
    pub fn differs(self, other: Self) -> bool {
        match (self.limit, other.limit) {
            (0, 0) => false,
            (0, _) | (_, 0) => true,
            // The limit also bounds what a source grants at a time.
            (limit, told) => self.fullness().abs_diff(other.fullness()) >= 250 || limit.abs_diff(told) > told / 4,
        }
    }
}

/// A connected peer.
#[derive(Debug, Clone)]
pub struct Peer {
    /// How it is reached.
    pub class: PeerClass,
    /// The network that it is in.
    pub prefix: Prefix,
    /// As a source.
    pub source: Source,
    /// It once said that it holds something we want: worth looking at when we look for whom to ask.
    pub is_source: bool,
    /// Blobs it wants.
    pub interests: BTreeSet<BlobHash>,
    /// Of those, the ones it was told we hold something of.
    pub told: BTreeSet<BlobHash>,
    /// Pieces we got that it was not told of yet.
    pub news: BTreeMap<BlobHash, BTreeSet<Piece>>,
    /// The load it last reported.
    pub load: Load,
    /// The load we last reported to it.
    pub load_told: Load,
    /// Blobs we asked it about.
    pub asked_about: BTreeSet<BlobHash>,
    /// It handed credits back or let them expire: grant it nothing before this.
    pub skip_until: Instant,
    /// Times in a row that it let credits expire.
    pub expired_in_a_row: u32,
    /// It has used a credit.
    pub has_redeemed: bool,
    /// When it was last told our load.
    pub load_told_at: Instant,
}

impl Peer {
    /// A peer that has just connected.
    pub fn new(class: PeerClass, prefix: Prefix) -> Self {
        Self {
            class,
            prefix,
            source: Source::default(),
            is_source: false,
            interests: BTreeSet::new(),
            told: BTreeSet::new(),
            news: BTreeMap::new(),
            load: Load::default(),
            load_told: Load::default(),
            asked_about: BTreeSet::new(),
            skip_until: Instant::START,
            expired_in_a_row: 0,
            has_redeemed: false,
            load_told_at: Instant::START,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_told_when_it_matters() {
        let load = |held, limit| Load { held, limit };
        assert!(load(0, 16).differs(load(0, 0)), "wanting nothing or something");
        assert!(!load(5, 0).differs(load(0, 0)), "wanting nothing, however busy elsewhere");
        assert!(!load(4, 16).differs(load(5, 16)));
        assert!(load(4, 16).differs(load(8, 16)));
        assert!(load(1, 16).fullness() < load(2, 16).fullness());
    }
}
