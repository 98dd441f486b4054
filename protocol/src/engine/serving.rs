//! The sender: what is offered, whom to grant the next block, what became of it.

use super::{Engine, Event, Misdeed, Offer, Output, ServeOutcome};
use crate::geometry::{Geometry, Piece, Span};
use crate::have_map::HaveMap;
use crate::ids::{BlobHash, PeerId, RequestId};
use crate::span_set::SpanSet;
use crate::wire::Message;
use std::collections::BTreeMap;
use std::time::Duration;

/// Every so many grants the class of the peer does not count, so that nobody starves.
const CLASS_BLIND_EVERY: u64 = 10;
/// How long a peer that handed credits back is passed over.
const RETURNED_PAUSE: Duration = Duration::from_millis(50);
/// How long a peer that let credits expire is passed over; doubles with each time in a row.
const EXPIRED_PAUSE: Duration = Duration::from_secs(5);
/// Doublings of that pause.
const EXPIRED_DOUBLINGS: u32 = 6;
/// Credits out to a peer that has never used one, while others wait: a hoarder holds up no more than these.
const UNPROVED_CREDITS: usize = 4;

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
            self.downloads.remove(&blob);
            self.forget_want(blob);
            self.notify(Event::BlobStored { blob });
        }
    }

    fn hold(&mut self, blob: BlobHash, geometry: Geometry, span: Span) {
        let offer = self.offers.entry(blob).or_insert_with(|| Offer::new(geometry));
        offer.held.insert(span);
        let fresh: Vec<Piece> = geometry
            .pieces_touching(span)
            .filter(|&piece| geometry.piece_span(piece).is_some_and(|whole| offer.held.covers(whole)))
            .filter(|&piece| offer.map.insert(piece))
            .collect();
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
            self.correct_news(blob);
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
            || !self.uploads.redeem(self.now, peer, request, bytes)
        {
            // Credits expire while requests travel, so one such refusal is no crime; hundreds are.
            self.emit(Output::Refuse { peer, request, no_credit: true });
            return self.strike(peer, Misdeed::Unsolicited, Some(blob));
        }
        if let Some(state) = self.peers.get_mut(&peer) {
            state.has_redeemed = true;
            state.expired_in_a_row = 0;
        }
        let held = self.offers.get_mut(&blob).filter(|offer| offer.geometry == geometry && offer.held.covers(span));
        let Some(offer) = held else {
            self.uploads.ended(self.now, peer, request, false);
            return self.emit(Output::Refuse { peer, request, no_credit: false });
        };
        for piece in geometry.pieces_touching(span) {
            offer.injected.insert(piece);
        }
        self.emit(Output::Serve { peer, request, blob, span });
    }

    pub(super) fn on_serve_ended(&mut self, peer: PeerId, request: RequestId, outcome: ServeOutcome) {
        self.uploads.ended(self.now, peer, request, outcome == ServeOutcome::Sent);
    }

    pub(super) fn on_return(&mut self, peer: PeerId, credits: u16) {
        self.uploads.returned(peer, credits);
        if let Some(state) = self.peers.get_mut(&peer) {
            state.skip_until = state.skip_until.max(self.now + RETURNED_PAUSE);
        }
    }

    pub(super) fn on_cancel(&mut self, peer: PeerId, request: RequestId) {
        self.emit(Output::StopServing { peer, request });
    }

    /// Takes back what was not used in time, and passes over whoever held it: the uplink may have idled meanwhile.
    pub(super) fn expire_credits(&mut self) {
        for peer in self.uploads.expire(self.now) {
            let Some(state) = self.peers.get_mut(&peer) else { continue };
            let pause = EXPIRED_PAUSE * 2u32.pow(state.expired_in_a_row.min(EXPIRED_DOUBLINGS));
            state.expired_in_a_row += 1;
            state.skip_until = state.skip_until.max(self.now + pause);
        }
    }

    /// Gives out credits until as many are out as the uplink needs, each to the neediest.
    pub(super) fn grant(&mut self) {
        let block_bytes = self.uploads.block_bytes(self.now);
        let mut grants: BTreeMap<PeerId, u16> = BTreeMap::new();
        for _ in 0..self.uploads.wanting(self.now, self.config.first_credits) {
            let Some(peer) = self.neediest() else { break };
            self.uploads.grant(self.now, peer, block_bytes);
            self.grants_made += 1;
            *grants.entry(peer).or_default() += 1;
        }
        self.uploads.granted_all(self.now);
        for (peer, credits) in grants {
            let hint = self.injection(peer);
            self.send(peer, Message::Grant { credits, block_bytes, hint });
        }
    }

    /// The interested peer with the lowest (class, fullness), ties at random.
    fn neediest(&mut self) -> Option<PeerId> {
        let class_counts = !(self.grants_made + 1).is_multiple_of(CLASS_BLIND_EVERY);
        let alone = self.peers.values().filter(|state| state.load.limit > 0 && !state.told.is_empty()).nth(1).is_none();
        let (now, random, uploads) = (self.now, &mut self.random, &self.uploads);
        self.peers
            .iter()
            .filter(|(_, state)| state.load.limit > 0 && !state.told.is_empty() && state.skip_until <= now)
            .map(|(peer, state)| (peer, state, uploads.out_to(*peer)))
            .filter(|(_, state, out)| {
                let most = if state.has_redeemed || alone { self.config.max_requests_per_peer } else { UNPROVED_CREDITS };
                *out < most.min(state.load.limit.into())
            })
            .map(|(peer, state, out)| {
                let mut load = state.load;
                load.held = load.held.max(u16::try_from(out).unwrap_or(u16::MAX));
                ((class_counts.then_some(state.class), load.fullness(), random.any()), *peer)
            })
            .min()
            .map(|(_, peer)| peer)
    }

    /// The piece to suggest while several peers fetch from us and not every piece has gone out once.
    fn injection(&mut self, peer: PeerId) -> Option<(BlobHash, Piece)> {
        let takers = self.peers.values().filter(|state| state.load.limit > 0 && !state.told.is_empty()).count();
        if takers < 2 {
            return None;
        }
        let state = self.peers.get(&peer)?;
        for blob in &state.told {
            let Some(offer) = self.offers.get_mut(blob) else { continue };
            if offer.injected.held() >= offer.map.held() {
                continue;
            }
            let piece = offer.map.iter().find(|&piece| !offer.injected.contains(piece));
            if let Some(piece) = piece {
                offer.injected.insert(piece);
                return Some((*blob, piece));
            }
        }
        None
    }
}
