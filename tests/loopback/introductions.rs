//! Peers that want the same are told of one another by whoever they ask. The DHT must not be what brings them together here: either nobody
//! announces anything, or it has never heard of the one who is named.

use libp2p::Multiaddr;
use p2pweights_node::net::{NetEvent, from_libp2p};
use p2pweights_node::report::{FailureKind, FetchEvent, FetchRequest};
use p2pweights_protocol::ids::{BlobHash, PeerId};
use p2pweights_protocol::wire::{Contact, Message};
use p2pweights_tests::content::{MIB, assert_same_files, noise, write, write_model};
use p2pweights_tests::nodes::{Fetch, TestNode, World, request};

use crate::hostile::Hand;

/// Peer and bare address out of one that ends in the peer's id.
fn contact(address: &str) -> Contact {
    let (bare, id) = address.rsplit_once("/p2p/").expect("it ends in a peer id");
    let peer = from_libp2p(&id.parse().expect("a peer id")).expect("an Ed25519 key");
    Contact { peer, addresses: vec![bare.parse::<Multiaddr>().expect("a multiaddr").to_vec()] }
}

/// Waits until somebody is known to a fetch as a provider of what it looks for.
async fn until_provider_known(fetch: &mut Fetch) {
    fetch.until("a provider", |event| matches!(event, FetchEvent::Searching { providers: 1.., .. }).then_some(())).await;
}

impl Hand {
    /// Wants a blob of a node.
    fn want(&self, target: PeerId, blob: BlobHash) {
        self.net.send(target, &Message::Interest { blobs: vec![blob] }).expect("connected");
    }

    async fn until_introduced(&mut self) -> (BlobHash, Vec<Contact>) {
        self.until("an introduction", |event| match event {
            NetEvent::Message { message: Message::Peers { blob, contacts }, .. } => Some((blob, contacts)),
            _ => None,
        })
        .await
    }

    /// Waits until the node asks for a blob.
    async fn until_wanted(&mut self, blob: BlobHash) -> PeerId {
        self.until("interest", |event| match event {
            NetEvent::Message { peer, message: Message::Interest { blobs } } if blobs.contains(&blob) => Some(peer),
            _ => None,
        })
        .await
    }

    fn introduce(&self, to: PeerId, blob: BlobHash, address: &str) {
        self.net.send(to, &Message::Peers { blob, contacts: vec![contact(address)] }).expect("connected");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_is_told_where_those_are_who_asked_before() {
    let world = World::new();
    let content = noise(1, MIB);
    write(&world.path("weights.bin"), &content);
    let source = world.node("source", &[]).await;
    source.publish(&world.path("weights.bin")).await;
    let blob = BlobHash::of(&content);
    let mut first = Hand::start(&world, "first", &[]).await;
    let target = first.connect(&source.address).await;
    first.want(target, blob);
    // The source has taken note of it when it answers.
    first.until("a claim", |event| matches!(event, NetEvent::Message { message: Message::Have { .. }, .. }).then_some(())).await;
    let mut second = Hand::start(&world, "second", &[]).await;
    second.connect(&source.address).await;
    second.want(target, blob);
    let (about, contacts) = second.until_introduced().await;
    let listen = first.net.status().await.expect("a status").listen[0].to_string();
    assert_eq!((about, contacts.clone()), (blob, vec![contact(&listen)]));
    // What the second one's network makes of it leads to the first.
    second.net.learn(target, blob, contacts).expect("room for a command");
    let found = |event| match event {
        NetEvent::ProvidersFound { providers, finished: false, .. } => Some(providers),
        _ => None,
    };
    assert_eq!(second.until("a provider", found).await, [first.peer]);
    // The DHT may have brought them together meanwhile; then no further connection comes.
    let status = second.net.status().await.expect("a status");
    if !status.peers.iter().any(|peer| peer.peer == first.peer) {
        second.net.dial(first.peer, Vec::new()).expect("room for a command");
        let connected = |event| matches!(event, NetEvent::PeerConnected { peer, .. } if peer == first.peer).then_some(());
        second.until("a connection", connected).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_fetchers_of_what_nobody_holds_yet_know_of_each_other() {
    let world = World::new();
    let source = world.node("source", &[]).await;
    let wanted = BlobHash::of(b"held by nobody").to_string();
    let first = world.node("first", &[&source.address]).await;
    let mut first_fetch = first.start_fetch(request(&wanted, Some(world.path("first-out"))));
    let second = world.node("second", &[&source.address]).await;
    let mut second_fetch = second.start_fetch(request(&wanted, Some(world.path("second-out"))));
    // Nobody announces what nobody has a piece of: no look-up can have named it.
    // Whoever asked last is told.
    tokio::select! {
        () = until_provider_known(&mut first_fetch) => (),
        () = until_provider_known(&mut second_fetch) => (),
    }
}

/// A node that fetches and knows nobody but a hand, and a source that nobody knows.
struct Alone {
    world: World,
    source: TestNode,
    hash: BlobHash,
    fetcher: TestNode,
    hand: Hand,
}

impl Alone {
    async fn start() -> Self {
        let world = World::new();
        write_model(&world.path("model"), 1, &[MIB, 70_000]);
        let source = world.node("source", &[]).await;
        let hash = source.publish(&world.path("model")).await.hash.parse().expect("a hash");
        let hand = Hand::start(&world, "hand", &[]).await;
        let address = hand.net.status().await.expect("a status").listen[0].to_string();
        let fetcher = world.node("fetcher", &[&address]).await;
        Self { world, source, hash, fetcher, hand }
    }

    fn fetch(&self, timeout_s: u64) -> Fetch {
        let order = request(&self.hash.to_string(), Some(self.world.path("out")));
        self.fetcher.start_fetch(FetchRequest { timeout_s, ..order })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_is_found_by_introduction_alone() {
    let mut alone = Alone::start().await;
    let fetch = alone.fetch(45);
    let fetcher = alone.hand.until_wanted(alone.hash).await;
    alone.hand.introduce(fetcher, alone.hash, &alone.source.address);
    let fetched = fetch.done().await;
    assert_eq!(fetched.from(&alone.source.peer_id), fetched.bytes);
    assert_same_files(&alone.world.path("model"), &alone.world.path("out"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_it_does_not_want_it_does_not_even_keep_the_address() {
    let mut alone = Alone::start().await;
    let fetch = alone.fetch(5);
    let fetcher = alone.hand.until_wanted(alone.hash).await;
    let unwanted = BlobHash([9; 32]);
    alone.hand.introduce(fetcher, unwanted, &alone.source.address);
    alone.hand.want(fetcher, unwanted);
    // Messages are dealt with in order: what came before this answer has been.
    let answer = |event| matches!(event, NetEvent::Message { message: Message::HaveNot { .. }, .. }).then_some(());
    alone.hand.until("an answer", answer).await;
    // Now the source is worth a dial, though nobody listens where it is said to be: the address from before would lead to it.
    let mut other = Hand::start(&alone.world, "other", &[]).await;
    other.connect(&alone.fetcher.address).await;
    other.introduce(fetcher, alone.hash, &format!("/ip4/127.0.0.1/tcp/1/p2p/{}", alone.source.peer_id));
    assert_eq!(fetch.failure().await.kind, FailureKind::NotFound);
    assert!(!alone.fetcher.is_connected(&alone.source.peer_id).await);
    assert_eq!(alone.fetcher.strikes(&alone.hand.peer_id).await, 0);
}
