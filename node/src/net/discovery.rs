//! Finding and being found: what the DHT and multicast DNS say, and what they are told.

use std::collections::HashSet;
use std::time::Instant;

use libp2p::core::Endpoint;
use libp2p::kad::store::RecordStore;
use libp2p::kad::{self, GetProvidersOk, QueryResult};
use libp2p::swarm::{ConnectionId, NetworkBehaviour};
use libp2p::{Multiaddr, PeerId, mdns};
use p2pweights_protocol::ids::BlobHash;

use super::addresses::{ADDRESSES_PER_PEER, clip, is_meant_for};
use super::behaviour::NodeBehaviourEvent;
use super::host::Host;
use super::record_store::{ProviderStore, key_of};
use super::{NetEvent, PeerClass, peer_ids};

/// Connections up to which peers found on the local network are dialed unasked.
const LOCAL_PEERS: usize = 64;

impl Host {
    pub(super) fn on_behaviour_event(&mut self, event: NodeBehaviourEvent) {
        match event {
            NodeBehaviourEvent::Kad(event) => self.on_kad(event),
            NodeBehaviourEvent::Identify(event) => self.on_identify(event),
            NodeBehaviourEvent::Ping(event) => self.on_ping(event),
            NodeBehaviourEvent::Mdns(event) => self.on_mdns(event),
            NodeBehaviourEvent::Streams(()) => {}
            NodeBehaviourEvent::ConnectionLimits(never)
            | NodeBehaviourEvent::MemoryLimits(never)
            | NodeBehaviourEvent::Bans(never) => match never {},
        }
    }

    /// Number of peers in the routing table.
    pub(super) fn dht_peers(&mut self) -> usize {
        self.swarm.behaviour_mut().kad.kbuckets().map(|bucket| bucket.num_entries()).sum()
    }

    /// Keeps where a peer says it listens, and lets the DHT know if the peer takes part in it: identify and kad are not wired to each
    /// other by libp2p.
    pub(super) fn learn_addresses(&mut self, id: PeerId, class: PeerClass, addresses: Vec<Multiaddr>, in_dht: bool) {
        let first_peer = in_dht && self.dht_peers() == 0;
        let kad = &mut self.swarm.behaviour_mut().kad;
        for address in addresses {
            // The routing table keeps every address it is ever given, and identify repeats itself.
            // The private addresses of a far peer would make others dial into their own local networks.
            if in_dht && is_meant_for(class, &address) && addresses_in_table(kad, &id) < ADDRESSES_PER_PEER {
                kad.add_address(&id, address.clone());
            }
            self.book.learn(id, address);
        }
        if first_peer {
            // An empty table is no error here: a peer that listens nowhere is not in it.
            let _ = kad.bootstrap();
        }
    }

    fn on_mdns(&mut self, event: mdns::Event) {
        let mdns::Event::Discovered(found) = event else { return };
        let mut fresh = HashSet::new();
        for (id, address) in found {
            if id == *self.swarm.local_peer_id() || peer_ids::from_libp2p(&id).is_none() || self.is_banned(&id) {
                continue;
            }
            for address in clip([&address], id, true) {
                self.book.learn(id, address);
                fresh.insert(id);
            }
        }
        for id in fresh {
            if self.peers.len() < LOCAL_PEERS && !self.peers.contains_key(&id) {
                // Whoever answers is asked which network it is on; most libp2p programs found this way are on none of ours.
                let _ = self.open_connection(&id, &[]);
            }
        }
    }

    fn on_kad(&mut self, event: kad::Event) {
        match event {
            kad::Event::InboundRequest { request: kad::InboundRequest::AddProvider { record: Some(record) } } => {
                let is_local = self.peers.get(&record.provider).is_some_and(|peer| peer.is_local());
                let provider = record.provider;
                if let Err(error) = self.swarm.behaviour_mut().kad.store_mut().accept(record, is_local) {
                    tracing::debug!(%provider, %error, "provider record refused");
                }
            }
            kad::Event::OutboundQueryProgressed { id, result, stats, step } => match result {
                QueryResult::GetProviders(result) => {
                    let providers = match result {
                        Ok(GetProvidersOk::FoundProviders { key, providers }) => self.note_providers(&key, providers),
                        Ok(GetProvidersOk::FinishedWithNoAdditionalRecord { .. }) | Err(_) => Vec::new(),
                    };
                    self.on_lookup(id, stats.num_requests(), providers, step.last);
                }
                QueryResult::StartProviding(result) => {
                    if let Some(blob) = self.announcements.remove(&id) {
                        let now = Instant::now();
                        self.announcer.finished(blob, result.is_ok(), now);
                        self.announce_due(now);
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// Who of these may be dialed, keeping their addresses: kad knows those only as long as its query runs.
    fn note_providers(&mut self, key: &kad::RecordKey, providers: HashSet<PeerId>) -> Vec<p2pweights_protocol::ids::PeerId> {
        let us = *self.swarm.local_peer_id();
        // A loopback address found in the DHT can only be meant for us when somebody on this machine is a peer of ours.
        let loopback_allowed = self.peers.values().any(|peer| peer.is_local());
        let mut stored = self.swarm.behaviour_mut().kad.store_mut().providers(key);
        let mut usable = Vec::new();
        for id in providers {
            let Some(peer) = peer_ids::from_libp2p(&id) else { continue };
            if id == us || self.is_banned(&id) {
                continue;
            }
            let kad = &mut self.swarm.behaviour_mut().kad;
            // Asked as if a dial began: this is the only way in to the query's addresses, and changes nothing.
            let unused = ConnectionId::new_unchecked(0);
            let mut addresses =
                kad.handle_pending_outbound_connection(unused, Some(id), &[], Endpoint::Dialer).unwrap_or_default();
            if let Some(record) = stored.iter_mut().find(|record| record.provider == id) {
                addresses.append(&mut record.addresses);
            }
            for address in clip(&addresses, id, loopback_allowed) {
                self.book.learn(id, address);
            }
            usable.push(peer);
        }
        usable
    }

    fn on_lookup(
        &mut self,
        query: kad::QueryId,
        requests: u32,
        providers: Vec<p2pweights_protocol::ids::PeerId>,
        finished: bool,
    ) {
        let Some(found) = self.lookups.progressed(query, requests, providers) else { return };
        if found.enough
            && let Some(mut query) = self.swarm.behaviour_mut().kad.query_mut(&query)
        {
            query.finish();
        }
        if finished {
            self.lookups.finished(query);
        }
        if finished || !found.providers.is_empty() {
            self.emit(NetEvent::ProvidersFound { blob: found.blob, providers: found.providers, finished });
        }
        if finished {
            self.start_lookups();
        }
    }

    pub(super) fn find_providers(&mut self, blob: BlobHash) {
        if self.lookups.want(blob) {
            self.start_lookups();
        } else {
            self.emit(NetEvent::ProvidersFound { blob, providers: Vec::new(), finished: true });
        }
    }

    fn start_lookups(&mut self) {
        while let Some(blob) = self.lookups.take_next() {
            let query = self.swarm.behaviour_mut().kad.get_providers(key_of(blob));
            self.lookups.started(query, blob);
        }
    }

    pub(super) fn announce_due(&mut self, now: Instant) {
        let table = self.dht_peers();
        for blob in self.announcer.take_due(now, table) {
            match self.swarm.behaviour_mut().kad.start_providing(key_of(blob)) {
                Ok(query) => drop(self.announcements.insert(query, blob)),
                Err(error) => {
                    tracing::warn!(%blob, %error, "not announced");
                    self.announcer.finished(blob, false, now);
                }
            }
        }
    }

    pub(super) fn unannounce(&mut self, blob: BlobHash) {
        self.announcer.unannounce(&blob);
        self.swarm.behaviour_mut().kad.stop_providing(&key_of(blob));
    }
}

fn addresses_in_table(kad: &mut kad::Behaviour<ProviderStore>, id: &PeerId) -> usize {
    let Some(bucket) = kad.kbucket(*id) else { return 0 };
    bucket.iter().find(|entry| entry.node.key.preimage() == id).map_or(0, |entry| entry.node.value.len())
}
