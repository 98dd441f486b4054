//! The network as the rest of the node sees it: connected peers, messages, bulk streams, providers. One task, the host, owns
//! `libp2p::Swarm`; everything here is messages to and from it.
//!
//! ```text
//!   Net ──commands──► host ──events──► consumer      the host is the only sender of events, so their order is the order of facts:
//!    │                 ▲ ▲                           PeerConnected, then that peer's messages and bulk streams, then PeerGone
//!    │ frames          │ └─reports── control readers, greeters
//!    └──► outboxes ──► control writers ──► peers
//! ```
//!
//! A peer counts as connected once it has identified itself as one of this network. When the consumer is slow, the host stops taking
//! new facts from the network, and peers are slowed down by their connections; the host itself never waits for anybody.

mod address_book;
mod addresses;
mod announcer;
mod behaviour;
mod bootstrap;
mod bulk;
mod bulk_path;
mod certificates;
mod congestion;
mod connections;
mod control;
mod delivery_rate;
mod dials;
mod direct;
mod discovery;
mod handshake;
mod host;
mod introductions;
mod jitter;
mod lookups;
mod parents;
mod peer_ids;
mod quic;
mod record_store;
mod records;
mod sealed;
mod streams;
#[cfg(test)]
mod tests;
mod transport;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::identity::Keypair;
pub use p2pweights_protocol::engine::PeerClass;
use p2pweights_protocol::ids::{BlobHash, PeerId, Prefix};
use p2pweights_protocol::limits;
use p2pweights_protocol::wire::{Contact, Message};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::addresses::split_peer;
pub use self::bootstrap::BootstrapStatus;
pub use self::bulk::{BulkConnector, BulkIo, BulkPermit, BulkStream, Carrier};
pub use self::bulk_path::BulkPath;
use self::control::Outboxes;
pub use self::control::SendError;
use self::host::{Command, Host};
pub use self::parents::{AskError, PARENTS_PORTION, ParentsAsked, ParentsConnector};
pub use self::peer_ids::{from_libp2p, to_libp2p};
pub use self::records::Inbound;
#[cfg(test)]
pub(crate) use self::sealed::sealed_pair;
pub use self::sealed::{Closer, Look, RecordReader, RecordWriter, Sealed, SealedReader, SealedWriter};
pub use self::streams::OpenError;

/// Commands waiting for the host. A burst that announces every blob of the largest manifest fits twice; room is only taken when used.
const COMMANDS: usize = 128 * 1024;
/// Events waiting for the consumer. The longest hold 64 KiB, so at most 16 MiB.
const EVENTS: usize = 256;
/// Status questions waiting for the host.
const STATUS_REQUESTS: usize = 16;
/// How long an answer about the status may take. The host answers between two facts, so only an overloaded machine takes longer.
const STATUS: Duration = Duration::from_secs(5);

/// Why the network cannot be used as told.
#[derive(Debug, Error)]
pub enum NetError {
    /// The network's name does not fit into protocol names.
    #[error("network name {0:?} is not made of up to {max} lower-case letters, digits and `-`", max = limits::NETWORK_NAME_BYTES)]
    Network(String),
    /// The keypair is of a kind that this network does not use.
    #[error("the keypair is not an Ed25519 one")]
    Keypair,
    /// A peer's address that does not say which peer.
    #[error("address {address} does not end in `/p2p/` and the id of an Ed25519 key")]
    PeerAddress {
        /// The address.
        address: Multiaddr,
    },
    /// An address that cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// What the system says.
        reason: String,
    },
    /// No transport could be set up.
    #[error("cannot set up a transport: {reason}")]
    Transport {
        /// What the library says.
        reason: String,
    },
    /// More commands than the host can take in.
    #[error("the network is busy: too many commands are waiting")]
    Busy,
    /// The host has stopped.
    #[error("the network has stopped")]
    Stopped,
    /// No answer in time.
    #[error("the network did not answer in time")]
    Timeout,
}

/// What the network is started with.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// Who we are.
    pub keypair: Keypair,
    /// Addresses to listen on; port 0 takes a free one. None: only dial.
    pub listen: Vec<Multiaddr>,
    /// Peers to join the DHT through, each ending in `/p2p/<peer id>`.
    pub bootstrap: Vec<Multiaddr>,
    /// Keeps swarms apart; part of every protocol name.
    pub network: String,
    /// Whether to find peers on the local network.
    pub mdns: bool,
    /// Program and version, for people to read; cut to 64 bytes.
    pub agent: String,
    /// What payload may travel on, in both directions.
    pub paths: Vec<BulkPath>,
}

/// What happens on the network.
#[derive(Debug)]
pub enum NetEvent {
    /// A peer of this network is connected. Comes before anything else from it.
    PeerConnected {
        /// The peer.
        peer: PeerId,
        /// How near it is.
        class: PeerClass,
        /// The network that it is in.
        prefix: Prefix,
    },
    /// The last connection to a peer is gone. Nothing more comes from it until it is connected again.
    PeerGone {
        /// The peer.
        peer: PeerId,
    },
    /// A dial that was asked for came to nothing.
    DialFailed {
        /// The peer.
        peer: PeerId,
    },
    /// A control message. [`Message::Peers`] comes once a second of each peer at most; the rest is dropped.
    Message {
        /// From whom.
        peer: PeerId,
        /// What it says.
        message: Message,
    },
    /// Something on the control protocol that is none of our messages. The stream it came on is closed.
    Malformed {
        /// From whom.
        peer: PeerId,
    },
    /// What a look-up brought; comes several times, the last time `finished`. What an introduction brought is never `finished`.
    ProvidersFound {
        /// The hash looked for.
        blob: BlobHash,
        /// Providers not reported before by this look-up; never ourselves.
        providers: Vec<PeerId>,
        /// Whether the look-up is over.
        finished: bool,
    },
    /// A peer opened a bulk stream.
    Bulk {
        /// The peer.
        peer: PeerId,
        /// The stream; counted against the peer until it is dropped.
        stream: BulkStream,
    },
    /// A peer asks for parents without the bytes below them.
    Parents {
        /// The peer.
        peer: PeerId,
        /// Its question; counted against the peer until it is dropped.
        asked: ParentsAsked,
    },
}

/// The state of the network.
#[derive(Debug, Clone)]
pub struct NetStatus {
    /// Our peer id, as libp2p writes it.
    pub peer: libp2p::PeerId,
    /// Listen addresses, each ending in `/p2p/<peer id>`.
    pub listen: Vec<Multiaddr>,
    /// The peers connected.
    pub peers: Vec<PeerStatus>,
    /// Peers in the DHT's routing table.
    pub dht_peers: usize,
    /// Blobs announced, or about to be.
    pub announced: usize,
    /// Requests sent to other peers by all look-ups so far.
    pub peers_asked: u64,
    /// How the bootstrap peers fare.
    pub bootstrap: Vec<BootstrapStatus>,
}

/// A connected peer.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// The peer.
    pub peer: PeerId,
    /// Address it is reached at.
    pub address: Multiaddr,
    /// Program and version, as the peer says; printable and short.
    pub agent: Option<String>,
    /// The last round trip.
    pub rtt: Option<Duration>,
    /// How near it is.
    pub class: PeerClass,
    /// When it was first connected.
    pub since: Instant,
}

/// The handle to the network. Clones are the same network; when the last one goes, the network stops.
#[derive(Clone)]
pub struct Net {
    commands: mpsc::Sender<Command>,
    status_requests: mpsc::Sender<oneshot::Sender<NetStatus>>,
    outboxes: Outboxes,
    bulk: BulkConnector,
    parents: ParentsConnector,
    host: Arc<HostTask>,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").finish_non_exhaustive()
    }
}

struct HostTask {
    /// Dropped or used, it stops the host.
    stop: Mutex<Option<oneshot::Sender<()>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Net {
    /// Starts listening and joins the network. The events must be read: see the module's text for what happens when they are not.
    pub async fn start(config: NetConfig) -> Result<(Self, mpsc::Receiver<NetEvent>), NetError> {
        check_network_name(&config.network)?;
        let (commands, command_queue) = mpsc::channel(COMMANDS);
        let (status_requests, status_queue) = mpsc::channel(STATUS_REQUESTS);
        let (events, event_queue) = mpsc::channel(EVENTS);
        let (stop, stopped) = oneshot::channel();
        let mut host = Host::new(&config, command_queue, status_queue, events)?;
        host.listen(&config.listen).await?;
        host.listen_for_bulk(&config.listen).await;
        let outboxes = host.outboxes();
        let (bulk, parents) = (host.bulk_connector(), host.parents_connector());
        let task = tokio::spawn(host.run(stopped));
        let host = Arc::new(HostTask { stop: Mutex::new(Some(stop)), task: Mutex::new(Some(task)) });
        Ok((Self { commands, status_requests, outboxes, bulk, parents, host }, event_queue))
    }

    /// Queues a control message for a connected peer. Never waits. What is queued arrives in order, or the peer is hung up on.
    pub fn send(&self, peer: PeerId, message: &Message) -> Result<(), SendError> {
        self.outboxes.send(&peer, message)
    }

    /// Connects to a peer, at these addresses and all others known. Answered within 15 s by one `PeerConnected` or `DialFailed`; not at
    /// all if the peer is connected already, and once if several dials are under way.
    pub fn dial(&self, peer: PeerId, addresses: Vec<Multiaddr>) -> Result<(), NetError> {
        self.command(Command::Dial { peer, addresses })
    }

    /// Closes every connection to a peer.
    pub fn hangup(&self, peer: PeerId) -> Result<(), NetError> {
        self.command(Command::Hangup { peer })
    }

    /// Closes every connection to a peer once the messages queued for it have gone out; more cannot be queued.
    pub fn farewell(&self, peer: PeerId) -> Result<(), NetError> {
        self.command(Command::Farewell { peer })
    }

    /// Closes every connection to a peer and lets none be made until [`unban`](Self::unban).
    pub fn ban(&self, peer: PeerId) -> Result<(), NetError> {
        self.command(Command::Ban { peer })
    }

    /// Lets a peer connect again.
    pub fn unban(&self, peer: PeerId) -> Result<(), NetError> {
        self.command(Command::Unban { peer })
    }

    /// Looks for providers of a hash. Answered by `ProvidersFound`; one look-up runs for each hash at a time.
    pub fn find_providers(&self, blob: BlobHash) -> Result<(), NetError> {
        self.command(Command::FindProviders { blob })
    }

    /// Lets others find us as a provider of this blob, from now on.
    pub fn announce(&self, blob: BlobHash) -> Result<(), NetError> {
        self.command(Command::Announce { blob })
    }

    /// No longer announces this blob. Records of it at other nodes live up to two days.
    pub fn unannounce(&self, blob: BlobHash) -> Result<(), NetError> {
        self.command(Command::Unannounce { blob })
    }

    /// Tells a connected peer where these others, connected too, can be reached, as far as that is known and meant for it.
    pub fn introduce(&self, peer: PeerId, blob: BlobHash, others: Vec<PeerId>) -> Result<(), NetError> {
        self.command(Command::Introduce { peer, blob, others })
    }

    /// Keeps what a connected peer says of where others are, as far as it is to be believed. Answered by `ProvidersFound` with those who may
    /// be dialed, unless there are none.
    pub fn learn(&self, from: PeerId, blob: BlobHash, contacts: Vec<Contact>) -> Result<(), NetError> {
        self.command(Command::Learn { from, blob, contacts })
    }

    /// Remembers where a peer is; the address ends in `/p2p/<peer id>`. Dials nobody.
    pub fn add_peer_address(&self, address: &Multiaddr) -> Result<PeerId, NetError> {
        let (bare, id, peer) = peer_address(address)?;
        self.command(Command::AddAddress { peer: id, address: bare })?;
        Ok(peer)
    }

    /// One more peer to join the DHT through; the address ends in `/p2p/<peer id>`. Dialed at once.
    pub fn add_bootstrap(&self, address: &Multiaddr) -> Result<PeerId, NetError> {
        let (bare, id, peer) = peer_address(address)?;
        self.command(Command::AddBootstrap { peer: id, address: bare })?;
        Ok(peer)
    }

    /// A bulk stream to a connected peer; see [`BulkConnector::open`].
    pub async fn open_bulk(&self, peer: PeerId) -> Result<BulkStream, OpenError> {
        self.bulk.open(peer).await
    }

    /// What opens bulk streams, for whoever needs nothing else of the network.
    pub fn bulk_connector(&self) -> BulkConnector {
        self.bulk.clone()
    }

    /// What asks peers for parents.
    pub fn parents_connector(&self) -> ParentsConnector {
        self.parents.clone()
    }

    /// The state of the network, answered within five seconds.
    pub async fn status(&self) -> Result<NetStatus, NetError> {
        let (reply, answer) = oneshot::channel();
        self.status_requests.try_send(reply).map_err(refused)?;
        timeout(STATUS, answer).await.map_err(|_| NetError::Timeout)?.map_err(|_| NetError::Stopped)
    }

    /// Closes all connections and ends all tasks, within this time. Calling it twice is fine.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), NetError> {
        // The sender is dropped: that is the signal.
        drop(self.host.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
        let task = self.host.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut task) = task else { return Ok(()) };
        match timeout(deadline, &mut task).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(NetError::Stopped),
            Err(_) => {
                task.abort();
                Err(NetError::Timeout)
            }
        }
    }

    fn command(&self, command: Command) -> Result<(), NetError> {
        self.commands.try_send(command).map_err(refused)
    }
}

fn refused<T>(error: mpsc::error::TrySendError<T>) -> NetError {
    match error {
        mpsc::error::TrySendError::Full(_) => NetError::Busy,
        mpsc::error::TrySendError::Closed(_) => NetError::Stopped,
    }
}

fn peer_address(address: &Multiaddr) -> Result<(Multiaddr, libp2p::PeerId, PeerId), NetError> {
    let wrong = || NetError::PeerAddress { address: address.clone() };
    let (bare, id) = split_peer(address).ok_or_else(wrong)?;
    let peer = from_libp2p(&id).ok_or_else(wrong)?;
    Ok((bare, id, peer))
}

fn check_network_name(name: &str) -> Result<(), NetError> {
    let fits = (1..=limits::NETWORK_NAME_BYTES).contains(&name.len());
    if fits && name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        Ok(())
    } else {
        Err(NetError::Network(name.to_owned()))
    }
}
