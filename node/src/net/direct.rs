//! Direct bulk connections: one TCP connection with TLS 1.3 and nothing else, bound to the same peer ids as everything. A multiplexer's
//! small frames cost more than hashing and encryption together; where two peers can reach each other, bulk goes without.
//!
//! The acceptor of a bulk stream greets it with the port of its direct listener; the opener connects there, and keeps the stream for
//! when that fails. Strangers get no further than a handshake: only peers that are connected anyway may bring one.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use p2pweights_protocol::ids::PeerId;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConfig, ServerConnection};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::bulk::BulkStream;
use super::certificates::{Certificates, peer_of};
use super::congestion::tolerate_loss;
use super::handshake::shake;
use super::peer_ids::{from_libp2p, to_libp2p};
use super::records::Records;
use super::sealed::Sealed;

/// How long a direct connection may take to stand; a firewall that swallows packets then costs no more than this, once a peer.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a stranger may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes under way at a time; more wait in the system's queue.
const HANDSHAKES: usize = 32;

/// A direct connection that a peer has opened.
pub(super) struct DirectArrival {
    pub peer: libp2p::PeerId,
    pub stream: BulkStream,
}

/// Our side of direct connections.
#[derive(Debug)]
pub(super) struct Direct {
    certificates: Certificates,
}

impl Direct {
    /// A side with this certificate.
    pub fn new(certificates: Certificates) -> Self {
        Self { certificates }
    }

    /// Connects to a peer's direct listener; ends within [`CONNECT`].
    pub async fn connect(&self, peer: PeerId, address: SocketAddr) -> io::Result<BulkStream> {
        let config = self.certificates.client(to_libp2p(peer)).map_err(io::Error::other)?;
        let connecting = async {
            let began = Instant::now();
            let mut socket = TcpStream::connect(address).await?;
            tolerate_loss(&socket, began.elapsed());
            socket.set_nodelay(true)?;
            let name = ServerName::IpAddress(address.ip().into());
            let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
            let mut connection = Connection::from(connection);
            shake(&mut socket, &mut connection).await?;
            take_over(socket, connection)
        };
        timeout(CONNECT, connecting).await?
    }

    /// Listens beside each of these TCP addresses: on the port above it if that is fixed and free, else on any. Returns the listeners,
    /// at most one for each interface address.
    pub async fn listen(addresses: &[Multiaddr]) -> Vec<TcpListener> {
        let mut listeners = Vec::new();
        let mut taken = BTreeSet::new();
        for (ip, port) in addresses.iter().filter_map(tcp_address) {
            if !taken.insert(ip) {
                continue;
            }
            let above = if port == 0 { 0 } else { port.saturating_add(1) };
            let bound = match TcpListener::bind((ip, above)).await {
                Err(_) if above != 0 => TcpListener::bind((ip, 0)).await,
                bound => bound,
            };
            match bound {
                Ok(listener) => listeners.push(listener),
                // Streams carry the bytes as well, only slower.
                Err(error) => tracing::debug!(%ip, %error, "no direct listener"),
            }
        }
        listeners
    }

    /// Accepts on one listener, for ever. A connection that nobody takes is closed.
    pub async fn accept(self: Arc<Self>, listener: TcpListener, arrivals: mpsc::Sender<DirectArrival>) {
        let config = match self.certificates.server() {
            Ok(config) => config,
            Err(error) => return tracing::warn!(%error, "no direct connections"),
        };
        let config = Arc::new(config);
        // Owned here, so that they end with the listener.
        let mut handshakes = JoinSet::new();
        loop {
            while handshakes.len() >= HANDSHAKES {
                handshakes.join_next().await;
            }
            while handshakes.try_join_next().is_some() {}
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file handles, most likely: give others time to close some.
                    tracing::debug!(%error, "direct connection not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (config, arrivals) = (Arc::clone(&config), arrivals.clone());
            handshakes.spawn(async move {
                let welcomed = timeout(HANDSHAKE, welcome(stream, config)).await;
                match welcomed {
                    // A full queue drops it: the peer falls back on a stream.
                    Ok(Ok(Some(arrival))) => drop(arrivals.try_send(arrival)),
                    Ok(Ok(None)) => (),
                    Ok(Err(error)) => tracing::debug!(%error, "direct connection of no use"),
                    Err(_) => tracing::debug!("direct connection took too long over its handshake"),
                }
            });
        }
    }
}

/// Shakes hands with whoever connected; `None` if it is nobody we could know.
async fn welcome(mut socket: TcpStream, config: Arc<ServerConfig>) -> io::Result<Option<DirectArrival>> {
    socket.set_nodelay(true)?;
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut connection = Connection::from(connection);
    let began = Instant::now();
    shake(&mut socket, &mut connection).await?;
    tolerate_loss(&socket, began.elapsed());
    let Some(peer) = peer_of(connection.peer_certificates()).filter(|peer| from_libp2p(peer).is_some()) else {
        return Ok(None);
    };
    Ok(Some(DirectArrival { peer, stream: take_over(socket, connection)? }))
}

/// From a finished handshake to a stream of our own.
fn take_over(socket: TcpStream, connection: Connection) -> io::Result<BulkStream> {
    let suite = connection.negotiated_cipher_suite();
    let secrets = connection.dangerous_extract_secrets().map_err(io::Error::other)?;
    let records = Records::of(suite, secrets).map_err(io::Error::other)?;
    Ok(BulkStream::sealed(Sealed::new(socket.into_std()?, records)?))
}

fn tcp_address(address: &Multiaddr) -> Option<(IpAddr, u16)> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    match (parts.next()?, parts.next()) {
        (Protocol::Tcp(port), None) => Some((ip, port)),
        _ => None,
    }
}

/// The IP address at which a peer is reached, if it is reached at one: not through a relay, not by name.
pub(super) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    parts.all(|part| !matches!(part, Protocol::P2pCircuit)).then_some(ip)
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn side(keypair: &Keypair) -> (Arc<Direct>, SocketAddr, mpsc::Receiver<DirectArrival>) {
        let direct = Arc::new(Direct::new(Certificates::new(keypair, "/test/1").expect("a certificate")));
        let address = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
        let listener = Direct::listen(&[address]).await.pop().expect("a listener");
        let at = listener.local_addr().expect("bound");
        let (sender, arrivals) = mpsc::channel(4);
        tokio::spawn(Arc::clone(&direct).accept(listener, sender));
        (direct, at, arrivals)
    }

    fn id(keypair: &Keypair) -> PeerId {
        from_libp2p(&keypair.public().to_peer_id()).expect("Ed25519")
    }

    #[tokio::test]
    async fn both_sides_know_whom_they_talk_to() {
        let (ours, theirs) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let (_, at, mut arrivals) = side(&theirs).await;
        let (direct, ..) = side(&ours).await;
        let mut stream = direct.connect(id(&theirs), at).await.expect("connected");
        stream.write_all(b"span").await.expect("written");
        stream.flush().await.expect("flushed");
        let mut arrival = arrivals.recv().await.expect("arrived");
        assert_eq!(arrival.peer, ours.public().to_peer_id());
        let mut bytes = [0; 4];
        arrival.stream.read_exact(&mut bytes).await.expect("read");
        assert_eq!(&bytes, b"span");
    }

    #[tokio::test]
    async fn another_peer_at_that_address_is_refused() {
        let (theirs, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let (direct, at, mut arrivals) = side(&theirs).await;
        assert!(direct.connect(id(&other), at).await.is_err());
        assert!(arrivals.try_recv().is_err());
    }

    #[tokio::test]
    async fn garbage_and_silence_get_nowhere() {
        let (_, at, mut arrivals) = side(&Keypair::generate_ed25519()).await;
        let mut stream = TcpStream::connect(at).await.expect("connected");
        stream.write_all(&[0x5a; 4096]).await.expect("written");
        // The handshake fails, and the connection is closed.
        let mut rest = Vec::new();
        let closed = timeout(HANDSHAKE, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "still open");
        assert!(arrivals.try_recv().is_err());
    }
}
