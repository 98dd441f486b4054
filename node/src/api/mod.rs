//! The local API: HTTP on loopback, JSON in and out, one line per event for what takes long. Other programs and our own command line
//! use it when a node owns the data dir.
//!
//! Every request carries a token that only the owner of the data dir can read, so other users of the machine, and pages in a browser,
//! are kept out whatever address it listens on.

mod client;
mod lines;
mod pass;
mod server;

use serde::{Deserialize, Serialize};

pub use client::Client;
pub use server::Server;

/// The answer to a ping: who answers. It costs the node nothing, however much it holds.
#[derive(Debug, Serialize, Deserialize)]
struct Pong {
    agent: String,
}
