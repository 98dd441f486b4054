//! What the suites of this package share: models with seeded contents, nodes of their own, waits that end.
//!
//! Nothing here sleeps, takes a fixed port, or draws a number without a seed.

pub mod agreement;
pub mod content;
pub mod disk;
pub mod heartbeat;
pub mod nodes;
pub mod processes;
pub mod wait;
pub mod web;
