//! Peers with a connection: who they are, what they opened, when they come and go. A peer is announced to the consumer once it has
//! identified itself as one of this network; until then what it opens is parked.

use std::collections::VecDeque;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, identify, ping};
use p2pweights_protocol::ids::PeerId;
use p2pweights_protocol::limits;
use p2pweights_protocol::wire::Message;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::addresses::{class_of, clip, is_loopback, prefix_of};
use super::bulk::{BulkStream, STREAMS_PER_PEER};
use super::control::{ReadError, read_messages};
use super::direct::{DirectArrival, ip_of};
use super::host::Host;
use super::introductions::INTRODUCTION_PAUSE;
use super::parents::{ParentsAsked, QUESTIONS_PER_PEER};
use super::streams::{self, Arrival, Kind};
use super::{NetEvent, PeerClass, PeerStatus, peer_ids};

/// How long a new peer may take to identify itself.
const INTRODUCTION: Duration = Duration::from_secs(10);
/// Control streams that one peer may have open to us: one, and the next one of a peer that thinks the first one lost.
const CONTROL_STREAMS: usize = 2;
/// Streams parked for a peer that has not identified itself yet.
const PARKED: usize = CONTROL_STREAMS + STREAMS_PER_PEER;
/// Pings in a row that a connection may leave unanswered, 20 s each. One may be late behind a full queue.
const PINGS_MISSED: u32 = 2;

/// What a task says to the host about a peer.
#[derive(Debug)]
pub(super) struct Report {
    peer: PeerId,
    life: u64,
    news: News,
}

#[derive(Debug)]
enum News {
    Message(Message),
    Malformed,
    Bulk(BulkStream),
    Parents(ParentsAsked),
    /// Nothing good comes of this connection any more.
    HangUp,
}

/// A peer with at least one connection.
#[derive(Debug)]
pub(super) struct Peer {
    peer: PeerId,
    life: u64,
    connections: Vec<Connection>,
    since: Instant,
    standing: Standing,
    /// We are hanging up on it.
    leaving: bool,
    agent: Option<String>,
    rtt: Option<Duration>,
    parked: Vec<Arrival>,
    readers: VecDeque<AbortHandle>,
    writer: Option<AbortHandle>,
    bulk_share: Arc<Semaphore>,
    parents_share: Arc<Semaphore>,
    introduced: Option<Instant>,
}

/// What is known of whose side a peer is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It has not identified itself yet.
    Unknown,
    /// It is on this network.
    Ours,
    /// It is on another network, and is being hung up on.
    Foreign,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    address: Multiaddr,
    pings_missed: u32,
}

impl Peer {
    pub fn is_identified(&self) -> bool {
        self.standing == Standing::Ours
    }

    /// Whether it can be talked to and will stay so, as far as we know.
    pub fn stays(&self) -> bool {
        self.is_identified() && !self.leaving
    }

    /// We hang up on it.
    pub fn leave(&mut self) {
        self.leaving = true;
    }

    /// Whether messages to it are on their way, or could be.
    pub fn is_written_to(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| !writer.is_finished())
    }

    /// Whether it is on this machine.
    pub fn is_local(&self) -> bool {
        self.connections.iter().any(|connection| is_loopback(&connection.address))
    }

    /// Whether an introduction from it is heeded now; counts as one if so.
    fn may_introduce(&mut self, now: Instant) -> bool {
        let may = self.introduced.is_none_or(|last| now.duration_since(last) >= INTRODUCTION_PAUSE);
        if may {
            self.introduced = Some(now);
        }
        may
    }

    /// How near it is.
    pub fn class(&self) -> PeerClass {
        self.connections.first().map_or(PeerClass::Wan, |connection| class_of(&connection.address))
    }

    /// What there is to say about it, once it has identified itself.
    pub fn status(&self) -> Option<PeerStatus> {
        let address = self.connections.first()?.address.clone();
        let class = self.class();
        let status = PeerStatus { peer: self.peer, address, agent: self.agent.clone(), rtt: self.rtt, class, since: self.since };
        self.is_identified().then_some(status)
    }
}

impl Drop for Peer {
    /// What is read or written for a peer ends with it.
    fn drop(&mut self) {
        self.readers.iter().chain(&self.writer).for_each(AbortHandle::abort);
    }
}

impl Host {
    pub(super) fn on_established(&mut self, id: libp2p::PeerId, connection: ConnectionId, address: Multiaddr) {
        let Some(peer) = peer_ids::from_libp2p(&id) else {
            tracing::debug!(peer = %id, "hung up: not an Ed25519 key");
            return self.hang_up(&id);
        };
        let connection = Connection { id: connection, address, pings_missed: 0 };
        if let Some(known) = self.peers.get_mut(&id) {
            known.connections.push(connection);
            return;
        }
        self.lives += 1;
        let known = Peer {
            peer,
            life: self.lives,
            connections: vec![connection],
            since: Instant::now(),
            standing: Standing::Unknown,
            leaving: false,
            agent: None,
            rtt: None,
            parked: Vec::new(),
            readers: VecDeque::new(),
            writer: None,
            bulk_share: Arc::new(Semaphore::new(STREAMS_PER_PEER)),
            parents_share: Arc::new(Semaphore::new(QUESTIONS_PER_PEER)),
            introduced: None,
        };
        self.peers.insert(id, known);
    }

    pub(super) fn on_closed(&mut self, id: libp2p::PeerId, connection: ConnectionId, remaining: u32) {
        let Some(known) = self.peers.get_mut(&id) else { return };
        known.connections.retain(|open| open.id != connection);
        if remaining > 0 {
            return;
        }
        let Some(known) = self.peers.remove(&id) else { return };
        match known.standing {
            Standing::Ours => {
                self.outboxes.remove(&known.peer);
                self.emit(NetEvent::PeerGone { peer: known.peer });
            }
            Standing::Unknown => self.bootstrap_failed(&id, "it did not identify itself".to_owned()),
            Standing::Foreign => {}
        }
        self.fail_dial(&id);
    }

    pub(super) fn on_identify(&mut self, event: identify::Event) {
        match event {
            identify::Event::Received { peer_id, info, .. } => self.on_identified(peer_id, &info),
            identify::Event::Error { peer_id, error, .. } => tracing::debug!(peer = %peer_id, %error, "identify failed"),
            _ => {}
        }
    }

    fn on_identified(&mut self, id: libp2p::PeerId, info: &identify::Info) {
        let Some(known) = self.peers.get_mut(&id) else { return };
        if info.protocol_version != self.names.identify_version {
            known.standing = Standing::Foreign;
            tracing::debug!(peer = %id, version = printable(&info.protocol_version), "hung up: another network");
            self.book.unlearn(&id);
            self.bootstrap_failed(&id, format!("it is on another network: {}", printable(&info.protocol_version)));
            return self.hang_up(&id);
        }
        known.agent = Some(printable(&info.agent_version));
        let addresses = clip(&info.listen_addrs, id, known.is_local());
        let class = known.class();
        if mem::replace(&mut known.standing, Standing::Ours) == Standing::Unknown {
            self.welcome(id);
        }
        self.learn_addresses(id, class, addresses, info.protocols.contains(&self.names.kad));
    }

    /// A peer of this network is there: from now on it can be talked to.
    fn welcome(&mut self, id: libp2p::PeerId) {
        let Some(known) = self.peers.get_mut(&id) else { return };
        let (peer, life) = (known.peer, known.life);
        let parked = mem::take(&mut known.parked);
        let class = known.class();
        let ip = known.connections.iter().find_map(|connection| ip_of(&connection.address));
        let queue = self.outboxes.insert(peer, ip);
        // The first ping may have been faster.
        if let Some(round_trip) = known.rtt {
            self.outboxes.travelled(&peer, round_trip);
        }
        let writing = queue.run(self.streams.clone(), self.names.control.clone(), self.names.agent.clone());
        let reports = self.reports.clone();
        // It ends by itself only when its queue is closed: a farewell.
        known.writer = Some(self.tasks.spawn(async move {
            let reason = writing.await.map_or_else(|error| error.to_string(), |()| "farewell".into());
            tracing::debug!(%peer, reason, "hung up");
            let _ = reports.send(Report { peer, life, news: News::HangUp }).await;
        }));
        self.dials.remove(&id);
        self.emit(NetEvent::PeerConnected { peer, class, prefix: prefix_of(ip) });
        if self.bootstrap.reached(&id, Instant::now()) {
            tracing::info!(peer = %id, "bootstrap peer reached");
        }
        for arrival in parked {
            self.on_arrival(arrival);
        }
    }

    /// Hangs up on those who never said who they are.
    pub(super) fn expire_unidentified(&mut self, now: Instant) {
        let silent = |peer: &Peer| peer.standing == Standing::Unknown && now.duration_since(peer.since) >= INTRODUCTION;
        let late: Vec<_> = self.peers.iter().filter(|(_, peer)| silent(peer)).map(|(id, _)| *id).collect();
        for id in late {
            tracing::debug!(peer = %id, "hung up: did not identify itself");
            self.hang_up(&id);
        }
    }

    pub(super) fn on_ping(&mut self, event: ping::Event) {
        let Some(known) = self.peers.get_mut(&event.peer) else { return };
        let Some(connection) = known.connections.iter_mut().find(|connection| connection.id == event.connection) else { return };
        match event.result {
            Ok(rtt) => {
                connection.pings_missed = 0;
                known.rtt = Some(rtt);
                self.outboxes.travelled(&known.peer, rtt);
            }
            Err(ping::Failure::Unsupported) => {}
            Err(error) => {
                connection.pings_missed += 1;
                if connection.pings_missed >= PINGS_MISSED {
                    tracing::debug!(peer = %event.peer, %error, "connection closed: no answer to pings");
                    self.swarm.close_connection(event.connection);
                }
            }
        }
    }

    /// A peer opened a stream. It comes after the connection's own event, since that is handled in the very turn that starts the
    /// connection.
    pub(super) fn on_arrival(&mut self, arrival: Arrival) {
        let Some(known) = self.peers.get_mut(&arrival.peer) else { return };
        match known.standing {
            Standing::Ours => {}
            Standing::Unknown if known.parked.len() < PARKED => return known.parked.push(arrival),
            Standing::Unknown | Standing::Foreign => return,
        }
        let (peer, life) = (known.peer, known.life);
        let reports = self.reports.clone();
        match arrival.kind {
            Kind::Parents => self.on_question(arrival),
            Kind::Control => {
                known.readers.retain(|reader| !reader.is_finished());
                // The newest are the ones that the peer writes to.
                if known.readers.len() >= CONTROL_STREAMS
                    && let Some(oldest) = known.readers.pop_front()
                {
                    oldest.abort();
                }
                let reader = self.tasks.spawn(async move {
                    let Ok(stream) = streams::greet(arrival.stream, &[]).await else { return };
                    let wrap = |message| Report { peer, life, news: News::Message(message) };
                    let news = match read_messages(stream, wrap, &reports).await {
                        Ok(()) | Err(ReadError::Broken(_)) => return,
                        Err(error @ ReadError::Slow) => {
                            tracing::debug!(%peer, reason = %error, "hung up");
                            News::HangUp
                        }
                        Err(error @ (ReadError::Frame(_) | ReadError::NoHello)) => {
                            tracing::debug!(%peer, reason = %error, "malformed message");
                            News::Malformed
                        }
                    };
                    let _ = reports.send(Report { peer, life, news }).await;
                });
                known.readers.push_back(reader);
            }
            Kind::Bulk => {
                if self.bulk_limit.admit(&known.bulk_share).is_none() {
                    tracing::debug!(%peer, "bulk stream refused: too many");
                    return;
                }
                // Counted once it is known to stay: most go on over a direct connection, which is counted itself.
                let (limit, share) = (self.bulk_limit.clone(), known.bulk_share.clone());
                let ports =
                    [&self.direct_listeners, &self.quic_listeners].map(|listeners| self.port_for(&arrival.peer, listeners));
                let ports = ports.map(u16::to_be_bytes).concat();
                self.tasks.spawn(async move {
                    let Ok(mut stream) = streams::greet(arrival.stream, &ports).await else { return };
                    if streams::stays(&mut stream).await
                        && let Some(permit) = limit.admit(&share)
                    {
                        let _ =
                            reports.send(Report { peer, life, news: News::Bulk(permit.attach(BulkStream::over(stream))) }).await;
                    }
                });
            }
        }
    }

    /// A peer opened a stream to ask for parents.
    fn on_question(&mut self, arrival: Arrival) {
        let Some(known) = self.peers.get(&arrival.peer) else { return };
        let (peer, life, reports) = (known.peer, known.life, self.reports.clone());
        let Some(permits) = self.parents_limit.admit(&known.parents_share) else {
            return tracing::debug!(%peer, "question refused: too many at once");
        };
        self.tasks.spawn(async move {
            let Ok(stream) = streams::greet(arrival.stream, &[]).await else { return };
            let news = match ParentsAsked::read(stream, permits).await {
                Ok(Some(asked)) => News::Parents(asked),
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%peer, reason = %error, "malformed question");
                    News::Malformed
                }
            };
            let _ = reports.send(Report { peer, life, news }).await;
        });
    }

    /// The port of our listener for a peer that reached us over the same IP version; 0 if there is none.
    fn port_for(&self, id: &libp2p::PeerId, listeners: &[SocketAddr]) -> u16 {
        let ip = self.peers.get(id).and_then(|known| known.connections.iter().find_map(|open| ip_of(&open.address)));
        let fits = |at: &&SocketAddr| ip.is_some_and(|ip| ip.is_ipv4() == at.is_ipv4());
        listeners.iter().find(fits).map_or(0, SocketAddr::port)
    }

    /// A peer opened a connection for bulk: welcome only from those that are connected anyway.
    pub(super) fn on_direct(&mut self, arrival: DirectArrival) {
        let Some(known) = self.peers.get(&arrival.peer).filter(|known| known.stays()) else {
            return tracing::debug!(peer = %arrival.peer, "direct connection refused: not a connected peer");
        };
        match self.bulk_limit.admit(&known.bulk_share) {
            Some(permit) => {
                let (peer, stream) = (known.peer, permit.attach(arrival.stream));
                self.emit(NetEvent::Bulk { peer, stream });
            }
            None => tracing::debug!(peer = %arrival.peer, "direct connection refused: too many"),
        }
    }

    pub(super) fn on_report(&mut self, report: Report) {
        let Report { peer, life, news } = report;
        let id = peer_ids::to_libp2p(peer);
        // What was said before the peer went and came again belongs to a life that is over.
        let Some(known) = self.peers.get_mut(&id).filter(|known| known.life == life) else { return };
        match news {
            News::Message(Message::Peers { .. }) if !known.may_introduce(Instant::now()) => {
                tracing::debug!(%peer, "introduction ignored: too soon after the last one");
            }
            News::Message(message) => self.emit(NetEvent::Message { peer, message }),
            News::Malformed => self.emit(NetEvent::Malformed { peer }),
            News::Bulk(stream) => self.emit(NetEvent::Bulk { peer, stream }),
            News::Parents(asked) => self.emit(NetEvent::Parents { peer, asked }),
            News::HangUp => self.hang_up(&id),
        }
    }
}

/// A peer's text as it may appear in logs and tables: short, without control characters.
fn printable(text: &str) -> String {
    cut(text, limits::AGENT_BYTES).chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The longest beginning of a text that takes no more bytes than this.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    let ends = text.char_indices().map(|(start, c)| start + c.len_utf8());
    &text[..ends.take_while(|end| *end <= bytes).last().unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_peers_are_short_and_printable() {
        assert_eq!(printable("p2pweights/0.1\u{1b}[2J\n"), "p2pweights/0.1\u{fffd}[2J\u{fffd}");
        assert_eq!(printable(&"é".repeat(100)).len(), limits::AGENT_BYTES);
        assert_eq!(cut("aé", 2), "a");
    }
}
