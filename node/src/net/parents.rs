//! Parents streams: one short question each, beside bulk, for the hashes that lead to a span and not the bytes below them. A protocol of
//! its own, so that peers which do not know it simply do not take such a stream.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use libp2p::StreamProtocol;
use p2pweights_protocol::geometry::Geometry;
use p2pweights_protocol::ids::PeerId;
use p2pweights_protocol::verify::outboard_parts;
use p2pweights_protocol::wire::{HeaderError, PARENTS_REQUEST_BYTES, ParentsRequest, ParentsStatus};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::control::Outboxes;
use super::peer_ids::to_libp2p;
use super::streams::{self, NetStream, OpenError};

/// Questions of one peer that are answered at a time.
pub(super) const QUESTIONS_PER_PEER: usize = 1;
/// And of all of them: an answer takes 4 MiB of memory.
const QUESTIONS: usize = 8;
/// How long a question may take once its stream stands, and an answer to begin.
const QUESTION: Duration = Duration::from_secs(10);
/// How long the other side may take nothing, or bring nothing.
const STALL: Duration = Duration::from_secs(10);
/// An answer is read and written in portions of this size, each within ten seconds.
pub const PARENTS_PORTION: usize = 64 * 1024;

/// Why a peer gave no parents.
#[derive(Debug, Error)]
pub enum AskError {
    /// No stream.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It does not hold them, or not now.
    #[error("the peer does not give them")]
    Refused,
    /// It answered with what is no answer.
    #[error("the peer's answer is malformed")]
    Malformed(#[from] HeaderError),
    /// The stream broke, or stood still.
    #[error("the stream broke")]
    Broken(#[from] io::Error),
}

/// Asks connected peers.
#[derive(Clone)]
pub struct ParentsConnector {
    control: libp2p_stream::Control,
    protocol: StreamProtocol,
    outboxes: Outboxes,
}

impl std::fmt::Debug for ParentsConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParentsConnector").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

impl ParentsConnector {
    pub(super) fn new(control: libp2p_stream::Control, protocol: StreamProtocol, outboxes: Outboxes) -> Self {
        Self { control, protocol, outboxes }
    }

    /// The parents that lead to a span, as parts of the outboard with the place where each begins; nothing of it is checked.
    pub async fn ask(&self, peer: PeerId, request: ParentsRequest) -> Result<Vec<(u64, Vec<u8>)>, AskError> {
        // Asked for an unconnected peer, libp2p-stream would dial it by itself.
        if !self.outboxes.contains(&peer) {
            return Err(OpenError::NotConnected.into());
        }
        let mut stream = streams::open(&self.control, to_libp2p(peer), &self.protocol).await?;
        let question = async {
            stream.write_all(&request.encode()).await?;
            stream.flush().await?;
            stream.read_u8().await
        };
        match ParentsStatus::decode(timeout(QUESTION, question).await.map_err(|_| late())??)? {
            ParentsStatus::Data => (),
            ParentsStatus::NotHeld | ParentsStatus::Busy => return Err(AskError::Refused),
        }
        let mut parts = Vec::new();
        for part in outboard_parts(Geometry::of(request.size), request.span) {
            let mut bytes = vec![0; usize::try_from(part.end - part.start).map_err(io::Error::other)?];
            for portion in bytes.chunks_mut(PARENTS_PORTION) {
                timeout(STALL, stream.read_exact(portion)).await.map_err(|_| late())??;
            }
            parts.push((part.start, bytes));
        }
        Ok(parts)
    }
}

/// Room for questions of all peers.
#[derive(Debug, Clone)]
pub(super) struct ParentsLimit(Arc<Semaphore>);

impl ParentsLimit {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(QUESTIONS)))
    }

    /// Room for one more question of a peer with this share; `None` if there is none.
    pub fn admit(&self, share: &Arc<Semaphore>) -> Option<[OwnedSemaphorePermit; 2]> {
        Some([self.0.clone().try_acquire_owned().ok()?, share.clone().try_acquire_owned().ok()?])
    }
}

/// A peer's question, to be answered once.
#[derive(Debug)]
pub struct ParentsAsked {
    /// What it asks for.
    pub request: ParentsRequest,
    stream: NetStream,
    _permits: [OwnedSemaphorePermit; 2],
}

impl ParentsAsked {
    /// Reads the question from a stream that was greeted. `None` if it does not come, an error if it is none.
    pub(super) async fn read(mut stream: NetStream, permits: [OwnedSemaphorePermit; 2]) -> Result<Option<Self>, HeaderError> {
        let mut bytes = [0; PARENTS_REQUEST_BYTES];
        match timeout(QUESTION, stream.read_exact(&mut bytes)).await {
            Ok(Ok(_)) => Ok(Some(Self { request: ParentsRequest::decode(&bytes)?, stream, _permits: permits })),
            Ok(Err(_)) | Err(_) => Ok(None),
        }
    }

    /// Answers that there is nothing to be had.
    pub async fn refuse(mut self, status: ParentsStatus) {
        // The asker does without.
        let _ = self.write(&[status as u8]).await;
    }

    /// Begins an answer; the parts of the outboard follow, all of them, in order.
    pub async fn begin(&mut self) -> io::Result<()> {
        self.write(&[ParentsStatus::Data as u8]).await
    }

    /// Goes on with it: with at most [`PARENTS_PORTION`] bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(STALL, written).await.map_err(|_| late())?
    }
}

fn late() -> io::Error {
    io::ErrorKind::TimedOut.into()
}
