//! Which addresses an origin may have. Whoever writes down a mirror, and any server that redirects, can make this node open connections;
//! they must not lead into the machine or the network it stands in. What is judged is the address that is connected to, not the name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;
use url::{Host, Url};

/// How far a client may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Wherever it is sent: to an address that the user named. Proxies of the environment are used.
    Anywhere,
    /// Only to addresses of the public internet, and through no proxy, which would connect for us where we do not look.
    Public,
}

/// An origin whose addresses are all within this machine or its network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{host} is at {address}, which is not on the public internet")]
pub struct Forbidden {
    /// The host as it was named.
    pub host: String,
    /// One of its addresses.
    pub address: IpAddr,
}

impl Reach {
    /// Refuses a host that is written as an address out of reach. A name is judged when it is resolved.
    pub(super) fn check(self, url: &Url) -> Result<(), Forbidden> {
        let address = match url.host() {
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        if self == Self::Anywhere || is_public(address) {
            return Ok(());
        }
        Err(Forbidden { host: url.host_str().unwrap_or_default().to_owned(), address })
    }
}

/// Whether an address is one of the public internet, in whatever form it is written.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let special = match ip.octets() {
        // This host; carrier-grade NAT; protocol assignments; documentation; 6to4 relays; benchmarks; reserved and broadcast.
        [0, ..] | [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 51, 100, _] | [203, 0, 113, _] | [(240..), ..] => true,
        [100, second, ..] => second & 0xc0 == 64,
        [198, second, ..] => second & 0xfe == 18,
        _ => false,
    };
    !(special || ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_multicast())
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(v4) = ip.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    match ip.segments() {
        // NAT64: the way to IPv4 on networks that have none.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))),
        // Teredo and other protocol assignments; documentation; 6to4. What these wrap is not worth unwrapping: nobody serves there.
        [0x2001, (..0x200), ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x3fff, (..0x1000), ..] => false,
        // All that is given out so far; loopback, unspecified, unique-local, link-local and multicast lie outside.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Resolves names by the system, and leaves out of the answer what may not be connected to.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) reach: Reach,
    pub(super) deadline: Duration,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, deadline, host) = (self.reach, self.deadline, name.as_str().to_owned());
        Box::pin(async move {
            let found = tokio::time::timeout(deadline, tokio::net::lookup_host((host.as_str(), 0))).await??;
            let found = found.collect();
            Ok(Box::new(allowed(reach, host, found)?.into_iter()) as Addrs)
        })
    }
}

fn allowed(reach: Reach, host: String, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Forbidden> {
    let (good, bad): (Vec<_>, Vec<_>) = found.into_iter().partition(|at| reach == Reach::Anywhere || is_public(at.ip()));
    match bad.first() {
        Some(first) if good.is_empty() => Err(Forbidden { host, address: first.ip() }),
        _ => Ok(good),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "99.255.255.255",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2606:4700::1",
            "3fff:1000::1",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn an_address_is_recognised_however_it_is_written() {
        for text in [
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://017700000001/",
            "http://[::ffff:7f00:1]/",
            "http://[::1]:80/",
        ] {
            let url: Url = text.parse().unwrap();
            assert!(Reach::Public.check(&url).is_err(), "{text}");
            assert_eq!(Reach::Anywhere.check(&url), Ok(()), "{text}");
        }
        assert_eq!(Reach::Public.check(&"http://8.8.8.8/".parse().unwrap()), Ok(()));
    }

    #[test]
    fn what_may_not_be_reached_is_left_out_of_what_a_name_means() {
        let (public, private) = ("8.8.8.8:0".parse().unwrap(), "10.0.0.1:0".parse().unwrap());
        let resolve = |reach, found: &[SocketAddr]| allowed(reach, "host".to_owned(), found.to_vec());
        assert_eq!(resolve(Reach::Public, &[private, public]), Ok(vec![public]));
        assert_eq!(resolve(Reach::Anywhere, &[private, public]), Ok(vec![private, public]));
        assert_eq!(resolve(Reach::Public, &[private]), Err(Forbidden { host: "host".to_owned(), address: private.ip() }));
        assert_eq!(resolve(Reach::Public, &[]), Ok(Vec::new()));
    }
}
