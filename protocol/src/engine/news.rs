//! Who holds what: interests, have-maps and their deltas, in both directions; and how much more each of us could take.

use std::collections::BTreeSet;
use std::time::Duration;

use super::chatter::Hearing;
use super::mutant::Mutant;
use super::peer::Load;
use super::{Alarm, Engine, Event, Misdeed, Offer, PeerClass};
use crate::geometry::{Geometry, Piece};
use crate::have_map::HaveMap;
use crate::ids::{BlobHash, PeerId};
use crate::limits;
use crate::span_set::SpanSet;
use crate::swarm::download::{Claim, Download};
use crate::swarm::holders::Holders;
use crate::wire::{HavePieces, Message, PieceRun};

/// News waits for no more than one part in so many of the time that is left: with news a hundred times later than a block takes, the
/// last peer finished 2.6 % later.
const NEWS_PART: u128 = 500;
/// And for no more than one part in so many of the time that has passed.
const NEWS_PART_PAST: u32 = 20;
/// Shortest wait, in the first moments of a crowd: every hop that the first pieces make waits for news.
const NEWS_DELAY_MIN: Duration = Duration::from_millis(10);
/// Longest wait: a peer that comes new learns of a source's fresh pieces within this time.
const NEWS_DELAY_MAX: Duration = Duration::from_secs(5);

impl Engine {
    pub(super) fn on_message(&mut self, peer: PeerId, message: Message) {
        if message.violation().is_some() {
            return self.strike(peer, Misdeed::BadMessage, None);
        }
        let is_answer = matches!(message, Message::Have { .. } | Message::HaveNot { .. });
        let now = self.now;
        match self.peer_mut(peer).map(|state| state.chatter.hear(now, is_answer)) {
            Some(Hearing::Heard) => (),
            Some(Hearing::TooMuch) => return self.strike(peer, Misdeed::BadMessage, None),
            Some(Hearing::Unheard) | None => return,
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
            Message::Decline { blob, piece } => self.on_decline(peer, blob, piece),
            // Never comes here as news: the node takes it out, since addresses mean nothing to us, and says `Input::ProvidersFound`.
            Message::Peers { .. } => (),
        }
    }

    // What we hold, told to others.

    fn on_interest(&mut self, peer: PeerId, blobs: &[BlobHash]) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if state.interests.len() + blobs.len() > limits::INTERESTS_PER_PEER {
            return self.strike(peer, Misdeed::BadMessage, None);
        }
        let news = blobs.first().copied().filter(|blob| !state.interests.contains(blob));
        state.interests.extend(blobs);
        let mut lacking = Vec::new();
        for &blob in blobs {
            if !self.tell_all(peer, blob) {
                lacking.push(blob);
            }
            self.watch(peer, blob);
        }
        self.review_if_near(peer, blobs);
        if !lacking.is_empty() {
            self.send(peer, Message::HaveNot { blobs: lacking });
        }
        if let Some(blob) = news {
            self.introduce_others(peer, blob);
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
        }
        self.note_told(peer);
        self.review_if_near(peer, blobs);
    }

    fn review_if_near(&mut self, peer: PeerId, blobs: &[BlobHash]) {
        if self.peers.get(&peer).is_some_and(|state| state.class == PeerClass::Lan) {
            self.review_claims(blobs);
        }
    }

    /// Whoever was told of something that it wants may be granted credits.
    fn note_told(&mut self, peer: PeerId) {
        let wants = self.peers.get(&peer).is_some_and(|state| !state.told.is_empty());
        if let Some(taker) = self.uploads.taker_mut(peer) {
            taker.wants = wants;
        }
    }

    /// Tells a peer all that we hold of a blob; `false` if that is nothing.
    fn tell_all(&mut self, peer: PeerId, blob: BlobHash) -> bool {
        let Some(state) = self.peers.get_mut(&peer) else { return false };
        let told = match self.offers.get(&blob) {
            Some(offer) if offer.map.held() > 0 || offer.geometry.pieces() == 0 => {
                state.told.insert(blob, offer.log.len());
                let message = Message::Have { blob, size: offer.geometry.size(), pieces: HavePieces::of(&offer.map) };
                self.send(peer, message);
                true
            }
            _ => {
                state.told.remove(&blob);
                false
            }
        };
        self.note_told(peer);
        told
    }

    /// Fresh pieces of ours: to be told to whoever is interested, a little later and together.
    pub(super) fn spread_news(&mut self, blob: BlobHash, pieces: &[Piece]) {
        let Some(offer) = self.offers.get_mut(&blob) else { return };
        offer.log.extend(pieces);
        self.fresh.insert(blob);
        if !self.alarms.contains_key(&Alarm::News) {
            let delay = self.news_delay();
            self.wake_in(Alarm::News, delay);
        }
    }

    /// How long news may wait: a little part of the time that is left, since that is what late news can cost.
    fn news_delay(&self) -> Duration {
        let rate = self.down_rate.bytes_per_s(self.now);
        let missing: u64 = self.downloads.values().map(Download::missing_bytes).sum();
        let left = u128::from(missing) * 1_000_000_000 / u128::from(rate.max(1));
        let part = Duration::from_nanos(u64::try_from(left / NEWS_PART).unwrap_or(u64::MAX));
        // At first, while the rate is not known, everybody waits for something to trade.
        let past = self.down_rate.watched(self.now) / NEWS_PART_PAST;
        let least = past.clamp(NEWS_DELAY_MIN.min(self.config.news_delay), self.config.news_delay);
        part.min(past).clamp(least, NEWS_DELAY_MAX.max(least))
    }

    /// Everybody who was told of a blob is told anew: something was lost, or all of it.
    pub(super) fn correct_news(&mut self, blob: BlobHash) {
        let told: Vec<PeerId> =
            self.peers.iter().filter(|(_, state)| state.told.contains_key(&blob)).map(|(peer, _)| *peer).collect();
        for peer in told {
            if !self.tell_all(peer, blob) {
                self.send(peer, Message::HaveNot { blobs: vec![blob] });
            }
        }
    }

    pub(super) fn tell_news(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if !dropped.is_empty() {
            let peers: Vec<PeerId> = self.peers.keys().copied().collect();
            for peer in peers {
                self.tell_dropped(peer, &dropped);
            }
        }
        for blob in std::mem::take(&mut self.fresh) {
            let interested = self.peers.iter().filter(|(_, state)| state.interests.contains(&blob));
            let interested: Vec<(PeerId, Option<usize>)> =
                interested.map(|(peer, state)| (*peer, state.told.get(&blob).copied())).collect();
            for (peer, told) in interested {
                match told {
                    Some(from) => self.tell_more(peer, blob, from),
                    None => _ = self.tell_all(peer, blob),
                }
            }
        }
    }

    fn tell_dropped(&mut self, peer: PeerId, dropped: &BTreeSet<BlobHash>) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let (offers, watched) = (&self.offers, |blob: &BlobHash| state.interests.contains(blob));
        // A blob that we hold whole now is watched on while the peer fetches it.
        let keep = |blob: &&BlobHash| !(watched(blob) && offers.get(blob).is_some_and(|offer| offer.map.is_full()));
        let dropped: Vec<BlobHash> = dropped.iter().filter(keep).copied().collect();
        let dropped: Vec<BlobHash> = dropped.into_iter().filter(|blob| state.asked_about.remove(blob)).collect();
        for blobs in dropped.chunks(limits::BLOBS_PER_MESSAGE) {
            self.send(peer, Message::NoInterest { blobs: blobs.to_vec() });
        }
        for blob in dropped {
            self.unwatch(peer, blob);
        }
    }

    /// Tells a peer what is news since `from`.
    fn tell_more(&mut self, peer: PeerId, blob: BlobHash, from: usize) {
        let Some(offer) = self.offers.get(&blob) else { return };
        // What the peer says it holds it will not ask for; but whoever holds everything and is interested all the same watches us.
        let theirs = self.downloads.get(&blob).and_then(|download| download.map_of(peer)).or(offer.holders.map_of(peer));
        let theirs = theirs.filter(|map| !map.is_full());
        let fresh = offer.log.iter().skip(from).filter(|piece| !theirs.is_some_and(|map| map.contains(**piece)));
        let mut pieces: Vec<Piece> = fresh.copied().collect();
        pieces.sort_unstable();
        pieces.dedup();
        let told = offer.log.len();
        if let Some(state) = self.peers.get_mut(&peer) {
            state.told.insert(blob, told);
        }
        for runs in runs_of(&pieces).chunks(limits::RUNS_PER_MESSAGE) {
            self.send(peer, Message::HaveMore { blob, runs: runs.to_vec() });
        }
    }

    // What others hold, told to us.

    fn on_have(&mut self, peer: PeerId, blob: BlobHash, size: u64, pieces: &HavePieces) {
        if !self.peers.get(&peer).is_some_and(|state| state.asked_about.contains(&blob)) {
            return; // Late news of something we no longer want.
        }
        let Some(download) = self.downloads.get_mut(&blob) else { return self.watch_all(peer, blob, size, pieces) };
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
        let Some(download) = self.downloads.get_mut(&blob) else { return self.watch_more(peer, blob, runs) };
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
            let pieces = (run.first.0..end).map(Piece);
            if download.geometry().is_some() {
                download.add_claims(peer, pieces);
            } else {
                pieces.for_each(|piece| _ = download.add_claim(peer, piece));
            }
        }
        let named = runs.iter().flat_map(|run| run.first.0..run.first.0.saturating_add(run.count).min(pieces)).map(Piece);
        self.note_brought(peer, blob, named);
        self.source_changed(peer);
    }

    fn on_have_not(&mut self, peer: PeerId, blobs: &[BlobHash]) {
        for blob in blobs {
            if let Some(download) = self.downloads.get_mut(blob) {
                download.remove_claim(peer);
            }
            self.unwatch(peer, *blob);
        }
        self.source_changed(peer);
    }

    fn source_changed(&mut self, peer: PeerId) {
        self.ready.insert(peer);
    }

    // How much more each of us could take.

    fn on_load(&mut self, peer: PeerId, load: Load) {
        let deaf = self.is(Mutant::NeverAgain);
        let taker = self.uploads.taker_mut(peer).filter(|taker| !(deaf && taker.reported_at.is_some() && taker.load.limit == 0));
        if let Some(taker) = taker {
            taker.report(self.now, load);
        }
    }

    pub(super) fn send(&mut self, peer: PeerId, message: Message) {
        self.emit(super::Output::Send { peer, message });
    }
}

impl Offer {
    pub(super) fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            held: SpanSet::new(),
            map: HaveMap::empty(geometry.pieces()),
            announced: false,
            log: Vec::new(),
            holders: Holders::new(geometry.pieces()),
            leave_safe: false,
        }
    }
}

fn runs_of(pieces: &[Piece]) -> Vec<PieceRun> {
    let mut runs: Vec<PieceRun> = Vec::new();
    for &piece in pieces {
        match runs.last_mut() {
            Some(run) if run.first.0 + run.count == piece.0 => run.count += 1,
            _ => runs.push(PieceRun { first: piece, count: 1 }),
        }
    }
    runs
}
