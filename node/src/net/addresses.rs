//! What may be believed of an address: whether it can be dialed, how near it is, and how much of a peer's list is kept.
//! Pure judgement; remembers nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use p2pweights_protocol::ids::Prefix;
use p2pweights_protocol::limits;

use super::PeerClass;

/// Addresses kept of one peer: two transports, two IP versions, two interfaces.
pub const ADDRESSES_PER_PEER: usize = 8;

/// The address and the peer it ends in; `None` when it does not end in `/p2p/<peer id>`.
pub fn split_peer(address: &Multiaddr) -> Option<(Multiaddr, libp2p::PeerId)> {
    let mut address = address.clone();
    match address.pop() {
        Some(Protocol::P2p(peer)) if !address.is_empty() => Some((address, peer)),
        _ => None,
    }
}

fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)),
        _ => None,
    }
}

/// Whether the address leads to this machine.
pub fn is_loopback(address: &Multiaddr) -> bool {
    ip_of(address).is_some_and(|ip| ip.is_loopback())
}

/// How near a connection's remote address is. A name from the DNS counts as far.
pub fn class_of(address: &Multiaddr) -> PeerClass {
    let near = match ip_of(address) {
        Some(IpAddr::V4(ip)) => near_v4(ip),
        Some(IpAddr::V6(ip)) => near_v6(ip),
        None => false,
    };
    if near { PeerClass::Lan } else { PeerClass::Wan }
}

/// Whether an address means the same to a peer that is this near as to us: the private addresses of a far one are in its own network.
pub fn is_meant_for(class: PeerClass, address: &Multiaddr) -> bool {
    class == PeerClass::Lan || class_of(address) == PeerClass::Wan
}

/// The network that an address is in: the first 24 bits of an IPv4 address, the first 48 of an IPv6 one.
pub fn prefix_of(ip: Option<IpAddr>) -> Prefix {
    match ip.map(|ip| ip.to_canonical()) {
        None => Prefix::default(),
        Some(IpAddr::V4(ip)) => Prefix((4 << 60) | u64::from(ip.to_bits() >> 8)),
        Some(IpAddr::V6(ip)) => Prefix((6 << 60) | (ip.to_bits() >> 80) as u64),
    }
}

fn near_v4(ip: Ipv4Addr) -> bool {
    ip.is_loopback() || ip.is_private() || ip.is_link_local()
}

fn near_v6(ip: Ipv6Addr) -> bool {
    ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unique_local()
}

/// Whether peers may tell each other this address: a plain IP and a transport that we speak. Names are refused, or peers could make
/// us ask the DNS for whatever they like; IPv6 link-local addresses mean nothing without the interface.
pub fn is_plain(address: &Multiaddr) -> bool {
    let ip_is_usable = ip_of(address).is_some_and(|ip| {
        let needs_interface = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        !ip.is_unspecified() && !ip.is_multicast() && !needs_interface
    });
    let transport: Vec<Protocol<'_>> = address.iter().skip(1).take(3).collect();
    let transport_is_ours = match transport.as_slice() {
        [Protocol::Tcp(port)] | [Protocol::Udp(port), Protocol::QuicV1] => *port != 0,
        _ => false,
    };
    ip_is_usable && transport_is_ours && address.len() <= limits::ADDRESS_BYTES
}

/// What is kept of the addresses that somebody gives for a peer: usable, distinct, few, without the peer id. Loopback ones only where
/// they can mean this machine.
pub fn clip<'a>(
    addresses: impl IntoIterator<Item = &'a Multiaddr>,
    peer: libp2p::PeerId,
    loopback_allowed: bool,
) -> Vec<Multiaddr> {
    let mut kept: Vec<Multiaddr> = Vec::new();
    // A list may be as long as a message; looking at a few times what is kept is enough.
    for address in addresses.into_iter().take(4 * ADDRESSES_PER_PEER) {
        let bare = match address.iter().last() {
            Some(Protocol::P2p(named)) if named == peer => address.iter().take(address.iter().count() - 1).collect(),
            _ => address.clone(),
        };
        if is_plain(&bare) && (loopback_allowed || !is_loopback(&bare)) && !kept.contains(&bare) {
            kept.push(bare);
        }
        if kept.len() == ADDRESSES_PER_PEER {
            break;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn multiaddr(text: &str) -> Multiaddr {
        text.parse().expect("a multiaddr")
    }

    #[test]
    fn classes_follow_the_ip() {
        for near in [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/192.168.7.1/udp/1/quic-v1",
            "/ip4/10.1.1.1/tcp/1",
            "/ip6/fe80::1/tcp/1",
            "/ip6/fd00::1/tcp/1",
        ] {
            assert_eq!(class_of(&multiaddr(near)), PeerClass::Lan, "{near}");
        }
        for far in ["/ip4/8.8.8.8/tcp/1", "/ip6/2001:db8::1/tcp/1", "/dns4/example.org/tcp/1"] {
            assert_eq!(class_of(&multiaddr(far)), PeerClass::Wan, "{far}");
        }
        assert!(is_loopback(&multiaddr("/ip6/::ffff:127.0.0.1/tcp/1")));
    }

    #[test]
    fn only_plain_addresses_survive_and_few_of_them() {
        let peer = libp2p::PeerId::random();
        let other = libp2p::PeerId::random();
        let given = [
            format!("/ip4/1.2.3.4/tcp/5/p2p/{peer}"),
            "/ip4/1.2.3.4/tcp/5".into(),
            format!("/ip4/1.2.3.4/tcp/6/p2p/{other}"),
            "/dns4/example.org/tcp/5".into(),
            "/ip4/0.0.0.0/tcp/5".into(),
            "/ip6/fe80::1/tcp/5".into(),
            "/ip4/1.2.3.4/tcp/0".into(),
            "/ip4/1.2.3.4/udp/5".into(),
            "/ip4/1.2.3.4/udp/5/quic-v1".into(),
            format!("/ip4/1.2.3.4/tcp/5/p2p/{other}/p2p-circuit"),
            "/ip4/127.0.0.1/tcp/5".into(),
        ]
        .map(|text| multiaddr(&text));
        let kept = ["/ip4/1.2.3.4/tcp/5", "/ip4/1.2.3.4/udp/5/quic-v1"].map(multiaddr);
        assert_eq!(clip(&given, peer, false), kept);
        assert_eq!(clip(&given, peer, true).len(), 3);
        let many: Vec<_> = (1..100).map(|port| multiaddr(&format!("/ip4/1.2.3.4/tcp/{port}"))).collect();
        assert_eq!(clip(&many, peer, false).len(), ADDRESSES_PER_PEER);
    }

    #[test]
    fn the_peer_must_come_last() {
        let peer = libp2p::PeerId::random();
        let (bare, named) = split_peer(&multiaddr(&format!("/ip4/1.2.3.4/tcp/5/p2p/{peer}"))).expect("ends in a peer");
        assert_eq!((bare, named), (multiaddr("/ip4/1.2.3.4/tcp/5"), peer));
        assert_eq!(split_peer(&multiaddr("/ip4/1.2.3.4/tcp/5")), None);
        assert_eq!(split_peer(&multiaddr(&format!("/p2p/{peer}"))), None);
    }
}
