//! Opening and accepting streams over `libp2p-stream`, whose traps end here: it drops an inbound stream when the accepting task has not
//! run yet, and it waits for ever for a peer that is not connected.
//!
//! So an acceptor greets each stream it takes with one byte, and an opener that does not see it tries again. The byte costs no round
//! trip: it travels with the end of the negotiation.

use std::io;
use std::time::Duration;

use futures::StreamExt;
use libp2p::{PeerId, Stream, StreamProtocol};
use libp2p_stream::{Control, IncomingStreams, OpenStreamError};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

/// What an acceptor sends first on every stream that it takes. On a bulk stream the ports of its TCP and its QUIC listener follow,
/// big-endian; 0 for none.
pub const ACCEPTED: u8 = 1;
/// What the opener of a bulk stream sends when it stays on it, instead of on a connection of its own.
pub const STAYING: u8 = 2;
/// How long the opener of a bulk stream may take to choose: it may try two other ways first.
const CHOICE: Duration = Duration::from_secs(15);
/// How long opening a stream may take, all attempts together.
const OPEN: Duration = Duration::from_secs(10);
/// Attempts at opening a stream.
const ATTEMPTS: u32 = 4;
/// Pause before the second attempt; twice and three times that before the next ones. Long enough for a task to run.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the greeting of an accepted stream may take to go out.
const GREET: Duration = Duration::from_secs(10);

/// A stream between two peers, as tokio sees it.
pub(super) type NetStream = Compat<Stream>;

/// Why a stream could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// There is no connection to this peer.
    #[error("the peer is not connected")]
    NotConnected,
    /// The peer does not speak the protocol.
    #[error("the peer does not speak {0}")]
    Unsupported(StreamProtocol),
    /// The peer took none of several attempts, or the connection broke.
    #[error("the peer did not take the stream")]
    Refused(#[source] io::Error),
    /// None of the paths that are allowed leads to the peer.
    #[error("the peer cannot be reached on the paths that are allowed")]
    NoPath,
    /// The peer did not answer.
    #[error("the peer did not answer within {} s", OPEN.as_secs())]
    Timeout,
}

/// Opens a stream to a peer that is connected. Ends within ten seconds.
pub(super) async fn open(control: &Control, peer: PeerId, protocol: &StreamProtocol) -> Result<NetStream, OpenError> {
    let attempts = async {
        let mut attempt = 1;
        loop {
            let error = match open_once(control.clone(), peer, protocol.clone()).await {
                Ok(stream) => return Ok(stream),
                Err(OpenStreamError::UnsupportedProtocol(protocol)) => return Err(OpenError::Unsupported(protocol)),
                Err(OpenStreamError::Io(error)) => error,
                Err(other) => io::Error::other(other),
            };
            if attempt == ATTEMPTS {
                return Err(OpenError::Refused(error));
            }
            sleep(PAUSE * attempt).await;
            attempt += 1;
        }
    };
    timeout(OPEN, attempts).await.unwrap_or(Err(OpenError::Timeout))
}

async fn open_once(mut control: Control, peer: PeerId, protocol: StreamProtocol) -> Result<NetStream, OpenStreamError> {
    let mut stream = control.open_stream(peer, protocol).await?.compat();
    match stream.read_u8().await? {
        ACCEPTED => Ok(stream),
        _ => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
    }
}

/// Takes a stream that a peer opened. `more` follows the greeting at once.
pub(super) async fn greet(stream: Stream, more: &[u8]) -> io::Result<NetStream> {
    let mut stream = stream.compat();
    let greeting = async {
        stream.write_all(&[&[ACCEPTED], more].concat()).await?;
        stream.flush().await
    };
    timeout(GREET, greeting).await??;
    Ok(stream)
}

/// Waits until the opener of a bulk stream stays on it; `false` if it goes elsewhere.
pub(super) async fn stays(stream: &mut NetStream) -> bool {
    matches!(timeout(CHOICE, stream.read_u8()).await, Ok(Ok(STAYING)))
}

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Control,
    Bulk,
    Parents,
}

/// A stream that a peer opened, not greeted yet.
#[derive(Debug)]
pub(super) struct Arrival {
    pub peer: PeerId,
    pub kind: Kind,
    pub stream: Stream,
}

/// Hands every inbound stream on, and does nothing else: what is not picked up at once is lost. A full queue drops the stream, and the
/// opener tries again.
pub(super) async fn accept(mut incoming: IncomingStreams, kind: Kind, arrivals: mpsc::Sender<Arrival>) {
    while let Some((peer, stream)) = incoming.next().await {
        if arrivals.try_send(Arrival { peer, kind, stream }).is_err() {
            tracing::debug!(%peer, ?kind, "inbound stream dropped: too many at once");
        }
    }
}
