//! Builds the libp2p swarm: which transports, which encryption, which muxer. Knows nothing of what runs over it.

use std::convert::Infallible;
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::{Swarm, SwarmBuilder, noise, swarm, tcp, tls, yamux};

use super::NetError;
use super::behaviour::NodeBehaviour;

/// A connection on which nothing is open is closed after this long; whoever still wants something keeps a stream open.
const IDLE: Duration = Duration::from_secs(60);
/// Streams on one connection. Each may take 256 KiB of window: this bounds what a peer can make us hold.
const STREAMS: u32 = 128;
/// How long an outgoing connection may take, handshake included.
const CONNECT: Duration = Duration::from_secs(10);

/// TCP (TLS offered before Noise; yamux) and QUIC, both over IPv4, IPv6 and, where the system has a resolver, DNS names.
pub(super) fn build_swarm(keypair: Keypair, behaviour: NodeBehaviour) -> Result<Swarm<NodeBehaviour>, NetError> {
    let muxer = || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(STREAMS as usize);
        config
    };
    let transports = || {
        let builder = SwarmBuilder::with_existing_identity(keypair.clone())
            .with_tokio()
            .with_tcp(tcp::Config::default(), (tls::Config::new, noise::Config::new), muxer)
            .map_err(|error| NetError::Transport { reason: error.to_string() })?;
        Ok(builder.with_quic_config(|mut config| {
            config.max_concurrent_stream_limit = STREAMS;
            config
        }))
    };
    let settings = |config: swarm::Config| config.with_idle_connection_timeout(IDLE);
    // Without a system resolver (a bare container) names cannot be looked up, but addresses work all the same. No fallback to somebody's
    // public resolver: this node contacts nothing that it was not told of.
    let swarm = match transports()?.with_dns() {
        Ok(builder) => {
            infallible(builder.with_behaviour(|_| behaviour)).with_swarm_config(settings).with_connection_timeout(CONNECT).build()
        }
        Err(error) => {
            tracing::warn!(%error, "no system resolver: addresses with names in them cannot be dialed");
            infallible(transports()?.with_behaviour(|_| behaviour))
                .with_swarm_config(settings)
                .with_connection_timeout(CONNECT)
                .build()
        }
    };
    Ok(swarm)
}

fn infallible<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}
