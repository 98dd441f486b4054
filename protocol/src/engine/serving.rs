//! The sender: what is offered, whom to grant the next block, what became of it.

use super::injection::Injection;
use super::mutant::Mutant;
use super::{Engine, Event, Misdeed, Offer, Output, ServeOutcome};
use crate::geometry::{GROUP_BYTES, Geometry, Piece, Span, groups_in_block};
use crate::have_map::HaveMap;
use crate::ids::{BlobHash, PeerId, RequestId};
use crate::span_set::SpanSet;
use crate::wire::Message;
use std::ops::Bound;
use std::time::Duration;

/// How long a peer that handed credits back is passed over.
const RETURNED_PAUSE: Duration = Duration::from_millis(50);

/// Blobs looked at for one of which something can be promised: of those that are left, hardly any is of no use to a peer.
const INJECTION_LOOKS: usize = 256;

impl Engine {
    pub(super) fn offer(&mut self, blob: BlobHash, size: u64, held: &SpanSet) {
        let geometry = Geometry::of(size);
        if self.offers.get(&blob).is_some_and(|offer| offer.geometry != geometry) {
            self.withdraw(blob);
        }
        for span in held.runs().filter(|span| geometry.contains(*span)) {
            self.hold(blob, geometry, span);
        }
        if geometry.pieces() == 0 {
            self.offers.entry(blob).or_insert_with(|| Offer::new(geometry));
            self.announce(blob);
        }
    }

    pub(super) fn withdraw(&mut self, blob: BlobHash) {
        if let Some(offer) = self.offers.remove(&blob) {
            self.injections.forget(blob);
            self.correct_news(blob);
            if offer.announced {
                self.emit(Output::Unannounce { blob });
            }
        }
    }

    /// These groups are verified and durable: they may be served and announced.
    pub(super) fn on_stored(&mut self, blob: BlobHash, size: u64, span: Span) {
        let geometry = Geometry::of(size);
        let contradicted = self.offers.get(&blob).is_some_and(|offer| offer.geometry != geometry);
        if contradicted || !geometry.contains(span) {
            return;
        }
        if let Some(download) = self.downloads.get_mut(&blob).filter(|download| download.geometry() == Some(geometry)) {
            let before = download.is_verified();
            download.verified_span(span);
            if download.is_verified() && !before {
                self.notify(Event::BlobVerified { blob });
            }
            self.reopen(blob);
        }
        self.hold(blob, geometry, span);
        self.finish_if_held(blob);
    }

    /// A download whose every group is durable is over.
    pub(super) fn finish_if_held(&mut self, blob: BlobHash) {
        let Some(download) = self.downloads.get(&blob).filter(|download| download.is_verified()) else { return };
        let Some(geometry) = download.geometry() else { return };
        let held = self.offers.get(&blob).map_or(0, |offer| offer.held.groups());
        if held == geometry.groups() {
            self.open.remove(&(download.order(), blob));
            self.keep_watching(blob);
            self.forget_want(blob);
            self.notify(Event::BlobStored { blob });
        }
    }

    fn hold(&mut self, blob: BlobHash, geometry: Geometry, span: Span) {
        let offer = self.offers.entry(blob).or_insert_with(|| Offer::new(geometry));
        self.largest_piece = self.largest_piece.max(geometry.piece_groups() * GROUP_BYTES);
        offer.held.insert(span);
        let fresh: Vec<Piece> = geometry
            .pieces_touching(span)
            .filter(|&piece| geometry.piece_span(piece).is_some_and(|whole| offer.held.covers(whole)))
            .filter(|&piece| offer.map.insert(piece))
            .collect();
        if offer.map.is_full() {
            self.injections.held_whole(blob);
        }
        if !fresh.is_empty() {
            self.announce(blob);
            self.spread_news(blob, &fresh);
        }
    }

    fn announce(&mut self, blob: BlobHash) {
        let Some(offer) = self.offers.get_mut(&blob) else { return };
        if !std::mem::replace(&mut offer.announced, true) {
            self.emit(Output::Announce { blob });
        }
    }

    /// Groups are damaged: not served from now on, and wanted again if the blob is.
    pub(super) fn on_lost(&mut self, blob: BlobHash, span: Span) {
        if let Some(offer) = self.offers.get_mut(&blob).filter(|offer| offer.geometry.contains(span)) {
            offer.held.remove(span);
            offer.map = HaveMap::of_held(offer.geometry, &offer.held);
            offer.log.clear();
            let gone = offer.map.held() == 0 && std::mem::take(&mut offer.announced);
            self.injections.forget(blob);
            self.correct_news(blob);
            if gone {
                self.emit(Output::Unannounce { blob });
            }
        }
        if let Some(download) = self.downloads.get_mut(&blob)
            && download.geometry().is_some_and(|geometry| geometry.contains(span))
        {
            download.lost_span(span);
            self.reclaim(blob, span);
            self.mark_sources_ready();
        }
    }

    pub(super) fn on_requested(&mut self, peer: PeerId, request: RequestId, blob: BlobHash, size: u64, span: Span) {
        if self.peer_mut(peer).is_none() {
            return self.emit(Output::Refuse { peer, request, no_credit: true });
        }
        let geometry = Geometry::of(size);
        let bytes = geometry.bytes_in(span);
        if self.uploads.serving_for(peer) >= self.config.max_requests_per_peer
            || !(self.uploads.redeem(self.now, peer, request, bytes) || self.is(Mutant::ServeUnpaid))
        {
            // Credits expire while requests travel, so one such refusal is no crime; hundreds are.
            self.emit(Output::Refuse { peer, request, no_credit: true });
            return self.strike(peer, Misdeed::Unsolicited, Some(blob));
        }
        if !self.injections.change(blob, peer, |injection| injection.redeemed(peer)).unwrap_or(false) {
            self.void_promise(peer, Injection::redeemed); // It was meant for another blob.
        }
        let any = self.is(Mutant::ServeAnything);
        if !self.offers.get(&blob).is_some_and(|offer| offer.geometry == geometry && (any || offer.held.covers(span))) {
            self.uploads.ended(self.now, peer, request, false);
            return self.emit(Output::Refuse { peer, request, no_credit: false });
        }
        self.injections.change(blob, peer, |injection| injection.requested(peer, span));
        self.serving.insert((peer, request), (blob, span));
        self.emit(Output::Serve { peer, request, blob, span });
    }

    pub(super) fn on_serve_ended(&mut self, peer: PeerId, request: RequestId, outcome: ServeOutcome) {
        let served = self.serving.remove(&(peer, request));
        if !self.is(Mutant::ServedForever) {
            self.uploads.ended(self.now, peer, request, outcome == ServeOutcome::Sent);
        }
        if outcome != ServeOutcome::Sent
            && let Some((blob, span)) = served
        {
            self.injections.change(blob, peer, |injection| injection.failed(peer, span));
        }
    }

    pub(super) fn on_return(&mut self, peer: PeerId, credits: u16) {
        for _ in 0..self.uploads.returned(peer, credits) {
            self.void_promise(peer, Injection::unused);
        }
        self.uploads.rest(peer, self.now + RETURNED_PAUSE);
    }

    /// A peer does not need the piece that a credit was for: it gets others.
    pub(super) fn on_decline(&mut self, peer: PeerId, blob: BlobHash, piece: Piece) {
        if self.injections.change(blob, peer, |injection| injection.declined(peer, piece)).unwrap_or(false) {
            self.uploads.returned(peer, 1);
        }
    }

    /// A credit is used or gone, and with it one promise, of whatever blob it was made.
    fn void_promise(&mut self, peer: PeerId, how: fn(&mut Injection, PeerId) -> bool) {
        let Some(state) = self.peers.get(&peer) else { return };
        let Some(blob) = self.injections.promised_to(peer).find(|blob| state.told.contains_key(blob)) else { return };
        self.injections.change(blob, peer, |injection| how(injection, peer));
    }

    pub(super) fn on_cancel(&mut self, peer: PeerId, request: RequestId) {
        self.emit(Output::StopServing { peer, request });
    }

    /// Takes back what was not used in time: the uplink may have idled meanwhile.
    pub(super) fn expire_credits(&mut self) {
        for peer in self.uploads.expire(self.now) {
            self.void_promise(peer, Injection::unused);
        }
    }

    /// Gives out credits until as many are out as the uplink needs, each to the neediest.
    pub(super) fn grant(&mut self) {
        if !self.uploads.take_changed(self.now) && !self.woken {
            return;
        }
        let wanting = self.uploads.wanting(self.now, self.config.first_credits);
        if wanting == 0 {
            return self.uploads.granted_all(self.now);
        }
        let block_bytes = self.uploads.block_bytes(self.now, self.largest_piece);
        let mut grants: Vec<(PeerId, u16)> = Vec::new();
        for _ in 0..wanting {
            let Some(peer) = self.uploads.neediest(self.now, self.config.first_credits, &mut self.random) else { break };
            let peer = if self.is(Mutant::FirstPeer) { self.uploads.hungry().next().unwrap_or(peer) } else { peer };
            self.uploads.grant(self.now, peer, block_bytes);
            if let Some(hint) = self.inject(peer, block_bytes) {
                self.send(peer, Message::Grant { credits: 1, block_bytes, hint: Some(hint) });
                continue;
            }
            match grants.iter_mut().find(|(other, _)| *other == peer) {
                Some((_, credits)) => *credits += 1,
                None => grants.push((peer, 1)),
            }
        }
        self.uploads.granted_all(self.now);
        for (peer, credits) in grants {
            self.send(peer, Message::Grant { credits, block_bytes, hint: None });
        }
    }

    /// What a credit is for, while several peers fetch a blob that we hold whole and not all of it has gone out once.
    fn inject(&mut self, peer: PeerId, block_bytes: u32) -> Option<(BlobHash, Piece)> {
        let told = &self.peers.get(&peer)?.told;
        // Alone there is nobody to trade with.
        let crowd = self.uploads.hungry().nth(1).is_some();
        let mut from = Bound::Unbounded;
        for _ in 0..INJECTION_LOOKS {
            let blob = self.injections.next(from, crowd)?;
            let &wanted = told.range(blob..).next()?.0;
            if wanted != blob {
                from = Bound::Included(wanted);
                continue;
            }
            from = Bound::Excluded(blob);
            let offer = self.offers.get(&blob)?;
            if !self.injections.has_begun(blob) {
                let wants = |other: &PeerId| self.peers.get(other).is_some_and(|state| state.told.contains_key(&blob));
                if self.uploads.hungry().filter(wants).nth(1).is_none() {
                    continue;
                }
                let mut injection = Injection::new(offer.geometry, self.random.below(offer.geometry.groups()));
                let known = (0..offer.geometry.pieces()).map(Piece).filter(|&piece| offer.holders.count(piece) > 0);
                known.for_each(|piece| injection.seen(peer, piece));
                self.injections.begin(blob, injection);
            }
            let has = offer.holders.map_of(peer);
            let block_groups = groups_in_block(block_bytes.into());
            let piece = self.injections.change(blob, peer, |injection| injection.promise(peer, has, block_groups)).flatten();
            if let Some(piece) = piece {
                return Some((blob, piece));
            }
        }
        None
    }
}
