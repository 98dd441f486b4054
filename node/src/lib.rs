//! A p2pweights node: store, network, transfers, and the local API. Decisions are the protocol crate's; here is what carries them out.
//!
//! One file knows sled (`store/sled_catalog.rs`), one owns `libp2p::Swarm` (`net/host.rs`), one calls the engine (`driver.rs`), one
//! reads the engine's clock (`clock.rs`). Prints nothing and knows no command line.

pub mod config;
pub mod gateway;
pub mod identity;
pub mod net;
pub mod node;
pub mod origin;
pub mod report;
pub mod session;
pub mod store;
pub mod upkeep;

mod api;
mod card;
mod clock;
mod driver;
mod failure;
mod fetch;
mod git_ids;
mod http;
mod import;
mod inventory;
mod least_rate;
mod mend;
mod metrics;
mod mirrors;
mod names;
mod peer_name;
mod publish;
mod scrub;
mod sharing;
mod speed;
mod tally;
mod transfer;
mod verify;

#[cfg(test)]
mod tests;
