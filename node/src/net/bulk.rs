//! Bulk streams: the seam to the data plane. Whatever carries the bytes, the rest of the node sees a [`BulkStream`] bound to a peer.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::StreamProtocol;
use p2pweights_protocol::ids::PeerId;
use p2pweights_protocol::limits;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::bulk_path::BulkPath;
use super::control::Outboxes;
use super::direct::Direct;
use super::peer_ids::to_libp2p;
use super::quic::Quic;
use super::sealed::Sealed;
use super::streams::{self, NetStream, OpenError};

/// Bulk streams that one peer may have open to us: one per connection it may hold.
pub(super) const STREAMS_PER_PEER: usize = 4;
/// Bulk streams open to us in total. With windows of 256 KiB and our own buffers about half a megabyte each.
const STREAMS: usize = 256;

/// How long the rest of a greeting may take; it travels with its first byte.
const GREETING: Duration = Duration::from_secs(5);
/// How long a peer that could not be reached on a path is not tried there again.
const RETRY: Duration = Duration::from_secs(600);

/// Bytes both ways, however they travel.
pub trait BulkIo: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> BulkIo for T {}

impl fmt::Debug for dyn BulkIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BulkStream")
    }
}

/// A stream of payload to or from one peer. Dropping it closes it.
#[derive(Debug)]
pub struct BulkStream {
    carrier: Carrier,
    permit: Option<BulkPermit>,
}

/// What carries a bulk stream.
#[derive(Debug)]
pub enum Carrier {
    /// A direct connection, whose sides can go to threads.
    Sealed(Box<Sealed>),
    /// Anything else that moves bytes.
    Other(Box<dyn BulkIo>),
}

impl BulkStream {
    /// Over a direct connection.
    pub(super) fn sealed(sealed: Sealed) -> Self {
        Self { carrier: Carrier::Sealed(Box::new(sealed)), permit: None }
    }

    /// Over something else.
    pub fn over(stream: impl BulkIo + 'static) -> Self {
        Self { carrier: Carrier::Other(Box::new(stream)), permit: None }
    }

    /// What carries it, and what must be kept as long as it is used.
    pub fn into_parts(self) -> (Carrier, Option<BulkPermit>) {
        (self.carrier, self.permit)
    }
}

impl AsyncRead for BulkStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            Carrier::Sealed(sealed) => Pin::new(sealed.as_mut()).poll_read(cx, buf),
            Carrier::Other(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for BulkStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.carrier {
            Carrier::Sealed(sealed) => Pin::new(sealed.as_mut()).poll_write(cx, bytes),
            Carrier::Other(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            Carrier::Sealed(sealed) => Pin::new(sealed.as_mut()).poll_flush(cx),
            Carrier::Other(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            Carrier::Sealed(sealed) => Pin::new(sealed.as_mut()).poll_shutdown(cx),
            Carrier::Other(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Opens bulk streams to connected peers.
#[derive(Clone)]
pub struct BulkConnector {
    control: libp2p_stream::Control,
    protocol: StreamProtocol,
    outboxes: Outboxes,
    ways: Arc<Ways>,
    /// The path that is tried first.
    wanted: BulkPath,
    /// The path of the stream opened last.
    taken: Arc<OnceLock<BulkPath>>,
}

/// What bulk streams can be opened by.
pub(super) struct Ways {
    pub direct: Arc<Direct>,
    pub quic: Arc<Quic>,
    /// Paths that the owner allows.
    pub allowed: Vec<BulkPath>,
    /// Where peers could not be reached lately: not worth waiting for again.
    unreachable: Mutex<BTreeMap<(PeerId, BulkPath), Instant>>,
}

impl Ways {
    pub fn new(direct: Arc<Direct>, quic: Arc<Quic>, allowed: Vec<BulkPath>) -> Self {
        Self { direct, quic, allowed, unreachable: Mutex::default() }
    }

    fn may_try(&self, peer: PeerId, path: BulkPath) -> bool {
        let tried = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner).get(&(peer, path)).copied();
        self.allowed.contains(&path) && tried.is_none_or(|tried| tried.elapsed() >= RETRY)
    }

    fn failed(&self, peer: PeerId, path: BulkPath) {
        let mut unreachable = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        if unreachable.len() >= limits::REMEMBERED_PEERS {
            unreachable.clear();
        }
        unreachable.insert((peer, path), Instant::now());
    }
}

impl fmt::Debug for BulkConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkConnector").field("protocol", &self.protocol).field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl BulkConnector {
    pub(super) fn new(control: libp2p_stream::Control, protocol: StreamProtocol, outboxes: Outboxes, ways: Arc<Ways>) -> Self {
        Self { control, protocol, outboxes, ways, wanted: BulkPath::Direct, taken: Arc::default() }
    }

    /// The same, but trying this path first.
    pub fn on(&self, wanted: BulkPath) -> Self {
        Self { wanted, taken: Arc::default(), ..self.clone() }
    }

    /// The path of the first stream opened, once there is one.
    pub fn taken(&self) -> Option<BulkPath> {
        self.taken.get().copied()
    }

    /// The last round trip to a connected peer, if one has been made.
    pub fn round_trip(&self, peer: PeerId) -> Option<Duration> {
        self.outboxes.round_trip(&peer)
    }

    /// Paths that may be used.
    pub fn allowed(&self) -> &[BulkPath] {
        &self.ways.allowed
    }

    /// A stream to this peer, which must be connected: on the path wanted if that can be had, else on whichever can. Ends within 25 seconds.
    /// The peer may refuse: it takes only so many.
    pub async fn open(&self, peer: PeerId) -> Result<BulkStream, OpenError> {
        let (mut stream, [direct, quic]) = self.greeted(peer).await?;
        let others = BulkPath::ALL.into_iter().filter(|path| *path != self.wanted);
        for path in [self.wanted].into_iter().chain(others).filter(|path| self.ways.may_try(peer, *path)) {
            let opened = match path {
                BulkPath::Direct => self.connect(peer, path, direct).await,
                BulkPath::Quic => self.connect(peer, path, quic).await,
                BulkPath::Stream => break,
            };
            if let Some(opened) = opened {
                let _ = self.taken.set(path);
                return Ok(opened);
            }
        }
        if !self.ways.allowed.contains(&BulkPath::Stream) {
            return Err(OpenError::NoPath);
        }
        let staying = async {
            stream.write_u8(streams::STAYING).await?;
            stream.flush().await
        };
        timeout(GREETING, staying).await.map_err(|_| OpenError::Timeout)?.map_err(OpenError::Refused)?;
        let _ = self.taken.set(BulkPath::Stream);
        Ok(BulkStream::over(stream))
    }

    /// A stream of libp2p's to this peer, not chosen yet, and the ports that it names for the other paths.
    pub(super) async fn greeted(&self, peer: PeerId) -> Result<(NetStream, [u16; 2]), OpenError> {
        // Asked for an unconnected peer, libp2p-stream would dial it by itself.
        if !self.outboxes.contains(&peer) {
            return Err(OpenError::NotConnected);
        }
        let mut stream = streams::open(&self.control, to_libp2p(peer), &self.protocol).await?;
        let ports = async { Ok::<_, io::Error>([stream.read_u16().await?, stream.read_u16().await?]) };
        let ports = timeout(GREETING, ports).await.map_err(|_| OpenError::Timeout)?.map_err(OpenError::Refused)?;
        Ok((stream, ports))
    }

    async fn connect(&self, peer: PeerId, path: BulkPath, port: u16) -> Option<BulkStream> {
        let ip = self.outboxes.ip(&peer)?;
        if port == 0 {
            return None;
        }
        let address = SocketAddr::new(ip, port);
        let connected = match path {
            BulkPath::Direct => self.ways.direct.connect(peer, address).await,
            _ => self.ways.quic.connect(peer, address).await,
        };
        connected
            .inspect_err(|error| {
                tracing::debug!(peer = %peer.short(), %path, %address, %error, "not reached");
                self.ways.failed(peer, path);
            })
            .ok()
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
pub struct BulkPermit {
    _total: OwnedSemaphorePermit,
    _of_peer: OwnedSemaphorePermit,
}

impl BulkPermit {
    /// The stream, counted until it is dropped.
    pub(super) fn attach(self, stream: BulkStream) -> BulkStream {
        BulkStream { permit: Some(self), ..stream }
    }
}
