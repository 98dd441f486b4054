//! Control streams: one outbound per peer, opened at the first message, and what arrives on the peers' own. Turns messages into frames
//! and back; does not know what they mean.
//!
//! A message is never dropped silently: a peer whose queue overflows, or whose stream breaks, is hung up on, and both sides start anew.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use libp2p::StreamProtocol;
use p2pweights_protocol::ids::PeerId;
use p2pweights_protocol::wire::codec::PREFIX_BYTES;
use p2pweights_protocol::wire::{FrameError, Message, decode_frame, encode_frame, frame_length};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::peer_ids::to_libp2p;
use super::streams::{self, NetStream, OpenError};

/// Bytes of frames waiting for one peer. The answer to an interest in every blob of the largest manifest takes 3 MiB.
const QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// Frames waiting for one peer: more than the shortest ones that fit in the bytes above need only in theory.
const QUEUE_FRAMES: usize = 128 * 1024;
/// Bytes gathered before they are written: many small messages, one packet.
const BATCH_BYTES: usize = 64 * 1024;
/// How long a peer may take nothing at all while something waits for it.
const STALL: Duration = Duration::from_secs(10);
/// How long the rest of a frame may take once its first byte has arrived.
const FRAME: Duration = Duration::from_secs(30);

/// Why a message could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    /// There is no connection to this peer, or no longer.
    #[error("the peer is not connected")]
    NotConnected,
    /// The peer reads too slowly. It is being hung up on, since it has missed a message.
    #[error("the peer's queue is full")]
    Full,
}

/// Why a peer's outbound control stream ended.
#[derive(Debug, Error)]
pub(super) enum ControlError {
    #[error("the control stream could not be opened")]
    Open(#[from] OpenError),
    #[error("the control stream broke")]
    Broken(#[from] io::Error),
    #[error("the peer took nothing for {} s", STALL.as_secs())]
    Stalled,
    #[error("more than {QUEUE_BYTES} bytes were waiting for the peer")]
    Overflow,
}

/// How long a stream stays open after a farewell, for the last messages to be read: some round trips over a satellite.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The queues of all connected peers. The host alone adds and removes; everybody may put a message into one without waiting for it,
/// which is why this is shared memory and not a message to the host.
#[derive(Debug, Clone, Default)]
pub(super) struct Outboxes(Arc<RwLock<HashMap<PeerId, Outbox>>>);

#[derive(Debug, Clone)]
struct Outbox {
    frames: mpsc::Sender<Vec<u8>>,
    gauge: Arc<Gauge>,
    /// Where the peer is, for connections beside those of libp2p.
    ip: Option<IpAddr>,
    round_trip: Option<Duration>,
}

#[derive(Debug, Default)]
struct Gauge {
    bytes: AtomicUsize,
    overflow: Notify,
}

impl Outboxes {
    /// Queues a message. Never waits.
    pub fn send(&self, peer: &PeerId, message: &Message) -> Result<(), SendError> {
        let outbox = self.0.read().unwrap_or_else(PoisonError::into_inner).get(peer).cloned().ok_or(SendError::NotConnected)?;
        let frame = encode_frame(message);
        let bytes = frame.len();
        if outbox.gauge.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUE_BYTES {
            outbox.gauge.overflow.notify_one();
            return Err(SendError::Full);
        }
        outbox.frames.try_send(frame).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                outbox.gauge.overflow.notify_one();
                SendError::Full
            }
            mpsc::error::TrySendError::Closed(_) => SendError::NotConnected,
        })
    }

    /// Whether the peer is connected.
    pub fn contains(&self, peer: &PeerId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(peer)
    }

    /// Where a connected peer is, if it is reached at an IP address.
    pub fn ip(&self, peer: &PeerId) -> Option<IpAddr> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(peer)?.ip
    }

    /// The last round trip to a connected peer, if one has been made.
    pub fn round_trip(&self, peer: &PeerId) -> Option<Duration> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(peer)?.round_trip
    }

    /// A round trip to a connected peer took so long.
    pub fn travelled(&self, peer: &PeerId, round_trip: Duration) {
        if let Some(outbox) = self.0.write().unwrap_or_else(PoisonError::into_inner).get_mut(peer) {
            outbox.round_trip = Some(round_trip);
        }
    }

    /// A peer is connected: its queue, to be emptied by [`OutQueue::run`].
    pub fn insert(&self, peer: PeerId, ip: Option<IpAddr>) -> OutQueue {
        let (sender, frames) = mpsc::channel(QUEUE_FRAMES);
        let gauge = Arc::new(Gauge::default());
        let outbox = Outbox { frames: sender, gauge: gauge.clone(), ip, round_trip: None };
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(peer, outbox);
        OutQueue { peer, frames, gauge }
    }

    /// A peer is gone.
    pub fn remove(&self, peer: &PeerId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(peer);
    }
}

/// The receiving end of one peer's queue.
#[derive(Debug)]
pub(super) struct OutQueue {
    peer: PeerId,
    frames: mpsc::Receiver<Vec<u8>>,
    gauge: Arc<Gauge>,
}

impl OutQueue {
    /// Sends what is queued until the queue is closed or the peer must be hung up on.
    pub async fn run(
        mut self,
        control: libp2p_stream::Control,
        protocol: StreamProtocol,
        agent: String,
    ) -> Result<(), ControlError> {
        let gauge = self.gauge.clone();
        tokio::select! {
            result = self.send_all(control, protocol, agent) => result,
            () = gauge.overflow.notified() => Err(ControlError::Overflow),
        }
    }

    async fn send_all(
        &mut self,
        control: libp2p_stream::Control,
        protocol: StreamProtocol,
        agent: String,
    ) -> Result<(), ControlError> {
        let Some(first) = self.frames.recv().await else { return Ok(()) };
        let mut stream = streams::open(&control, to_libp2p(self.peer), &protocol).await?;
        let mut batch = encode_frame(&Message::Hello { agent });
        self.take(first, &mut batch);
        loop {
            while batch.len() < BATCH_BYTES
                && let Ok(frame) = self.frames.try_recv()
            {
                self.take(frame, &mut batch);
            }
            write(&mut stream, &batch, STALL).await?;
            batch.clear();
            let mut unexpected = [0];
            tokio::select! {
                frame = self.frames.recv() => match frame {
                    Some(frame) => self.take(frame, &mut batch),
                    None => {
                        // A stream that is dropped takes what was not read with it.
                        sleep(LAST_WORDS).await;
                        return Ok(());
                    }
                },
                // Nothing ever comes back on this stream: an end or an error here says that the peer reads no more.
                read = stream.read(&mut unexpected) => return Err(match read {
                    Ok(0) => io::Error::from(io::ErrorKind::UnexpectedEof),
                    Ok(_) => io::Error::from(io::ErrorKind::InvalidData),
                    Err(error) => error,
                }.into()),
            }
        }
    }

    fn take(&self, frame: Vec<u8>, batch: &mut Vec<u8>) {
        self.gauge.bytes.fetch_sub(frame.len(), Ordering::Relaxed);
        batch.extend_from_slice(&frame);
    }
}

/// Writes all of it, as long as the peer keeps taking some.
async fn write(stream: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8], stall: Duration) -> Result<(), ControlError> {
    while !bytes.is_empty() {
        let written = timeout(stall, stream.write(bytes)).await.map_err(|_| ControlError::Stalled)??;
        if written == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        bytes = &bytes[written..];
    }
    timeout(stall, stream.flush()).await.map_err(|_| ControlError::Stalled)??;
    Ok(())
}

/// Why reading a control stream ended early.
#[derive(Debug, Error)]
pub(super) enum ReadError {
    /// The peer's fault.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer's fault.
    #[error("the first message is no greeting")]
    NoHello,
    /// The peer or the network is too slow.
    #[error("a frame took longer than {} s", FRAME.as_secs())]
    Slow,
    /// The network's fault.
    #[error(transparent)]
    Broken(#[from] io::Error),
}

/// Reads messages and hands them on until the stream or whoever takes them ends. Holds one frame at a time, so a peer that sends
/// faster than we take is slowed down by the stream's window.
pub(super) async fn read_messages<T>(
    stream: NetStream,
    wrap: impl Fn(Message) -> T,
    taker: &mpsc::Sender<T>,
) -> Result<(), ReadError> {
    let mut stream = BufReader::new(stream);
    let mut body = Vec::new();
    let mut greeted = false;
    while let Some(message) = read_message(&mut stream, &mut body, FRAME).await? {
        if !greeted && !matches!(message, Message::Hello { .. }) {
            return Err(ReadError::NoHello);
        }
        greeted = true;
        if taker.send(wrap(message)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The next message; `None` when the stream ends between two frames. Silence between frames is fine, within one it is not.
async fn read_message(
    stream: &mut (impl AsyncRead + Unpin),
    body: &mut Vec<u8>,
    limit: Duration,
) -> Result<Option<Message>, ReadError> {
    let mut prefix = [0; PREFIX_BYTES];
    if stream.read(&mut prefix[..1]).await? == 0 {
        return Ok(None);
    }
    let rest = async {
        stream.read_exact(&mut prefix[1..]).await?;
        // Checked before anything is allocated.
        body.resize(frame_length(prefix)?, 0);
        stream.read_exact(body).await?;
        Ok(Some(decode_frame(body)?))
    };
    timeout(limit, rest).await.unwrap_or(Err(ReadError::Slow))
}

#[cfg(test)]
mod tests {
    use p2pweights_protocol::limits;

    use super::*;

    fn peer() -> PeerId {
        PeerId([7; 32])
    }

    #[tokio::test]
    async fn frames_are_read_one_by_one_and_a_bad_one_ends_it() {
        let mut bytes = encode_frame(&Message::Hello { agent: "a".into() });
        bytes.extend(encode_frame(&Message::Return { credits: 3 }));
        bytes.extend([0xff; 8]);
        let mut stream = &bytes[..];
        let mut body = Vec::new();
        let hello = read_message(&mut stream, &mut body, FRAME).await.expect("a frame");
        assert_eq!(hello, Some(Message::Hello { agent: "a".into() }));
        assert_eq!(read_message(&mut stream, &mut body, FRAME).await.expect("a frame"), Some(Message::Return { credits: 3 }));
        let error = read_message(&mut stream, &mut body, FRAME).await.expect_err("a huge length");
        assert!(matches!(error, ReadError::Frame(FrameError::TooLong(_))), "{error}");
        assert!(body.capacity() <= limits::FRAME_BYTES, "nothing was allocated for it");
        let mut cut = &encode_frame(&Message::Return { credits: 3 })[..5];
        assert!(matches!(read_message(&mut cut, &mut body, FRAME).await, Err(ReadError::Broken(_))));
        let mut end: &[u8] = &[];
        assert_eq!(read_message(&mut end, &mut body, FRAME).await.expect("a clean end"), None);
    }

    #[tokio::test]
    async fn a_frame_that_never_ends_is_given_up() {
        let (mut ours, theirs) = tokio::io::duplex(64);
        ours.write_all(&[0, 0]).await.expect("room");
        let mut stream = theirs;
        let error = read_message(&mut stream, &mut Vec::new(), Duration::from_millis(10)).await.expect_err("half a prefix");
        assert!(matches!(error, ReadError::Slow), "{error}");
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (mut ours, _theirs) = tokio::io::duplex(64);
        let error = write(&mut ours, &[0; 100], Duration::from_millis(10)).await.expect_err("nobody reads");
        assert!(matches!(error, ControlError::Stalled), "{error}");
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_says_so() {
        let outboxes = Outboxes::default();
        let message = Message::Interest { blobs: vec![p2pweights_protocol::ids::BlobHash([1; 32]); limits::BLOBS_PER_MESSAGE] };
        assert_eq!(outboxes.send(&peer(), &message), Err(SendError::NotConnected));
        let queue = outboxes.insert(peer(), None);
        let taken = (0..1000).take_while(|_| outboxes.send(&peer(), &message).is_ok()).count();
        assert_eq!(taken, QUEUE_BYTES / encode_frame(&message).len());
        queue.gauge.overflow.notified().await;
        outboxes.remove(&peer());
        assert_eq!(outboxes.send(&peer(), &message), Err(SendError::NotConnected));
    }
}
