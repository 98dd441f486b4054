//! Who holds what: interests, have-maps and their deltas, in both directions; and how much more each of us could take.

use std::collections::BTreeSet;

use super::peer::Load;
use super::{Alarm, Engine, Event, Misdeed, Offer};
use crate::geometry::{Geometry, Piece};
use crate::ids::{BlobHash, PeerId};
use crate::limits;
use crate::swarm::download::Claim;
use crate::wire::{HavePieces, Message, PieceRun};

/// Smallest number of requests we report wanting in flight.
const LOAD_LIMIT_MIN: u64 = 4;
/// Largest number, whatever the rate: more could not be in flight within `limits::IN_FLIGHT_BYTES`.
const LOAD_LIMIT_MAX: u64 = limits::IN_FLIGHT_BYTES / limits::BLOCK_MIN_BYTES as u64;

impl Engine {
    pub(super) fn on_message(&mut self, peer: PeerId, message: Message) {
        if message.violation().is_some() {
            return self.strike(peer, Misdeed::BadMessage, None);
        }
        if self.peer_mut(peer).is_none() {
            return;
        }
        match message {
            Message::Hello { .. } => (),
            Message::Interest { blobs } => self.on_interest(peer, &blobs),
            Message::NoInterest { blobs } => self.on_no_interest(peer, &blobs),
            Message::Have { blob, size, pieces } => self.on_have(peer, blob, size, &pieces),
            Message::HaveMore { blob, runs } => self.on_have_more(peer, blob, &runs),
            Message::HaveNot { blobs } => self.on_have_not(peer, &blobs),
            Message::Load { held, limit } => self.on_load(peer, Load { held, limit }),
            Message::Grant { credits, block_bytes, hint } => self.on_grant(peer, credits, block_bytes, hint),
            Message::Return { credits } => self.on_return(peer, credits),
            Message::Cancel { request } => self.on_cancel(peer, request),
        }
    }

    // What we hold, told to others.

    fn on_interest(&mut self, peer: PeerId, blobs: &[BlobHash]) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if state.interests.len() + blobs.len() > limits::INTERESTS_PER_PEER {
            return self.strike(peer, Misdeed::BadMessage, None);
        }
        state.interests.extend(blobs);
        let mut lacking = Vec::new();
        for &blob in blobs {
            if !self.tell_all(peer, blob) {
                lacking.push(blob);
            }
        }
        if !lacking.is_empty() {
            self.send(peer, Message::HaveNot { blobs: lacking });
        }
        // Whoever wants what we want may soon hold some of it.
        if blobs.iter().any(|blob| self.downloads.contains_key(blob)) {
            self.ask_about_all(peer, true);
        }
    }

    fn on_no_interest(&mut self, peer: PeerId, blobs: &[BlobHash]) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        for blob in blobs {
            state.interests.remove(blob);
            state.told.remove(blob);
            state.news.remove(blob);
        }
    }

    /// Tells a peer all that we hold of a blob; `false` if that is nothing.
    fn tell_all(&mut self, peer: PeerId, blob: BlobHash) -> bool {
        let Some(state) = self.peers.get_mut(&peer) else { return false };
        state.news.remove(&blob);
        match self.offers.get(&blob) {
            Some(offer) if offer.map.held() > 0 || offer.geometry.pieces() == 0 => {
                state.told.insert(blob);
                let message = Message::Have { blob, size: offer.geometry.size(), pieces: HavePieces::of(&offer.map) };
                self.send(peer, message);
                true
            }
            _ => {
                state.told.remove(&blob);
                false
            }
        }
    }

    /// Fresh pieces of ours: to be told to whoever is interested, a little later and together.
    pub(super) fn spread_news(&mut self, blob: BlobHash, pieces: &[Piece]) {
        let mut any = false;
        for state in self.peers.values_mut().filter(|state| state.interests.contains(&blob)) {
            state.news.entry(blob).or_default().extend(pieces);
            any = true;
        }
        if any {
            self.wake_in(Alarm::News, self.config.news_delay);
        }
    }

    /// Everybody who was told of a blob is told anew: something was lost, or all of it.
    pub(super) fn correct_news(&mut self, blob: BlobHash) {
        let told: Vec<PeerId> =
            self.peers.iter().filter(|(_, state)| state.told.contains(&blob)).map(|(peer, _)| *peer).collect();
        for peer in told {
            if !self.tell_all(peer, blob) {
                self.send(peer, Message::HaveNot { blobs: vec![blob] });
            }
        }
    }

    pub(super) fn tell_news(&mut self) {
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        let dropped = std::mem::take(&mut self.dropped);
        for peer in peers {
            let Some(state) = self.peers.get_mut(&peer) else { continue };
            let news = std::mem::take(&mut state.news);
            let told: BTreeSet<BlobHash> = state.told.clone();
            let dropped: Vec<BlobHash> = dropped.iter().filter(|blob| state.asked_about.remove(blob)).copied().collect();
            for blobs in dropped.chunks(limits::BLOBS_PER_MESSAGE) {
                self.send(peer, Message::NoInterest { blobs: blobs.to_vec() });
            }
            for (blob, pieces) in news {
                if !told.contains(&blob) {
                    self.tell_all(peer, blob);
                    continue;
                }
                // What the peer says it holds it will not ask for.
                let theirs = self.downloads.get(&blob).and_then(|download| download.map_of(peer));
                let pieces: BTreeSet<Piece> =
                    pieces.into_iter().filter(|piece| !theirs.is_some_and(|map| map.contains(*piece))).collect();
                for runs in runs_of(&pieces).chunks(limits::RUNS_PER_MESSAGE) {
                    self.send(peer, Message::HaveMore { blob, runs: runs.to_vec() });
                }
            }
        }
    }

    // What others hold, told to us.

    fn on_have(&mut self, peer: PeerId, blob: BlobHash, size: u64, pieces: &HavePieces) {
        if !self.peers.get(&peer).is_some_and(|state| state.asked_about.contains(&blob)) {
            return; // Late news of something we no longer want.
        }
        let Some(download) = self.downloads.get_mut(&blob) else { return };
        if (size == 0) != (blob == BlobHash::of(b"")) {
            return self.strike(peer, Misdeed::FalseClaim, Some(blob));
        }
        match download.set_claim(peer, size, pieces) {
            None => self.strike(peer, Misdeed::BadMessage, Some(blob)),
            Some(Claim::OtherSize(claimed)) => {
                let claimed = *claimed;
                self.notify(Event::SizeDisputed { blob, peer, claimed });
            }
            Some(_) => {
                if let Some(state) = self.peers.get_mut(&peer) {
                    state.is_source = true;
                }
                self.source_changed(peer);
            }
        }
    }

    fn on_have_more(&mut self, peer: PeerId, blob: BlobHash, runs: &[PieceRun]) {
        let Some(download) = self.downloads.get_mut(&blob) else { return };
        let claimable = download.claimable(peer);
        let pieces = claimable.or(download.geometry().map(Geometry::pieces)).unwrap_or(u32::MAX);
        // No piece is news twice, so all runs together name no more than the blob has.
        let mut named = 0;
        for run in runs {
            named += u64::from(run.count);
            let end = run.first.0.checked_add(run.count).filter(|end| *end <= pieces && named <= u64::from(pieces));
            let Some(end) = end else { return self.strike(peer, Misdeed::BadMessage, Some(blob)) };
            if claimable.is_none() {
                continue; // Said before we could ask, or of another size: of no use.
            }
            for piece in run.first.0..end {
                download.add_claim(peer, Piece(piece));
            }
        }
        self.source_changed(peer);
    }

    fn on_have_not(&mut self, peer: PeerId, blobs: &[BlobHash]) {
        for blob in blobs {
            if let Some(download) = self.downloads.get_mut(blob) {
                download.remove_claim(peer);
            }
        }
        self.source_changed(peer);
    }

    fn source_changed(&mut self, peer: PeerId) {
        self.ready.insert(peer);
    }

    // How much more each of us could take.

    fn on_load(&mut self, peer: PeerId, load: Load) {
        if let Some(state) = self.peers.get_mut(&peer) {
            if state.load.limit == 0 && load.limit > 0 && state.expired_in_a_row == 0 {
                state.skip_until = self.now; // It handed back what it could not use then; now it can.
            }
            state.load = load;
        }
    }

    /// Tells a source how much we would like from it, if that has changed enough to matter.
    pub(super) fn tell_load(&mut self, peer: PeerId) {
        let limit = if self.is_useful(peer) { self.wanted_requests(peer) } else { 0 };
        let credits: u64 = self.peers.values().map(|state| u64::from(state.source.credits())).sum();
        let held = u16::try_from(credits + self.ledger.in_flight() as u64).unwrap_or(u16::MAX);
        let load = Load { held, limit };
        // While requests are in flight every source is looked at again in a moment: what changes little can wait for that.
        let (idle, now, pause) = (self.ledger.in_flight() == 0, self.now, self.config.news_delay);
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let urgent = idle || (load.limit == 0) != (state.load_told.limit == 0) || now - state.load_told_at >= pause;
        if urgent && load.differs(state.load_told) {
            state.load_told_at = now;
            state.load_told = load;
            self.send(peer, Message::Load { held, limit });
        }
    }

    fn wanted_requests(&self, peer: PeerId) -> u16 {
        // Spans are shorter than blocks where what is open lies scattered: count in what is really asked for.
        let block = self.peers.get(&peer).map_or(limits::BLOCK_MIN_BYTES, |state| state.source.block_bytes());
        let asked = self.ledger.in_flight_bytes().checked_div(self.ledger.in_flight() as u64);
        let wanted = (self.in_flight_limit() / asked.unwrap_or(block.into()).max(1)).clamp(LOAD_LIMIT_MIN, LOAD_LIMIT_MAX);
        u16::try_from(wanted).expect("at most LOAD_LIMIT_MAX")
    }

    pub(super) fn send(&mut self, peer: PeerId, message: Message) {
        self.emit(super::Output::Send { peer, message });
    }
}

impl Offer {
    pub(super) fn new(geometry: Geometry) -> Self {
        let map = crate::have_map::HaveMap::empty(geometry.pieces());
        Self { geometry, held: Default::default(), injected: map.clone(), map, announced: false }
    }
}

fn runs_of(pieces: &BTreeSet<Piece>) -> Vec<PieceRun> {
    let mut runs: Vec<PieceRun> = Vec::new();
    for &piece in pieces {
        match runs.last_mut() {
            Some(run) if run.first.0 + run.count == piece.0 => run.count += 1,
            _ => runs.push(PieceRun { first: piece, count: 1 }),
        }
    }
    runs
}
