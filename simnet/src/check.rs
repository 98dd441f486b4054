//! Rules that must hold in every world, checked apart from the code they are about: the checker keeps its own books, from what it sees
//! go into an engine and come out of it, and from what the network really delivered.

use std::collections::{BTreeMap, BTreeSet};

use p2pweights_protocol::engine::{Engine, Event, FetchOutcome, Input, Output};
use p2pweights_protocol::geometry::{Geometry, Piece, Span};
use p2pweights_protocol::have_map::HaveMap;
use p2pweights_protocol::ids::{BlobHash, PeerId, RequestId};
use p2pweights_protocol::limits;
use p2pweights_protocol::span_set::SpanSet;
use p2pweights_protocol::time::Instant;
use p2pweights_protocol::wire::Message;

use crate::network::HostId;

/// Violations kept: after so many, more tell nothing.
const KEPT: usize = 20;
/// Requests open at a source that has never delivered.
const UNPROVED_REQUESTS: usize = 2;

/// A rule was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Instant,
    /// By whom.
    pub host: HostId,
    /// Which rule, and how.
    pub what: String,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    provider: PeerId,
    bytes: u64,
    given_up: bool,
}

/// One host's books.
#[derive(Debug, Clone, Default)]
struct Books {
    /// Groups that truly came from a holder, or were there from the beginning.
    true_groups: BTreeMap<BlobHash, SpanSet>,
    /// Of those, the ones synced.
    durable: BTreeMap<BlobHash, SpanSet>,
    /// What was durable and turned out to have rotted: it may still be on its way.
    rotted: BTreeMap<BlobHash, SpanSet>,
    open: BTreeMap<RequestId, Open>,
    ended: BTreeSet<RequestId>,
    banned: BTreeMap<PeerId, Instant>,
    delivered: BTreeSet<PeerId>,
    /// Credits granted and not redeemed; returns and expiry are not counted, so this is an upper bound.
    credits: BTreeMap<PeerId, u64>,
}

/// Everybody's books.
#[derive(Debug)]
pub struct Checker {
    books: Vec<Books>,
    sizes: BTreeMap<BlobHash, u64>,
    violations: Vec<Violation>,
}

impl Checker {
    /// Blank books.
    pub fn new(hosts: usize, sizes: BTreeMap<BlobHash, u64>) -> Self {
        Self { books: vec![Books::default(); hosts], sizes, violations: Vec::new() }
    }

    /// What was broken so far.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Hands out what was broken.
    pub fn into_violations(self) -> Vec<Violation> {
        self.violations
    }

    /// A rule was broken.
    pub fn blame(&mut self, at: Instant, host: HostId, what: String) {
        if self.violations.len() < KEPT {
            self.violations.push(Violation { at, host, what });
        }
    }

    /// An honest host holds this from the beginning.
    pub fn place(&mut self, host: HostId, blob: BlobHash, span: Span) {
        self.books[host.0].true_groups.entry(blob).or_default().insert(span);
        self.books[host.0].durable.entry(blob).or_default().insert(span);
    }

    /// Groups that prove came from a peer, who must have had them if it is honest.
    pub fn received(&mut self, now: Instant, host: HostId, from: Option<HostId>, blob: BlobHash, span: Span) {
        if let Some(from) = from
            && !covers(&self.books[from.0].durable, blob, span)
            && !self.books[from.0].had(blob, span)
        {
            self.blame(now, from, format!("sent {span:?} of {blob:?} which it does not hold"));
        }
        self.books[host.0].true_groups.entry(blob).or_default().insert(span);
    }

    /// Groups became durable.
    pub fn synced(&mut self, now: Instant, host: HostId, blob: BlobHash, span: Span) {
        if !covers(&self.books[host.0].true_groups, blob, span) {
            self.blame(now, host, format!("stored {span:?} of {blob:?} which nobody sent"));
        }
        self.books[host.0].durable.entry(blob).or_default().insert(span);
    }

    /// A host lost what was not synced, and its memory.
    pub fn crashed(&mut self, host: HostId) {
        let durable = std::mem::take(&mut self.books[host.0].durable);
        let rotted = std::mem::take(&mut self.books[host.0].rotted);
        self.books[host.0] = Books { true_groups: durable.clone(), durable, rotted, ..Books::default() };
    }

    /// Groups that an honest host keeps though nobody sent them.
    pub fn bad_groups(&self, host: HostId, blob: BlobHash, kept: &SpanSet) -> u64 {
        let good = self.books[host.0].true_groups.get(&blob);
        kept.runs().map(|run| run.groups() - good.map_or(0, |good| good.groups_within(run))).sum()
    }

    /// A fact goes into an engine.
    pub fn input(&mut self, now: Instant, host: HostId, input: &Input) {
        let books = &mut self.books[host.0];
        match input {
            Input::FetchEnded { request, outcome, .. } => match books.open.remove(request) {
                Some(open) => {
                    books.ended.insert(*request);
                    if *outcome == FetchOutcome::Delivered {
                        books.delivered.insert(open.provider);
                    }
                }
                None => self.blame(now, host, format!("{request:?} ended without being open")),
            },
            Input::PeerGone { peer } => books.gone(*peer),
            Input::SpanLost { blob, span } => books.lost(*blob, *span),
            _ => (),
        }
    }

    /// A wish comes out of an honest host's engine.
    pub fn output(&mut self, now: Instant, host: HostId, output: &Output) {
        let books = &mut self.books[host.0];
        let banned = |books: &Books, peer: &PeerId| books.banned.get(peer).is_some_and(|until| *until > now);
        match output {
            Output::Notify(Event::Banned { peer, until }) => {
                books.banned.insert(*peer, *until);
            }
            Output::Hangup { peer, .. } => books.gone(*peer),
            Output::Cancel { request, .. } => {
                if let Some(open) = books.open.get_mut(request) {
                    open.given_up = true;
                } else if !books.ended.contains(request) {
                    self.blame(now, host, format!("cancelled {request:?} which it never made"));
                }
            }
            Output::Fetch { request, provider, blob, size, span, .. } => {
                let refused = banned(books, provider);
                let open = Open { provider: *provider, bytes: Geometry::of(*size).bytes_in(*span), given_up: false };
                if books.open.insert(*request, open).is_some() || books.ended.contains(request) {
                    self.blame(now, host, format!("named two requests {request:?}"));
                }
                if refused {
                    self.blame(now, host, format!("asked {provider:?} for {blob:?} in spite of its ban"));
                }
                self.check_bounds(now, host, *provider);
            }
            Output::Send { peer, message } => {
                if let Message::Grant { credits, .. } = message {
                    *books.credits.entry(*peer).or_default() += u64::from(*credits);
                    if banned(books, peer) {
                        self.blame(now, host, format!("granted {peer:?} credits in spite of its ban"));
                    }
                }
                self.check_claim(now, host, message);
            }
            Output::Serve { peer, request, blob, span } => {
                let credits = books.credits.entry(*peer).or_default();
                let paid = *credits > 0;
                *credits = credits.saturating_sub(1);
                if !paid {
                    self.blame(now, host, format!("serves {request:?} of {peer:?} without a credit"));
                }
                if !covers(&self.books[host.0].durable, *blob, *span) {
                    self.blame(now, host, format!("serves {span:?} of {blob:?} which is not durable"));
                }
            }
            _ => (),
        }
    }

    /// What an honest engine says about itself after a step that changed its store.
    pub fn offers(&mut self, now: Instant, host: HostId, engine: &Engine, blob: BlobHash) {
        let Some(size) = self.sizes.get(&blob).copied() else { return };
        if let Some(map) = engine.offered(blob)
            && !self.all_durable(host, blob, Geometry::of(size), map.iter())
        {
            self.blame(now, host, format!("offers pieces of {blob:?} that are not durable"));
        }
    }

    fn check_bounds(&mut self, now: Instant, host: HostId, provider: PeerId) {
        let books = &self.books[host.0];
        let open = || books.open.values().filter(|open| !open.given_up);
        let bytes: u64 = open().map(|open| open.bytes).sum();
        let there = open().filter(|open| open.provider == provider).count();
        let most = if books.delivered.contains(&provider) { limits::REQUESTS_PER_PEER } else { UNPROVED_REQUESTS };
        if there > most {
            self.blame(now, host, format!("{there} requests open at {provider:?}, allowed are {most}"));
        }
        if bytes > limits::IN_FLIGHT_BYTES + u64::from(limits::BLOCK_MAX_BYTES) {
            self.blame(now, host, format!("{bytes} bytes in flight"));
        }
    }

    fn check_claim(&mut self, now: Instant, host: HostId, message: &Message) {
        let (blob, honest) = match message {
            Message::Have { blob, size, pieces } => {
                let geometry = Geometry::of(*size);
                let map = pieces.to_map(geometry).unwrap_or_else(|| HaveMap::full(geometry.pieces()));
                let right_size = self.sizes.get(blob) == Some(size);
                (*blob, right_size && self.all_durable(host, *blob, geometry, map.iter()))
            }
            Message::HaveMore { blob, runs } => {
                let Some(size) = self.sizes.get(blob) else { return };
                let pieces = runs.iter().flat_map(|run| run.first.0..run.first.0 + run.count).map(Piece);
                (*blob, self.all_durable(host, *blob, Geometry::of(*size), pieces))
            }
            _ => return,
        };
        if !honest {
            self.blame(now, host, format!("claims of {blob:?} what is not durable"));
        }
    }

    fn all_durable(&self, host: HostId, blob: BlobHash, geometry: Geometry, mut pieces: impl Iterator<Item = Piece>) -> bool {
        let durable = &self.books[host.0].durable;
        pieces.all(|piece| geometry.piece_span(piece).is_some_and(|span| covers(durable, blob, span)))
    }
}

impl Books {
    fn lost(&mut self, blob: BlobHash, span: Span) {
        let Some(durable) = self.durable.get_mut(&blob) else { return };
        let rotted = self.rotted.entry(blob).or_default();
        durable.overlaps(span).for_each(|run| _ = rotted.insert(run));
        durable.remove(span);
    }

    /// Whether it has held all of this at one time or another.
    fn had(&self, blob: BlobHash, span: Span) -> bool {
        let Some(rotted) = self.rotted.get(&blob) else { return false };
        let gaps = self.durable.get(&blob).map_or_else(|| vec![span], |durable| durable.gaps(span));
        gaps.into_iter().all(|gap| rotted.covers(gap))
    }

    fn gone(&mut self, peer: PeerId) {
        self.credits.remove(&peer);
        self.open.values_mut().filter(|open| open.provider == peer).for_each(|open| open.given_up = true);
    }
}

fn covers(held: &BTreeMap<BlobHash, SpanSet>, blob: BlobHash, span: Span) -> bool {
    held.get(&blob).is_some_and(|held| held.covers(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: BlobHash = BlobHash([1; 32]);
    const SIZE: u64 = 4 * 256 * 1024;
    const PEER: PeerId = PeerId([2; 32]);
    const HERE: HostId = HostId(0);
    const NOW: Instant = Instant(1);

    fn checker() -> Checker {
        Checker::new(2, [(BLOB, SIZE)].into())
    }

    fn span(start: u64, end: u64) -> Span {
        Span::new(start, end).unwrap()
    }

    fn fetch(request: u64) -> Output {
        Output::Fetch { request: RequestId(request), provider: PEER, blob: BLOB, size: SIZE, span: span(0, 16), probe: false }
    }

    fn broken(checker: &Checker) -> Vec<&str> {
        checker.violations().iter().map(|violation| violation.what.as_str()).collect()
    }

    #[test]
    fn groups_out_of_thin_air_are_caught() {
        let mut checker = checker();
        checker.synced(NOW, HERE, BLOB, span(0, 4));
        checker.received(NOW, HERE, Some(HostId(1)), BLOB, span(4, 8));
        assert!(broken(&checker)[0].contains("nobody sent"), "{:?}", broken(&checker));
        assert!(broken(&checker)[1].contains("does not hold"), "{:?}", broken(&checker));
    }

    #[test]
    fn serving_needs_a_credit_and_durable_groups() {
        let mut checker = checker();
        let serve = Output::Serve { peer: PEER, request: RequestId(1), blob: BLOB, span: span(0, 16) };
        checker.received(NOW, HERE, None, BLOB, span(0, 16));
        checker.output(NOW, HERE, &serve);
        assert_eq!(broken(&checker).len(), 2, "{:?}", broken(&checker));
        checker.synced(NOW, HERE, BLOB, span(0, 16));
        let grant = Message::Grant { credits: 1, block_bytes: 1 << 18, hint: None };
        checker.output(NOW, HERE, &Output::Send { peer: PEER, message: grant });
        checker.output(NOW, HERE, &serve);
        assert_eq!(broken(&checker).len(), 2, "{:?}", broken(&checker));
    }

    #[test]
    fn bans_bounds_and_double_ends_are_caught() {
        let mut checker = checker();
        (0..3).for_each(|request| checker.output(NOW, HERE, &fetch(request)));
        assert!(broken(&checker)[0].contains("3 requests open"), "{:?}", broken(&checker));
        let ended = Input::FetchEnded { request: RequestId(0), outcome: FetchOutcome::Lost, verified_groups: 0 };
        checker.input(NOW, HERE, &ended);
        checker.input(NOW, HERE, &ended);
        assert!(broken(&checker)[1].contains("without being open"), "{:?}", broken(&checker));
        checker.output(NOW, HERE, &Output::Notify(Event::Banned { peer: PEER, until: Instant(9) }));
        checker.output(NOW, HERE, &fetch(7));
        assert!(broken(&checker)[2].contains("in spite of its ban"), "{:?}", broken(&checker));
    }

    #[test]
    fn claims_must_be_durable() {
        let mut checker = checker();
        checker.received(NOW, HERE, None, BLOB, span(0, 64));
        let have = Output::Send {
            peer: PEER,
            message: Message::Have { blob: BLOB, size: SIZE, pieces: p2pweights_protocol::wire::HavePieces::All },
        };
        checker.output(NOW, HERE, &have);
        assert_eq!(broken(&checker).len(), 1);
        checker.synced(NOW, HERE, BLOB, span(0, 64));
        checker.output(NOW, HERE, &have);
        assert_eq!(broken(&checker).len(), 1);
    }
}
