//! Peers that come, go and misbehave.

use super::discovery::DIALS_AT_A_TIME;
use super::mutant::Mutant;
use super::peer::Peer;
use super::{Engine, Event, HangupReason, Misdeed, Output, PeerClass};
use crate::ids::{BlobHash, PeerId, Prefix};
use crate::limits;

impl Engine {
    pub(super) fn on_connected(&mut self, peer: PeerId, class: PeerClass, prefix: Prefix) {
        let wanted = self.dialing.remove(&peer);
        if self.peers.contains_key(&peer) {
            return;
        }
        if self.reputation.is_banned(self.now, peer) {
            self.emit(Output::Hangup { peer, reason: HangupReason::Banned });
        } else if class != PeerClass::Mirror && self.is_full_for(class, wanted) {
            self.turn_away(peer);
        } else {
            self.peers.insert(peer, Peer::new(class, self.now));
            if class != PeerClass::Mirror {
                self.uploads.meet(peer, class, prefix);
            }
            self.introduce(peer);
        }
    }

    fn is_full_for(&self, class: PeerClass, wanted: bool) -> bool {
        self.peers.len() >= limits::PEERS || (!wanted && class != PeerClass::Lan && self.has_company())
    }

    /// The peer's state, made up if it spoke before its connection was reported; `None` if it is not to be dealt with.
    pub(super) fn peer_mut(&mut self, peer: PeerId) -> Option<&mut Peer> {
        if !self.peers.contains_key(&peer) {
            self.on_connected(peer, PeerClass::Wan, Prefix::default());
        }
        self.peers.get_mut(&peer)
    }

    pub(super) fn on_gone(&mut self, peer: PeerId) {
        self.dialing.remove(&peer);
        if self.peers.contains_key(&peer) {
            self.forget(peer);
            self.reputation.failed(&self.config, self.now, peer);
            self.mark_sources_ready();
        }
    }

    pub(super) fn on_dial_failed(&mut self, peer: PeerId) {
        if self.dialing.remove(&peer) {
            self.reputation.failed(&self.config, self.now, peer);
        }
    }

    pub(super) fn dial(&mut self, peer: PeerId) {
        let known = self.peers.contains_key(&peer) || self.dialing.contains(&peer);
        if !known && self.dialing.len() < DIALS_AT_A_TIME && self.reputation.not_before(self.now, peer).is_none() {
            self.dialing.insert(peer);
            self.emit(Output::Dial { peer });
        }
    }

    pub(super) fn strike(&mut self, peer: PeerId, misdeed: Misdeed, blob: Option<BlobHash>) {
        self.notify(Event::Struck { peer, misdeed, blob });
        if let Some(until) = self.reputation.strike(&self.config, self.now, peer, misdeed) {
            self.notify(Event::Banned { peer, until });
            if !self.is(Mutant::IgnoreBan) {
                self.hang_up(peer, HangupReason::Banned);
            }
        }
    }

    pub(super) fn hang_up(&mut self, peer: PeerId, reason: HangupReason) {
        self.forget(peer);
        self.reputation.failed(&self.config, self.now, peer);
        self.emit(Output::Hangup { peer, reason });
        self.mark_sources_ready();
    }

    /// Drops all that is known of a peer but its reputation; what was asked of it is open again.
    fn forget(&mut self, peer: PeerId) {
        for request in self.ledger.of_provider(peer) {
            self.abandon(request);
        }
        self.ready.remove(&peer);
        self.uploads.forget(peer);
        self.serving.retain(|(other, _), _| *other != peer);
        self.injections.gone(peer);
        let Some(gone) = self.peers.remove(&peer) else { return };
        if gone.class == PeerClass::Lan {
            self.review_claims(&gone.interests.iter().copied().collect::<Vec<_>>());
        }
        for blob in gone.asked_about {
            if let Some(download) = self.downloads.get_mut(&blob) {
                download.remove_claim(peer);
            }
            self.unwatch(peer, blob);
        }
    }
}
