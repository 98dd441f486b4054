//! Hostile and hasty peers: they speak the real wire, each with one vice.

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::SwarmEvent;
use libp2p::{Swarm, identify};
use p2pweights_protocol::ids::PeerId;
use p2pweights_protocol::limits;
use p2pweights_protocol::wire::{Contact, Message, encode_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::super::behaviour::{NodeBehaviour, NodeBehaviourEvent, stream_protocol};
use super::super::peer_ids::{from_libp2p, to_libp2p};
use super::super::streams::{self, NetStream};
use super::super::transport::build_swarm;
use super::super::{NetEvent, OpenError, SendError};
use super::{TestNode, blob, within};

/// A peer made of the same behaviours that does with its streams whatever a test likes.
struct RawPeer {
    control: libp2p_stream::Control,
    target: PeerId,
    driver: JoinHandle<()>,
}

impl RawPeer {
    /// Connects, and waits until both sides know each other.
    async fn connect(node: &mut TestNode) -> Self {
        let keypair = Keypair::generate_ed25519();
        let behaviour = NodeBehaviour::new(&keypair, "test", "hostile", false);
        let control = behaviour.streams.new_control();
        let mut swarm: Swarm<NodeBehaviour> = build_swarm(keypair.clone(), behaviour).expect("builds");
        swarm.dial(node.address.clone()).expect("dials");
        let mut raw = Self { control, target: node.peer, driver: tokio::spawn(async {}) };
        within("identify", async {
            loop {
                let event = swarm.select_next_some().await;
                if let SwarmEvent::Behaviour(NodeBehaviourEvent::Identify(identify::Event::Received { .. })) = event {
                    break;
                }
            }
        })
        .await;
        raw.driver = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        node.until_connected(from_libp2p(&keypair.public().to_peer_id()).expect("an Ed25519 key")).await;
        raw
    }

    async fn open(&self, protocol: &str) -> Result<NetStream, OpenError> {
        let protocol = stream_protocol("test", protocol);
        within("a stream", streams::open(&self.control, to_libp2p(self.target), &protocol)).await
    }

    async fn open_control(&self) -> NetStream {
        self.open("control").await.expect("taken")
    }
}

impl Drop for RawPeer {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[tokio::test]
async fn malformed_bytes_are_reported_and_the_stream_closed() {
    let mut node = TestNode::start(&[]).await;
    let raw = RawPeer::connect(&mut node).await;
    let hello = encode_frame(&Message::Hello { agent: "x".into() });
    let huge_length = [0xff; 64 * 1024].to_vec();
    let wrong_version = [&hello[..], &[0, 0, 0, 3, 9, 8, 3]].concat();
    let no_hello = encode_frame(&Message::Return { credits: 1 });
    for bytes in [huge_length, wrong_version, no_hello, b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        let mut stream = raw.open_control().await;
        // The peer may close before all of it is written.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        node.until(|event| matches!(event, NetEvent::Malformed { .. }).then_some(())).await;
        let mut rest = Vec::new();
        let _ = within("the end of the stream", stream.read_to_end(&mut rest)).await;
        assert!(rest.is_empty());
    }
    // The connection stands, and good messages still arrive.
    let mut stream = raw.open_control().await;
    stream.write_all(&hello).await.expect("taken");
    stream.flush().await.expect("taken");
    assert_eq!(node.until_message().await.1, Message::Hello { agent: "x".into() });
}

#[tokio::test]
async fn a_flood_behind_a_huge_length_is_not_taken_in() {
    let mut node = TestNode::start(&[]).await;
    let raw = RawPeer::connect(&mut node).await;
    let mut stream = raw.open_control().await;
    let mut taken = 0;
    within("the end of the stream", async {
        let block = [0xff; 64 * 1024];
        while stream.write_all(&block).await.is_ok() && stream.flush().await.is_ok() {
            taken += block.len();
        }
    })
    .await;
    assert!(taken < 4 * 1024 * 1024, "{taken} bytes were taken");
    node.until(|event| matches!(event, NetEvent::Malformed { .. }).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_comes_from_a_peer_before_it_is_connected() {
    let mut node = TestNode::start(&[]).await;
    for _ in 0..20 {
        let keypair = Keypair::generate_ed25519();
        let behaviour = NodeBehaviour::new(&keypair, "test", "hasty", false);
        let control = behaviour.streams.new_control();
        let mut swarm = build_swarm(keypair.clone(), behaviour).expect("builds");
        swarm.dial(node.address.clone()).expect("dials");
        within("a connection", async {
            while !matches!(swarm.select_next_some().await, SwarmEvent::ConnectionEstablished { .. }) {}
        })
        .await;
        let driver = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        // Opened and written to before anybody has introduced himself.
        let mut raw = RawPeer { control, target: node.peer, driver };
        let mut stream = raw.open_control().await;
        stream.write_all(&encode_frame(&Message::Hello { agent: "x".into() })).await.expect("open");
        stream.flush().await.expect("open");
        let hasty = from_libp2p(&keypair.public().to_peer_id()).expect("an Ed25519 key");
        let first = node.next().await;
        assert!(matches!(first, NetEvent::PeerConnected { peer, .. } if peer == hasty), "{first:?}");
        let second = node.next().await;
        assert!(matches!(second, NetEvent::Message { peer, .. } if peer == hasty), "{second:?}");
        raw.driver.abort();
        let _ = (&mut raw.driver).await;
        node.until_gone(hasty).await;
    }
}

#[tokio::test]
async fn of_many_control_streams_the_newest_count() {
    let mut node = TestNode::start(&[]).await;
    let raw = RawPeer::connect(&mut node).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(raw.open_control().await);
    }
    let mut byte = [0];
    let end = within("the end of the oldest", streams[0].read(&mut byte)).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    for stream in &mut streams[1..] {
        stream.write_all(&encode_frame(&Message::Hello { agent: "x".into() })).await.expect("open");
        stream.flush().await.expect("open");
        node.until_message().await;
    }
}

#[tokio::test]
async fn introductions_without_end_are_heeded_once() {
    let mut node = TestNode::start(&[]).await;
    let raw = RawPeer::connect(&mut node).await;
    let contact = Contact { peer: PeerId([7; 32]), addresses: vec![vec![4, 1, 2, 3, 4, 6, 0, 5]] };
    let peers = |number| Message::Peers { blob: blob(number), contacts: vec![contact.clone()] };
    let mut bytes = encode_frame(&Message::Hello { agent: "x".into() });
    (1..=20).for_each(|number| bytes.extend(encode_frame(&peers(number))));
    bytes.extend(encode_frame(&Message::Return { credits: 1 }));
    let mut stream = raw.open_control().await;
    stream.write_all(&bytes).await.expect("taken");
    stream.flush().await.expect("taken");
    assert!(matches!(node.until_message().await.1, Message::Hello { .. }));
    assert_eq!(node.until_message().await.1, peers(1));
    assert_eq!(node.until_message().await.1, Message::Return { credits: 1 }, "what came between is dropped");
}

#[tokio::test]
async fn a_mute_reader_is_hung_up_on() {
    let mut node = TestNode::start(&[]).await;
    let raw = RawPeer::connect(&mut node).await;
    let peer = node.net.status().await.expect("status").peers[0].peer;
    let mut incoming = raw.control.clone().accept(stream_protocol("test", "control")).expect("once");
    let message = Message::Interest { blobs: vec![blob(1); limits::BLOBS_PER_MESSAGE] };
    node.net.send(peer, &message).expect("connected");
    let (_, stream) = within("a stream", incoming.next()).await.expect("accepting");
    // It takes the stream, and then nothing more from it.
    let _taken = within("a greeting", streams::greet(stream, &[])).await.expect("greeted");
    let refusal = within("a full queue", async {
        loop {
            if let Err(refusal) = node.net.send(peer, &message) {
                return refusal;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(refusal, SendError::Full);
    node.until_gone(peer).await;
}
