//! The checker's books of one host: what it truly got, what it has asked for, and how it stands with its peers. Small sorted lists and
//! running sums, so that they can be kept in large worlds.

use p2pweights_protocol::engine::PeerClass;
use p2pweights_protocol::geometry::Span;
use p2pweights_protocol::ids::{BlobHash, PeerId, RequestId};
use p2pweights_protocol::time::Instant;

use crate::group_set::GroupSet;

/// One host's books.
#[derive(Debug, Clone, Default)]
pub struct Books {
    /// By blob, in order.
    held: Vec<(BlobHash, Held)>,
    /// Requests that have not ended, by name, in order.
    open: Vec<(RequestId, Open)>,
    /// Payload asked for and not given up.
    open_bytes: u64,
    /// Names of requests that have ended. Names are given in order, or nearly so: as a set of numbers they take no room.
    ended: GroupSet,
    /// When it last learned of a change among those on its local network.
    pub company_at: Instant,
    /// When it last asked for something outside.
    pub outside_at: Instant,
    /// When it last got something from outside.
    pub brought_at: Instant,
    /// First bytes of the names of peers, in order: apart from the rest, so that a search looks at little memory.
    firsts: Vec<u64>,
    /// In the same order.
    peers: Vec<(PeerId, Dealings)>,
}

/// What a host holds of a blob.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// Groups that truly came from a holder, or were there from the beginning.
    pub truly: GroupSet,
    /// Of those, the ones synced.
    pub durable: GroupSet,
    /// What its engine was told is verified, in memory or on disk.
    pub known: GroupSet,
    /// What was durable and turned out to have rotted: it may still be on its way.
    rotted: GroupSet,
}

/// How it stands with a peer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dealings {
    /// It is banned until then.
    pub banned: Option<Instant>,
    /// It has delivered something.
    pub delivered: bool,
    /// Credits granted, not redeemed and not returned; what expires is not seen from outside, so this is an upper bound.
    pub credits: u64,
    /// Requests open there and not given up.
    pub open: usize,
    /// How it is reached, as the engine was told.
    pub class: Option<PeerClass>,
}

/// A request that has not ended.
#[derive(Debug, Clone, Copy)]
pub struct Open {
    /// Whom it was asked of.
    pub provider: PeerId,
    /// The blob.
    pub blob: BlobHash,
    /// The groups.
    pub span: Span,
    /// Payload bytes.
    pub bytes: u64,
    /// Since when.
    pub since: Instant,
    /// Only the size is to be proved.
    pub probe: bool,
    /// Its maker cares for it no more.
    pub given_up: bool,
}

impl Books {
    /// What it holds durably of a blob, if anything.
    pub fn held(&self, blob: BlobHash) -> Option<&GroupSet> {
        let index = self.held.binary_search_by(|(other, _)| other.cmp(&blob)).ok()?;
        Some(&self.held[index].1.durable)
    }

    /// What it holds of a blob, to be changed.
    pub fn held_mut(&mut self, blob: BlobHash) -> &mut Held {
        let index = self.held.binary_search_by(|(other, _)| other.cmp(&blob)).unwrap_or_else(|index| {
            self.held.insert(index, (blob, Held::default()));
            index
        });
        &mut self.held[index].1
    }

    /// Whether it holds all of a span durably.
    pub fn holds(&self, blob: BlobHash, span: Span) -> bool {
        self.held(blob).is_some_and(|held| held.covers(span))
    }

    /// How many groups of a span its engine knows that it has.
    pub fn known_within(&self, blob: BlobHash, span: Span) -> u64 {
        let index = self.held.binary_search_by(|(other, _)| other.cmp(&blob));
        index.map_or(0, |index| self.held[index].1.known.groups_within(span))
    }

    /// How many groups of a span it truly got.
    pub fn truly_within(&self, blob: BlobHash, span: Span) -> u64 {
        let index = self.held.binary_search_by(|(other, _)| other.cmp(&blob));
        index.map_or(0, |index| self.held[index].1.truly.groups_within(span))
    }

    /// What it held turned out damaged.
    pub fn lost(&mut self, blob: BlobHash, span: Span) {
        let held = self.held_mut(blob);
        held.durable.overlaps(span).for_each(|run| _ = held.rotted.insert(run));
        held.durable.remove(span);
        held.known.remove(span);
    }

    /// Whether it has held all of this at one time or another.
    pub fn had(&self, blob: BlobHash, span: Span) -> bool {
        let Ok(index) = self.held.binary_search_by(|(other, _)| other.cmp(&blob)) else { return false };
        let held = &self.held[index].1;
        held.durable.gaps(span).all(|gap| held.rotted.covers(gap))
    }

    /// How it stands with a peer.
    pub fn peer(&self, peer: &PeerId) -> Dealings {
        self.find_peer(peer).map_or(Dealings::default(), |index| self.peers[index].1)
    }

    /// How it stands with a peer, to be changed.
    pub fn peer_mut(&mut self, peer: &PeerId) -> &mut Dealings {
        let index = self.find_peer(peer).unwrap_or_else(|index| {
            self.firsts.insert(index, first_bytes(peer));
            self.peers.insert(index, (*peer, Dealings::default()));
            index
        });
        &mut self.peers[index].1
    }

    /// Whether a peer is banned.
    pub fn is_banned(&self, peer: &PeerId, now: Instant) -> bool {
        self.peer(peer).banned.is_some_and(|until| until > now)
    }

    /// Payload asked for and not given up.
    pub fn open_bytes(&self) -> u64 {
        self.open_bytes
    }

    /// It asks a peer for something; `false` if it has used that name before.
    pub fn open(&mut self, request: RequestId, open: Open) -> bool {
        let new = !self.ended.contains(request.0);
        let Err(index) = self.find(request) else { return false };
        self.open.insert(index, (request, open));
        self.open_bytes += open.bytes;
        self.peer_mut(&open.provider).open += 1;
        new
    }

    /// What it has asked for and still waits for, sizes left out.
    pub fn awaited(&self) -> impl Iterator<Item = &Open> + '_ {
        self.open.iter().map(|(_, open)| open).filter(|open| !open.given_up && !open.probe)
    }

    /// Whether every request has ended.
    pub fn is_at_rest(&self) -> bool {
        self.open.is_empty()
    }

    /// It gives a request up, which may have ended already; `false` if there was none.
    pub fn give_up(&mut self, request: RequestId) -> bool {
        match self.find(request) {
            Ok(index) => {
                self.close(index);
                true
            }
            Err(_) => self.ended.contains(request.0),
        }
    }

    /// A request has ended, which brought so many groups; `None` if it was not open.
    pub fn end(&mut self, request: RequestId, delivered: bool, verified_groups: u64) -> Option<Open> {
        let index = self.find(request).ok()?;
        self.close(index);
        let (_, open) = self.open.remove(index);
        self.peer_mut(&open.provider).delivered |= delivered;
        let verified = Span::new(open.span.start(), open.span.start() + verified_groups.min(open.span.groups()));
        if let Some(verified) = verified.filter(|_| !open.probe) {
            self.held_mut(open.blob).known.insert(verified);
        }
        if let Some(name) = Span::new(request.0, request.0.saturating_add(1)) {
            self.ended.insert(name);
        }
        Some(open)
    }

    /// A peer is gone, and with it what was asked of it and granted to it.
    pub fn gone(&mut self, peer: &PeerId) {
        for index in 0..self.open.len() {
            if self.open[index].1.provider == *peer {
                self.close(index);
            }
        }
        if let Ok(index) = self.find_peer(peer) {
            self.peers[index].1.credits = 0;
        }
    }

    /// It lost what was not synced, and its memory.
    pub fn crash(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        held.iter_mut().for_each(|(_, held)| {
            held.truly = held.durable.clone();
            held.known = held.durable.clone();
        });
        *self = Self { held, ..Self::default() };
    }

    fn find(&self, request: RequestId) -> Result<usize, usize> {
        self.open.binary_search_by_key(&request, |(name, _)| *name)
    }

    fn find_peer(&self, peer: &PeerId) -> Result<usize, usize> {
        let first = first_bytes(peer);
        let mut index = self.firsts.partition_point(|other| *other < first);
        while self.firsts.get(index) == Some(&first) {
            if self.peers[index].0 == *peer {
                return Ok(index);
            }
            index += 1;
        }
        Err(index)
    }

    fn close(&mut self, index: usize) {
        let open = &mut self.open[index].1;
        if !std::mem::replace(&mut open.given_up, true) {
            let (provider, bytes) = (open.provider, open.bytes);
            self.open_bytes -= bytes;
            self.peer_mut(&provider).open -= 1;
        }
    }
}

fn first_bytes(peer: &PeerId) -> u64 {
    let first: [u8; 8] = peer.0[..8].try_into().expect("eight of 32 bytes");
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn asked(provider: PeerId, bytes: u64) -> Open {
        let span = Span::new(0, 1).unwrap();
        Open { provider, blob: BlobHash([1; 32]), span, bytes, since: Instant::START, probe: false, given_up: false }
    }

    proptest! {
        /// The slow oracle: ordered maps, summed up anew each time.
        #[test]
        fn sums_agree_with_counting(steps in prop::collection::vec((0..5u8, 0..20u64, 0..4u8), 0..150)) {
            let mut books = Books::default();
            let mut open: BTreeMap<u64, (u8, bool)> = BTreeMap::new();
            let mut ended = BTreeSet::new();
            for (what, request, provider) in steps {
                let (name, peer) = (RequestId(request), PeerId([provider; 32]));
                match what {
                    0 | 1 => {
                        let new = !open.contains_key(&request) && !ended.contains(&request);
                        open.entry(request).or_insert((provider, false));
                        prop_assert_eq!(books.open(name, asked(peer, request)), new);
                    }
                    2 => {
                        let known = open.get_mut(&request).map(|open| open.1 = true).is_some() || ended.contains(&request);
                        prop_assert_eq!(books.give_up(name), known);
                    }
                    3 => {
                        let known = open.remove(&request).is_some();
                        prop_assert_eq!(books.end(name, true, 0).is_some(), known && { ended.insert(request); true });
                    }
                    _ => {
                        open.values_mut().filter(|open| open.0 == provider).for_each(|open| open.1 = true);
                        books.gone(&peer);
                    }
                }
                let theirs = || open.iter().filter(|(_, (_, given_up))| !given_up);
                prop_assert_eq!(books.open_bytes(), theirs().map(|(request, _)| request).sum::<u64>());
                for provider in 0..4 {
                    let there = theirs().filter(|(_, (theirs, _))| *theirs == provider).count();
                    prop_assert_eq!(books.peer(&PeerId([provider; 32])).open, there);
                }
            }
        }
    }
}
