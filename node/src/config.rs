//! Settings of a node, resolved: where they came from (file, environment, flags) is the command line's business.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use crate::gateway::GatewayConfig;
use crate::net::BulkPath;
use crate::upkeep::Eviction;

/// The network that a node joins unless told otherwise.
pub const DEFAULT_NETWORK: &str = "main";

/// Lowest cap: 256 KiB, the smallest block, must arrive within the ten seconds after which a source counts as dead.
pub const MIN_RATE_BYTES_PER_S: u64 = 32 * 1024;

/// Most payload of one direction in a second, in bytes; `None` for what the link gives, the default: a cap is for links that others need
/// too. Not below [`MIN_RATE_BYTES_PER_S`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateLimits {
    /// Over all peers. It stands above the other two.
    pub total: Option<NonZeroU64>,
    /// Over peers on this machine and the local network: those with loopback, private, link-local and unique local addresses.
    pub lan: Option<NonZeroU64>,
    /// Over all others.
    pub wan: Option<NonZeroU64>,
}

/// Parts of the quota, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// Above this, things are evicted ...
    pub high: u8,
    /// ... until no more than this is taken.
    pub low: u8,
}

impl Default for Watermarks {
    fn default() -> Self {
        Self { high: 90, low: 80 }
    }
}

/// Least memory for payload on its way in: one source at full speed takes a third of it.
pub const MIN_TRANSFER_MEMORY_BYTES: u64 = 1024 * 1024;

/// Shortest period of the scrub, in seconds: a disk that is read without end wears and serves nobody.
pub const MIN_SCRUB_PERIOD_S: u64 = 3600;

/// Everything a node needs to know to start.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Where identity and store live. Created if missing, mode 0700.
    pub data_dir: PathBuf,
    /// Addresses to listen on; port 0 takes a free one. Default: every interface, TCP and QUIC, IPv4 and IPv6, free ports.
    pub listen: Vec<Multiaddr>,
    /// Peers to join the DHT through, each ending in `/p2p/<peer id>`. Default none: a node contacts nobody it was not told of.
    pub bootstrap: Vec<Multiaddr>,
    /// Keeps swarms apart; part of every protocol name. Default [`DEFAULT_NETWORK`].
    pub network: String,
    /// Whether to find peers on the local network by multicast DNS (RFC 6762). Default true.
    pub mdns: bool,
    /// Where the local API listens; `None` for no API. Default a free port on loopback.
    pub api: Option<SocketAddr>,
    /// The Hugging Face endpoint for programs on this machine; `None` for none, the default: a node that lives for one command needs none.
    pub gateway: Option<GatewayConfig>,
    /// Where figures for monitoring are served to whoever asks; `None` for nowhere, the default.
    pub metrics: Option<SocketAddr>,
    /// Bytes of free disk that are never used. Default 256 MiB: room for the index and the rest of the system.
    pub reserve_bytes: u64,
    /// Most bytes that the data dir takes on its disk, as `du` counts it: blobs, index, everything. Default none: a disk of its own is
    /// limited by the reserve.
    pub quota_bytes: Option<u64>,
    /// What goes first when room is needed within the quota. Default nothing: a mirror's owner decides what it holds.
    pub eviction: Eviction,
    /// From how much of the quota on things are evicted, and down to how much. Default 90 % and 80 %: there is room for the next fetch, and
    /// a model that is fetched and evicted in turns does not set it off each time.
    pub watermarks: Watermarks,
    /// Whether what nobody else is known to hold may be evicted, too. Default no.
    pub evict_last_copy: bool,
    /// How fast payload may go out.
    pub max_upload: RateLimits,
    /// How fast payload may come in.
    pub max_download: RateLimits,
    /// Most memory that payload on its way in takes in this program, in bytes, whatever the number of sources. What the system buffers for
    /// TCP, and what QUIC holds because it came out of order (1 to 32 MiB a connection, by its rate), stand beside it. Default 64 MiB:
    /// room for 170 sources that all deliver at once; with less they take turns. A source that is silent takes 17 KiB beside it. Not
    /// below [`MIN_TRANSFER_MEMORY_BYTES`].
    pub transfer_memory_bytes: u64,
    /// What payload may travel on, in both directions. Default all; fewer where a firewall or a provider treats one of them badly.
    pub paths: Vec<BulkPath>,
    /// Where what the engine sees and decides is written down, for simnet to go through again; `None` for nowhere, the default: the log
    /// names every peer and blob.
    pub flight_log: Option<PathBuf>,
    /// Everything that is held is read again and proved in the background, from one beginning to the next in this time; `None` for not at
    /// all. Default 30 days: what rots is noticed while others still have it. Not below [`MIN_SCRUB_PERIOD_S`].
    pub scrub_period: Option<Duration>,
    /// Most bytes a second that are read for it; `None`: as the disk allows. Default 32 MiB, a fifth of what a cheap disk reads.
    pub scrub_rate: Option<NonZeroU64>,
    /// Damaged groups are fetched again by themselves, with pauses between attempts that grow from this; `None`: only when asked. Default a
    /// minute.
    pub mend_pause: Option<Duration>,
    /// Gated or private repositories, `ORG/MODEL`, of which what was imported may be announced and given to peers. Default none: the hub's
    /// terms bind whoever agreed to them.
    pub share_gated: Vec<String>,
    /// Whether the mirrors that a manifest names are asked, besides those that an order names. Default true: without them most models have
    /// no source at all. Their owners learn that this address fetches the model, as peers do.
    pub manifest_mirrors: bool,
    /// Whether mirrors may lie within this machine or its network. Default false: whoever writes a manifest could have this node ask
    /// what only it can reach.
    pub private_mirrors: bool,
    /// How long shutdown may take before what is left is dropped. Default 10 s.
    pub shutdown_timeout: Duration,
}

impl NodeConfig {
    /// The defaults, over this data dir.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: default_listen(),
            bootstrap: Vec::new(),
            network: DEFAULT_NETWORK.to_owned(),
            mdns: true,
            api: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            gateway: None,
            metrics: None,
            reserve_bytes: 256 * 1024 * 1024,
            quota_bytes: None,
            eviction: Eviction::Off,
            watermarks: Watermarks::default(),
            evict_last_copy: false,
            max_upload: RateLimits::default(),
            max_download: RateLimits::default(),
            transfer_memory_bytes: 64 * 1024 * 1024,
            paths: BulkPath::ALL.to_vec(),
            flight_log: None,
            scrub_period: Some(Duration::from_secs(30 * 24 * 3600)),
            scrub_rate: NonZeroU64::new(32 << 20),
            mend_pause: Some(Duration::from_secs(60)),
            share_gated: Vec::new(),
            manifest_mirrors: true,
            private_mirrors: false,
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}

/// Every interface, TCP and QUIC, IPv4 and IPv6, on free ports.
pub fn default_listen() -> Vec<Multiaddr> {
    ["/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1", "/ip6/::/tcp/0", "/ip6/::/udp/0/quic-v1"]
        .map(|text| text.parse().expect("a multiaddr written here"))
        .to_vec()
}

/// Reads an address to listen on.
pub fn parse_listen(text: &str) -> Result<Multiaddr, String> {
    text.parse().map_err(|error| format!("{text:?} is not a multiaddr such as /ip4/0.0.0.0/tcp/4001: {error}"))
}

/// Reads a peer's address, which must say which peer.
pub fn parse_peer(text: &str) -> Result<Multiaddr, String> {
    let address: Multiaddr = text
        .parse()
        .map_err(|error| format!("{text:?} is not a multiaddr such as /ip4/192.0.2.1/tcp/4001/p2p/<peer id>: {error}"))?;
    match address.iter().last() {
        Some(Protocol::P2p(_)) => Ok(address),
        _ => Err(format!("{text:?} does not end in /p2p/<peer id>; `p2pweights status` of that node shows it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_address_says_which_peer() {
        let peer = "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
        assert!(parse_peer(peer).is_ok());
        assert!(parse_peer("/ip4/127.0.0.1/tcp/4001").is_err_and(|error| error.contains("/p2p/")));
        assert!(parse_peer("nonsense").is_err_and(|error| error.contains("nonsense")));
        assert!(parse_listen("/ip4/127.0.0.1/tcp/0").is_ok());
    }
}
