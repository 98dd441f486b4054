//! The task that owns `libp2p::Swarm`: takes commands and facts one at a time, and is the only one that tells the consumer what
//! happened. Never waits for anybody: what it cannot hand on, it keeps, and takes in less.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, StreamProtocol, Swarm, kad};
use p2pweights_protocol::ids::{BlobHash, PeerId};
use p2pweights_protocol::limits;
use p2pweights_protocol::wire::Contact;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::address_book::AddressBook;
use super::addresses::{class_of, is_loopback, is_plain};
use super::announcer::Announcer;
use super::behaviour::{NodeBehaviour, identify_version, stream_protocol};
use super::bootstrap::Bootstrap;
use super::bulk::{BulkConnector, BulkLimit, Ways};
use super::bulk_path::BulkPath;
use super::certificates::Certificates;
use super::connections::{Peer, Report, cut};
use super::control::Outboxes;
use super::dials::Dial;
use super::direct::{Direct, DirectArrival};
use super::lookups::Lookups;
use super::parents::{ParentsConnector, ParentsLimit};
use super::quic::{Quic, quic_addresses};
use super::streams::{self, Arrival, Kind};
use super::transport::build_swarm;
use super::{NetConfig, NetError, NetEvent, NetStatus, peer_ids};

/// Events kept for a slow consumer before the host takes in nothing more from the network. One fact makes one or two events.
const PENDING: usize = 64;
/// Events kept before it takes no commands either: the consumer commands and does not listen.
const PENDING_MAX: usize = 4096;
/// Reports waiting for the host; the longest hold 64 KiB, so at most 4 MiB.
const REPORTS: usize = 64;
/// Inbound streams waiting for the host; their openers try again when it is full.
const ARRIVALS: usize = 64;
/// How often deadlines and schedules are looked at. Much shorter than any of them.
const TICK: Duration = Duration::from_millis(250);
/// How often expired provider records are dropped.
const SWEEP: Duration = Duration::from_secs(10 * 60);
/// How long a listener may take to say where it listens.
const LISTEN: Duration = Duration::from_secs(5);
/// How long goodbyes may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// Our addresses told to others. libp2p keeps 20; a provider record of ours is clipped to fewer anyway.
const EXTERNAL_ADDRESSES: usize = 16;

/// What the node asks of the host.
#[derive(Debug)]
pub(super) enum Command {
    Dial { peer: PeerId, addresses: Vec<Multiaddr> },
    Hangup { peer: PeerId },
    Farewell { peer: PeerId },
    Ban { peer: PeerId },
    Unban { peer: PeerId },
    FindProviders { blob: BlobHash },
    Announce { blob: BlobHash },
    Unannounce { blob: BlobHash },
    Introduce { peer: PeerId, blob: BlobHash, others: Vec<PeerId> },
    Learn { from: PeerId, blob: BlobHash, contacts: Vec<Contact> },
    AddAddress { peer: libp2p::PeerId, address: Multiaddr },
    AddBootstrap { peer: libp2p::PeerId, address: Multiaddr },
}

/// The state behind the network. Its methods are spread over the files of its nouns: connections, dials, discovery.
pub(super) struct Host {
    pub(super) swarm: Swarm<NodeBehaviour>,
    pub(super) peers: HashMap<libp2p::PeerId, Peer>,
    pub(super) dials: HashMap<libp2p::PeerId, Dial>,
    pub(super) banned: VecDeque<libp2p::PeerId>,
    pub(super) book: AddressBook,
    pub(super) bootstrap: Bootstrap,
    pub(super) announcer: Announcer,
    pub(super) announcements: HashMap<kad::QueryId, BlobHash>,
    pub(super) lookups: Lookups<kad::QueryId>,
    pub(super) outboxes: Outboxes,
    pub(super) streams: libp2p_stream::Control,
    pub(super) bulk_limit: BulkLimit,
    pub(super) parents_limit: ParentsLimit,
    pub(super) tasks: JoinSet<()>,
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) names: Names,
    /// Lives of peers are numbered, so that what a task of a former life reports late is known as such.
    pub(super) lives: u64,
    commands: mpsc::Receiver<Command>,
    status_requests: mpsc::Receiver<oneshot::Sender<NetStatus>>,
    events: mpsc::Sender<NetEvent>,
    pending: VecDeque<NetEvent>,
    report_queue: mpsc::Receiver<Report>,
    arrivals: mpsc::Receiver<Arrival>,
    ways: Arc<Ways>,
    pub(super) direct_listeners: Vec<SocketAddr>,
    pub(super) quic_listeners: Vec<SocketAddr>,
    direct_sender: mpsc::Sender<DirectArrival>,
    direct_arrivals: mpsc::Receiver<DirectArrival>,
    external: Vec<Multiaddr>,
    swept: Instant,
}

/// What our protocols are called on this network.
pub(super) struct Names {
    pub agent: String,
    pub identify_version: String,
    pub kad: StreamProtocol,
    pub control: StreamProtocol,
    pub bulk: StreamProtocol,
    pub parents: StreamProtocol,
}

impl Host {
    pub fn new(
        config: &NetConfig,
        commands: mpsc::Receiver<Command>,
        status_requests: mpsc::Receiver<oneshot::Sender<NetStatus>>,
        events: mpsc::Sender<NetEvent>,
    ) -> Result<Self, NetError> {
        let us = peer_ids::from_libp2p(&config.keypair.public().to_peer_id()).ok_or(NetError::Keypair)?;
        let now = Instant::now();
        let seed = u64::from_le_bytes(us.as_bytes()[..8].try_into().expect("eight of 32 bytes"));
        let bootstrap = Bootstrap::parse(&config.bootstrap, peer_ids::to_libp2p(us), seed, now)?;
        let network = &config.network;
        let names = Names {
            agent: cut(&config.agent, limits::AGENT_BYTES).to_owned(),
            identify_version: identify_version(network),
            kad: stream_protocol(network, "kad"),
            control: stream_protocol(network, "control"),
            bulk: stream_protocol(network, "bulk"),
            parents: stream_protocol(network, "parents"),
        };
        let behaviour = NodeBehaviour::new(&config.keypair, network, &names.agent, config.mdns);
        let mut streams = behaviour.streams.new_control();
        let certificates = |way| Certificates::new(&config.keypair, &format!("{}/{way}", names.bulk));
        let direct = Arc::new(Direct::new(certificates(BulkPath::Direct)?));
        let quic = Arc::new(Quic::new(certificates(BulkPath::Quic)?));
        let swarm = build_swarm(config.keypair.clone(), behaviour)?;
        let (arrival_sender, arrivals) = mpsc::channel(ARRIVALS);
        let mut tasks = JoinSet::new();
        for (protocol, kind) in [(&names.control, Kind::Control), (&names.bulk, Kind::Bulk), (&names.parents, Kind::Parents)] {
            let incoming = streams.accept(protocol.clone()).expect("each protocol of a new swarm is accepted once");
            tasks.spawn(streams::accept(incoming, kind, arrival_sender.clone()));
        }
        let (reports, report_queue) = mpsc::channel(REPORTS);
        let (direct_sender, direct_arrivals) = mpsc::channel(ARRIVALS);
        Ok(Self {
            swarm,
            peers: HashMap::new(),
            dials: HashMap::new(),
            banned: VecDeque::new(),
            book: AddressBook::default(),
            bootstrap,
            announcer: Announcer::new(seed),
            announcements: HashMap::new(),
            lookups: Lookups::new(),
            outboxes: Outboxes::default(),
            streams,
            bulk_limit: BulkLimit::new(),
            parents_limit: ParentsLimit::new(),
            tasks,
            reports,
            names,
            lives: 0,
            commands,
            status_requests,
            events,
            pending: VecDeque::new(),
            report_queue,
            arrivals,
            ways: Arc::new(Ways::new(direct, quic, config.paths.clone())),
            direct_listeners: Vec::new(),
            quic_listeners: Vec::new(),
            direct_sender,
            direct_arrivals,
            external: Vec::new(),
            swept: now,
        })
    }

    pub fn outboxes(&self) -> Outboxes {
        self.outboxes.clone()
    }

    pub fn bulk_connector(&self) -> BulkConnector {
        BulkConnector::new(self.streams.clone(), self.names.bulk.clone(), self.outboxes.clone(), Arc::clone(&self.ways))
    }

    pub fn parents_connector(&self) -> ParentsConnector {
        ParentsConnector::new(self.streams.clone(), self.names.parents.clone(), self.outboxes.clone())
    }

    /// Listens on all of these, and waits until it is known where.
    pub async fn listen(&mut self, addresses: &[Multiaddr]) -> Result<(), NetError> {
        let mut waiting: HashMap<ListenerId, Multiaddr> = HashMap::new();
        let mut unavailable = None;
        for address in addresses {
            match listen_on(&mut self.swarm, address) {
                Ok(listener) => drop(waiting.insert(listener, address.clone())),
                // "Every IPv6 interface" on a machine without IPv6 is nothing to stop for, as long as something else works.
                Err((error, true)) => {
                    tracing::warn!(%error, "not listening");
                    unavailable = Some(error);
                }
                Err((error, false)) => return Err(error),
            }
        }
        if let (true, Some(error)) = (waiting.is_empty(), unavailable) {
            return Err(error);
        }
        let outcome = timeout(LISTEN, async {
            while !waiting.is_empty() {
                match self.swarm.select_next_some().await {
                    SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. } if waiting.contains_key(&listener_id) => {
                        let address = waiting.remove(&listener_id).expect("just seen");
                        return Err(NetError::Listen { address, reason: error.to_string() });
                    }
                    event => {
                        if let SwarmEvent::NewListenAddr { listener_id, .. } = &event {
                            waiting.remove(listener_id);
                        }
                        self.on_swarm_event(event);
                    }
                }
            }
            Ok(())
        })
        .await;
        if let Ok(result) = outcome {
            return result;
        }
        // A listener on every interface of an IP version that no interface has stays silent until one appears.
        match waiting.into_values().find(|address| !is_unspecified(address)) {
            Some(address) => Err(NetError::Listen { address, reason: "the system does not say where".to_owned() }),
            None => Ok(()),
        }
    }

    /// Listens for connections for bulk, too: beside every other listener, as far as the ports are free.
    pub async fn listen_for_bulk(&mut self, addresses: &[Multiaddr]) {
        let ways = Arc::clone(&self.ways);
        let allowed = |path| ways.allowed.contains(&path);
        for listener in Direct::listen(if allowed(BulkPath::Direct) { addresses } else { &[] }).await {
            let Ok(address) = listener.local_addr() else { continue };
            tracing::info!(%address, "listening for direct connections");
            self.direct_listeners.push(address);
            self.tasks.spawn(Arc::clone(&ways.direct).accept(listener, self.direct_sender.clone()));
        }
        let beside = quic_addresses(addresses, &self.direct_listeners);
        for endpoint in if allowed(BulkPath::Quic) { ways.quic.listen(&beside) } else { Vec::new() } {
            let Ok(address) = endpoint.local_addr() else { continue };
            tracing::info!(%address, "listening for bulk over QUIC");
            self.quic_listeners.push(address);
            self.tasks.spawn(Quic::accept(endpoint, self.direct_sender.clone()));
        }
    }

    /// Runs until told to stop, or until nobody listens.
    pub async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let events = self.events.clone();
        loop {
            let roomy = self.pending.len() < PENDING;
            let listened_to = self.pending.len() < PENDING_MAX;
            tokio::select! {
                _ = &mut stop => break,
                () = events.closed() => break,
                permit = events.reserve(), if !self.pending.is_empty() => {
                    if let (Ok(permit), Some(event)) = (permit, self.pending.pop_front()) {
                        permit.send(event);
                    }
                }
                event = self.swarm.select_next_some(), if roomy => self.on_swarm_event(event),
                Some(report) = self.report_queue.recv(), if roomy => self.on_report(report),
                Some(arrival) = self.arrivals.recv(), if roomy => self.on_arrival(arrival),
                Some(arrival) = self.direct_arrivals.recv(), if roomy => self.on_direct(arrival),
                Some(command) = self.commands.recv(), if listened_to => self.on_command(command),
                Some(reply) = self.status_requests.recv() => drop(reply.send(self.status())),
                _ = tick.tick() => self.on_tick(Instant::now()),
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!(%error, "a stream's task panicked");
                    }
                }
            }
        }
        self.stop().await;
    }

    async fn stop(mut self) {
        for id in self.peers.keys() {
            if let Some(peer) = peer_ids::from_libp2p(id) {
                self.outboxes.remove(&peer);
            }
        }
        self.tasks.shutdown().await;
        let connected: Vec<libp2p::PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in connected {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        // So that peers learn it from us and not from a timeout.
        let goodbye = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        let _ = timeout(GOODBYE, goodbye).await;
    }

    /// Tells the consumer, now or as soon as it listens again.
    pub(super) fn emit(&mut self, event: NetEvent) {
        if !self.pending.is_empty() {
            self.pending.push_back(event);
            return;
        }
        // A closed channel stops the host at its next turn.
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            self.pending.push_back(event);
        }
    }

    fn on_command(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Dial { peer, addresses } => self.dial(peer, &addresses, now),
            Command::Hangup { peer } => self.hang_up(&peer_ids::to_libp2p(peer)),
            Command::Farewell { peer } => self.farewell(peer),
            Command::Ban { peer } => self.ban(peer),
            Command::Unban { peer } => self.unban(peer),
            Command::FindProviders { blob } => self.find_providers(blob),
            Command::Announce { blob } => {
                self.announcer.announce(blob, now);
                self.announce_due(now);
            }
            Command::Unannounce { blob } => self.unannounce(blob),
            Command::Introduce { peer, blob, others } => self.introduce(peer, blob, &others),
            Command::Learn { from, blob, contacts } => self.learn(from, blob, contacts),
            Command::AddAddress { peer, address } => self.book.tell(peer, address),
            Command::AddBootstrap { peer, address } => {
                self.bootstrap.add(peer, address, now);
                self.dial_bootstrap(now);
            }
        }
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<<NodeBehaviour as libp2p::swarm::NetworkBehaviour>::ToSwarm>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, endpoint.get_remote_address().clone());
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                self.on_closed(peer_id, connection_id, num_established);
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), connection_id, error } => {
                self.on_dial_error(peer, connection_id, &error);
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::info!(%address, "listening");
                self.update_external_addresses();
            }
            SwarmEvent::ExpiredListenAddr { .. } => self.update_external_addresses(),
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::warn!(?addresses, ?reason, "no longer listening");
                self.update_external_addresses();
            }
            SwarmEvent::ListenerError { error, .. } => tracing::debug!(%error, "listener"),
            _ => {}
        }
    }

    fn on_tick(&mut self, now: Instant) {
        self.expire_dials(now);
        self.expire_unidentified(now);
        self.dial_bootstrap(now);
        self.announce_due(now);
        if now.duration_since(self.swept) >= SWEEP {
            self.swept = now;
            self.swarm.behaviour_mut().kad.store_mut().sweep(now);
        }
    }

    /// What others are told of us: where we listen; loopback only when there is nothing else, so that a network on one machine works.
    /// Nobody confirms these addresses: whether the world can reach them is not known yet.
    fn update_external_addresses(&mut self) {
        let mut wanted: Vec<Multiaddr> = self.swarm.listeners().filter(|address| is_plain(address)).cloned().collect();
        if !wanted.iter().all(is_loopback) {
            wanted.retain(|address| !is_loopback(address));
        }
        wanted.sort_by_key(|address| Reverse(class_of(address)));
        wanted.truncate(EXTERNAL_ADDRESSES);
        for address in self.external.iter().filter(|address| !wanted.contains(address)) {
            self.swarm.remove_external_address(address);
        }
        // libp2p names the one added last first: of a list that is clipped, the far-reaching ones should remain.
        for address in wanted.iter().rev().filter(|address| !self.external.contains(address)) {
            self.swarm.add_external_address(address.clone());
        }
        self.external = wanted;
    }

    fn status(&mut self) -> NetStatus {
        let peer = *self.swarm.local_peer_id();
        NetStatus {
            peer,
            listen: self.swarm.listeners().map(|address| address.clone().with(Protocol::P2p(peer))).collect(),
            peers: self.peers.values().filter_map(Peer::status).collect(),
            dht_peers: self.dht_peers(),
            announced: self.announcer.len(),
            peers_asked: self.lookups.peers_asked(),
            bootstrap: self.bootstrap.status(),
        }
    }
}

fn is_unspecified(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_unspecified(),
        Some(Protocol::Ip6(ip)) => ip.is_unspecified(),
        _ => false,
    }
}

/// Starts a listener. The error says whether this machine merely lacks the IP version of an address that means every interface.
fn listen_on(swarm: &mut Swarm<NodeBehaviour>, address: &Multiaddr) -> Result<ListenerId, (NetError, bool)> {
    let failed = |error: &(dyn Error + 'static)| {
        let reason = root_cause(error);
        let listen_error = NetError::Listen { address: address.clone(), reason: reason.to_string() };
        (listen_error, is_unspecified(address) && lacks_ip_version(reason))
    };
    probe_tcp_port(address).map_err(|error| failed(&error))?;
    swarm.listen_on(address.clone()).map_err(|error| failed(&error))
}

/// libp2p listens with `SO_REUSEPORT`, so the system lets two nodes share a port, each getting half the connections. A plain bind
/// tells whether somebody is there.
fn probe_tcp_port(address: &Multiaddr) -> std::io::Result<()> {
    let mut parts = address.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) if port != 0 => TcpListener::bind((ip, port)).map(drop),
        (Some(Protocol::Ip6(ip)), Some(Protocol::Tcp(port))) if port != 0 => TcpListener::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}

fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = error;
    loop {
        // An `io::Error` made of another error shows that one's text, but not the error itself as its source.
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        match inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| cause.source()) {
            Some(deeper) => cause = deeper,
            None => return cause,
        }
    }
}

fn lacks_ip_version(error: &(dyn Error + 'static)) -> bool {
    let code = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    let lacking = [rustix::io::Errno::AFNOSUPPORT, rustix::io::Errno::ADDRNOTAVAIL];
    code.is_some_and(|code| lacking.iter().any(|errno| errno.raw_os_error() == code))
}
