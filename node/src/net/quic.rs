//! Bulk over QUIC: a connection of its own for each bulk stream, bound to the same peer ids as everything, with a congestion control that
//! loss does not stop. For links that lose packets where the kernel has none such for TCP, and where only UDP comes through.
//!
//! Bytes travel in segments, a QUIC stream each: what waits for a lost packet is then bounded by quinn for each segment, and a thousand
//! gaps, which end a stream, cannot come about.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use p2pweights_protocol::ids::PeerId;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::rustls::pki_types::CertificateDer;
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, Incoming, RecvStream, SendStream, ServerConfig, TokioRuntime,
    TransportConfig, VarInt,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::bulk::BulkStream;
use super::certificates::{Certificates, peer_of};
use super::delivery_rate::DeliveryRates;
use super::direct::DirectArrival;
use super::peer_ids::{from_libp2p, to_libp2p};

/// How long a connection may take to stand; three lost packets in a row on a slow satellite link.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a stranger may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes under way at a time.
const HANDSHAKES: usize = 32;
/// Handshakes under way from which on strangers must show that they are where they say.
const HANDSHAKES_TRUSTED: usize = 8;
/// Silence after which a connection is given up; whoever is still there says so three times meanwhile.
const IDLE: Duration = Duration::from_secs(60);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Bytes of one segment. At 1,200 a packet it cannot have half the gaps that quinn bears.
const SEGMENT: u64 = 1 << 20;
/// Segments that may be under way: twice the largest window.
const SEGMENTS: u32 = 64;
/// Round trips of bytes that may wait to be read: one is on its way, a second passes until a lost packet has been sent again, a third if it
/// is lost again.
const WINDOW_ROUNDS: u64 = 4;
/// Bytes that may wait to be read, however fast the link: four round trips of 600 ms at 100 Mbit/s.
const WINDOW_MAX: u64 = 32 << 20;
/// Likewise before anything is known, and on the slowest link.
const WINDOW_MIN: u64 = 1 << 20;
/// Socket buffers asked for; the system may give less.
const SOCKET_BYTES: usize = 4 << 20;

/// Our side of QUIC connections.
pub(super) struct Quic {
    certificates: Certificates,
    transport: Arc<TransportConfig>,
}

impl Quic {
    /// A side with this certificate.
    pub fn new(certificates: Certificates) -> Self {
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(SEGMENTS))
            .stream_receive_window(VarInt::from_u32(SEGMENT as u32))
            .receive_window(VarInt::from_u32(WINDOW_MIN as u32))
            .send_window(WINDOW_MIN)
            .datagram_receive_buffer_size(None)
            .max_idle_timeout(IDLE.try_into().ok())
            .keep_alive_interval(Some(KEEP_ALIVE))
            .congestion_controller_factory(Arc::new(DeliveryRates));
        Self { certificates, transport: Arc::new(transport) }
    }

    /// Listens at these addresses, and dials from them.
    pub fn listen(&self, addresses: &[SocketAddr]) -> Vec<Endpoint> {
        let bound = addresses.iter().filter_map(|address| match self.endpoint(*address, true) {
            Ok(endpoint) => Some(endpoint),
            Err(error) => {
                tracing::debug!(%address, %error, "no QUIC listener");
                None
            }
        });
        bound.collect()
    }

    fn endpoint(&self, address: SocketAddr, listens: bool) -> io::Result<Endpoint> {
        let socket = UdpSocket::bind(address).or_else(|_| UdpSocket::bind((address.ip(), 0)))?;
        let buffers = socket2::SockRef::from(&socket);
        // Less is slower, and nothing worse.
        let _ = buffers.set_recv_buffer_size(SOCKET_BYTES);
        let _ = buffers.set_send_buffer_size(SOCKET_BYTES);
        let server = if listens { Some(self.server()?) } else { None };
        Endpoint::new(EndpointConfig::default(), server, socket, Arc::new(TokioRuntime))
    }

    fn server(&self) -> io::Result<ServerConfig> {
        let tls = self.certificates.server().map_err(io::Error::other)?;
        let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).map_err(io::Error::other)?));
        config.transport_config(Arc::clone(&self.transport)).max_incoming(HANDSHAKES);
        Ok(config)
    }

    /// Connects to a peer's listener; ends within [`CONNECT`].
    pub async fn connect(&self, peer: PeerId, address: SocketAddr) -> io::Result<BulkStream> {
        let tls = self.certificates.client(to_libp2p(peer)).map_err(io::Error::other)?;
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(io::Error::other)?));
        config.transport_config(Arc::clone(&self.transport));
        let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        // A socket for each connection: they last, and one thread's worth of packets each is read without waiting for others.
        let endpoint = self.endpoint(SocketAddr::new(any, 0), false)?;
        // The name is not sent; the certificate says who it is.
        let connecting = endpoint.connect_with(config, address, "peer").map_err(io::Error::other)?;
        let connection = timeout(CONNECT, connecting).await?.map_err(io::Error::other)?;
        Ok(BulkStream::over(Segments::new(connection)))
    }

    /// Accepts at one endpoint, for ever. A connection that nobody takes is closed.
    pub async fn accept(endpoint: Endpoint, arrivals: mpsc::Sender<DirectArrival>) {
        // Owned here, so that they end with the listener.
        let mut handshakes = JoinSet::new();
        while let Some(incoming) = endpoint.accept().await {
            while handshakes.try_join_next().is_some() {}
            if handshakes.len() >= HANDSHAKES {
                incoming.ignore();
            } else if handshakes.len() >= HANDSHAKES_TRUSTED && incoming.may_retry() {
                // It was seen to be possible just now.
                let _ = incoming.retry();
            } else {
                handshakes.spawn(shake_hands(incoming, arrivals.clone()));
            }
        }
    }
}

async fn shake_hands(incoming: Incoming, arrivals: mpsc::Sender<DirectArrival>) {
    let Ok(connecting) = incoming.accept() else { return };
    let Ok(Ok(connection)) = timeout(HANDSHAKE, connecting).await else { return };
    let certificates = connection.peer_identity().and_then(|identity| identity.downcast::<Vec<CertificateDer<'_>>>().ok());
    let Some(peer) = peer_of(certificates.as_ref().map(|certificates| certificates.as_slice())) else { return };
    if from_libp2p(&peer).is_some() {
        let _ = arrivals.try_send(DirectArrival { peer, stream: BulkStream::over(Segments::new(connection)) });
    }
}

/// Where to listen: on the port of each direct listener, or else above a fixed port, one for each interface address.
pub(super) fn quic_addresses(addresses: &[Multiaddr], direct: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut beside = direct.to_vec();
    for address in addresses {
        let mut parts = address.iter();
        let ip = match parts.next() {
            Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
            Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
            _ => continue,
        };
        let port = match parts.next() {
            Some(Protocol::Tcp(port) | Protocol::Udp(port)) if port != 0 => port.saturating_add(1),
            _ => 0,
        };
        if !beside.iter().any(|there| there.ip() == ip) {
            beside.push(SocketAddr::new(ip, port));
        }
    }
    beside
}

/// A window that follows what arrives or leaves in a round trip.
#[derive(Debug)]
struct Window {
    bytes: u64,
    since: Instant,
    moved: u64,
}

impl Window {
    fn new(now: Instant) -> Self {
        Self { bytes: WINDOW_MIN, since: now, moved: 0 }
    }

    /// So many bytes have passed; a new window if another one suits better.
    fn moved(&mut self, bytes: u64, now: Instant, round_trip: Duration) -> Option<u64> {
        self.moved += bytes;
        let took = now.saturating_duration_since(self.since);
        if took < round_trip || took.is_zero() {
            return None;
        }
        let in_round = u128::from(self.moved) * round_trip.as_micros() / took.as_micros().max(1);
        (self.since, self.moved) = (now, 0);
        let wanted = u64::try_from(u128::from(WINDOW_ROUNDS) * in_round).unwrap_or(u64::MAX).clamp(WINDOW_MIN, WINDOW_MAX);
        let differs = wanted > self.bytes || wanted < self.bytes / 4;
        differs.then(|| {
            self.bytes = wanted;
            wanted
        })
    }
}

enum Writing {
    Opening(BoxFuture<'static, Result<SendStream, quinn::ConnectionError>>),
    Open(SendStream, u64),
    Ended,
}

enum Reading {
    Accepting(BoxFuture<'static, Result<RecvStream, quinn::ConnectionError>>),
    Open(RecvStream, u64),
    Ended,
}

/// Bytes both ways over one QUIC connection, a stream for each segment. One that ends early is the last.
struct Segments {
    connection: Connection,
    writing: Writing,
    written: i32,
    out_window: Window,
    reading: Reading,
    in_window: Window,
}

impl Segments {
    fn new(connection: Connection) -> Self {
        let now = Instant::now();
        let (writing, reading) = (opening(&connection), accepting(&connection));
        Self { connection, writing, written: 0, out_window: Window::new(now), reading, in_window: Window::new(now) }
    }

    /// The segment to write to; `None` when all have been written.
    fn poll_segment(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<(&mut SendStream, &mut u64)>>> {
        loop {
            match &mut self.writing {
                Writing::Opening(open) => {
                    let stream = ready!(open.as_mut().poll(cx)).map_err(io::Error::other)?;
                    // Earlier segments first: what was lost of them holds the reader up.
                    let _ = stream.set_priority(-self.written);
                    self.written = self.written.saturating_add(1);
                    self.writing = Writing::Open(stream, 0);
                }
                Writing::Open(stream, SEGMENT) => {
                    let _ = stream.finish();
                    self.writing = opening(&self.connection);
                }
                Writing::Open(..) | Writing::Ended => break,
            }
        }
        match &mut self.writing {
            Writing::Open(stream, length) => Poll::Ready(Ok(Some((stream, length)))),
            _ => Poll::Ready(Ok(None)),
        }
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        let path = self.connection.stats().path;
        let (round_trip, window) = (path.rtt, path.cwnd);
        let (sent, lost, mtu) = (path.sent_packets, path.lost_packets, path.current_mtu);
        tracing::debug!(at = %self.connection.remote_address(), ?round_trip, window, sent, lost, mtu, "QUIC connection ends");
    }
}

fn opening(connection: &Connection) -> Writing {
    let connection = connection.clone();
    Writing::Opening(Box::pin(async move { connection.open_uni().await }))
}

fn accepting(connection: &Connection) -> Reading {
    let connection = connection.clone();
    Reading::Accepting(Box::pin(async move { connection.accept_uni().await }))
}

impl AsyncWrite for Segments {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some((stream, length)) = ready!(self.poll_segment(cx))? else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let room = usize::try_from(SEGMENT - *length).unwrap_or(usize::MAX);
        let written = ready!(Pin::new(stream).poll_write(cx, &bytes[..bytes.len().min(room)])).map_err(io::Error::other)?;
        *length += written as u64;
        let round_trip = self.connection.rtt();
        if let Some(window) = self.out_window.moved(written as u64, Instant::now(), round_trip) {
            self.connection.set_send_window(window);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Quinn sends what there is.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some((stream, _)) = ready!(self.poll_segment(cx))? {
            let _ = stream.finish();
            self.writing = Writing::Ended;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Segments {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.reading {
                Reading::Accepting(accept) => {
                    let stream = ready!(accept.as_mut().poll(cx)).map_err(io::Error::other)?;
                    self.reading = Reading::Open(stream, 0);
                }
                Reading::Open(stream, length) => {
                    let before = buffer.filled().len();
                    ready!(Pin::new(stream).poll_read(cx, buffer))?;
                    let read = (buffer.filled().len() - before) as u64;
                    *length += read;
                    if read > 0 {
                        let round_trip = self.connection.rtt();
                        if let Some(window) = self.in_window.moved(read, Instant::now(), round_trip) {
                            self.connection.set_receive_window(VarInt::from_u64(window).unwrap_or(VarInt::MAX));
                        }
                        return Poll::Ready(Ok(()));
                    }
                    if buffer.remaining() == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    let last = *length != SEGMENT;
                    self.reading = if last { Reading::Ended } else { accepting(&self.connection) };
                }
                Reading::Ended => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn side(keypair: &Keypair) -> (Quic, SocketAddr, mpsc::Receiver<DirectArrival>) {
        let quic = Quic::new(Certificates::new(keypair, "/test/1").expect("a certificate"));
        let endpoint = quic.listen(&["127.0.0.1:0".parse().expect("an address")]).pop().expect("a listener");
        let at = endpoint.local_addr().expect("bound");
        let (sender, arrivals) = mpsc::channel(4);
        tokio::spawn(Quic::accept(endpoint, sender));
        (quic, at, arrivals)
    }

    fn id(keypair: &Keypair) -> PeerId {
        from_libp2p(&keypair.public().to_peer_id()).expect("Ed25519")
    }

    #[tokio::test]
    async fn bytes_cross_segments_and_end_where_they_should() {
        let (ours, theirs) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let (_, at, mut arrivals) = side(&theirs);
        let (quic, ..) = side(&ours);
        for bytes in [0, 5, SEGMENT as usize - 1, SEGMENT as usize, 3 * SEGMENT as usize + 7] {
            let payload: Vec<u8> = (0..bytes).map(|number| (number / 3) as u8).collect();
            let mut stream = quic.connect(id(&theirs), at).await.expect("connected");
            let sent = payload.clone();
            let writing = tokio::spawn(async move {
                stream.write_all(&sent).await.expect("written");
                stream.shutdown().await.expect("ended");
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).await.expect("answered");
                answer
            });
            let mut arrival = arrivals.recv().await.expect("arrived");
            assert_eq!(arrival.peer, ours.public().to_peer_id());
            let mut received = Vec::new();
            arrival.stream.read_to_end(&mut received).await.expect("read");
            assert!(received == payload, "{bytes} bytes");
            arrival.stream.write_all(&payload).await.expect("written");
            arrival.stream.shutdown().await.expect("ended");
            assert!(writing.await.expect("answered") == payload);
        }
    }

    #[tokio::test]
    async fn another_peer_at_that_address_is_refused() {
        let (theirs, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let (quic, at, mut arrivals) = side(&theirs);
        assert!(quic.connect(id(&other), at).await.is_err());
        assert!(arrivals.try_recv().is_err());
    }

    #[tokio::test]
    async fn garbage_and_silent_handshakes_do_not_keep_others_out() {
        let theirs = Keypair::generate_ed25519();
        let (_, at, mut arrivals) = side(&theirs);
        let mute = UdpSocket::bind("127.0.0.1:0").expect("a port");
        for length in 0..200 {
            let noise: Vec<u8> = (0..length * 7).map(|number| (number * 31 + length) as u8 | 0xc0).collect();
            mute.send_to(&noise, at).expect("sent");
        }
        // A real first packet, sixty times over, from somebody who never says anything more.
        let trap = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let (stranger, _, _) = side(&Keypair::generate_ed25519());
        let toward = trap.local_addr().expect("bound");
        let mut hello = [0; 2048];
        trap.set_nonblocking(true).expect("a socket");
        let trap = tokio::net::UdpSocket::from_std(trap).expect("a socket");
        let (_, length) = tokio::join!(
            async { assert!(timeout(Duration::from_millis(100), stranger.connect(id(&theirs), toward)).await.is_err()) },
            async { trap.recv(&mut hello).await.expect("a first packet") },
        );
        for _ in 0..60 {
            mute.send_to(&hello[..length], at).expect("sent");
        }
        let (quic, ..) = side(&Keypair::generate_ed25519());
        let mut stream = quic.connect(id(&theirs), at).await.expect("still welcome");
        stream.write_all(b"span").await.expect("written");
        let mut bytes = [0; 4];
        arrivals.recv().await.expect("arrived").stream.read_exact(&mut bytes).await.expect("read");
        assert_eq!(&bytes, b"span");
    }

    #[test]
    fn the_window_follows_the_rate() {
        let start = Instant::now();
        let round = Duration::from_millis(100);
        let mut window = Window::new(start);
        assert_eq!(window.moved(200_000, start + round, round), None, "four times that is less than the least");
        assert_eq!(window.moved(1_000_000, start + round * 2, round), Some(4_000_000));
        assert_eq!(window.moved(900_000, start + round * 3, round), None, "a little less is no reason");
        assert_eq!(window.moved(1 << 30, start + round * 4, round), Some(WINDOW_MAX));
        assert_eq!(window.moved(1_000, start + round * 5, round), Some(WINDOW_MIN));
        assert_eq!(window.moved(4_000_000, start + round / 2 * 11, round), None, "no round is over");
    }
}
