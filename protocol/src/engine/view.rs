//! Looking at an engine without changing it: for progress, status and checkers.

use std::collections::BTreeSet;

use super::Engine;
use crate::geometry::{Geometry, Span};
use crate::have_map::HaveMap;
use crate::ids::{BlobHash, PeerId, SwarmId};

/// How far a wanted blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlobProgress {
    /// Size in bytes, once known.
    pub size: Option<u64>,
    /// Verified bytes.
    pub verified: u64,
    /// Bytes asked for and not yet here.
    pub in_flight: u64,
    /// Connected peers that hold some of it.
    pub providers: usize,
    /// Pieces still missing that no connected peer holds.
    pub unavailable: u32,
}

impl Engine {
    /// How far a blob is; `None` if it is not being fetched (any more).
    pub fn progress(&self, blob: BlobHash) -> Option<BlobProgress> {
        let download = self.downloads.get(&blob)?;
        let geometry = download.geometry();
        Some(BlobProgress {
            size: geometry.map(|geometry| geometry.size()),
            verified: geometry.map_or(0, |g| download.verified().runs().map(|run| g.bytes_in(run)).sum()),
            in_flight: self.ledger.of_blob(blob).map(|(_, request)| request.bytes).sum(),
            providers: download.providers().count(),
            unavailable: geometry.map_or(0, |_| download.availability().unavailable(download.missing())),
        })
    }

    /// The swarms being fetched, with the blobs each still wants.
    pub fn swarms(&self) -> impl Iterator<Item = (SwarmId, &BTreeSet<BlobHash>)> + '_ {
        self.swarms.iter().map(|(id, swarm)| (*id, &swarm.wants))
    }

    /// Peers known to provide a swarm, connected or not.
    pub fn known_providers(&self, swarm: SwarmId) -> usize {
        self.swarms.get(&swarm).map_or(0, |swarm| swarm.providers.len())
    }

    /// Peers of which something is asked right now.
    pub fn busy_sources(&self) -> BTreeSet<PeerId> {
        self.ledger.iter().map(|(_, request)| request.provider).collect()
    }

    /// Peers connected.
    pub fn connected(&self) -> usize {
        self.peers.len()
    }

    /// Strikes against a peer.
    pub fn strikes(&self, peer: PeerId) -> u32 {
        self.reputation.strikes(peer)
    }

    /// Every peer with strikes against it, and how many.
    pub fn struck(&self) -> impl Iterator<Item = (PeerId, u32)> + '_ {
        self.reputation.struck()
    }

    /// What we offer of a blob.
    pub fn offered(&self, blob: BlobHash) -> Option<&HaveMap> {
        self.offers.get(&blob).map(|offer| &offer.map)
    }

    /// Whether all of a span is offered, of a blob of this size.
    pub fn offers(&self, blob: BlobHash, size: u64, span: Span) -> bool {
        let geometry = Geometry::of(size);
        geometry.contains(span)
            && self.offers.get(&blob).is_some_and(|offer| offer.geometry == geometry && offer.held.covers(span))
    }

    /// Connected peers, mirrors left out, which say that they hold all of a span of a blob that is fetched.
    pub fn holders(&self, blob: BlobHash, span: Span) -> Vec<PeerId> {
        let Some(download) = self.downloads.get(&blob) else { return Vec::new() };
        let Some(geometry) = download.geometry().filter(|geometry| geometry.contains(span)) else { return Vec::new() };
        let holds = |peer: &PeerId| {
            let map = download.map_of(*peer);
            map.is_some_and(|map| geometry.pieces_touching(span).all(|piece| map.contains(piece)))
        };
        download.providers().filter(|peer| !self.is_mirror(*peer) && holds(peer)).collect()
    }

    /// Bytes asked for and not yet here, in total.
    pub fn in_flight_bytes(&self) -> u64 {
        self.ledger.in_flight_bytes()
    }

    /// Credits out and blocks being sent, to all peers together.
    pub fn owed(&self) -> usize {
        self.uploads.owed()
    }

    /// About how many bytes of memory this engine takes: its large parts, counted. Maps take some more than their entries.
    pub fn memory_bytes(&self) -> u64 {
        /// A run of groups in a set, with its share of the tree's nodes.
        const RUN: usize = 32;
        let peers = self.peers.values().map(|state| {
            let sets = state.interests.len() + state.told.len() + state.asked_about.len();
            size_of::<PeerId>() * 2
                + size_of_val(state)
                + size_of::<super::taker::Taker>()
                + sets * size_of::<(BlobHash, usize)>()
        });
        let downloads = self.downloads.values().map(|download| {
            let pieces = download.geometry().map_or(0, |geometry| geometry.pieces()) as usize;
            let maps = download.claims().count() + 2;
            let runs = download.geometry().map_or(0, |_| download.verified().runs().count() + download.claimed().runs().count());
            maps * (pieces / 8 + 96) + pieces * size_of::<u16>() + runs * RUN
        });
        let offers = self.offers.values().map(|offer| {
            let pieces = offer.map.pieces() as usize;
            size_of_val(offer) + pieces / 8 + pieces * size_of::<u16>() + offer.log.len() * 4 + offer.held.runs().count() * RUN
        });
        let requests = self.ledger.in_flight() * (size_of::<crate::swarm::ledger::Request>() + 3 * size_of::<BlobHash>());
        let all = size_of_val(self) + peers.sum::<usize>() + downloads.sum::<usize>() + offers.sum::<usize>() + requests;
        all as u64
    }

    /// # Panics
    /// If the state contradicts itself. Tests and simulations call it after every step.
    pub fn check_invariants(&self) {
        for (blob, download) in &self.downloads {
            download.check_invariants();
            assert_eq!(*blob, download.blob());
            let Some(geometry) = download.geometry() else { continue };
            let open = self.open.contains(&(download.order(), *blob));
            assert_eq!(open, download.is_open(), "index of open downloads");
            // What is claimed is exactly what unfinished requests are about to bring.
            let mut expected = crate::span_set::SpanSet::new();
            for (_, request) in self.ledger.of_blob(*blob).filter(|(_, r)| !r.probe && r.size == geometry.size()) {
                for gap in download.verified().gaps(request.span) {
                    expected.insert(gap);
                }
            }
            assert_eq!(download.claimed(), &expected, "claims of {blob:?}");
        }
        for (_, request) in self.ledger.iter() {
            assert!(self.peers.contains_key(&request.provider), "a request without a connected provider");
            assert!(request.deadline > self.now, "an overdue request was not given up");
            assert!(!self.reputation.is_banned(self.now, request.provider), "a banned peer is asked");
        }
        for (peer, state) in &self.peers {
            let open = self.ledger.iter().filter(|(_, request)| request.provider == *peer).count();
            assert_eq!(state.source.in_flight(), open, "requests open at {peer:?}");
        }
        self.uploads.check_invariants();
        self.injections.check_invariants();
        for offer in self.offers.values() {
            assert_eq!(offer.map, HaveMap::of_held(offer.geometry, &offer.held), "have-map of an offer");
        }
    }
}
