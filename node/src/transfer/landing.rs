//! Where payload ends up, whatever carried it: proved group by group, written where it belongs, reported, and soon synced. For blocking
//! threads. Knows sources only by name.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use p2pweights_protocol::engine::{FetchOutcome, Input};
use p2pweights_protocol::geometry::Geometry;
use p2pweights_protocol::ids::PeerId;
use p2pweights_protocol::verify::{DecodeError, Feed, SpanSink, decode_span};
use p2pweights_protocol::wire::BulkRequest;
use tracing::{debug, warn};

use super::sync::{SyncHandle, store_failed};
use super::{Fact, Facts, Writers};
use crate::store::{Receipt, ReceiveError, StoreError};

/// Keeps nothing: for proofs whose bytes are fetched again with the rest.
struct Nowhere;

impl SpanSink for Nowhere {
    fn parent(&mut self, _outboard_offset: u64, _pair: &[u8; 64]) -> std::io::Result<()> {
        Ok(())
    }

    fn leaf(&mut self, _offset: u64, _bytes: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

/// What became of one answer.
#[derive(Debug, Clone, Copy)]
pub struct Landed {
    /// How it ended.
    pub outcome: FetchOutcome,
    /// Groups from the start of the span that were proved and written.
    pub verified_groups: u64,
    /// Whether all of it was taken, so that what follows it in the stream is the next answer.
    pub is_whole: bool,
}

impl Landed {
    /// Nothing came of it, and the stream goes on.
    pub fn nothing(outcome: FetchOutcome) -> Self {
        Self { outcome, verified_groups: 0, is_whole: true }
    }
}

/// Takes what one source sends.
#[derive(Debug)]
pub struct Landing {
    provider: PeerId,
    writers: Arc<Writers>,
    syncer: SyncHandle,
    facts: Facts,
    /// Our own store failed: the source is not to blame for what is lost with its stream.
    store_failed: AtomicBool,
}

impl Landing {
    /// For what this source sends.
    pub fn new(provider: PeerId, writers: Arc<Writers>, syncer: SyncHandle, facts: Facts) -> Self {
        Self { provider, writers, syncer, facts, store_failed: AtomicBool::new(false) }
    }

    /// Whose payload it takes.
    pub fn provider(&self) -> PeerId {
        self.provider
    }

    /// The open writers.
    pub fn writers(&self) -> &Writers {
        &self.writers
    }

    /// Whether the store failed, so that nothing more can be taken.
    pub fn has_failed(&self) -> bool {
        self.store_failed.load(Ordering::Relaxed)
    }

    /// Takes the encoding of the span asked for; `probe`: only to prove it.
    pub fn land(&self, request: &BulkRequest, probe: bool, feed: &mut impl Feed) -> Landed {
        if probe { self.prove(request, feed) } else { self.store(request, feed) }
    }

    /// Reports how a request ended.
    pub fn report(&self, request: &BulkRequest, landed: Landed) {
        let Landed { outcome, verified_groups, .. } = landed;
        self.tell(Fact::Engine(Input::FetchEnded { request: request.request, outcome, verified_groups }));
        // Told first, synced then: who delivered is counted before anybody can see the blob complete.
        if verified_groups > 0 {
            match self.writers.opened(request.blob) {
                Some(writer) => self.syncer.written(&writer),
                None => self.syncer.arrived(),
            }
        }
    }

    /// Tells the driver.
    pub fn tell(&self, fact: Fact) {
        // Fails only when the driver has gone.
        let _ = self.facts.blocking_send(fact);
    }

    /// Our own store did not do what it should.
    pub fn store_failed(&self, error: &StoreError) {
        if let StoreError::OverQuota { .. } = error {
            // What a fetch wants has its room. This comes late, for one that has ended, and is nobody's trouble.
            return debug!(%error, "not kept");
        }
        self.store_failed.store(true, Ordering::Relaxed);
        self.tell(store_failed(error));
    }

    fn prove(&self, request: &BulkRequest, feed: &mut impl Feed) -> Landed {
        let geometry = Geometry::of(request.size);
        let (verified_groups, outcome) = decode_span(request.blob, geometry, request.span, feed, &mut Nowhere);
        match outcome {
            Ok(()) => Landed { outcome: FetchOutcome::Delivered, verified_groups, is_whole: true },
            Err(DecodeError::BadBytes { .. }) => Landed { outcome: FetchOutcome::BadBytes, verified_groups, is_whole: false },
            Err(_) => Landed { outcome: FetchOutcome::Lost, verified_groups, is_whole: false },
        }
    }

    fn store(&self, request: &BulkRequest, feed: &mut impl Feed) -> Landed {
        let Receipt { verified_groups, outcome } = match self.writers.receive(request, feed) {
            Ok(receipt) => receipt,
            // A twin was faster: check what comes, so that the stream goes on, and keep nothing.
            Err(StoreError::AlreadyComplete(_)) => return self.prove(request, feed),
            Err(error) => {
                self.store_failed(&error);
                return Landed { outcome: FetchOutcome::StoreFailed, verified_groups: 0, is_whole: false };
            }
        };
        match outcome {
            Ok(()) => Landed { outcome: FetchOutcome::Delivered, verified_groups, is_whole: true },
            Err(ReceiveError::BadBytes { group }) => {
                warn!(peer = %self.provider, blob = %request.blob, group, "bytes do not match the hash");
                Landed { outcome: FetchOutcome::BadBytes, verified_groups, is_whole: false }
            }
            Err(ReceiveError::Store(error)) => {
                self.store_failed(&error);
                Landed { outcome: FetchOutcome::StoreFailed, verified_groups, is_whole: false }
            }
            Err(ReceiveError::Ended | ReceiveError::Read(_)) => {
                Landed { outcome: FetchOutcome::Lost, verified_groups, is_whole: false }
            }
        }
    }
}
