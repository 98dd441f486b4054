//! A peer's id as libp2p prints it, for people and reports.

use p2pweights_protocol::ids::PeerId;

/// The text form, `12D3KooW…`.
pub fn peer_name(peer: PeerId) -> String {
    crate::net::to_libp2p(peer).to_string()
}
