//! The only caller of the system's monotonic clock on behalf of the engine: turns it into the engine's own time.

use std::time::Duration;

use p2pweights_protocol::time::Instant;

/// Counts from the node's start.
#[derive(Debug, Clone, Copy)]
pub struct Clock(tokio::time::Instant);

/// The wall clock, in nanoseconds since 1970: for ages of files only. It may jump.
pub fn wall_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    /// The engine's present.
    pub fn now(&self) -> Instant {
        Instant::START + self.0.elapsed()
    }

    /// A moment of the engine's as the runtime's timers know it.
    pub fn at(&self, instant: Instant) -> tokio::time::Instant {
        self.0 + instant.since(Instant::START)
    }

    /// Time since the start.
    pub fn uptime(&self) -> Duration {
        self.0.elapsed()
    }
}
