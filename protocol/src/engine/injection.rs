//! A lone source names what it is to be asked for: every group goes out once before any goes out twice, so that it may leave after about
//! one copy (the idea of super-seeding, BEP 16, made exact by naming the piece with the credit).
//!
//! A group is *left*, then *promised* to a peer with a credit, then *sent*, and *seen* once the peer says that it holds the piece. It
//! is left again whenever one of these steps fails.

use std::collections::{BTreeMap, VecDeque};

use crate::geometry::{Geometry, Piece, Span};
use crate::have_map::HaveMap;
use crate::ids::PeerId;
use crate::span_set::SpanSet;

/// Runs looked at for one that a peer does not hold: it holds few of those that nobody else was sent.
const TRIES: usize = 8;

/// What of one blob has gone out, to whom.
#[derive(Debug, Clone)]
pub struct Injection {
    geometry: Geometry,
    /// Groups that were neither promised nor sent.
    left: SpanSet,
    /// Where to begin, so that several sources of one blob do not all begin with the same piece.
    from: u64,
    /// What each peer's unused credits are for, oldest first.
    promised: BTreeMap<PeerId, VecDeque<Span>>,
    /// What was sent to each peer of pieces that it has not said it holds.
    unseen: BTreeMap<PeerId, SpanSet>,
    /// Pieces that each peer said it does not need.
    declined: BTreeMap<PeerId, HaveMap>,
}

impl Injection {
    /// Nothing has gone out; the piece with the group `from` is to be the first.
    pub fn new(geometry: Geometry, from: u64) -> Self {
        let from = geometry.piece_span(geometry.piece_of(from)).map_or(0, |piece| piece.start());
        let left = geometry.whole().into_iter().collect();
        Self { geometry, left, from, promised: BTreeMap::new(), unseen: BTreeMap::new(), declined: BTreeMap::new() }
    }

    /// Whether everything has been promised or sent.
    pub fn is_over(&self) -> bool {
        self.left.is_empty()
    }

    /// Whether a peer has unused credits that are for something of this blob.
    pub fn has_promised(&self, peer: PeerId) -> bool {
        self.promised.contains_key(&peer)
    }

    /// The peers that have.
    pub fn promised_peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.promised.keys().copied()
    }

    /// Promises a peer that holds `has` the next span, at most so many groups; the piece it begins in is what to name to the peer.
    pub fn promise(&mut self, peer: PeerId, has: Option<&HaveMap>, block_groups: u64) -> Option<Piece> {
        let span = self.going_on(peer, block_groups).or_else(|| self.beginning(peer, has, block_groups))?;
        self.left.remove(span);
        self.promised.entry(peer).or_default().push_back(span);
        Some(self.geometry.piece_of(span.start()))
    }

    /// The rest of the piece that this peer was promised the beginning of: nobody can use half a piece.
    fn going_on(&self, peer: PeerId, block_groups: u64) -> Option<Span> {
        let last = self.promised.get(&peer).and_then(|spans| spans.back().copied());
        let last = last.or_else(|| self.unseen.get(&peer).and_then(|sent| sent.runs().last()))?;
        let piece = self.geometry.piece_span(self.geometry.piece_of(last.end() - 1))?;
        let rest = Span::new(last.end(), piece.end())?;
        self.left.covers(rest).then(|| rest.prefix(block_groups))
    }

    /// The next run of whole pieces, or of one's first groups; the rest of a piece that somebody else was sent, if there is nothing else.
    fn beginning(&self, peer: PeerId, has: Option<&HaveMap>, block_groups: u64) -> Option<Span> {
        let declined = self.declined.get(&peer);
        let knows = |map: Option<&HaveMap>, run: &Span| map.is_some_and(|map| map.contains(self.geometry.piece_of(run.start())));
        let lacks = |run: &Span| !knows(has, run) && !knows(declined, run);
        let whole = |run: Span| {
            let piece = self.geometry.piece_span(self.geometry.piece_of(run.start()))?;
            if piece.start() == run.start() { Some(run) } else { Span::new(piece.end(), run.end()) }
        };
        let begun = self.runs_left().take(TRIES).filter_map(whole).find(lacks);
        begun.or_else(|| self.runs_left().take(TRIES).find(lacks)).map(|run| run.prefix(block_groups))
    }

    fn runs_left(&self) -> impl Iterator<Item = Span> + '_ {
        let (behind, before) = (Span::new(self.from, self.geometry.groups()), Span::new(0, self.from));
        behind.into_iter().chain(before).flat_map(|span| self.left.overlaps(span))
    }

    /// A peer asks for this: whatever it was promised with the credit, this is what goes out.
    pub fn requested(&mut self, peer: PeerId, span: Span) {
        self.left.remove(span);
        self.unseen.entry(peer).or_default().insert(span);
        self.tidy(peer);
    }

    /// A peer used a credit: the oldest promise is kept, or void. `false` if there was none.
    pub fn redeemed(&mut self, peer: PeerId) -> bool {
        self.void(peer, VecDeque::pop_front)
    }

    /// A credit of a peer's came back or expired; `false` if nothing was promised with it here.
    pub fn unused(&mut self, peer: PeerId) -> bool {
        self.void(peer, VecDeque::pop_back)
    }

    fn void(&mut self, peer: PeerId, which: fn(&mut VecDeque<Span>) -> Option<Span>) -> bool {
        let promise = self.promised.get_mut(&peer).and_then(which);
        promise.iter().for_each(|span| _ = self.left.insert(*span));
        self.tidy(peer);
        promise.is_some()
    }

    /// A peer does not need a piece that it was promised; `false` if it was not.
    pub fn declined(&mut self, peer: PeerId, piece: Piece) -> bool {
        let Some(promised) = self.promised.get_mut(&peer) else { return false };
        let place = promised.iter().position(|span| self.geometry.piece_of(span.start()) == piece);
        let Some(span) = place.and_then(|place| promised.remove(place)) else { return false };
        self.left.insert(span);
        self.declined.entry(peer).or_insert_with(|| HaveMap::empty(self.geometry.pieces())).insert(piece);
        self.tidy(peer);
        true
    }

    /// A span that was asked for did not go out.
    pub fn failed(&mut self, peer: PeerId, span: Span) {
        if let Some(sent) = self.unseen.get_mut(&peer) {
            sent.remove(span);
            self.left.insert(span);
        }
        self.tidy(peer);
    }

    /// A peer says that it holds a piece: it need not be sent again, by whomever it got it.
    pub fn seen(&mut self, peer: PeerId, piece: Piece) {
        let Some(span) = self.geometry.piece_span(piece) else { return };
        self.left.remove(span);
        if let Some(sent) = self.unseen.get_mut(&peer) {
            sent.remove(span);
        }
        self.tidy(peer);
    }

    /// A piece is held by nobody else any more.
    pub fn lost(&mut self, piece: Piece) {
        self.geometry.piece_span(piece).into_iter().for_each(|span| _ = self.left.insert(span));
    }

    /// A peer is gone, and with it what it had not told anybody of.
    pub fn gone(&mut self, peer: PeerId) {
        let promised = self.promised.remove(&peer).into_iter().flatten();
        let unseen = self.unseen.remove(&peer);
        self.declined.remove(&peer);
        let unseen: Vec<Span> = unseen.iter().flat_map(SpanSet::runs).collect();
        promised.chain(unseen).for_each(|span| _ = self.left.insert(span));
    }

    fn tidy(&mut self, peer: PeerId) {
        if self.promised.get(&peer).is_some_and(VecDeque::is_empty) {
            self.promised.remove(&peer);
        }
        if self.unseen.get(&peer).is_some_and(SpanSet::is_empty) {
            self.unseen.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PeerId = PeerId([1; 32]);
    const B: PeerId = PeerId([2; 32]);
    /// Sixteen groups a piece.
    const PIECE: u64 = 256 * 1024;

    /// `.` left, `p` promised or sent and not seen, `-` neither: seen somewhere. One character a piece.
    fn draw(injection: &Injection) -> String {
        let pieces = 0..injection.geometry.pieces();
        let touches = |set: &SpanSet, span| set.overlaps(span).next().is_some();
        pieces
            .map(|piece| {
                let span = injection.geometry.piece_span(Piece(piece)).expect("a piece");
                let out = injection.promised.values().flatten().any(|promise| promise.intersection(span).is_some())
                    || injection.unseen.values().any(|sent| touches(sent, span));
                match (touches(&injection.left, span), out) {
                    (true, _) => '.',
                    (false, true) => 'p',
                    (false, false) => '-',
                }
            })
            .collect()
    }

    fn span(first: u64, pieces: u64) -> Span {
        Span::new(first * 16, (first + pieces) * 16).expect("not empty")
    }

    fn request(injection: &mut Injection, peer: PeerId, span: Span) {
        assert!(injection.redeemed(peer), "there is a promise");
        injection.requested(peer, span);
    }

    #[test]
    fn every_piece_goes_out_once_before_any_twice() {
        let mut injection = Injection::new(Geometry::of(8 * PIECE), 3 * 16);
        assert_eq!(injection.promise(A, None, 32), Some(Piece(3)));
        assert_eq!(injection.promise(B, None, 32), Some(Piece(5)));
        assert_eq!(draw(&injection), "...pppp.");
        request(&mut injection, A, span(3, 2));
        request(&mut injection, B, span(5, 1));
        assert_eq!(draw(&injection), "...ppp..", "what was not asked for after all is left");
        assert_eq!(injection.promise(A, None, 64), Some(Piece(6)));
        assert_eq!(injection.promise(A, None, 64), Some(Piece(0)), "and round again from the start");
        assert!(injection.is_over() && injection.promise(B, None, 64).is_none());
    }

    #[test]
    fn what_is_lost_on_the_way_is_left_again() {
        let mut injection = Injection::new(Geometry::of(4 * PIECE), 0);
        for peer in [A, B, A, B] {
            injection.promise(peer, None, 16);
        }
        request(&mut injection, A, span(0, 1));
        request(&mut injection, B, span(1, 1));
        assert!(injection.unused(A));
        assert_eq!(draw(&injection), "pp.p");
        injection.promise(B, None, 16);
        assert!(injection.declined(B, Piece(2)) && !injection.declined(B, Piece(2)));
        assert_eq!(injection.promise(B, None, 16), None, "it declined what is left");
        injection.failed(A, span(0, 1));
        assert_eq!(draw(&injection), ".p.p");
        injection.seen(B, Piece(1));
        assert_eq!(draw(&injection), ".-.p");
        injection.gone(B);
        assert_eq!(draw(&injection), ".-..", "what B was promised; piece 1 may live on elsewhere");
        injection.lost(Piece(1));
        assert_eq!(draw(&injection), "....");
    }

    #[test]
    fn half_a_piece_is_of_no_use_so_the_rest_goes_to_the_same_peer() {
        let mut injection = Injection::new(Geometry::of(4 * PIECE), 0);
        assert_eq!(injection.promise(A, None, 4), Some(Piece(0)));
        assert_eq!(injection.promise(B, None, 4), Some(Piece(1)), "piece 0 was begun elsewhere");
        injection.gone(B);
        request(&mut injection, A, Span::new(0, 4).expect("a span"));
        assert_eq!(injection.promise(A, None, 16), Some(Piece(0)));
        assert_eq!(injection.promise(A, None, 16), Some(Piece(1)));
        assert_eq!(injection.promise(B, Some(&crate::swarm::drawing::have_map("..##")), 32), None, "it holds what is left");
        injection.promise(B, None, 24);
        assert_eq!(injection.promise(A, None, 16), Some(Piece(3)), "the rest of a piece begun elsewhere, for want of others");
    }
}
