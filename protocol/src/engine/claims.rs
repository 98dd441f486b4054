//! A local network behind a thin link fetches each piece once: a few of its members ask outside, each for pieces of its own; the rest
//! comes from one another. No leader and no messages: all rank the members of whom they know by the same hash.
//!
//! Who asks for a piece is its *owner*: of the *gateways*, the one with the highest hash of (piece, member); gateways are the members
//! with the highest hash of (blob, member), a few of them, so that a thin link is not filled with requests (rendezvous hashing, Thaler and
//! Ravishankar 1998). A gateway that brings nothing while others do loses its lease, and the next in rank takes its place.

use std::time::Duration;

use super::mutant::Mutant;
use super::{Engine, PeerClass};
use crate::geometry::Piece;
use crate::have_map::HaveMap;
use crate::ids::{BlobHash, PeerId};
use crate::time::Instant;

/// Members that ask outside. Each has a few requests in flight, and all of them share the link.
const GATEWAYS: usize = 4;
/// How long a gateway may bring nothing before the next takes its place. Longer than a request may take ([`limits::DEADLINE_MAX`]).
///
/// [`limits::DEADLINE_MAX`]: crate::limits::DEADLINE_MAX
const LEASE: Duration = Duration::from_secs(120);

/// How often leases are looked at.
const REVIEW_PAUSE: Duration = Duration::from_secs(10);

/// What this node is to ask outside for, of one blob.
#[derive(Debug, Clone)]
pub(super) struct Ours {
    gateways: Vec<PeerId>,
    pieces: HaveMap,
}

impl Engine {
    /// Takes note of who on the local network wants these blobs too.
    pub(super) fn review_claims(&mut self, blobs: &[BlobHash]) {
        let Some(me) = self.config.me else { return };
        blobs.iter().for_each(|blob| self.review(me, *blob));
    }

    /// Now and then: leases may have run out.
    pub(super) fn review_leases(&mut self) {
        if self.ours.is_empty() || self.now < self.next_review {
            return;
        }
        self.next_review = self.now + REVIEW_PAUSE;
        self.ours.retain(|blob, _| self.downloads.contains_key(blob));
        let blobs: Vec<BlobHash> = self.ours.keys().copied().collect();
        self.review_claims(&blobs);
    }

    fn review(&mut self, me: PeerId, blob: BlobHash) {
        let Some(geometry) = self.downloads.get(&blob).and_then(|download| download.geometry()) else { return };
        let gateways = self.gateways(me, blob);
        if gateways.is_empty() {
            if self.ours.remove(&blob).is_some() {
                self.mark_sources_ready();
            }
        } else if self.ours.get(&blob).is_none_or(|ours| ours.gateways != gateways) {
            let (mut pieces, all) = (HaveMap::empty(geometry.pieces()), self.is(Mutant::EverybodyOwns));
            let mine = (0..geometry.pieces()).map(Piece).filter(|&piece| all || owner(&gateways, piece) == Some(me));
            mine.for_each(|piece| _ = pieces.insert(piece));
            self.ours.insert(blob, Ours { gateways, pieces });
            self.mark_sources_ready();
        }
    }

    /// The members that ask outside; none if this node has no company.
    fn gateways(&self, me: PeerId, blob: BlobHash) -> Vec<PeerId> {
        let mates = self.peers.iter().filter(|(_, state)| state.class == PeerClass::Lan && state.interests.contains(&blob));
        let mut members: Vec<(bool, u64, PeerId)> =
            mates.map(|(peer, state)| (self.is_idle(state.brought_at.max(state.since)), rank(blob.0, *peer), *peer)).collect();
        if members.is_empty() {
            return Vec::new();
        }
        members.push((self.is_idle(self.brought_at), rank(blob.0, me), me));
        members.sort_unstable_by_key(|(idle, rank, peer)| (*idle, std::cmp::Reverse(*rank), *peer));
        let working = members.iter().filter(|(idle, ..)| !idle).count();
        if working == 0 && self.may_take_over(blob, members.iter().position(|(_, _, peer)| *peer == me).unwrap_or(0)) {
            return vec![me];
        }
        members.truncate(if working == 0 { GATEWAYS } else { working.min(GATEWAYS) });
        let mut gateways: Vec<PeerId> = members.into_iter().map(|(_, _, peer)| peer).collect();
        gateways.sort_unstable();
        gateways
    }

    /// Whether a member that brought something then has brought nothing for a lease since.
    fn is_idle(&self, brought_at: Instant) -> bool {
        self.now - brought_at >= LEASE
    }

    /// Nobody brings anything, and has not for a lease since this node had somebody outside to ask: perhaps those that should ask cannot
    /// get out. One after the other in rank tries, a fraction of a lease apart, until something comes.
    fn may_take_over(&self, blob: BlobHash, place: usize) -> bool {
        let Some(download) = self.downloads.get(&blob) else { return false };
        let outside = self
            .peers
            .iter()
            .filter(|(peer, state)| state.class != PeerClass::Lan && download.map_of(**peer).is_some_and(|map| map.held() > 0));
        let latest = self.peers.values().filter(|state| state.class == PeerClass::Lan).map(|state| state.brought_at);
        let latest = latest.max().unwrap_or_default().max(self.brought_at);
        outside
            .map(|(_, state)| state.since.max(latest))
            .min()
            .is_some_and(|since| self.now - since >= LEASE + LEASE / GATEWAYS as u32 * u32::try_from(place).unwrap_or(u32::MAX))
    }

    /// A member of the local network holds pieces. If it owns one of them, or nobody else here has it, it came from outside: the
    /// member's link works.
    pub(super) fn note_brought(&mut self, peer: PeerId, blob: BlobHash, pieces: impl Iterator<Item = Piece>) {
        let (Some(ours), Some(download)) = (self.ours.get(&blob), self.downloads.get(&blob)) else { return };
        let Some(state) = self.peers.get(&peer) else { return };
        if state.class != PeerClass::Lan || self.now - state.brought_at < LEASE / 4 {
            return;
        }
        let mates = || self.peers.iter().filter(|(other, state)| **other != peer && state.class == PeerClass::Lan);
        let first = |piece| {
            download.missing().contains(piece)
                && !mates().any(|(mate, _)| download.map_of(*mate).is_some_and(|map| map.contains(piece)))
        };
        let mut pieces = pieces;
        let brought = pieces.any(|piece| owner(&ours.gateways, piece) == Some(peer) || first(piece));
        if brought && let Some(state) = self.peers.get_mut(&peer) {
            state.brought_at = self.now;
        }
    }

    /// Whether what this peer sends crosses a link that others here share, so that nothing may cross it twice.
    pub(super) fn is_shared_way(&self, peer: PeerId, blob: BlobHash) -> bool {
        let class = self.peers.get(&peer).map(|state| state.class);
        class != Some(PeerClass::Lan) && (class == Some(PeerClass::Metered) || self.ours.contains_key(&blob))
    }

    /// What may be asked of a peer, of the pieces it has. `None`: whatever it has.
    pub(super) fn claimable_of(&self, peer: PeerId, blob: BlobHash, has: &HaveMap) -> Option<HaveMap> {
        // Where nobody else here fetches it, nobody shares the link.
        let alone = self.is_mirror(peer) && !self.peers_suffice() && self.fetches_alone(blob);
        let ours = if alone { None } else { self.claimable_outside(peer, blob, has) };
        match self.left_to_mirror(peer, blob, ours.as_ref().unwrap_or(has)) {
            None => ours,
            left => left,
        }
    }

    /// Whether all on the local network who are interested in a blob have all of it.
    fn fetches_alone(&self, blob: BlobHash) -> bool {
        let Some(download) = self.downloads.get(&blob) else { return false };
        let mut mates = self.peers.iter().filter(|(_, state)| state.class == PeerClass::Lan && state.interests.contains(&blob));
        mates.all(|(mate, _)| download.map_of(*mate).is_some_and(HaveMap::is_full))
    }

    /// Of a peer outside: ours, as long as nobody here holds them.
    fn claimable_outside(&self, peer: PeerId, blob: BlobHash, has: &HaveMap) -> Option<HaveMap> {
        let ours = self.ours.get(&blob).filter(|_| self.peers.get(&peer).is_some_and(|state| state.class != PeerClass::Lan))?;
        let download = self.downloads.get(&blob)?;
        let mut claimable = ours.pieces.clone();
        claimable.retain_common(has);
        if claimable.held() == 0 {
            return Some(claimable);
        }
        for (mate, _) in self.peers.iter().filter(|(_, state)| state.class == PeerClass::Lan) {
            if let Some(theirs) = download.map_of(*mate) {
                claimable.retain_without(theirs);
            }
        }
        Some(claimable)
    }
}

/// Of the gateways, the one to ask outside for a piece.
fn owner(gateways: &[PeerId], piece: Piece) -> Option<PeerId> {
    gateways.iter().copied().max_by_key(|peer| (mix(u64::from(piece.0), *peer), *peer))
}

fn rank(of: [u8; 32], peer: PeerId) -> u64 {
    mix(u64::from_le_bytes(*of.first_chunk().expect("32 bytes begin with 8")), peer)
}

/// A hash that all members compute alike (the finaliser of SplitMix64, Steele et al. 2014). Whoever mints names to rank high only gets
/// more to fetch.
fn mix(what: u64, peer: PeerId) -> u64 {
    let name = u64::from_le_bytes(*peer.0.first_chunk().expect("32 bytes begin with 8"));
    let mut mixed = what.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ name;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: u8) -> Vec<PeerId> {
        (0..count).map(|name| PeerId(BlobHash::of(&[name]).0)).collect()
    }

    #[test]
    fn each_piece_has_one_owner_and_most_keep_theirs_when_one_goes() {
        let all = members(4);
        let owners: Vec<PeerId> = (0..4000).map(|piece| owner(&all, Piece(piece)).expect("somebody")).collect();
        for member in &all {
            let share = owners.iter().filter(|owner| *owner == member).count();
            assert!((850..1150).contains(&share), "{share} of 4000");
        }
        let fewer = &all[1..];
        for (piece, before) in (0..4000).zip(owners) {
            let after = owner(fewer, Piece(piece));
            assert!(before == all[0] || after == Some(before), "only the pieces of who went change hands");
        }
        assert_eq!(owner(&[], Piece(0)), None);
    }
}
