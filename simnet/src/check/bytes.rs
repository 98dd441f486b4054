//! I1, I2, I14: what is held is true, what is served, claimed and offered is durable.

use p2pweights_protocol::engine::Engine;
use p2pweights_protocol::geometry::{Geometry, Piece, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::time::Instant;
use p2pweights_protocol::wire::{HavePieces, Message, PieceRun};

use super::{Checker, Rule};
use crate::group_set::GroupSet;
use crate::network::HostId;

impl Checker {
    /// An honest host holds this from the beginning.
    pub fn place(&mut self, host: HostId, blob: BlobHash, span: Span) {
        if let Some(books) = self.books_mut(host) {
            let held = books.held_mut(blob);
            held.truly.insert(span);
            held.durable.insert(span);
            held.known.insert(span);
        }
    }

    /// Groups that prove came from a peer, who must have had them if it is honest.
    pub fn received(&mut self, now: Instant, host: HostId, from: Option<HostId>, blob: BlobHash, span: Span) {
        self.meals.fed(now, host);
        if let Some(from) = from
            && self.books(from).is_some_and(|books| !books.holds(blob, span) && !books.had(blob, span))
        {
            self.blame(now, from, Rule::I2, format!("sent {span:?} of {blob:?} which it does not hold"));
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
            self.blame(now, host, Rule::I1, format!("stored {span:?} of {blob:?} which nobody sent"));
        }
    }

    pub(super) fn told_stored(&mut self, host: HostId, blob: BlobHash, span: Span) {
        if let Some(books) = self.books_mut(host) {
            books.held_mut(blob).known.insert(span);
        }
    }

    pub(super) fn told_lost(&mut self, host: HostId, blob: BlobHash, span: Span) {
        if let Some(books) = self.books_mut(host) {
            books.lost(blob, span);
        }
    }

    /// Groups that an honest host keeps though nobody sent them; 0 if no books are kept of it.
    pub fn bad_groups(&self, host: HostId, blob: BlobHash, kept: &GroupSet) -> u64 {
        let Some(books) = self.books(host) else { return 0 };
        kept.runs().map(|run| run.groups() - books.truly_within(blob, run)).sum()
    }

    pub(super) fn serves(&mut self, now: Instant, host: HostId, blob: BlobHash, span: Span) {
        if self.books(host).is_some_and(|books| !books.holds(blob, span)) {
            self.blame(now, host, Rule::I2, format!("serves {span:?} of {blob:?} which is not durable"));
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
            self.blame(now, host, Rule::I14, format!("offers pieces of {blob:?} that are not durable"));
        }
    }

    pub(super) fn check_claim(&mut self, now: Instant, host: HostId, message: &Message) {
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
            self.blame(now, host, Rule::I14, format!("claims of {blob:?} what is not durable"));
        }
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
