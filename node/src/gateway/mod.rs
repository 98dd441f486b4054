//! A Hugging Face endpoint backed by this node: with `HF_ENDPOINT` set to it, programs load models through the swarm without knowing of it.
//! What it answers, and how it waits: `docs/gateway.md`.
//!
//! Reads only: it publishes nothing, decides nothing about transfers, and sees no token.

mod arrivals;
mod body;
mod catalog;
mod config;
mod connections;
mod file;
mod host;
mod model;
mod patience;
mod range;
mod refusal;
mod registry;
mod route;
mod seats;
mod service;
mod tag;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::config::{DEFAULT_LISTEN, GatewayConfig};
use self::service::Service;
pub use crate::names::{Mappings, NameError};
use crate::node::Core;
use crate::report::{Failure, FailureKind};

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
        let task = tokio::spawn(connections::serve(listener, address, service, stop.clone(), deadline));
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
