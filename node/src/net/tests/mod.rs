//! Real hosts on loopback, every port the system's choice. Every wait ends after [`PATIENCE`] at the latest.

mod bulk_paths;
mod hostile;

use std::net::TcpListener;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use p2pweights_protocol::ids::{BlobHash, PeerId};
use p2pweights_protocol::wire::{Contact, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::peer_ids::{from_libp2p, to_libp2p};
use super::{BulkPath, BulkStream, Net, NetConfig, NetError, NetEvent, OpenError, SendError};

/// Far more than anything here takes, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

struct TestNode {
    net: Net,
    events: mpsc::Receiver<NetEvent>,
    peer: PeerId,
    address: Multiaddr,
}

fn config(network: &str, bootstrap: &[&Multiaddr]) -> NetConfig {
    NetConfig {
        keypair: Keypair::generate_ed25519(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("a multiaddr")],
        bootstrap: bootstrap.iter().map(|address| (*address).clone()).collect(),
        network: network.to_owned(),
        mdns: false,
        agent: format!("test/{network}"),
        paths: BulkPath::ALL.to_vec(),
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

impl TestNode {
    async fn start(bootstrap: &[&Multiaddr]) -> Self {
        Self::start_with(config("test", bootstrap)).await
    }

    async fn start_with(config: NetConfig) -> Self {
        let id = config.keypair.public().to_peer_id();
        let (net, events) = Net::start(config).await.expect("starts");
        let address = net.status().await.expect("status").listen.first().expect("a listener").clone();
        Self { net, events, peer: from_libp2p(&id).expect("an Ed25519 key"), address }
    }

    async fn next(&mut self) -> NetEvent {
        within("an event", self.events.recv()).await.expect("the host runs")
    }

    /// The first event of which `pick` makes something; others are skipped.
    async fn until<T>(&mut self, mut pick: impl FnMut(NetEvent) -> Option<T>) -> T {
        loop {
            if let Some(picked) = pick(self.next().await) {
                return picked;
            }
        }
    }

    async fn until_connected(&mut self, wanted: PeerId) {
        self.until(|event| matches!(event, NetEvent::PeerConnected { peer, .. } if peer == wanted).then_some(())).await;
    }

    async fn until_gone(&mut self, wanted: PeerId) {
        self.until(|event| matches!(event, NetEvent::PeerGone { peer } if peer == wanted).then_some(())).await;
    }

    async fn until_message(&mut self) -> (PeerId, Message) {
        self.until(|event| match event {
            NetEvent::Message { peer, message } => Some((peer, message)),
            _ => None,
        })
        .await
    }

    async fn connect_to(&mut self, other: &mut TestNode) {
        self.net.dial(other.peer, vec![other.address.clone()]).expect("room for a command");
        self.until_connected(other.peer).await;
        other.until_connected(self.peer).await;
    }

    async fn stop(self) {
        self.net.shutdown(PATIENCE).await.expect("stops in time");
    }
}

fn blob(number: u8) -> BlobHash {
    BlobHash::of(&[number])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_connect_and_exchange_messages_in_order() {
    let (mut a, mut b) = (TestNode::start(&[]).await, TestNode::start(&[]).await);
    assert_eq!(a.net.send(b.peer, &Message::Return { credits: 1 }), Err(SendError::NotConnected));
    a.connect_to(&mut b).await;
    let sent: Vec<_> = (1..=200).map(|number| Message::Interest { blobs: vec![blob(number as u8); 1 + number % 7] }).collect();
    for message in &sent {
        a.net.send(b.peer, message).expect("connected");
    }
    assert_eq!(b.until_message().await, (a.peer, Message::Hello { agent: "test/test".into() }));
    for message in sent {
        assert_eq!(b.until_message().await, (a.peer, message));
    }
    b.net.send(a.peer, &Message::Return { credits: 2 }).expect("connected");
    assert!(matches!(a.until_message().await, (_, Message::Hello { .. })));
    assert_eq!(a.until_message().await, (b.peer, Message::Return { credits: 2 }));
    let status = a.net.status().await.expect("status");
    assert_eq!(status.peers.len(), 1);
    assert_eq!(status.peers[0].agent.as_deref(), Some("test/test"));
    assert_eq!(status.peers[0].class, super::PeerClass::Lan);
    b.stop().await;
    a.until_gone(status.peers[0].peer).await;
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_farewell_lets_what_was_said_arrive() {
    let (mut a, mut b) = (TestNode::start(&[]).await, TestNode::start(&[]).await);
    a.connect_to(&mut b).await;
    let said: Vec<_> = (1..=20).map(|number| Message::Interest { blobs: vec![blob(number); 30] }).collect();
    for message in &said {
        a.net.send(b.peer, message).expect("fits the queue");
    }
    a.net.farewell(b.peer).expect("room for a command");
    assert!(matches!(b.until_message().await, (_, Message::Hello { .. })));
    for message in said {
        assert_eq!(b.until_message().await, (a.peer, message));
    }
    b.until_gone(a.peer).await;
    a.until_gone(b.peer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_burst_arrives_whole_while_the_consumer_sleeps() {
    let (mut a, mut b) = (TestNode::start(&[]).await, TestNode::start(&[]).await);
    a.connect_to(&mut b).await;
    // Many times what the event queue holds; nobody reads at `b` meanwhile, and status is answered all the same.
    for number in 0..20_000u32 {
        let credits = (number % 64 + 1) as u16;
        a.net.send(b.peer, &Message::Return { credits }).expect("fits the queue");
    }
    b.net.status().await.expect("the host answers though nobody listens");
    assert!(matches!(b.until_message().await, (_, Message::Hello { .. })));
    for number in 0..20_000u32 {
        assert_eq!(b.until_message().await.1, Message::Return { credits: (number % 64 + 1) as u16 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_is_found_through_a_third_node_and_dialable() {
    let entry = TestNode::start(&[]).await;
    let provider = TestNode::start(&[&entry.address]).await;
    provider.net.announce(blob(1)).expect("room");
    let mut seeker = TestNode::start(&[&entry.address]).await;
    let found = within("the provider", async {
        loop {
            seeker.net.find_providers(blob(1)).expect("room");
            let found = seeker
                .until(|event| match event {
                    NetEvent::ProvidersFound { blob: about, providers, finished } if about == blob(1) => {
                        (finished || !providers.is_empty()).then_some(providers)
                    }
                    _ => None,
                })
                .await;
            if !found.is_empty() {
                return found;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(found, [provider.peer]);
    // Perhaps the look-up has connected us already: then nothing more is said.
    seeker.net.dial(provider.peer, vec![]).expect("room");
    within("a connection", async {
        while !seeker.net.status().await.expect("status").peers.iter().any(|peer| peer.peer == provider.peer) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let status = seeker.net.status().await.expect("status");
    assert!(status.peers_asked > 0 && status.dht_peers > 0 && status.bootstrap[0].reached, "{status:?}");
    assert_eq!(provider.net.status().await.expect("status").announced, 1);
}

#[tokio::test]
async fn a_look_up_alone_ends_with_nothing() {
    let mut alone = TestNode::start(&[]).await;
    alone.net.announce(blob(1)).expect("room");
    alone.net.find_providers(blob(1)).expect("room");
    let event = alone.next().await;
    assert!(matches!(&event, NetEvent::ProvidersFound { providers, finished: true, .. } if providers.is_empty()), "{event:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_streams_carry_bytes_both_ways_and_are_limited() {
    let (mut a, mut b) = (TestNode::start(&[]).await, TestNode::start(&[]).await);
    assert!(matches!(a.net.open_bulk(b.peer).await, Err(OpenError::NotConnected)));
    a.connect_to(&mut b).await;
    let bulk = |event| match event {
        NetEvent::Bulk { peer, stream } => Some((peer, stream)),
        _ => None,
    };
    let payload: Vec<u8> = (0..3_000_000u32).map(|number| number as u8).collect();
    let mut ours: BulkStream = a.net.open_bulk(b.peer).await.expect("taken");
    let (peer, mut theirs) = b.until(bulk).await;
    assert_eq!(peer, a.peer);
    let echo = tokio::spawn(async move {
        let mut bytes = vec![0; 3_000_000];
        theirs.read_exact(&mut bytes).await.expect("all of it");
        theirs.write_all(&bytes).await.expect("all of it");
        theirs.shutdown().await.expect("closed");
        theirs
    });
    ours.write_all(&payload).await.expect("all of it");
    ours.flush().await.expect("all of it");
    let mut echoed = Vec::new();
    within("the echo", ours.read_to_end(&mut echoed)).await.expect("all of it");
    assert!(echoed == payload);
    let theirs = echo.await.expect("echoed");
    let mut held = vec![(ours, theirs)];
    for _ in 0..3 {
        let ours = a.net.open_bulk(b.peer).await.expect("taken");
        held.push((ours, b.until(bulk).await.1));
    }
    let refused = a.net.open_bulk(b.peer).await;
    assert!(matches!(refused, Err(OpenError::Refused(_))), "a fifth stream");
    held.pop();
    let again = a.net.open_bulk(b.peer).await;
    assert!(again.is_ok(), "room again");
}

#[tokio::test]
async fn the_default_addresses_work_whatever_this_machine_has() {
    let node = TestNode::start_with(NetConfig { listen: crate::config::default_listen(), ..config("test", &[]) }).await;
    let listen = node.net.status().await.expect("status").listen;
    for transport in ["/tcp/", "/quic-v1/"] {
        assert!(listen.iter().any(|address| address.to_string().contains(transport)), "{listen:?}");
    }
}

#[tokio::test]
async fn a_taken_port_is_named() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else { continue };
        let socket = listener.local_addr().expect("bound");
        let ip = if socket.is_ipv4() { format!("/ip4/{}", socket.ip()) } else { format!("/ip6/{}", socket.ip()) };
        let taken: Multiaddr = format!("{ip}/tcp/{}", socket.port()).parse().expect("a multiaddr");
        let Err(error) = Net::start(NetConfig { listen: vec![taken.clone()], ..config("test", &[]) }).await else {
            panic!("listening on {taken} twice")
        };
        assert!(error.to_string().contains(&taken.to_string()) && error.to_string().contains("in use"), "{error}");
    }
}

#[tokio::test]
async fn another_node_on_the_same_port_is_noticed() {
    for listen in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"] {
        let first =
            TestNode::start_with(NetConfig { listen: vec![listen.parse().expect("a multiaddr")], ..config("test", &[]) }).await;
        let mut taken = first.address.clone();
        taken.pop();
        let started = Net::start(NetConfig { listen: vec![taken.clone()], ..config("test", &[]) }).await;
        let Err(NetError::Listen { address, .. }) = started else { panic!("listening on {taken} twice") };
        assert_eq!(address, taken);
    }
}

#[tokio::test]
async fn quic_works_too() {
    let quic = || NetConfig { listen: vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().expect("a multiaddr")], ..config("test", &[]) };
    let (mut a, mut b) = (TestNode::start_with(quic()).await, TestNode::start_with(quic()).await);
    a.connect_to(&mut b).await;
    a.net.send(b.peer, &Message::Return { credits: 1 }).expect("connected");
    assert!(matches!(b.until_message().await, (_, Message::Hello { .. })));
    assert_eq!(b.until_message().await, (a.peer, Message::Return { credits: 1 }));
}

#[tokio::test]
async fn a_wrong_peer_id_in_a_bootstrap_address_is_reported() {
    let node = TestNode::start(&[]).await;
    let mut wrong = node.address.clone();
    wrong.pop();
    let other = Keypair::generate_ed25519().public().to_peer_id();
    wrong.push(libp2p::multiaddr::Protocol::P2p(other));
    let misled = TestNode::start(&[&wrong]).await;
    let problem = within("a report", async {
        loop {
            let status = misled.net.status().await.expect("status");
            if let Some(problem) = status.bootstrap[0].problem.clone() {
                return problem;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(problem.contains(&to_libp2p(node.peer).to_string()), "{problem}");
    let mut bare = node.address.clone();
    bare.pop();
    let Err(error) = Net::start(config("test", &[&bare])).await else { panic!("an address without a peer") };
    assert!(matches!(error, NetError::PeerAddress { .. }), "{error}");
}

#[tokio::test]
async fn different_networks_do_not_talk() {
    let mut node = TestNode::start(&[]).await;
    let mut stranger = TestNode::start_with(config("elsewhere", &[&node.address])).await;
    stranger.net.dial(node.peer, vec![node.address.clone()]).expect("room");
    let event = stranger.next().await;
    assert!(matches!(event, NetEvent::DialFailed { peer } if peer == node.peer), "{event:?}");
    // Whatever the stranger did is over; the next thing the node says is about one of its own.
    let mut friend = TestNode::start(&[]).await;
    friend.connect_to(&mut node).await;
    assert_eq!(node.net.status().await.expect("status").peers.len(), 1);
    assert!(matches!(Net::start(config("no/slash", &[])).await, Err(NetError::Network(_))));
}

#[tokio::test]
async fn every_dial_is_answered() {
    let mut node = TestNode::start(&[]).await;
    let nobody = from_libp2p(&Keypair::generate_ed25519().public().to_peer_id()).expect("an Ed25519 key");
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let dead: Multiaddr = format!("/ip4/127.0.0.1/tcp/{}", closed.port()).parse().expect("a multiaddr");
    for (peer, addresses) in [(nobody, vec![]), (nobody, vec![dead]), (node.peer, vec![])] {
        node.net.dial(peer, addresses).expect("room");
        let event = node.next().await;
        assert!(matches!(event, NetEvent::DialFailed { peer: failed } if failed == peer), "{event:?}");
    }
    // A listener that accepts and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("/ip4/127.0.0.1/tcp/{}", mute.local_addr().expect("bound").port()).parse().expect("a multiaddr");
    node.net.dial(nobody, vec![address]).expect("room");
    let event = node.next().await;
    assert!(matches!(event, NetEvent::DialFailed { peer } if peer == nobody), "{event:?}");
}

#[tokio::test]
async fn a_banned_peer_is_refused_until_unbanned() {
    let (mut a, mut b) = (TestNode::start(&[]).await, TestNode::start(&[]).await);
    a.connect_to(&mut b).await;
    a.net.ban(b.peer).expect("room");
    a.until_gone(b.peer).await;
    b.until_gone(a.peer).await;
    a.net.dial(b.peer, vec![b.address.clone()]).expect("room");
    let event = a.next().await;
    assert!(matches!(event, NetEvent::DialFailed { peer } if peer == b.peer), "{event:?}");
    b.net.dial(a.peer, vec![a.address.clone()]).expect("room");
    let event = b.next().await;
    assert!(matches!(event, NetEvent::DialFailed { peer } if peer == a.peer), "{event:?}");
    a.net.unban(b.peer).expect("room");
    // Asked after the ban's end was handled, since commands keep their order.
    a.net.status().await.expect("status");
    a.connect_to(&mut b).await;
    // A dial on the heels of a hang-up is answered as well, after the peer is gone.
    a.net.hangup(b.peer).expect("room");
    a.net.dial(b.peer, vec![]).expect("room");
    a.until_gone(b.peer).await;
    let event = a.next().await;
    assert!(matches!(event, NetEvent::DialFailed { peer } if peer == b.peer), "{event:?}");
    b.until_gone(a.peer).await;
    b.connect_to(&mut a).await;
}

#[tokio::test]
async fn addresses_given_by_the_owner_are_used() {
    let (mut a, b) = (TestNode::start(&[]).await, TestNode::start(&[]).await);
    assert_eq!(a.net.add_peer_address(&b.address).expect("good"), b.peer);
    a.net.dial(b.peer, vec![]).expect("room");
    a.until_connected(b.peer).await;
    let mut bare = b.address.clone();
    bare.pop();
    assert!(matches!(a.net.add_peer_address(&bare), Err(NetError::PeerAddress { .. })));
}

#[tokio::test]
async fn shutdown_ends_everything_in_time() {
    let (mut a, mut b) = (TestNode::start(&[]).await, TestNode::start(&[]).await);
    a.connect_to(&mut b).await;
    a.net.shutdown(PATIENCE).await.expect("in time");
    a.net.shutdown(PATIENCE).await.expect("twice is fine");
    b.until_gone(a.peer).await;
    within("the end of events", async { while a.events.recv().await.is_some() {} }).await;
    assert!(matches!(a.net.dial(b.peer, vec![]), Err(NetError::Stopped)));
    assert!(a.net.status().await.is_err());
    // The last handle going is enough.
    let TestNode { net, mut events, .. } = b;
    drop(net);
    within("the end of events", async { while events.recv().await.is_some() {} }).await;
}

#[tokio::test]
async fn of_those_introduced_neither_we_nor_the_banned_are_to_be_dialed() {
    let (mut a, mut b) = (TestNode::start(&[]).await, TestNode::start(&[]).await);
    a.connect_to(&mut b).await;
    let (banned, stranger, unheard) = (PeerId([3; 32]), PeerId([4; 32]), PeerId([5; 32]));
    a.net.ban(banned).expect("room for a command");
    let at = |address: &str| vec![address.parse::<Multiaddr>().expect("a multiaddr").to_vec()];
    let contact = |peer, addresses| Contact { peer, addresses };
    let contacts = vec![
        contact(a.peer, at("/ip4/1.2.3.4/tcp/1")),
        contact(banned, at("/ip4/1.2.3.4/tcp/1")),
        contact(unheard, at("/dns4/example.org/tcp/1")),
        contact(stranger, at("/ip4/127.0.0.1/tcp/1")),
        contact(b.peer, at("/ip4/1.2.3.4/tcp/1")),
    ];
    // From somebody who is not connected, nothing is believed.
    a.net.learn(stranger, blob(1), contacts.clone()).expect("room for a command");
    a.net.learn(b.peer, blob(2), contacts).expect("room for a command");
    let found = a
        .until(|event| match event {
            NetEvent::ProvidersFound { blob, providers, finished } => Some((blob, providers, finished)),
            _ => None,
        })
        .await;
    assert_eq!(found, (blob(2), vec![stranger, b.peer], false));
}
