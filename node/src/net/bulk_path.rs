//! The ways on which payload can come from a peer.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A way for payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BulkPath {
    /// A TCP connection of its own: the fastest where nothing is lost.
    Direct,
    /// A QUIC connection of its own: for links that lose packets.
    Quic,
    /// A stream of libp2p's: slower, and there whenever the peer is.
    Stream,
}

impl BulkPath {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Self; 3] = [Self::Direct, Self::Quic, Self::Stream];

    /// As people read and write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Quic => "quic",
            Self::Stream => "stream",
        }
    }
}

impl fmt::Display for BulkPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for BulkPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|path| path.name() == text);
        named.ok_or_else(|| format!("{text:?} is no way for payload: there are `direct`, `quic` and `stream`"))
    }
}
