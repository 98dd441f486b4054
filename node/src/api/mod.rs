//! The local API: HTTP on loopback, JSON in and out, one line per event for what takes long. Other programs and our own command line
//! use it when a node owns the data dir.
//!
//! Every request carries a token that only the owner of the data dir can read, so other users of the machine, and pages in a browser,
//! are kept out whatever address it listens on.

mod client;
mod lines;
mod pass;
mod server;

pub use client::Client;
pub use server::Server;
