//! Settings of a gateway.

use std::net::SocketAddr;

use crate::names::Mappings;

/// Where the gateway listens unless told otherwise: beside the API, which takes any free port, this one has to be known beforehand, for it
/// stands in the settings of other programs.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8787);

/// Everything a gateway needs to know.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Where it listens; port 0 takes a free one. Default [`DEFAULT_LISTEN`]. Whoever reaches it can read every model that this node holds.
    pub listen: SocketAddr,
    /// Whether the node runs without it if that address is taken. Default yes: nobody asked for it.
    pub optional: bool,
    /// Names by which clients call it, besides addresses and names of this machine. Default none.
    pub hosts: Vec<String>,
    /// Models by name that it may look for among the peers. Default none: then only what is held has a name.
    pub models: Mappings,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self { listen: DEFAULT_LISTEN, optional: true, hosts: Vec::new(), models: Mappings::default() }
    }
}
