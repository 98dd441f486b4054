//! A connected peer as the engine sees it: what it wants of us, what it was told, and what it is as a source.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::chatter::Chatter;
use crate::engine::io::PeerClass;
use crate::ids::BlobHash;
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
}

/// A connected peer.
#[derive(Debug, Clone)]
pub struct Peer {
    /// How it is reached.
    pub class: PeerClass,
    /// Since when.
    pub since: Instant,
    /// When it last brought a piece from outside to the local network that we share.
    pub brought_at: Instant,
    /// As a source.
    pub source: Source,
    /// It once said that it holds something we want: worth looking at when we look for whom to ask.
    pub is_source: bool,
    /// How often it was told of others.
    pub told_of_others: u32,
    /// How often others were told of it.
    pub introduced: u32,
    /// Blobs it wants.
    pub interests: BTreeSet<BlobHash>,
    /// Of those, the ones it was told we hold something of, and how far in the offer's log.
    pub told: BTreeMap<BlobHash, usize>,
    /// The load we last reported to it.
    pub load_told: Load,
    /// Blobs we asked it about.
    pub asked_about: BTreeSet<BlobHash>,
    /// How much it says.
    pub chatter: Chatter,
}

impl Peer {
    /// A peer that has just connected.
    pub fn new(class: PeerClass, since: Instant) -> Self {
        Self {
            class,
            since,
            brought_at: Instant::START,
            source: Source::default(),
            is_source: false,
            told_of_others: 0,
            introduced: 0,
            interests: BTreeSet::new(),
            told: BTreeMap::new(),
            load_told: Load::default(),
            asked_about: BTreeSet::new(),
            chatter: Chatter::default(),
        }
    }
}
