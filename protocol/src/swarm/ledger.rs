//! What is asked of whom, since when, until when. Bounded by the in-flight limits of `engine`.

use std::collections::{BTreeMap, BTreeSet};

use crate::geometry::Span;
use crate::ids::{BlobHash, PeerId, RequestId};
use crate::time::Instant;

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
    deadlines: BTreeSet<(Instant, RequestId)>,
    in_flight_bytes: u64,
}

impl Ledger {
    /// A request went out.
    pub fn insert(&mut self, id: RequestId, request: Request) {
        self.in_flight_bytes += request.bytes;
        self.deadlines.insert((request.deadline, id));
        self.requests.insert(id, request);
    }

    /// A request ended.
    pub fn remove(&mut self, id: RequestId) -> Option<Request> {
        let request = self.requests.remove(&id)?;
        if !request.abandoned {
            self.in_flight_bytes -= request.bytes;
            self.deadlines.remove(&(request.deadline, id));
        }
        Some(request)
    }

    /// A request is given up, though its end is still to come; `None` if it was already.
    pub fn abandon(&mut self, id: RequestId) -> Option<Request> {
        let request = self.requests.get_mut(&id).filter(|request| !request.abandoned)?;
        request.abandoned = true;
        self.in_flight_bytes -= request.bytes;
        self.deadlines.remove(&(request.deadline, id));
        Some(*request)
    }

    /// A provider has just delivered: what else it was asked for is given until then at least.
    pub fn extend(&mut self, provider: PeerId, deadline: Instant) {
        for (id, request) in
            self.requests.iter_mut().filter(|(_, r)| r.provider == provider && !r.abandoned && r.deadline < deadline)
        {
            self.deadlines.remove(&(request.deadline, *id));
            request.deadline = deadline;
            self.deadlines.insert((deadline, *id));
        }
    }

    /// The first request whose deadline has passed.
    pub fn overdue(&self, now: Instant) -> Option<RequestId> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, id)| *id)
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
        self.iter().filter(move |(_, request)| request.blob == blob)
    }

    /// Everything asked of one provider, abandoned requests included.
    pub fn of_provider(&self, provider: PeerId) -> Vec<RequestId> {
        self.requests.iter().filter(|(_, request)| request.provider == provider).map(|(id, _)| *id).collect()
    }
}
