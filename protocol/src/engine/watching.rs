//! What others hold of the blobs that we hold whole: it decides what is still rare, and when leaving is safe.

use super::{Engine, Event, PeerClass};
use crate::geometry::{Geometry, Piece};
use crate::ids::{BlobHash, PeerId};
use crate::limits;
use crate::wire::{HavePieces, Message, PieceRun};

/// Blobs watched at one peer: enough for what is being fetched at a time; a peer with more is simply not known so well.
const WATCHED_PER_PEER: usize = 64;

impl Engine {
    /// A peer wants a blob: if we hold all of it, we want to know how far the peer gets.
    pub(super) fn watch(&mut self, peer: PeerId, blob: BlobHash) {
        let whole = self.offers.get(&blob).is_some_and(|offer| offer.map.is_full() && offer.map.pieces() > 0);
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if !whole || self.downloads.contains_key(&blob) || state.asked_about.len() >= WATCHED_PER_PEER {
            return;
        }
        if state.asked_about.insert(blob) {
            state.chatter.expect(1);
            self.send(peer, Message::Interest { blobs: vec![blob] });
        }
    }

    /// Asks everybody who is connected what they hold of these blobs, or tells them that it does not matter any more.
    pub(super) fn survey(&mut self, blobs: &[BlobHash], ends: bool) {
        let ours = |blob: &&BlobHash| self.offers.contains_key(blob) && !self.downloads.contains_key(blob);
        let blobs: Vec<BlobHash> = blobs.iter().filter(ours).take(WATCHED_PER_PEER).copied().collect();
        // What a web server says that it holds is no copy to rely on.
        let peers = self.peers.iter().filter(|(_, state)| state.class != PeerClass::Mirror);
        let peers: Vec<PeerId> = peers.map(|(peer, _)| *peer).collect();
        for peer in peers {
            let Some(state) = self.peers.get_mut(&peer) else { continue };
            let asked = &mut state.asked_about;
            let changed: Vec<BlobHash> = if ends {
                // Whoever wants one is watched anyway, unless what it said was forgotten when the blob was offered anew.
                let (wanted, offers) = (&state.interests, &self.offers);
                let known = |blob: &BlobHash| offers.get(blob).is_some_and(|offer| offer.holders.map_of(peer).is_some());
                let watched = |blob: &BlobHash| wanted.contains(blob) && known(blob);
                blobs.iter().filter(|blob| !watched(blob) && asked.remove(blob)).copied().collect()
            } else {
                let room = limits::INTERESTS_PER_PEER.saturating_sub(asked.len());
                blobs.iter().take(room).filter(|blob| asked.insert(**blob)).copied().collect()
            };
            // What was said before may not hold any more, and will not be told again.
            changed.iter().for_each(|blob| self.unwatch(peer, *blob));
            if !changed.is_empty() {
                let message = if ends { Message::NoInterest { blobs: changed } } else { Message::Interest { blobs: changed } };
                self.send(peer, message);
            }
        }
    }

    /// How many connected peers say that they hold all of a blob that we hold.
    pub fn copies(&self, blob: BlobHash) -> usize {
        let asked = |peer: &PeerId| self.peers.get(peer).is_some_and(|state| state.asked_about.contains(&blob));
        self.offers.get(&blob).map_or(0, |offer| offer.holders.whole().filter(asked).count())
    }

    /// A peer says what it holds of a blob that we do not fetch.
    pub(super) fn watch_all(&mut self, peer: PeerId, blob: BlobHash, size: u64, pieces: &HavePieces) {
        if self.is_mirror(peer) {
            return;
        }
        let Some(offer) = self.offers.get_mut(&blob).filter(|offer| offer.geometry == Geometry::of(size)) else { return };
        let Some(map) = pieces.to_map(offer.geometry) else { return };
        self.injections.change(blob, peer, |injection| map.iter().for_each(|piece| injection.seen(peer, piece)));
        offer.holders.set(peer, map);
        self.judge_leaving(blob);
    }

    /// A peer says what more it holds of such a blob.
    pub(super) fn watch_more(&mut self, peer: PeerId, blob: BlobHash, runs: &[PieceRun]) {
        let Some(offer) = self.offers.get_mut(&blob) else { return };
        let pieces = offer.geometry.pieces();
        let named = runs.iter().flat_map(|run| run.first.0..run.first.0.saturating_add(run.count).min(pieces)).map(Piece);
        let fresh = offer.holders.add(peer, named.take(pieces as usize)).unwrap_or_default();
        self.injections.change(blob, peer, |injection| fresh.into_iter().for_each(|piece| injection.seen(peer, piece)));
        self.judge_leaving(blob);
    }

    /// A peer is gone, or holds nothing of a blob any more: what nobody else holds now goes out again.
    pub(super) fn unwatch(&mut self, peer: PeerId, blob: BlobHash) {
        let Some(offer) = self.offers.get_mut(&blob) else { return };
        let Some(map) = offer.holders.remove(peer) else { return };
        let alone = map.iter().filter(|&piece| offer.holders.count(piece) == 0);
        self.injections.change(blob, peer, |injection| alone.for_each(|piece| injection.lost(piece)));
        self.judge_leaving(blob);
    }

    /// A download is complete: what its sources said about themselves is kept.
    pub(super) fn keep_watching(&mut self, blob: BlobHash) {
        let Some(mut download) = self.downloads.remove(&blob) else { return };
        for mirror in self.mirrors().collect::<Vec<_>>() {
            download.remove_claim(mirror);
        }
        let Some(holders) = download.into_holders() else { return };
        if let Some(offer) = self.offers.get_mut(&blob) {
            offer.holders = holders;
        }
        self.judge_leaving(blob);
    }

    fn judge_leaving(&mut self, blob: BlobHash) {
        let Some(offer) = self.offers.get_mut(&blob) else { return };
        let safe = offer.map.is_full() && offer.holders.all_held_twice();
        if std::mem::replace(&mut offer.leave_safe, safe) != safe && safe {
            self.notify(Event::LeaveSafe { blob });
        }
    }
}
