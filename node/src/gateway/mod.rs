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

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::config::{DEFAULT_LISTEN, GatewayConfig};
use self::service::Service;
use crate::http::{self, Manners};
pub use crate::names::{Mappings, NameError};
use crate::node::Core;
use crate::report::{Failure, FailureKind};

/// Clients at a time. Some hundred programs may load at once; with the portions that each may have in memory that makes 200 MB at worst.
const CONNECTIONS: usize = 256;

/// A running gateway.
pub struct Gateway {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Gateway {
    /// Listens. `None` if the address is taken and nobody asked for it.
    pub(crate) async fn start(core: &Arc<Core>, config: &GatewayConfig, deadline: Duration) -> Result<Option<Self>, Failure> {
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
        let address = listener.local_addr().map_err(|error| Failure::internal(&error))?;
        let stop = CancellationToken::new();
        let service = Arc::new(Service::new(core, config));
        let manners = Manners { name: "the gateway", connections: CONNECTIONS, stop: stop.clone(), deadline };
        let task = tokio::spawn(http::serve(listener, address, service, manners));
        info!(%address, "gateway");
        Ok(Some(Self { address, stop, task }))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, and ends those under way in order.
    pub(crate) async fn shutdown(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            warn!(%error, "the gateway failed");
        }
    }
}
