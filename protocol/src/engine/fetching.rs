//! The receiver: what to ask of whom, what became of it. The granting sender chose *us*; we choose *what*.

use std::time::Duration;

use super::mirrors::LOOKS;
use super::mutant::Mutant;
use super::reading::{AHEAD_BYTES, HUNGRY_BYTES};
use super::{Alarm, Engine, Event, FetchOutcome, HangupReason, Misdeed, Output, PeerClass};
use crate::geometry::{Geometry, Piece, Span};
use crate::ids::{BlobHash, PeerId, RequestId};
use crate::limits;
use crate::swarm::download::{Claim, Download};
use crate::swarm::ledger::Request;
use crate::swarm::piece_picker;
use crate::swarm::rescue::{Rescue, rescue};
use crate::wire::Message;

/// How often sources are looked at while there is enough to ask for: credits that have grown stale go back.
const RESCUE_PAUSE: Duration = Duration::from_secs(1);

/// What a reader may be ahead of: the next so many bytes come in order, the rest rarest first.
const STREAM_WINDOW: u64 = 16 * 1024 * 1024;
/// What is kept of the widest path at each delivery over a narrower one.
const WIDEST_KEPT: (u64, u64) = (31, 32);

/// What to ask for next.
pub(super) struct Choice {
    pub(super) blob: BlobHash,
    pub(super) size: u64,
    pub(super) span: Span,
    pub(super) probe: bool,
}

impl Engine {
    pub(super) fn on_grant(&mut self, peer: PeerId, credits: u16, block_bytes: u32, hint: Option<(BlobHash, Piece)>) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.source.grant(self.now, credits, block_bytes, hint);
            self.ready.insert(peer);
        }
    }

    pub(super) fn pause(&mut self, paused: bool) {
        self.paused = paused;
        if paused {
            // Sources that held credits ready for us would take us for hoarders.
            let sources: Vec<PeerId> = self.peers.keys().copied().collect();
            for source in sources {
                self.return_credits(source);
                self.tell_use(source);
            }
        } else {
            self.mark_sources_ready();
        }
    }

    /// Something was freed or opened: every source is worth another look.
    pub(super) fn mark_sources_ready(&mut self) {
        self.ready.extend(self.peers.iter().filter(|(_, state)| state.is_source).map(|(peer, _)| *peer));
    }

    /// Uses the sources' credits as far as it makes sense, one request at a time at the least busy source, so that what may be in flight
    /// is spread over all of them. Then gives back what is of no use, and tells each what we would like.
    pub(super) fn ask_sources(&mut self) {
        if self.ready.is_empty() {
            return;
        }
        self.judge_peers();
        while let Some(peer) = self.least_busy() {
            if self.ask(peer) {
                continue;
            }
            self.ready.remove(&peer);
            self.tell_use(peer);
            self.think_again(peer);
        }
        self.cry();
    }

    fn least_busy(&self) -> Option<PeerId> {
        // What peers take is none of a mirror's business.
        let busy = |peer: &PeerId| {
            self.peers.get(peer).map_or((false, 0), |state| (state.class == PeerClass::Mirror, state.source.in_flight()))
        };
        self.ready.iter().min_by_key(|peer| busy(peer)).copied()
    }

    /// Asks one source for one more span; `false` if there is nothing to ask for now, or nothing more may be asked.
    fn ask(&mut self, peer: PeerId) -> bool {
        if self.peers.get(&peer).is_some_and(|state| state.source.credits_are_stale(self.now)) {
            self.return_credits(peer);
        }
        if !self.may_ask(peer) {
            return false;
        }
        if self.rescue_reader(peer) {
            return true;
        }
        if let Some(choice) = self.pick_ahead(peer, HUNGRY_BYTES) {
            self.request(peer, &choice);
            return true;
        }
        if let Some(choice) = self.pick_named(peer) {
            self.request(peer, &choice);
            return true;
        }
        if !self.may_ask(peer) {
            return false;
        }
        if let Some(choice) = self.pick_ahead(peer, AHEAD_BYTES).or_else(|| self.pick(peer)) {
            self.request(peer, &choice);
            return true;
        }
        if self.open.is_empty() && self.rescue(peer) {
            return true;
        }
        self.return_credits(peer);
        false
    }

    fn may_ask(&mut self, peer: PeerId) -> bool {
        if self.ledger.in_flight_bytes() >= limits::IN_FLIGHT_BYTES {
            self.held_back = true;
            return false;
        }
        !self.paused
            && self.peers.get(&peer).is_some_and(|state| {
                let source = &state.source;
                let within = source.in_flight_bytes() < source.window(self.config.first_in_flight_bytes);
                (source.may_ask() && within && self.may_ask_mirror(state)) || (self.is(Mutant::NoLimits) && source.credits() > 0)
            })
    }

    fn return_credits(&mut self, peer: PeerId) {
        if self.is_mirror(peer) {
            return; // Nobody else waits for them.
        }
        let credits = self.peers.get_mut(&peer).map_or(0, |state| state.source.take_credits());
        if credits > 0 {
            self.send(peer, Message::Return { credits });
        }
    }

    /// What a source wants to be asked for with its next credit. A credit for something that we do not need goes back: asking for anything
    /// else would make the source send that twice before everything has gone out once.
    fn pick_named(&mut self, peer: PeerId) -> Option<Choice> {
        loop {
            let source = &mut self.peers.get_mut(&peer)?.source;
            let (blob, piece) = source.hint()?;
            let block = source.block_bytes();
            let named = self.downloads.get(&blob).and_then(|download| {
                let size = download.geometry()?.size();
                let span = piece_picker::pick_named(download, download.map_of(peer)?, block, piece)?;
                Some(Choice { blob, size, span, probe: false })
            });
            if self.is_shared_way(peer, blob) && self.ours.contains_key(&blob) {
                return None; // What crosses the link once goes round here: each member asks for its own.
            }
            if named.is_some() {
                return named;
            }
            let source = &mut self.peers.get_mut(&peer)?.source;
            source.decline();
            self.send(peer, Message::Decline { blob, piece });
        }
    }

    fn pick(&mut self, peer: PeerId) -> Option<Choice> {
        let source = &self.peers.get(&peer)?.source;
        // Stay with the blob it is on, so that files are read and written in runs; else start anywhere, so that sources spread out.
        let last = source.last();
        // A reader reads one file after the other.
        let streamed = self.open.first().and_then(|(_, blob)| self.downloads.get(blob)).is_some_and(Download::is_streamed);
        let start = (if streamed { 0 } else { self.random.below(self.next_order) }, BlobHash([0; 32]));
        let looks = if self.is_mirror(peer) { LOOKS } else { usize::MAX };
        let rotated = self.open.range(start..).chain(self.open.range(..start)).map(|(_, blob)| *blob).take(looks);
        for blob in last.map(|(blob, _)| blob).filter(|_| !streamed).into_iter().chain(rotated) {
            let Some(download) = self.downloads.get(&blob) else { continue };
            let Some(geometry) = download.geometry() else {
                if self.ledger.of_blob(blob).next().is_none()
                    && let Some(choice) = probe(download, peer)
                {
                    return Some(choice);
                }
                continue;
            };
            let Some(has) = download.map_of(peer) else { continue };
            let claimable = self.claimable_of(peer, blob, has);
            let has = claimable.as_ref().unwrap_or(has);
            let end = last.filter(|(on, _)| *on == blob).map(|(_, end)| end);
            let block = source.block_bytes();
            let next = download.is_streamed().then(|| piece_picker::pick_next(download, has, block, STREAM_WINDOW)).flatten();
            if let Some(span) = next {
                return Some(Choice { blob, size: geometry.size(), span, probe: false });
            }
            if let Some(span) = piece_picker::pick(download, has, block, end, &mut self.random) {
                return Some(Choice { blob, size: geometry.size(), span, probe: false });
            }
        }
        None
    }

    pub(super) fn request(&mut self, provider: PeerId, choice: &Choice) {
        let Choice { blob, size, span, probe } = *choice;
        let Some(state) = self.peers.get_mut(&provider) else { return };
        let bytes = Geometry::of(size).bytes_in(span);
        let patience = state.source.asked(blob, span.end(), bytes);
        let delivered_before = state.source.delivered_bytes();
        self.note_asked(provider, bytes);
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let (asked_at, deadline) = (self.now, self.now + patience);
        let entry = Request { provider, blob, size, span, bytes, asked_at, deadline, probe, delivered_before, abandoned: false };
        self.ledger.insert(request, entry);
        if !probe
            && !self.is(Mutant::AskTwice)
            && let Some(download) = self.downloads.get_mut(&blob)
        {
            for gap in download.verified().gaps(span) {
                download.claim(gap);
            }
        }
        self.reopen(blob);
        self.emit(Output::Fetch { request, provider, blob, size, span, probe });
        self.wake_for_rescue();
    }

    /// With nothing left to ask for, idle sources can only help slow ones, and look for that often; before, now and then.
    fn wake_for_rescue(&mut self) {
        let delay =
            if self.open.is_empty() { self.config.rescue_interval } else { RESCUE_PAUSE.max(self.config.rescue_interval) };
        self.wake_in(Alarm::Rescue, delay);
    }

    pub(super) fn on_fetch_ended(&mut self, id: RequestId, outcome: FetchOutcome, verified_groups: u64) {
        let Some(request) = self.ledger.remove(id) else { return };
        let provider = request.provider;
        let verified = Span::new(request.span.start(), request.span.start() + verified_groups.min(request.span.groups()));
        let verified = verified.filter(|_| !request.probe);
        let bytes = verified.map_or(0, |span| Geometry::of(request.size).bytes_in(span));
        if !request.abandoned && !self.is(Mutant::NeverRelease) {
            self.release(&request);
        }
        let class = self.peers.get(&provider).map(|state| state.class);
        if verified.is_some() && class != Some(PeerClass::Lan) {
            self.brought_at = self.now;
        }
        if let Some(span) = verified {
            self.down_rate.record(self.now, bytes);
            self.note_share(class, bytes);
            if !self.is(Mutant::ForgetVerified) {
                self.note_verified(request.blob, request.size, span);
            }
            if self.is(Mutant::AnnounceEarly) {
                self.on_stored(request.blob, request.size, span);
            }
        }
        if let Some(state) = self.peers.get_mut(&provider) {
            match (request.abandoned, outcome) {
                (true, _) => (),
                (false, FetchOutcome::Delivered) => {
                    let took = self.now - request.asked_at;
                    let shortest = state.source.delivered(
                        self.now,
                        took,
                        request.bytes,
                        bytes.max(u64::from(request.probe)),
                        request.delivered_before,
                    );
                    self.path_time.record(shortest);
                    let (kept, of) = WIDEST_KEPT;
                    self.widest_path = state.source.path_bytes().max(self.widest_path / of * kept);
                    self.reputation.delivered(provider);
                }
                (false, FetchOutcome::Lost) => {
                    if state.source.lost(self.now, request.bytes, bytes) {
                        self.hang_up(provider, HangupReason::Unresponsive);
                    }
                }
                (false, _) => state.source.ended(request.bytes, bytes),
            }
        }
        match outcome {
            FetchOutcome::Delivered if request.probe => self.size_proved(request.blob, request.size),
            FetchOutcome::BadBytes => self.strike(provider, Misdeed::BadBytes, Some(request.blob)),
            FetchOutcome::NotHeld => {
                // One claim is one lie, however many requests it drew: a file that its owner changed is no crime.
                let download = self.downloads.get_mut(&request.blob);
                if download.is_some_and(|download| download.remove_claim(provider)) {
                    self.strike(provider, Misdeed::FalseClaim, Some(request.blob));
                }
            }
            FetchOutcome::NoCredit => {
                // They expired on the way; what else we think we have has, too.
                let refused = self.peers.get_mut(&provider).is_some_and(|state| {
                    state.source.take_credits();
                    state.source.refused()
                });
                if refused {
                    self.hang_up(provider, HangupReason::Unresponsive);
                }
            }
            _ => (),
        }
        // What it did not bring is open to all again, and so is what all of them together may have in flight.
        if verified_groups < request.span.groups() || std::mem::take(&mut self.held_back) {
            self.mark_sources_ready();
        }
        self.ready.insert(provider);
    }

    /// Groups are verified and written, whoever sent them.
    fn note_verified(&mut self, blob: BlobHash, size: u64, span: Span) {
        let Some(download) = self.downloads.get_mut(&blob) else { return };
        if download.geometry() != Some(Geometry::of(size)) {
            return;
        }
        let complete_before = download.is_verified();
        download.verified_span(span);
        let complete = download.is_verified();
        let beaten: Vec<RequestId> = self
            .ledger
            .overlapping(blob, span)
            .filter(|(_, twin)| !twin.probe && download.verified().covers(twin.span))
            .map(|(id, _)| id)
            .collect();
        for id in beaten {
            self.cancel(id);
        }
        if complete && !complete_before {
            self.notify(Event::BlobVerified { blob });
        }
        self.reopen(blob);
    }

    /// The span of a request that ended is open again, but for what a twin still fetches.
    fn release(&mut self, request: &Request) {
        if request.probe {
            return;
        }
        let Some(download) = self.downloads.get_mut(&request.blob) else { return };
        if download.geometry() != Some(Geometry::of(request.size)) {
            return;
        }
        download.release(request.span);
        self.reclaim(request.blob, request.span);
    }

    /// Groups that became open are claimed after all where a request in flight will bring them.
    pub(super) fn reclaim(&mut self, blob: BlobHash, span: Span) {
        let Some(download) = self.downloads.get_mut(&blob) else { return };
        for (_, request) in self.ledger.overlapping(blob, span).filter(|(_, request)| !request.probe) {
            if let Some(shared) = request.span.intersection(span) {
                for gap in download.verified().gaps(shared) {
                    download.claim(gap);
                }
            }
        }
        self.reopen(blob);
    }

    /// Keeps the index of open downloads true.
    pub(super) fn reopen(&mut self, blob: BlobHash) {
        let Some(download) = self.downloads.get(&blob) else { return };
        let key = (download.order(), blob);
        if download.is_open() {
            self.open.insert(key)
        } else {
            self.open.remove(&key)
        };
    }

    /// Gives a request up; its end is still to be reported.
    pub(super) fn abandon(&mut self, id: RequestId) -> Option<Request> {
        let request = self.ledger.abandon(id)?;
        self.release(&request);
        Some(request)
    }

    fn cancel(&mut self, id: RequestId) {
        let Some(request) = self.abandon(id) else { return };
        if let Some(state) = self.peers.get_mut(&request.provider) {
            state.source.ended(request.bytes, 0);
            self.send(request.provider, Message::Cancel { request: id });
        }
        self.emit(Output::Cancel { request: id, provider: request.provider });
    }

    pub(super) fn give_up_overdue(&mut self) {
        while let Some((id, provider)) = self.ledger.overdue(self.now) {
            // A source that delivers something is given until then for everything else it was asked for.
            let alive = self.peers.get(&provider).and_then(|state| state.source.alive_until());
            if let Some(until) = alive.filter(|until| *until > self.now) {
                self.ledger.extend(id, until);
                continue;
            }
            let Some(request) = self.abandon(id) else { return };
            self.emit(Output::Cancel { request: id, provider });
            let Some(state) = self.peers.get_mut(&provider) else { continue };
            let (given_up, silent) = (state.source.late(self.now, request.bytes), !state.source.has_delivered());
            self.send(provider, Message::Cancel { request: id });
            if silent {
                self.strike(provider, Misdeed::Late, Some(request.blob));
            }
            if given_up && self.peers.contains_key(&provider) {
                self.hang_up(provider, HangupReason::Unresponsive);
            }
            self.mark_sources_ready();
        }
    }

    // Size unknown: a claim is believed once its last group proves it.

    fn size_proved(&mut self, blob: BlobHash, size: u64) {
        let Some(download) = self.downloads.get(&blob).filter(|download| download.geometry().is_none()) else { return };
        let liars: Vec<PeerId> = download
            .claims()
            .filter(|(_, claim)| matches!(claim, Claim::Unsized { size: claimed, .. } if *claimed != size))
            .map(|(peer, _)| peer)
            .collect();
        // Nothing more is asked for until the owner joins with this size.
        self.open.remove(&(download.order(), blob));
        self.notify(Event::SizeProved { blob, size });
        for liar in liars {
            self.strike(liar, Misdeed::FalseClaim, Some(blob));
        }
    }

    // Idle sources help slow ones.

    /// Whether the source holds something that we could ask for now.
    pub(super) fn is_useful(&self, peer: PeerId) -> bool {
        let open = self.open.iter().any(|(_, blob)| {
            self.downloads.get(blob).is_some_and(|download| match (download.geometry(), download.claim_of(peer)) {
                (None, Some(Claim::Unsized { size, pieces })) => {
                    pieces.has_last(Geometry::of(*size)) && self.ledger.of_blob(*blob).next().is_none()
                }
                (Some(_), Some(Claim::Map(map))) => match self.claimable_of(peer, *blob, map) {
                    Some(claimable) => download.open().intersects(&claimable),
                    None => download.open().intersects(map),
                },
                _ => false,
            })
        });
        open || (self.open.is_empty() && self.best_rescue(peer).is_some())
    }

    fn best_rescue(&self, peer: PeerId) -> Option<(BlobHash, Rescue)> {
        let source_of = |peer: PeerId| self.peers.get(&peer).map(|state| &state.source);
        let mut blobs: Vec<BlobHash> = self.ledger.iter().filter(|(_, r)| !r.probe).map(|(_, r)| r.blob).collect();
        blobs.dedup();
        blobs.into_iter().find_map(|blob| {
            let download = self.downloads.get(&blob)?;
            download.geometry()?;
            if self.is_shared_way(peer, blob) && !self.is(Mutant::AskTwiceOverLink) {
                return None; // Nothing crosses a shared link twice.
            }
            let found = rescue(download, &self.ledger, source_of, peer, self.now)?;
            // What a good peer is about to bring is not asked of a mirror, too.
            let twice = matches!(found, Rescue::AskTwice(_)) && self.is_mirror(peer) && self.peers_suffice();
            (!twice).then_some((blob, found))
        })
    }

    /// Lets an idle source take over or double a request of a slower one; `false` if there is none worth it.
    fn rescue(&mut self, peer: PeerId) -> bool {
        let Some((blob, found)) = self.best_rescue(peer) else { return false };
        let (Rescue::Steal(id) | Rescue::AskTwice(id)) = found;
        let Some(request) = self.ledger.find(id).copied() else { return false };
        if matches!(found, Rescue::Steal(_)) {
            self.cancel(id);
        }
        let Some(state) = self.peers.get(&peer) else { return false };
        let block = crate::geometry::groups_in_block(state.source.block_bytes().into());
        let rest = self.downloads.get(&blob).and_then(|download| download.verified().first_gap(request.span));
        let Some(span) = rest.map(|rest| rest.prefix(block)) else { return false };
        self.request(peer, &Choice { blob, size: request.size, span, probe: false });
        true
    }

    /// Asks idle sources for a credit when one of them could help.
    pub(super) fn look_for_rescues(&mut self) {
        if self.ledger.in_flight() > 0 {
            self.mark_sources_ready();
            self.wake_for_rescue();
        }
    }
}

fn probe(download: &Download, peer: PeerId) -> Option<Choice> {
    match download.claim_of(peer) {
        // Whoever has a part of it only may well lack the group that proves its size: asking for that would look like a lie found out.
        Some(&Claim::Unsized { size, ref pieces }) if pieces.has_last(Geometry::of(size)) => {
            let span = Geometry::of(size).last_group()?;
            Some(Choice { blob: download.blob(), size, span, probe: true })
        }
        _ => None,
    }
}
