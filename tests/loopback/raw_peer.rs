//! A peer made of libp2p's own parts, which writes onto the control and bulk protocols whatever bytes it likes. The node's network layer
//! cannot be made to send anything malformed.

use std::time::Duration;

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, noise, tcp, yamux};
use p2pweights_protocol::wire::{VERSION, protocol_name};
use p2pweights_tests::nodes::NETWORK;
use p2pweights_tests::wait::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

/// What an acceptor sends first on a stream that it takes; see `docs/wire.md`.
const ACCEPTED: u8 = 1;
/// What the opener of a bulk stream sends when it does not change to a connection of its own.
const STAYING: u8 = 2;

#[derive(NetworkBehaviour)]
struct RawBehaviour {
    identify: identify::Behaviour,
    streams: libp2p_stream::Behaviour,
}

/// Connected to one node. It leaves when dropped.
pub struct RawPeer {
    pub peer_id: String,
    target: PeerId,
    control: libp2p_stream::Control,
    task: JoinHandle<()>,
}

impl Drop for RawPeer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RawPeer {
    /// Connects, and introduces itself as one of the network.
    pub async fn connect(address: &str) -> Self {
        let address: Multiaddr = address.parse().expect("a multiaddr");
        let keypair = Keypair::generate_ed25519();
        let version = format!("/p2pweights/{NETWORK}/{VERSION}");
        let behaviour = RawBehaviour {
            identify: identify::Behaviour::new(identify::Config::new(version, keypair.public())),
            streams: libp2p_stream::Behaviour::new(),
        };
        let control = behaviour.streams.new_control();
        let mut swarm: Swarm<RawBehaviour> = SwarmBuilder::with_existing_identity(keypair.clone())
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .expect("a transport")
            .with_behaviour(|_| behaviour)
            .expect("a behaviour")
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
            .build();
        swarm.dial(address).expect("an address to dial");
        let target = within("an introduction", async {
            loop {
                if let SwarmEvent::Behaviour(RawBehaviourEvent::Identify(identify::Event::Received { peer_id, .. })) =
                    swarm.select_next_some().await
                {
                    return peer_id;
                }
            }
        })
        .await;
        let task = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Self { peer_id: keypair.public().to_peer_id().to_string(), target, control, task }
    }

    /// Opens a stream of this protocol, writes these bytes, and reads until the node ends it. `false`: no stream was to be had.
    pub async fn throw(&mut self, protocol: &str, bytes: &[u8]) -> bool {
        let Some(mut stream) = self.open(protocol).await else { return false };
        // The node may close before it has taken everything.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let _ = within("the end of the stream", stream.read_to_end(&mut Vec::new())).await;
        true
    }

    /// Opens a stream of this protocol; `None` if the node does not take it.
    pub async fn open(&mut self, kind: &str) -> Option<Compat<libp2p::Stream>> {
        let protocol = StreamProtocol::try_from_owned(protocol_name(NETWORK, kind)).expect("a protocol's name");
        let mut stream = within("a stream", self.control.open_stream(self.target, protocol)).await.ok()?.compat();
        let greeting = within("a greeting", stream.read_u8()).await.ok()?;
        assert_eq!(greeting, ACCEPTED);
        if kind == "bulk" {
            let _ports = within("ports", stream.read_u32()).await.ok()?;
            stream.write_all(&[STAYING]).await.ok()?;
        }
        Some(stream)
    }
}
