//! A place whose hosts share a link to the rest of the world: a village behind a satellite, a provider's border, a school. Its hosts
//! reach one another without that link.

use std::time::Duration;

use crate::link::Link;

/// A site, by its place in the scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SiteId(pub usize);

/// A place with a shared link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// What reports call it.
    pub name: String,
    /// Its link to the middle of the network: up is out of the site. Shared by all blocks that cross it.
    pub link: Link,
    /// Whether its hosts are on one local network, and find one another there without a directory. Otherwise they are merely near: peers
    /// like any others, but for the link.
    pub lan: bool,
    /// Whether its hosts are told that bytes over this link are scarce.
    pub metered: bool,
    /// When the link is down, from and to. What is on its way is lost.
    pub outages: Vec<(Duration, Duration)>,
    /// Bytes in and out after which the link carries nothing more; `None`: no end.
    pub quota: Option<u64>,
}
