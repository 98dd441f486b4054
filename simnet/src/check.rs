//! Rules that must hold in every world, checked apart from the code they are about: the checker keeps its own books, from what it sees
//! go into an engine and come out of it, and from what the network really delivered.

use std::collections::BTreeMap;

use p2pweights_protocol::engine::{Engine, Event, FetchOutcome, Input, Output};
use p2pweights_protocol::geometry::{Geometry, Piece, Span};
use p2pweights_protocol::ids::{BlobHash, PeerId};
use p2pweights_protocol::limits;
use p2pweights_protocol::time::Instant;
use p2pweights_protocol::wire::{HavePieces, Message, PieceRun};

use crate::books::Books;
use crate::group_set::GroupSet;
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

/// Everybody's books.
#[derive(Debug)]
pub struct Checker {
    /// Books are kept of every so many hosts.
    every: usize,
    books: Vec<Books>,
    sizes: BTreeMap<BlobHash, u64>,
    violations: Vec<Violation>,
}

impl Checker {
    /// Blank books, of one host in `every`.
    pub fn new(hosts: usize, every: usize, sizes: BTreeMap<BlobHash, u64>) -> Self {
        let every = every.max(1);
        Self { every, books: vec![Books::default(); hosts.div_ceil(every)], sizes, violations: Vec::new() }
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
        if let Some(books) = self.books_mut(host) {
            books.held_mut(blob).truly.insert(span);
            books.held_mut(blob).durable.insert(span);
        }
    }

    /// Groups that prove came from a peer, who must have had them if it is honest.
    pub fn received(&mut self, now: Instant, host: HostId, from: Option<HostId>, blob: BlobHash, span: Span) {
        if let Some(from) = from
            && self.books(from).is_some_and(|books| !books.holds(blob, span) && !books.had(blob, span))
        {
            self.blame(now, from, format!("sent {span:?} of {blob:?} which it does not hold"));
        }
        if let Some(books) = self.books_mut(host) {
            books.held_mut(blob).truly.insert(span);
        }
    }

    /// Groups became durable.
    pub fn synced(&mut self, now: Instant, host: HostId, blob: BlobHash, span: Span) {
        let Some(books) = self.books_mut(host) else { return };
        let held = books.held_mut(blob);
        held.durable.insert(span);
        if !held.truly.covers(span) {
            self.blame(now, host, format!("stored {span:?} of {blob:?} which nobody sent"));
        }
    }

    /// A host lost what was not synced, and its memory.
    pub fn crashed(&mut self, host: HostId) {
        if let Some(books) = self.books_mut(host) {
            books.crash();
        }
    }

    /// Groups that an honest host keeps though nobody sent them; 0 if no books are kept of it.
    pub fn bad_groups(&self, host: HostId, blob: BlobHash, kept: &GroupSet) -> u64 {
        let Some(books) = self.books(host) else { return 0 };
        kept.runs().map(|run| run.groups() - books.truly_within(blob, run)).sum()
    }

    /// A fact goes into an engine.
    pub fn input(&mut self, now: Instant, host: HostId, input: &Input) {
        let Some(books) = self.books_mut(host) else { return };
        match input {
            Input::FetchEnded { request, outcome, .. } => {
                let was_open = books.end(*request, *outcome == FetchOutcome::Delivered);
                if !was_open {
                    self.blame(now, host, format!("{request:?} ended without being open"));
                }
            }
            Input::PeerGone { peer } => books.gone(peer),
            Input::SpanLost { blob, span } => books.lost(*blob, *span),
            _ => (),
        }
    }

    /// A wish comes out of an honest host's engine.
    pub fn output(&mut self, now: Instant, host: HostId, output: &Output) {
        let Some(books) = self.books_mut(host) else { return };
        match output {
            Output::Notify(Event::Banned { peer, until }) => books.peer_mut(peer).banned = Some(*until),
            Output::Hangup { peer, .. } => books.gone(peer),
            Output::Cancel { request, .. } => {
                let known = books.give_up(*request);
                if !known {
                    self.blame(now, host, format!("cancelled {request:?} which it never made"));
                }
            }
            Output::Fetch { request, provider, blob, size, span, .. } => {
                let new = books.open(*request, provider, Geometry::of(*size).bytes_in(*span));
                let refused = books.is_banned(provider, now);
                if !new {
                    self.blame(now, host, format!("named two requests {request:?}"));
                }
                if refused {
                    self.blame(now, host, format!("asked {provider:?} for {blob:?} in spite of its ban"));
                }
                self.check_bounds(now, host, provider);
            }
            Output::Send { peer, message } => {
                if let Message::Grant { credits, .. } = message {
                    books.peer_mut(peer).credits += u64::from(*credits);
                    if books.is_banned(peer, now) {
                        self.blame(now, host, format!("granted {peer:?} credits in spite of its ban"));
                    }
                }
                self.check_claim(now, host, message);
            }
            Output::Serve { peer, request, blob, span } => {
                let credits = &mut books.peer_mut(peer).credits;
                let paid = *credits > 0;
                *credits = credits.saturating_sub(1);
                let held = books.holds(*blob, *span);
                if !paid {
                    self.blame(now, host, format!("serves {request:?} of {peer:?} without a credit"));
                }
                if !held {
                    self.blame(now, host, format!("serves {span:?} of {blob:?} which is not durable"));
                }
            }
            _ => (),
        }
    }

    /// What an honest engine says about itself after a step that made groups durable: of the pieces of these groups, or of all.
    pub fn offers(&mut self, now: Instant, host: HostId, engine: &Engine, (blob, span): (BlobHash, Span), all: bool) {
        let (Some(size), Some(books)) = (self.sizes.get(&blob), self.books(host)) else { return };
        let (Some(map), geometry) = (engine.offered(blob), Geometry::of(*size)) else { return };
        let durable = |piece| geometry.piece_span(piece).is_some_and(|span| books.holds(blob, span));
        let honest = if all {
            map.iter().all(durable)
        } else {
            geometry.pieces_touching(span).filter(|piece| map.contains(*piece)).all(durable)
        };
        if !honest {
            self.blame(now, host, format!("offers pieces of {blob:?} that are not durable"));
        }
    }

    fn check_bounds(&mut self, now: Instant, host: HostId, provider: &PeerId) {
        let Some(books) = self.books(host) else { return };
        let (bytes, there) = (books.open_bytes(), books.peer(provider).open);
        let most = if books.peer(provider).delivered { limits::REQUESTS_PER_PEER } else { UNPROVED_REQUESTS };
        if there > most {
            self.blame(now, host, format!("{there} requests open at {provider:?}, allowed are {most}"));
        }
        if bytes > limits::IN_FLIGHT_BYTES + u64::from(limits::BLOCK_MAX_BYTES) {
            self.blame(now, host, format!("{bytes} bytes in flight"));
        }
    }

    fn check_claim(&mut self, now: Instant, host: HostId, message: &Message) {
        let Some(books) = self.books(host) else { return };
        let (blob, honest) = match message {
            Message::Have { blob, size, pieces } => {
                let (geometry, held) = (Geometry::of(*size), books.held(*blob));
                let durable = match pieces.to_map(geometry).filter(|_| *pieces != HavePieces::All) {
                    Some(map) => map.iter().all(|piece| run_is_held(held, geometry, PieceRun { first: piece, count: 1 })),
                    None => geometry.whole().is_none_or(|whole| held.is_some_and(|held| held.covers(whole))),
                };
                (*blob, self.sizes.get(blob) == Some(size) && durable)
            }
            Message::HaveMore { blob, runs } => {
                let Some(size) = self.sizes.get(blob) else { return };
                let (geometry, held) = (Geometry::of(*size), books.held(*blob));
                (*blob, runs.iter().all(|run| run_is_held(held, geometry, *run)))
            }
            _ => return,
        };
        if !honest {
            self.blame(now, host, format!("claims of {blob:?} what is not durable"));
        }
    }

    fn books(&self, host: HostId) -> Option<&Books> {
        host.0.is_multiple_of(self.every).then(|| &self.books[host.0 / self.every])
    }

    fn books_mut(&mut self, host: HostId) -> Option<&mut Books> {
        host.0.is_multiple_of(self.every).then(|| &mut self.books[host.0 / self.every])
    }
}

/// Whether a blob has such pieces, and all of them are held.
fn run_is_held(held: Option<&GroupSet>, geometry: Geometry, run: PieceRun) -> bool {
    let Some(last) = run.count.checked_sub(1) else { return true };
    let first = geometry.piece_span(run.first);
    let last = run.first.0.checked_add(last).and_then(|last| geometry.piece_span(Piece(last)));
    let span = first.zip(last).and_then(|(first, last)| Span::new(first.start(), last.end()));
    span.is_some_and(|span| held.is_some_and(|held| held.covers(span)))
}

#[cfg(test)]
mod tests {
    use p2pweights_protocol::ids::RequestId;

    use super::*;

    const BLOB: BlobHash = BlobHash([1; 32]);
    const SIZE: u64 = 4 * 256 * 1024;
    const PEER: PeerId = PeerId([2; 32]);
    const HERE: HostId = HostId(0);
    const NOW: Instant = Instant(1);

    fn checker() -> Checker {
        Checker::new(2, 1, [(BLOB, SIZE)].into())
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
        let have = Output::Send { peer: PEER, message: Message::Have { blob: BLOB, size: SIZE, pieces: HavePieces::All } };
        checker.output(NOW, HERE, &have);
        assert_eq!(broken(&checker).len(), 1);
        checker.synced(NOW, HERE, BLOB, span(0, 64));
        checker.output(NOW, HERE, &have);
        assert_eq!(broken(&checker).len(), 1);
    }
}
