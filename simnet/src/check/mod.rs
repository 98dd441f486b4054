//! Rules that must hold in every world, checked apart from the code they are about: the checker keeps its own books, from what it sees
//! go into an engine and come out of it, and from what the network really delivered. Bytes, credits, requests, claims on a local network
//! and liveness have a file each; what only shows from outside is looked at in `world/looks`.

mod books;
mod bytes;
mod claims;
mod credits;
mod liveness;
mod requests;
mod rule;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use p2pweights_protocol::engine::{Event, Input, Output};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::time::Instant;
use p2pweights_protocol::wire::Message;

use crate::network::HostId;
use crate::scenario::SiteId;
use books::Books;
use liveness::Meals;

pub use rule::Rule;

/// Violations kept: after so many, more tell nothing.
const KEPT: usize = 20;

/// A rule was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Instant,
    /// By whom.
    pub host: HostId,
    /// Which rule.
    pub rule: Rule,
    /// How.
    pub what: String,
}

/// Everybody's books.
#[derive(Debug)]
pub struct Checker {
    /// Books are kept of every so many hosts.
    every: usize,
    books: Vec<Books>,
    sizes: BTreeMap<BlobHash, u64>,
    /// The members of each local network.
    lans: BTreeMap<SiteId, Vec<HostId>>,
    meals: Meals,
    violations: Vec<Violation>,
}

impl Checker {
    /// Blank books, of one host in `every`; `lans`: who shares a local network behind one link.
    pub fn new(hosts: usize, every: usize, sizes: BTreeMap<BlobHash, u64>, lans: BTreeMap<SiteId, Vec<HostId>>) -> Self {
        let every = every.max(1);
        let books = vec![Books::default(); hosts.div_ceil(every)];
        Self { every, books, sizes, lans, meals: Meals::new(hosts), violations: Vec::new() }
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
    pub fn blame(&mut self, at: Instant, host: HostId, rule: Rule, what: String) {
        if self.violations.len() < KEPT {
            self.violations.push(Violation { at, host, rule, what });
        }
    }

    /// A host lost what was not synced, and its memory.
    pub fn crashed(&mut self, host: HostId) {
        if let Some(books) = self.books_mut(host) {
            books.crash();
        }
    }

    /// A fact goes into an honest host's engine.
    pub fn input(&mut self, now: Instant, host: HostId, input: &Input) {
        self.note_company(now, host, input);
        match input {
            Input::FetchEnded { request, outcome, verified_groups } => {
                self.fetch_ended(now, host, *request, *outcome, *verified_groups);
            }
            Input::Message { peer, message: Message::Return { credits } } => self.returned(host, peer, *credits),
            Input::SpanStored { blob, span, .. } => self.told_stored(host, *blob, *span),
            Input::SpanLost { blob, span } => self.told_lost(host, *blob, *span),
            Input::PeerConnected { peer, class, .. } => {
                if let Some(books) = self.books_mut(host) {
                    books.peer_mut(peer).class = Some(*class);
                }
            }
            Input::PeerGone { peer } => {
                if let Some(books) = self.books_mut(host) {
                    books.gone(peer);
                }
            }
            _ => (),
        }
    }

    /// A wish comes out of an honest host's engine.
    pub fn output(&mut self, now: Instant, host: HostId, output: &Output) {
        match output {
            Output::Notify(Event::Banned { peer, until }) => {
                if let Some(books) = self.books_mut(host) {
                    books.peer_mut(peer).banned = Some(*until);
                }
            }
            Output::Hangup { peer, .. } => {
                if let Some(books) = self.books_mut(host) {
                    books.gone(peer);
                }
            }
            Output::Cancel { request, .. } => self.cancelled(now, host, *request),
            Output::Fetch { request, provider, blob, size, span, probe } => {
                self.asked(now, host, *request, (provider, *blob, *size, *span, *probe));
            }
            Output::Send { peer, message } => {
                if let Message::Grant { credits, .. } = message {
                    self.granted(now, host, peer, *credits);
                }
                self.check_claim(now, host, message);
            }
            Output::Serve { peer, request, blob, span } => {
                self.pays(now, host, peer, *request);
                self.serves(now, host, *blob, *span);
            }
            _ => (),
        }
    }

    fn books(&self, host: HostId) -> Option<&Books> {
        host.0.is_multiple_of(self.every).then(|| &self.books[host.0 / self.every])
    }

    fn books_mut(&mut self, host: HostId) -> Option<&mut Books> {
        host.0.is_multiple_of(self.every).then(|| &mut self.books[host.0 / self.every])
    }
}
