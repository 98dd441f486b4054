//! Bulk streams: the seam to the data plane. Whatever carries the bytes, the rest of the node sees a [`BulkStream`] bound to a peer.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::StreamProtocol;
use p2pweights_protocol::ids::PeerId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::control::Outboxes;
use super::peer_ids::to_libp2p;
use super::streams::{self, NetStream, OpenError};

/// Bulk streams that one peer may have open to us: one per connection it may hold.
pub(super) const STREAMS_PER_PEER: usize = 4;
/// Bulk streams open to us in total. With windows of 256 KiB and our own buffers about half a megabyte each.
const STREAMS: usize = 256;

/// Bytes both ways, however they travel.
pub trait BulkIo: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> BulkIo for T {}

impl fmt::Debug for dyn BulkIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BulkStream")
    }
}

/// A stream of payload to or from one peer. Dropping it closes it.
pub type BulkStream = Box<dyn BulkIo>;

/// Opens bulk streams to connected peers.
#[derive(Clone)]
pub struct BulkConnector {
    control: libp2p_stream::Control,
    protocol: StreamProtocol,
    outboxes: Outboxes,
}

impl fmt::Debug for BulkConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkConnector").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

impl BulkConnector {
    pub(super) fn new(control: libp2p_stream::Control, protocol: StreamProtocol, outboxes: Outboxes) -> Self {
        Self { control, protocol, outboxes }
    }

    /// A stream to this peer, which must be connected. Ends within ten seconds. The peer may refuse: it takes only so many.
    pub async fn open(&self, peer: PeerId) -> Result<BulkStream, OpenError> {
        // Asked for an unconnected peer, libp2p-stream would dial it by itself.
        if !self.outboxes.contains(&peer) {
            return Err(OpenError::NotConnected);
        }
        let stream = streams::open(&self.control, to_libp2p(peer), &self.protocol).await?;
        Ok(Box::new(stream))
    }
}

/// How many inbound streams there may be, over all peers.
#[derive(Debug, Clone)]
pub(super) struct BulkLimit(Arc<Semaphore>);

impl BulkLimit {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(STREAMS)))
    }

    /// Room for one more stream of a peer with this share; `None` if there is none.
    pub fn admit(&self, share: &Arc<Semaphore>) -> Option<BulkPermit> {
        let total = self.0.clone().try_acquire_owned().ok()?;
        let of_peer = share.clone().try_acquire_owned().ok()?;
        Some(BulkPermit { _total: total, _of_peer: of_peer })
    }
}

/// Held as long as the stream is.
#[derive(Debug)]
pub(super) struct BulkPermit {
    _total: OwnedSemaphorePermit,
    _of_peer: OwnedSemaphorePermit,
}

impl BulkPermit {
    /// The stream, counted until it is dropped.
    pub fn attach(self, stream: NetStream) -> BulkStream {
        Box::new(Counted { stream, _permit: self })
    }
}

struct Counted {
    stream: NetStream,
    _permit: BulkPermit,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
