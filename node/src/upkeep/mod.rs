//! Room: what is kept and promised, what is cleared away, what is evicted when the quota is full.

mod clear;
mod keep;
mod picture;
mod policy;
mod room;
mod survey;

use std::time::Duration;

pub use self::clear::gc;
pub use self::keep::set_pinned;
pub use self::picture::shares;
pub use self::policy::Eviction;
use crate::config::{NodeConfig, Watermarks};

/// What nobody wrote to for so long is cleared away when room is needed, if nothing keeps it: who wants to go on with a fetch does so
/// within a day.
pub const GARBAGE_AGE: Duration = Duration::from_secs(24 * 3600);

/// How room is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpkeepConfig {
    /// What goes first.
    pub eviction: Eviction,
    /// When, and how far.
    pub watermarks: Watermarks,
    /// Whether what nobody else is known to hold may go.
    pub evict_last_copy: bool,
}

impl UpkeepConfig {
    /// That of a node.
    pub fn of(config: &NodeConfig) -> Self {
        Self { eviction: config.eviction, watermarks: config.watermarks, evict_last_copy: config.evict_last_copy }
    }
}
