//! Which blobs providers are being looked for: one query a blob, few at a time, and each provider reported once.
//! Pure book-keeping; the host starts the queries.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

use p2pweights_protocol::ids::{BlobHash, PeerId};

/// Queries at a time; each talks to three peers at once.
const RUNNING: usize = 16;
/// Blobs waiting for their turn. A swarm asks for one hash at a time, so this is many swarms.
const WAITING: usize = 1024;
/// Providers reported for one look-up: several times what a swarm asks for, since some will not answer.
pub const PROVIDERS_PER_LOOKUP: usize = 128;

/// The look-ups under way and waiting; `Id` is how the DHT names a query.
#[derive(Debug)]
pub struct Lookups<Id> {
    wanted: HashSet<BlobHash>,
    waiting: VecDeque<BlobHash>,
    running: HashMap<Id, Lookup>,
    peers_asked: u64,
}

#[derive(Debug)]
struct Lookup {
    blob: BlobHash,
    requests: u32,
    seen: HashSet<PeerId>,
}

/// What a step of a look-up brought.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The hash looked for.
    pub blob: BlobHash,
    /// Providers not reported before.
    pub providers: Vec<PeerId>,
    /// As many as anybody needs: the query may end.
    pub enough: bool,
}

impl<Id: Eq + Hash + Copy> Lookups<Id> {
    /// No look-ups.
    pub fn new() -> Self {
        Self { wanted: HashSet::new(), waiting: VecDeque::new(), running: HashMap::new(), peers_asked: 0 }
    }

    /// Wants the providers of this blob. `false`: too many are waiting. One that is wanted already is not looked for twice.
    pub fn want(&mut self, blob: BlobHash) -> bool {
        if self.wanted.contains(&blob) {
            return true;
        }
        if self.waiting.len() >= WAITING {
            return false;
        }
        self.wanted.insert(blob);
        self.waiting.push_back(blob);
        true
    }

    /// The next blob to start a query for, if one may start. Answered by [`started`](Self::started).
    pub fn take_next(&mut self) -> Option<BlobHash> {
        if self.running.len() >= RUNNING { None } else { self.waiting.pop_front() }
    }

    /// A query runs.
    pub fn started(&mut self, query: Id, blob: BlobHash) {
        self.running.insert(query, Lookup { blob, requests: 0, seen: HashSet::new() });
    }

    /// A query has sent so many requests by now, and found these. `None`: not one of ours.
    pub fn progressed(&mut self, query: Id, requests: u32, providers: impl IntoIterator<Item = PeerId>) -> Option<Found> {
        let lookup = self.running.get_mut(&query)?;
        self.peers_asked += u64::from(requests.saturating_sub(lookup.requests));
        lookup.requests = lookup.requests.max(requests);
        let mut fresh = Vec::new();
        for provider in providers {
            if lookup.seen.len() < PROVIDERS_PER_LOOKUP && lookup.seen.insert(provider) {
                fresh.push(provider);
            }
        }
        Some(Found { blob: lookup.blob, providers: fresh, enough: lookup.seen.len() >= PROVIDERS_PER_LOOKUP })
    }

    /// A query is over. `None`: not one of ours.
    pub fn finished(&mut self, query: Id) -> Option<BlobHash> {
        let lookup = self.running.remove(&query)?;
        self.wanted.remove(&lookup.blob);
        Some(lookup.blob)
    }

    /// Requests sent to other peers by all look-ups so far.
    pub fn peers_asked(&self) -> u64 {
        self.peers_asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(number: u32) -> BlobHash {
        BlobHash::of(&number.to_le_bytes())
    }

    #[test]
    fn one_query_a_blob_few_at_a_time_many_waiting() {
        let mut lookups = Lookups::<u32>::new();
        assert!(lookups.want(blob(0)) && lookups.want(blob(0)));
        (1..100).for_each(|number| assert!(lookups.want(blob(number))));
        let mut query = 0;
        while let Some(blob) = lookups.take_next() {
            lookups.started(query, blob);
            query += 1;
        }
        assert_eq!(query as usize, RUNNING);
        assert!(lookups.want(blob(0)), "running: not queued again");
        assert_eq!(lookups.finished(0), Some(blob(0)));
        assert_eq!(lookups.take_next(), Some(blob(RUNNING as u32)));
        assert!(!(100..10_000).all(|number| lookups.want(blob(number))));
        assert_eq!(lookups.waiting.len(), WAITING);
        assert!(!lookups.want(blob(10_001)));
    }

    #[test]
    fn providers_are_reported_once_and_requests_counted_once() {
        let mut lookups = Lookups::<u32>::new();
        lookups.want(blob(1));
        let next = lookups.take_next().expect("a free slot");
        lookups.started(7, next);
        let peer = |number: u8| PeerId([number; 32]);
        let found = lookups.progressed(7, 3, [peer(1), peer(2)]).expect("ours");
        assert_eq!(found, Found { blob: blob(1), providers: vec![peer(1), peer(2)], enough: false });
        assert_eq!(lookups.progressed(7, 5, [peer(2), peer(3)]).expect("ours").providers, [peer(3)]);
        assert_eq!(lookups.peers_asked(), 5);
        assert_eq!(lookups.progressed(8, 9, []), None);
        let found = lookups.progressed(7, 5, (0..=255).map(peer)).expect("ours");
        assert_eq!((found.providers.len(), found.enough), (PROVIDERS_PER_LOOKUP - 3, true));
        assert_eq!(lookups.finished(7), Some(blob(1)));
        assert_eq!(lookups.finished(7), None);
    }
}
