//! Dials that the node asked for: each is answered by exactly one event, in time. Bans live here too, since they refuse dials.

use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use p2pweights_protocol::ids::PeerId;
use p2pweights_protocol::limits;

use super::addresses::{ADDRESSES_PER_PEER, split_peer};
use super::connections::Peer;
use super::host::Host;
use super::{NetEvent, peer_ids};

/// How long a dial may take until the peer has identified itself.
const DIAL: Duration = Duration::from_secs(15);
/// Dials under way at a time; more are refused at once.
const DIALS: usize = 512;

/// A dial that waits for its answer.
#[derive(Debug)]
pub(super) struct Dial {
    deadline: Instant,
    /// The attempt; `None` when a connection stood already, and either the peer's introduction or its end is awaited.
    connection: Option<ConnectionId>,
}

impl Host {
    /// Connects to a peer, or says that it cannot.
    pub(super) fn dial(&mut self, peer: PeerId, addresses: &[Multiaddr], now: Instant) {
        let id = peer_ids::to_libp2p(peer);
        for address in addresses.iter().take(ADDRESSES_PER_PEER) {
            match split_peer(address) {
                Some((bare, named)) if named == id => self.book.tell(id, bare),
                Some(_) => tracing::debug!(peer = %id, %address, "address of another peer ignored"),
                None => self.book.tell(id, address.clone()),
            }
        }
        if self.peers.get(&id).is_some_and(|known| known.stays()) || self.dials.contains_key(&id) {
            return;
        }
        let refused = id == *self.swarm.local_peer_id() || self.is_banned(&id) || self.dials.len() >= DIALS;
        let connection = match (refused, self.peers.contains_key(&id)) {
            (true, _) => return self.emit(NetEvent::DialFailed { peer }),
            (false, true) => None,
            (false, false) => match self.open_connection(&id, &[]) {
                Ok(connection) => Some(connection),
                Err(error) => {
                    tracing::debug!(peer = %id, reason = %describe(&error), "dial failed");
                    return self.emit(NetEvent::DialFailed { peer });
                }
            },
        };
        self.dials.insert(id, Dial { deadline: now + DIAL, connection });
    }

    /// Dials a peer at these addresses and all known ones.
    pub(super) fn open_connection(&mut self, id: &libp2p::PeerId, more: &[Multiaddr]) -> Result<ConnectionId, DialError> {
        let mut addresses = more.to_vec();
        addresses.extend(self.book.addresses(id));
        let options = DialOpts::peer_id(*id)
            .condition(PeerCondition::Disconnected)
            .addresses(addresses)
            .extend_addresses_through_behaviour()
            .build();
        let connection = options.connection_id();
        self.swarm.dial(options)?;
        Ok(connection)
    }

    /// An attempt came to nothing; perhaps one of ours, perhaps one of the DHT's own.
    pub(super) fn on_dial_error(&mut self, id: libp2p::PeerId, connection: ConnectionId, error: &DialError) {
        let reason = describe(error);
        tracing::debug!(peer = %id, %reason, "dial failed");
        if self.peers.contains_key(&id) {
            return;
        }
        if self.dials.get(&id).is_some_and(|dial| dial.connection == Some(connection)) {
            self.fail_dial(&id);
        }
        self.bootstrap_failed(&id, reason);
    }

    /// Answers a dial, if there was one, with its failure.
    pub(super) fn fail_dial(&mut self, id: &libp2p::PeerId) {
        if self.dials.remove(id).is_some()
            && let Some(peer) = peer_ids::from_libp2p(id)
        {
            self.emit(NetEvent::DialFailed { peer });
        }
    }

    pub(super) fn expire_dials(&mut self, now: Instant) {
        let late: Vec<_> = self.dials.iter().filter(|(_, dial)| dial.deadline <= now).map(|(id, _)| *id).collect();
        for id in late {
            self.fail_dial(&id);
        }
    }

    pub(super) fn bootstrap_failed(&mut self, id: &libp2p::PeerId, reason: String) {
        if self.bootstrap.failed(id, reason.clone(), Instant::now()) {
            tracing::warn!(peer = %id, %reason, "bootstrap peer not reached");
        }
    }

    pub(super) fn dial_bootstrap(&mut self, now: Instant) {
        let connected = self.peers.values().filter(|peer| peer.is_identified()).count();
        for id in self.bootstrap.take_due(now, connected) {
            if self.peers.get(&id).is_some_and(|peer| peer.is_identified()) {
                self.bootstrap.reached(&id, now);
                continue;
            }
            let addresses = self.bootstrap.addresses(&id).to_vec();
            match self.open_connection(&id, &addresses) {
                // Connected, but not introduced yet: that decides.
                Ok(_) | Err(DialError::DialPeerConditionFalse(_)) => {}
                Err(error) => self.bootstrap_failed(&id, describe(&error)),
            }
        }
    }

    pub(super) fn hang_up(&mut self, id: &libp2p::PeerId) {
        if let Some(known) = self.peers.get_mut(id) {
            known.leave();
        }
        // An error says that there is no connection: as wished.
        let _ = self.swarm.disconnect_peer_id(*id);
    }

    /// Hangs up once what is queued has gone out, and had time to be read. Every write has its deadline, so this ends.
    pub(super) fn farewell(&mut self, peer: PeerId) {
        let id = peer_ids::to_libp2p(peer);
        let is_writing = self.peers.get(&id).is_some_and(Peer::is_written_to);
        self.outboxes.remove(&peer);
        // What it says meanwhile must not cut the last words short.
        if !is_writing {
            self.hang_up(&id);
        }
    }

    pub(super) fn is_banned(&self, id: &libp2p::PeerId) -> bool {
        self.swarm.behaviour().bans.blocked_peers().contains(id)
    }

    pub(super) fn ban(&mut self, peer: PeerId) {
        let id = peer_ids::to_libp2p(peer);
        let behaviour = self.swarm.behaviour_mut();
        if behaviour.bans.block_peer(id) {
            self.banned.push_back(id);
        }
        behaviour.kad.remove_peer(&id);
        // Identities are free to mint, so the list is bounded; the oldest ban gives way.
        if self.banned.len() > limits::REMEMBERED_PEERS
            && let Some(oldest) = self.banned.pop_front()
        {
            behaviour.bans.unblock_peer(oldest);
        }
        self.book.unlearn(&id);
        self.fail_dial(&id);
    }

    pub(super) fn unban(&mut self, peer: PeerId) {
        let id = peer_ids::to_libp2p(peer);
        self.swarm.behaviour_mut().bans.unblock_peer(id);
        self.banned.retain(|banned| *banned != id);
    }
}

/// One line for people: what failed where.
fn describe(error: &DialError) -> String {
    match error {
        DialError::Transport(failures) => {
            let each = failures.iter().map(|(address, failure)| format!("{address}: {failure}"));
            each.collect::<Vec<_>>().join("; ")
        }
        DialError::WrongPeerId { obtained, address } => format!("at {address} is another peer, {obtained}"),
        DialError::NoAddresses => "no address is known".to_owned(),
        other => other.to_string(),
    }
}
