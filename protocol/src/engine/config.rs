//! The engine's knobs: each with its unit, its default and why.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::PeerId;
use crate::limits;

/// Settings of one engine. What a recorded one does not name has its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EngineConfig {
    /// Blocks granted or being served at a time while the uplink's rate is unknown. Default 8: enough for a link of 300 Mbit/s at
    /// 50 ms, little enough that a slow one is not swamped; from the first deliveries on, rate × delay decides.
    pub first_credits: u16,
    /// Payload asked for at a time before the downlink's rate is known, in bytes. Default 16 MiB.
    pub first_in_flight_bytes: u64,
    /// How long news of fresh pieces is collected before it is told. Default 100 ms: half as late costs nothing measurable, and
    /// tells a hundred times less.
    pub news_delay: Duration,
    /// How often idle sources look for a span to rescue. Default 100 ms.
    pub rescue_interval: Duration,
    /// First pause between two look-ups for providers. Default 1 s, so that those who begin together find one another and trade; grows by
    /// half each time, up to a minute.
    pub lookup_interval: Duration,
    /// First pause before a peer that failed is dialled again. Default 5 s; doubles each time, up to a minute.
    pub back_off: Duration,
    /// How long a ban lasts. Default one hour; doubles with each further ban.
    pub ban: Duration,
    /// What the peer may have in flight from us before it is refused, whatever it was granted.
    pub max_requests_per_peer: usize,
    /// The node's own name: what the members of a local network share a thin link by. `None`: it takes no part in that.
    pub me: Option<PeerId>,
    /// How this engine is to be wrong, in tests of the checkers. A build that ships has no such field.
    #[cfg(feature = "mutants")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mutant: Option<super::Mutant>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            first_credits: 8,
            first_in_flight_bytes: 16 * 1024 * 1024,
            news_delay: Duration::from_millis(100),
            rescue_interval: Duration::from_millis(100),
            lookup_interval: Duration::from_secs(1),
            back_off: Duration::from_secs(5),
            ban: Duration::from_secs(3600),
            max_requests_per_peer: limits::REQUESTS_PER_PEER,
            me: None,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }
}
