//! I4, I5, I7, I11: how much is asked of whom, nothing twice before the end, nothing that is there, and nothing of whom it has banned.

use p2pweights_protocol::engine::{FetchOutcome, PeerClass};
use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::{BlobHash, PeerId, RequestId};
use p2pweights_protocol::limits;
use p2pweights_protocol::time::Instant;

use super::books::{Books, Open};
use super::{Checker, Rule};
use crate::network::HostId;

/// Requests open at a source that has never delivered.
const UNPROVED_REQUESTS: usize = 2;

impl Checker {
    pub(super) fn asked(
        &mut self,
        now: Instant,
        host: HostId,
        request: RequestId,
        (provider, blob, size, span, probe): (&PeerId, BlobHash, u64, Span, bool),
    ) {
        if !probe {
            self.check_owner(now, host, provider, blob, span);
        }
        let Some(books) = self.books_mut(host) else { return };
        let banned = books.is_banned(provider, now);
        let (known, twice) =
            if probe { (0, None) } else { (books.known_within(blob, span), asked_twice(books, provider, blob, size, span)) };
        let bytes = Geometry::of(size).bytes_in(span);
        let new = books.open(request, Open { provider: *provider, blob, span, bytes, since: now, probe, given_up: false });
        if !new {
            self.blame(now, host, Rule::I4, format!("named two requests {request:?}"));
        }
        if banned {
            self.blame(now, host, Rule::I11, format!("asked {provider:?} for {blob:?} in spite of its ban"));
        }
        if known > 0 {
            self.blame(now, host, Rule::I7, format!("asked for {known} groups in {span:?} of {blob:?} which it has"));
        }
        if let Some(how) = twice {
            self.blame(now, host, Rule::I5, format!("asked twice for {span:?} of {blob:?} {how}"));
        }
        self.check_bounds(now, host, provider);
    }

    pub(super) fn fetch_ended(&mut self, now: Instant, host: HostId, request: RequestId, outcome: FetchOutcome, groups: u64) {
        let Some(books) = self.books_mut(host) else { return };
        let Some(open) = books.end(request, outcome == FetchOutcome::Delivered, groups) else {
            return self.blame(now, host, Rule::I4, format!("{request:?} ended without being open"));
        };
        if groups > 0 && books.peer(&open.provider).class != Some(PeerClass::Lan) {
            books.brought_at = now;
        }
    }

    pub(super) fn cancelled(&mut self, now: Instant, host: HostId, request: RequestId) {
        let Some(books) = self.books_mut(host) else { return };
        if !books.give_up(request) {
            self.blame(now, host, Rule::I4, format!("cancelled {request:?} which it never made"));
        }
    }

    fn check_bounds(&mut self, now: Instant, host: HostId, provider: &PeerId) {
        let Some(books) = self.books(host) else { return };
        let (bytes, there) = (books.open_bytes(), books.peer(provider).open);
        let most = if books.peer(provider).delivered { limits::REQUESTS_PER_PEER } else { UNPROVED_REQUESTS };
        if there > most {
            self.blame(now, host, Rule::I4, format!("{there} requests open at {provider:?}, allowed are {most}"));
        }
        if bytes > limits::IN_FLIGHT_BYTES + u64::from(limits::BLOCK_MAX_BYTES) {
            self.blame(now, host, Rule::I4, format!("{bytes} bytes in flight"));
        }
    }

    /// Whether no request of a host's is open.
    pub fn is_at_rest(&self, host: HostId) -> bool {
        self.books(host).is_none_or(Books::is_at_rest)
    }
}

/// Whether what is to be asked for is asked of somebody else already though it should not be; and why not.
fn asked_twice(books: &Books, provider: &PeerId, blob: BlobHash, size: u64, span: Span) -> Option<&'static str> {
    let mut twins = books.awaited().filter(|open| open.span.intersection(span).is_some() && open.blob == blob).peekable();
    twins.peek()?;
    let metered = |peer: &PeerId| books.peer(peer).class == Some(PeerClass::Metered);
    if metered(provider) && twins.any(|twin| metered(&twin.provider)) {
        return Some("over a metered link");
    }
    // All that is left must have been asked for.
    let mut left = Geometry::of(size).groups() - Geometry::of(size).whole().map_or(0, |whole| books.known_within(blob, whole));
    let mut asked: Vec<Span> = books.awaited().filter(|open| open.blob == blob).map(|open| open.span).collect();
    asked.sort_unstable_by_key(|span| span.start());
    let mut from = 0;
    for open in asked {
        if let Some(fresh) = Span::new(open.start().max(from), open.end()) {
            left = left.saturating_sub(fresh.groups() - books.known_within(blob, fresh));
            from = fresh.end();
        }
    }
    (left > 0).then_some("though not all that is left has been asked for")
}
