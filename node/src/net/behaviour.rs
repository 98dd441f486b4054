//! The libp2p behaviours a node is made of, and their settings. Decides nothing at run time.

use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::kad::{self, StoreInserts};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{StreamProtocol, allow_block_list, connection_limits, identify, mdns, memory_connection_limits, ping};
use p2pweights_protocol::wire::{VERSION, protocol_name};

use super::record_store::ProviderStore;

/// Connections at a time: about two for each of the engine's 512 peers.
const CONNECTIONS: u32 = 1024;
/// Of these, ones that others opened; the rest is kept for our own dials.
const CONNECTIONS_INCOMING: u32 = 768;
/// Connections of one peer: simultaneous dials and both transports make two or three.
const CONNECTIONS_PER_PEER: u32 = 4;
/// Handshakes under way that others began, and that we began.
const CONNECTIONS_PENDING_INCOMING: u32 = 64;
const CONNECTIONS_PENDING_OUTGOING: u32 = 256;
/// Share of the machine's memory above which no new connection is taken.
const MEMORY_SHARE: f64 = 0.8;

/// How long a query of the DHT may take: a live peer answers within a second, a dead one costs a dial of 10 s, three at a time. An
/// announcement that meets a few dead ones must still get through.
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a provider record lives at another node; see the announcer's interval.
const RECORD_TTL: Duration = Duration::from_secs(48 * 60 * 60);
/// Refresh of the routing table. At the default of five minutes handshakes would dominate a quiet network.
const TABLE_REFRESH: Duration = Duration::from_secs(30 * 60);

/// What identify says about itself on this network; peers that say otherwise are hung up on.
pub fn identify_version(network: &str) -> String {
    format!("/p2pweights/{network}/{VERSION}")
}

/// The name of one of this network's protocols. The network's name has been checked.
pub fn stream_protocol(network: &str, protocol: &str) -> StreamProtocol {
    StreamProtocol::try_from_owned(protocol_name(network, protocol)).expect("our protocol names begin with a slash")
}

/// Everything a connection may carry. The behaviours that refuse connections come first: a later one would keep state of a connection
/// that an earlier field then denies (rust-libp2p#4870).
#[derive(NetworkBehaviour)]
pub(super) struct NodeBehaviour {
    pub connection_limits: connection_limits::Behaviour,
    pub memory_limits: memory_connection_limits::Behaviour,
    pub bans: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    pub kad: kad::Behaviour<ProviderStore>,
    pub identify: identify::Behaviour,
    pub ping: ping::Behaviour,
    pub mdns: Toggle<mdns::tokio::Behaviour>,
    pub streams: libp2p_stream::Behaviour,
}

impl NodeBehaviour {
    /// The behaviours of one node.
    pub fn new(keypair: &Keypair, network: &str, agent: &str, with_mdns: bool) -> Self {
        let us = keypair.public().to_peer_id();
        let limits = connection_limits::ConnectionLimits::default()
            .with_max_established(Some(CONNECTIONS))
            .with_max_established_incoming(Some(CONNECTIONS_INCOMING))
            .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER))
            .with_max_pending_incoming(Some(CONNECTIONS_PENDING_INCOMING))
            .with_max_pending_outgoing(Some(CONNECTIONS_PENDING_OUTGOING));
        let identify = identify::Config::new(identify_version(network), keypair.public()).with_agent_version(agent.to_owned());
        Self {
            connection_limits: connection_limits::Behaviour::new(limits),
            memory_limits: memory_connection_limits::Behaviour::with_max_percentage(MEMORY_SHARE),
            bans: allow_block_list::Behaviour::default(),
            kad: dht(us, network),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::default(),
            mdns: Toggle::from(if with_mdns { local_discovery(us) } else { None }),
            streams: libp2p_stream::Behaviour::new(),
        }
    }
}

fn dht(us: libp2p::PeerId, network: &str) -> kad::Behaviour<ProviderStore> {
    let mut config = kad::Config::new(stream_protocol(network, "kad"));
    config
        .set_query_timeout(QUERY_TIMEOUT)
        .set_record_filtering(StoreInserts::FilterBoth)
        .set_provider_record_ttl(Some(RECORD_TTL))
        // The announcer repeats announcements, paced; kad's own job would send them all at once.
        .set_provider_publication_interval(None)
        .set_publication_interval(None)
        .set_replication_interval(None)
        .set_caching(kad::Caching::Disabled)
        .set_periodic_bootstrap_interval(Some(TABLE_REFRESH));
    let mut dht = kad::Behaviour::with_config(us, ProviderStore::new(us), config);
    // Otherwise a network in which nobody has a confirmed public address has no servers at all.
    dht.set_mode(Some(kad::Mode::Server));
    dht
}

/// A machine without multicast (a container, some VPNs) is no reason not to run.
fn local_discovery(us: libp2p::PeerId) -> Option<mdns::tokio::Behaviour> {
    match mdns::tokio::Behaviour::new(mdns::Config::default(), us) {
        Ok(mdns) => Some(mdns),
        Err(error) => {
            tracing::warn!(%error, "no multicast DNS: peers on the local network are not found by themselves");
            None
        }
    }
}
