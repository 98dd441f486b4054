//! Serving HTTP to whoever can reach an address: connections with limits and deadlines. Knows nothing of what is answered.

mod connections;
mod patience;
mod seats;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use connections::Answers;

/// How connections are served.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// Whose connections they are, in messages.
    pub name: &'static str,
    /// Clients at a time.
    pub connections: usize,
    /// How long those that are served may take to finish at the end.
    pub deadline: Duration,
}

/// A server that runs.
pub struct Server {
    name: &'static str,
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    /// Answers whoever connects.
    pub fn start(listener: TcpListener, service: impl Answers, manners: Manners) -> io::Result<Self> {
        let (address, stop) = (listener.local_addr()?, CancellationToken::new());
        let task = tokio::spawn(connections::serve(listener, address, Arc::new(service), manners, stop.clone()));
        info!(%address, "{}", manners.name);
        Ok(Self { name: manners.name, address, stop, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, and ends those under way in order.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            warn!(%error, "{} failed", self.name);
        }
    }
}
