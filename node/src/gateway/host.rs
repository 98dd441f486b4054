//! By which names the gateway may be called. A page on the web can have its own name lead to this machine (DNS rebinding); then `Host` tells
//! what the caller believes to speak to, and it is not us. Pure.

use std::net::IpAddr;

/// Names by which clients may call, besides those of this machine and addresses.
#[derive(Debug, Clone, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// These names, without ports.
    pub fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether a `Host` header, or the host of a request's target, names this gateway. An address does: no rebinding goes through one.
    pub fn admit(&self, host: &str) -> bool {
        let name = without_port(host);
        is_own(name) || self.0.contains(&name.to_ascii_lowercase()) || address(name).is_some()
    }

    /// Whether pages from this origin may read answers: those that this machine serves, and those named.
    pub fn admit_origin(&self, origin: &str) -> bool {
        let Some((_, host)) = origin.split_once("://") else { return false };
        let name = without_port(host);
        is_own(name) || self.0.contains(&name.to_ascii_lowercase()) || address(name).is_some_and(|address| address.is_loopback())
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // The colons of an address of version 6 stand between brackets.
        Some((name, port)) if !port.ends_with(']') && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn address(name: &str) -> Option<IpAddr> {
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.parse().ok()
}

/// RFC 6761: these never lead elsewhere.
fn is_own(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_lead_here() {
        let hosts = Hosts::new(&["Models.lan".to_owned()]);
        for good in ["localhost", "LOCALHOST:8787", "x.localhost", "127.0.0.1:8787", "[::1]:8787", "192.0.2.7", "models.LAN:80"] {
            assert!(hosts.admit(good), "{good}");
        }
        for bad in
            ["", "example.com", "example.com:8787", "localhost.example.com", "127.0.0.1.example.com", "models.lan.evil", "a:b:c"]
        {
            assert!(!hosts.admit(bad), "{bad}");
        }
    }

    #[test]
    fn pages_from_elsewhere_read_nothing() {
        let hosts = Hosts::new(&["app.example".to_owned()]);
        for good in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:5173", "https://app.example"] {
            assert!(hosts.admit_origin(good), "{good}");
        }
        for bad in ["null", "https://evil.example", "http://192.0.2.7", "localhost"] {
            assert!(!hosts.admit_origin(bad), "{bad}");
        }
    }
}
