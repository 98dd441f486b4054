//! Hostile peers as characters with one vice each. They speak the real wire through the node's own network layer and answer by hand; what
//! a vice leaves alone is done as an honest peer would.

mod babbler;
mod breaker;
mod drip;
mod false_claimer;
mod flooder;
mod half;
mod impostor;
mod liar;
mod mute;
mod resetter;
mod size_liar;
mod staller;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use p2pweights_node::identity;
use p2pweights_node::net::{BulkPath, BulkStream, Net, NetConfig, NetEvent, from_libp2p};
use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::{BlobHash, PeerId};
use p2pweights_protocol::limits;
use p2pweights_protocol::verify::{OutboardBuilder, encode_span};
use p2pweights_protocol::wire::{BULK_REQUEST_BYTES, BulkRequest, BulkResponse, BulkStatus, HavePieces, Message};
use p2pweights_tests::nodes::{NETWORK, TCP, World};
use p2pweights_tests::wait::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use babbler::Babbler;
pub use breaker::Breaker;
pub use drip::Drip;
pub use false_claimer::FalseClaimer;
pub use flooder::Flooder;
pub use half::Half;
pub use impostor::Impostor;
pub use liar::Liar;
pub use mute::Mute;
pub use resetter::Resetter;
pub use size_liar::{Proof, SizeLiar};
pub use staller::Staller;

/// Credits that a character gives at once, to whoever needs some and for each stream; one more follows each request.
const CREDITS: u16 = 8;

/// What a character does in its own way. Without a word of its own it is honest.
pub trait Vice: Send + Sync + 'static {
    /// Whether it has anything to do with this peer.
    fn knows(&self, _peer: PeerId) -> bool {
        true
    }

    /// What it says when somebody is interested in a blob that it has.
    fn claim(&self, goods: &Goods, blob: BlobHash) -> Message {
        goods.have(blob)
    }

    /// Answers a request for payload; an error ends the stream.
    fn answer(&self, goods: &Goods, request: BulkRequest, stream: &mut BulkStream)
    -> impl Future<Output = io::Result<()>> + Send;
}

/// The blobs that a character has, whole.
#[derive(Debug, Default)]
pub struct Goods(BTreeMap<BlobHash, (Vec<u8>, Vec<u8>)>);

impl Goods {
    /// These blobs.
    pub fn new(blobs: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let with_outboard = |bytes: Vec<u8>| {
            let mut builder = OutboardBuilder::new(Vec::new());
            builder.update(&bytes).expect("memory takes everything");
            let (hash, outboard) = builder.finish().expect("memory takes everything");
            (hash, (bytes, outboard))
        };
        Self(blobs.into_iter().map(with_outboard).collect())
    }

    /// The true claim to hold all of a blob.
    pub fn have(&self, blob: BlobHash) -> Message {
        Message::Have { blob, size: self.size(blob), pieces: HavePieces::All }
    }

    /// The size of a blob.
    pub fn size(&self, blob: BlobHash) -> u64 {
        self.0[&blob].0.len() as u64
    }

    /// The true encoding of a span.
    pub fn encoding(&self, blob: BlobHash, span: Span) -> Vec<u8> {
        let (bytes, outboard) = &self.0[&blob];
        let mut encoding = Vec::new();
        encode_span(&bytes[..], &outboard[..], blob, Geometry::of(bytes.len() as u64), span, &mut encoding).expect("it is whole");
        encoding
    }
}

/// The header before a span's encoding.
pub fn data_header(request: &BulkRequest) -> [u8; 9] {
    BulkResponse { request: request.request, status: BulkStatus::Data }.encode()
}

/// A peer driven by hand: the network layer of a node, and nothing behind it.
pub struct Hand {
    pub net: Net,
    pub events: mpsc::Receiver<NetEvent>,
    pub peer: PeerId,
    pub peer_id: String,
}

impl Hand {
    /// Joins the network through these peers, with the identity kept in the folder of that name.
    pub async fn start(world: &World, name: &str, bootstrap: &[&str]) -> Self {
        std::fs::create_dir_all(world.path(name)).expect("a folder can be made");
        let (net, events) = Net::start(NetConfig {
            keypair: identity::load_or_create(&world.path(name)).expect("an identity"),
            listen: vec![TCP.parse().expect("a multiaddr")],
            bootstrap: bootstrap.iter().map(|address| address.parse().expect("a multiaddr")).collect(),
            network: NETWORK.to_owned(),
            mdns: false,
            agent: format!("hostile/{name}"),
            paths: BulkPath::ALL.to_vec(),
        })
        .await
        .expect("a network starts");
        let status = net.status().await.expect("a status");
        let peer = from_libp2p(&status.peer).expect("an Ed25519 key");
        Self { net, events, peer, peer_id: status.peer.to_string() }
    }

    /// The first event of which `pick` makes something; others are skipped.
    pub async fn until<T>(&mut self, what: &str, mut pick: impl FnMut(NetEvent) -> Option<T>) -> T {
        within(what, async {
            loop {
                if let Some(picked) = pick(self.events.recv().await.expect("the network runs")) {
                    return picked;
                }
            }
        })
        .await
    }

    /// Connects to a node.
    pub async fn connect(&mut self, address: &str) -> PeerId {
        let wanted = self.net.add_peer_address(&address.parse().expect("a multiaddr")).expect("a peer's address");
        self.net.dial(wanted, Vec::new()).expect("room for a command");
        let connected = |event| matches!(event, NetEvent::PeerConnected { peer, .. } if peer == wanted).then_some(());
        self.until("a connection", connected).await;
        wanted
    }

    /// Waits until the peer is gone.
    pub async fn until_gone(&mut self, gone: PeerId) {
        self.until("the end of the connection", |event| {
            matches!(event, NetEvent::PeerGone { peer } if peer == gone).then_some(())
        })
        .await;
    }

    /// Waits until the DHT names this provider of a hash.
    pub async fn until_provided(&mut self, blob: BlobHash, wanted: PeerId) {
        let (mut known, mut running) = (false, false);
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        within("a provider record in the DHT", async {
            while !known {
                if !running {
                    ticks.tick().await;
                    self.net.find_providers(blob).expect("room for a command");
                    running = true;
                }
                let event = self.events.recv().await.expect("the network runs");
                if let NetEvent::ProvidersFound { providers, finished, .. } = event {
                    known = providers.contains(&wanted);
                    running = !finished;
                }
            }
        })
        .await;
    }
}

/// A peer with a vice. It leaves when dropped.
pub struct Character {
    pub peer: PeerId,
    pub peer_id: String,
    /// Requests for payload so far.
    asked: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Drop for Character {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Character {
    /// Says in the network that it provides `hash`, and answers with this vice.
    pub fn play(hand: Hand, hash: BlobHash, goods: Goods, vice: impl Vice) -> Self {
        hand.net.announce(hash).expect("room for a command");
        let (counter, asked) = watch::channel(0);
        let (peer, peer_id) = (hand.peer, hand.peer_id.clone());
        let task = tokio::spawn(play(hand, Arc::new(goods), Arc::new(vice), counter));
        Self { peer, peer_id, asked, task }
    }

    /// Requests for payload so far.
    pub fn asked(&self) -> u64 {
        *self.asked.borrow()
    }

    /// Waits until it has been asked for payload.
    pub async fn until_asked(&self) {
        let mut asked = self.asked.clone();
        within("a request for payload", asked.wait_for(|count| *count > 0)).await.expect("it plays on");
    }
}

/// Answers whatever comes until the network ends.
async fn play<V: Vice>(mut hand: Hand, goods: Arc<Goods>, vice: Arc<V>, counter: watch::Sender<u64>) {
    while let Some(event) = hand.events.recv().await {
        match event {
            NetEvent::Message { peer, message: Message::Interest { blobs } } if vice.knows(peer) => {
                for blob in blobs.into_iter().filter(|blob| goods.0.contains_key(blob)) {
                    // A peer that has gone meanwhile hears nothing.
                    let _ = hand.net.send(peer, &vice.claim(&goods, blob));
                }
            }
            NetEvent::Message { peer, message: Message::Load { limit: 1.., .. } } if vice.knows(peer) => {
                grant(&hand.net, peer, CREDITS)
            }
            NetEvent::Bulk { peer, stream } => {
                // What was asked on a stream that broke has cost credits, too.
                grant(&hand.net, peer, CREDITS);
                let (net, goods, vice) = (hand.net.clone(), Arc::clone(&goods), Arc::clone(&vice));
                tokio::spawn(serve(net, peer, stream, goods, vice, counter.clone()));
            }
            _ => (),
        }
    }
}

async fn serve<V: Vice>(
    net: Net,
    peer: PeerId,
    mut stream: BulkStream,
    goods: Arc<Goods>,
    vice: Arc<V>,
    counter: watch::Sender<u64>,
) {
    let mut header = [0; BULK_REQUEST_BYTES];
    while stream.read_exact(&mut header).await.is_ok() {
        let request = BulkRequest::decode(&header).expect("a node asks for nothing impossible");
        counter.send_modify(|count| *count += 1);
        grant(&net, peer, 1);
        if vice.answer(&goods, request, &mut stream).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

fn grant(net: &Net, peer: PeerId, credits: u16) {
    // A peer that has gone meanwhile needs none.
    let _ = net.send(peer, &Message::Grant { credits, block_bytes: limits::BLOCK_MIN_BYTES, hint: None });
}
