//! The pure core of p2pweights: names, geometry, formats, verification, and the engine which decides everything.
//!
//! Nothing here reads a clock, opens a file or a socket, starts a thread or asks the system for randomness: time and randomness are
//! arguments. So the same engine runs in a node and in a simulation. The floors, from the ground up:
//! `ids time geometry span_set` ← `limits have_map verify` ← `wire manifest link` ← `swarm` ← `engine` ← `flight`.

pub mod engine;
pub mod flight;
pub mod geometry;
pub mod have_map;
pub mod ids;
pub mod limits;
pub mod link;
pub mod manifest;
pub mod random;
pub mod span_set;
pub mod swarm;
pub mod time;
pub mod verify;
pub mod wire;
