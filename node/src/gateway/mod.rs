//! A Hugging Face endpoint backed by this node: with `HF_ENDPOINT` set to it, programs load models through the swarm without knowing of it.
//! What it answers, and how it waits: `docs/gateway.md`.
//!
//! Reads only: it publishes nothing, decides nothing about transfers, and sees no token.

mod arrivals;
mod body;
mod catalog;
mod config;
mod file;
mod host;
mod model;
mod range;
mod refusal;
mod registry;
mod route;
mod service;
mod tag;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tracing::warn;

pub use self::config::{DEFAULT_LISTEN, GatewayConfig};
use self::service::Service;
use crate::http::{Manners, Server};
pub use crate::names::{Mappings, NameError};
use crate::node::Core;
use crate::report::{Failure, FailureKind};

/// Clients at a time. Some hundred programs may load at once; with the portions that each may have in memory that makes 200 MB at worst.
const CONNECTIONS: usize = 256;

/// Listens. `None` if the address is taken and nobody asked for it.
pub(crate) async fn start(core: &Arc<Core>, config: &GatewayConfig, deadline: Duration) -> Result<Option<Server>, Failure> {
    let listener = match TcpListener::bind(config.listen).await {
        Ok(listener) => listener,
        Err(error) if config.optional => {
            warn!(address = %config.listen, %error, "no gateway: its usual address is taken; --gateway chooses another");
            return Ok(None);
        }
        Err(error) => {
            let advice = "choose another with --gateway, or `off` for none";
            let message = format!("the gateway cannot listen on {}: {error}; {advice}", config.listen);
            return Err(Failure::new(FailureKind::Network, message));
        }
    };
    let manners = Manners { name: "gateway", connections: CONNECTIONS, deadline };
    Server::start(listener, Service::new(core, config), manners).map(Some).map_err(|error| Failure::internal(&error))
}
