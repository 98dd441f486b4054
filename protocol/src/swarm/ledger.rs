//! What is asked of whom, since when, until when. Bounded by the in-flight limits of `engine`.

use std::collections::{BTreeMap, BTreeSet};

use crate::geometry::{GROUP_BYTES, Span};
use crate::ids::{BlobHash, PeerId, RequestId};
use crate::limits;
use crate::time::Instant;

/// Groups of the longest request: a whole block.
const LONGEST_GROUPS: u64 = limits::BLOCK_MAX_BYTES as u64 / GROUP_BYTES;

/// A request that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Whom it was asked of.
    pub provider: PeerId,
    /// The blob.
    pub blob: BlobHash,
    /// Its size at the time.
    pub size: u64,
    /// The groups.
    pub span: Span,
    /// Payload bytes of the span.
    pub bytes: u64,
    /// When it went out.
    pub asked_at: Instant,
    /// When patience ends.
    pub deadline: Instant,
    /// Whether it only proves the size.
    pub probe: bool,
    /// What the provider had delivered in all when this was asked.
    pub delivered_before: u64,
    /// Given up: its span is no longer claimed, but its end has not been reported yet.
    pub abandoned: bool,
}

/// All requests that have not ended.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    requests: BTreeMap<RequestId, Request>,
    /// Requests in flight by where they begin, so that those that overlap a span are found without looking at all.
    by_place: BTreeSet<(BlobHash, u64, RequestId)>,
    deadlines: BTreeSet<(Instant, RequestId)>,
    in_flight_bytes: u64,
}

impl Ledger {
    /// A request went out.
    pub fn insert(&mut self, id: RequestId, request: Request) {
        self.in_flight_bytes += request.bytes;
        self.deadlines.insert((request.deadline, id));
        self.by_place.insert((request.blob, request.span.start(), id));
        self.requests.insert(id, request);
    }

    /// A request ended.
    pub fn remove(&mut self, id: RequestId) -> Option<Request> {
        let request = self.requests.remove(&id)?;
        if !request.abandoned {
            self.forget(id, &request);
        }
        Some(request)
    }

    /// A request is given up, though its end is still to come; `None` if it was already.
    pub fn abandon(&mut self, id: RequestId) -> Option<Request> {
        let request = self.requests.get_mut(&id).filter(|request| !request.abandoned)?;
        request.abandoned = true;
        let request = *request;
        self.forget(id, &request);
        Some(request)
    }

    fn forget(&mut self, id: RequestId, request: &Request) {
        self.in_flight_bytes -= request.bytes;
        self.deadlines.remove(&(request.deadline, id));
        self.by_place.remove(&(request.blob, request.span.start(), id));
    }

    /// Gives a request until then.
    pub fn extend(&mut self, id: RequestId, deadline: Instant) {
        if let Some(request) = self.requests.get_mut(&id).filter(|request| !request.abandoned) {
            self.deadlines.remove(&(request.deadline, id));
            request.deadline = deadline;
            self.deadlines.insert((deadline, id));
        }
    }

    /// The first request whose deadline has passed, with whom it was asked of.
    pub fn overdue(&self, now: Instant) -> Option<(RequestId, PeerId)> {
        let (_, id) = self.deadlines.first().filter(|(deadline, _)| *deadline <= now)?;
        self.requests.get(id).map(|request| (*id, request.provider))
    }

    /// The next deadline.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Bytes asked for and not yet here, abandoned requests left out.
    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    /// Requests in flight, abandoned ones left out.
    pub fn in_flight(&self) -> usize {
        self.deadlines.len()
    }

    /// The requests in flight, abandoned ones left out.
    pub fn iter(&self) -> impl Iterator<Item = (RequestId, &Request)> + '_ {
        self.requests.iter().filter(|(_, request)| !request.abandoned).map(|(id, request)| (*id, request))
    }

    /// The requests in flight for one blob.
    pub fn of_blob(&self, blob: BlobHash) -> impl Iterator<Item = (RequestId, &Request)> + '_ {
        self.placed((blob, 0), (blob, u64::MAX))
    }

    /// The requests in flight for one blob that share groups with a span.
    pub fn overlapping(&self, blob: BlobHash, span: Span) -> impl Iterator<Item = (RequestId, &Request)> + '_ {
        let first = span.start().saturating_sub(LONGEST_GROUPS);
        self.placed((blob, first), (blob, span.end())).filter(move |(_, request)| request.span.intersection(span).is_some())
    }

    fn placed(&self, from: (BlobHash, u64), to: (BlobHash, u64)) -> impl Iterator<Item = (RequestId, &Request)> + '_ {
        let range = (from.0, from.1, RequestId(0))..=(to.0, to.1, RequestId(u64::MAX));
        self.by_place.range(range).filter_map(|(_, _, id)| self.requests.get(id).map(|request| (*id, request)))
    }

    /// One request in flight.
    pub fn find(&self, id: RequestId) -> Option<&Request> {
        self.requests.get(&id).filter(|request| !request.abandoned)
    }

    /// Everything asked of one provider, abandoned requests included.
    pub fn of_provider(&self, provider: PeerId) -> Vec<RequestId> {
        self.requests.iter().filter(|(_, request)| request.provider == provider).map(|(id, _)| *id).collect()
    }
}
