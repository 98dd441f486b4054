//! Peers that ask for what is not theirs to ask: refused without work, and the node stays well.

use p2pweights_node::net::{BulkStream, NetEvent};
use p2pweights_node::report::FetchRequest;
use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::{BlobHash, PeerId, RequestId};
use p2pweights_protocol::limits;
use p2pweights_protocol::wire::{BULK_RESPONSE_BYTES, BulkRequest, BulkResponse, BulkStatus, Message};
use p2pweights_tests::content::{MIB, noise, write};
use p2pweights_tests::nodes::{TestNode, World, request};
use p2pweights_tests::wait::{eventually, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::hostile::Hand;

/// Bytes of the blob that the node serves.
const SIZE: usize = 4 * MIB;

/// A node with one blob, and somebody connected to it who asks by hand.
struct Asking {
    world: World,
    node: TestNode,
    target: PeerId,
    blob: BlobHash,
    hand: Hand,
    asked: u64,
}

impl Asking {
    async fn start() -> Self {
        let world = World::new();
        let content = noise(1, SIZE);
        write(&world.path("weights.bin"), &content);
        let node = world.node("node", &[]).await;
        node.publish(&world.path("weights.bin")).await;
        let mut hand = Hand::start(&world, "asker", &[]).await;
        let target = hand.connect(&node.address).await;
        Self { world, node, target, blob: BlobHash::of(&content), hand, asked: 0 }
    }

    async fn stream(&self) -> BulkStream {
        within("a bulk stream", self.hand.net.open_bulk(self.target)).await.expect("it is taken")
    }

    fn request(&mut self, blob: BlobHash, size: u64, first: u64, groups: u64) -> BulkRequest {
        self.asked += 1;
        let span = Span::new(first, first + groups).expect("not empty");
        BulkRequest { request: RequestId(self.asked), blob, size, span }
    }

    /// Asks for the first group of the blob.
    fn first_group(&mut self) -> BulkRequest {
        self.request(self.blob, SIZE as u64, 0, 1)
    }

    /// Becomes interested in the blob and waits for credits; says how many came and for how long a block.
    async fn credits(&mut self) -> (u16, u32) {
        self.hand.net.send(self.target, &Message::Interest { blobs: vec![self.blob] }).expect("connected");
        self.hand.net.send(self.target, &Message::Load { held: 0, limit: 16 }).expect("connected");
        self.hand
            .until("a grant", |event| match event {
                NetEvent::Message { message: Message::Grant { credits, block_bytes, .. }, .. } => Some((credits, block_bytes)),
                _ => None,
            })
            .await
    }

    /// The node serves others as if nothing had been.
    async fn assert_well(&self) {
        let fetcher = self.world.node("fetcher", &[&self.node.address]).await;
        let order = FetchRequest { timeout_s: 20, ..request(&self.blob.to_string(), Some(self.world.path("out"))) };
        let fetched = fetcher.fetch(order).await;
        assert_eq!(fetched.from(&self.node.peer_id), SIZE as u64);
    }
}

/// Asks and reads the header of the answer.
async fn ask(stream: &mut BulkStream, request: BulkRequest) -> BulkStatus {
    stream.write_all(&request.encode()).await.expect("it is taken");
    stream.flush().await.expect("it is taken");
    let mut header = [0; BULK_RESPONSE_BYTES];
    within("an answer", stream.read_exact(&mut header)).await.expect("an answer");
    let response = BulkResponse::decode(&header).expect("a good header");
    assert_eq!(response.request, request.request);
    response.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_credit_nothing_is_served() {
    let mut asking = Asking::start().await;
    let mut stream = asking.stream().await;
    for _ in 0..10 {
        let request = asking.first_group();
        assert_eq!(ask(&mut stream, request).await, BulkStatus::NoCredit);
    }
    assert_eq!(asking.node.status().await.sent_bytes, 0);
    assert_eq!(asking.node.strikes(&asking.hand.peer_id).await, 10);
    asking.assert_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_on_asking_without_credits_is_banned() {
    let mut asking = Asking::start().await;
    let mut stream = asking.stream().await;
    // Two points each, and a hundred are a ban.
    for _ in 0..60 {
        let request = asking.first_group();
        if stream.write_all(&request.encode()).await.is_err() || stream.flush().await.is_err() {
            break;
        }
    }
    asking.hand.until_gone(asking.target).await;
    asking.hand.net.dial(asking.target, Vec::new()).expect("room for a command");
    let failed = |event| matches!(event, NetEvent::DialFailed { .. }).then_some(());
    asking.hand.until("a refused dial", failed).await;
    assert_eq!(asking.node.status().await.sent_bytes, 0);
    asking.assert_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credit_pays_for_one_block_of_what_is_held() {
    let mut asking = Asking::start().await;
    let (credits, block_bytes) = asking.credits().await;
    assert!((1..=limits::CREDITS_PER_PEER).contains(&credits));
    let mut stream = asking.stream().await;
    // Longer than the block granted: refused, though there is a credit.
    let longer = Geometry::of(SIZE as u64).groups().min(u64::from(block_bytes) / 16_384 + 1);
    let request = asking.request(asking.blob, SIZE as u64, 0, longer);
    assert_eq!(ask(&mut stream, request).await, BulkStatus::NoCredit);
    // Not held, and held with another size.
    for (blob, size) in [(BlobHash([9; 32]), SIZE as u64), (asking.blob, SIZE as u64 * 2)] {
        let request = asking.request(blob, size, 0, 1);
        assert_eq!(ask(&mut stream, request).await, BulkStatus::NotHeld);
    }
    let request = asking.first_group();
    assert_eq!(ask(&mut stream, request).await, BulkStatus::Data);
    eventually("the bytes are counted", async || (asking.node.status().await.sent_bytes == 16_384).then_some(())).await;
    drop(stream);
    asking.assert_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_requests_than_any_peer_may_make_end_the_stream() {
    let mut asking = Asking::start().await;
    let mut stream = asking.stream().await;
    // The same name for two requests at once: answers could not be told apart.
    let request = asking.first_group().encode();
    let flood: Vec<u8> = std::iter::repeat_n(request, 20 * limits::REQUESTS_PER_PEER).flatten().collect();
    let _ = stream.write_all(&flood).await;
    let _ = stream.flush().await;
    let mut answers = Vec::new();
    let _ = within("the end of the stream", stream.read_to_end(&mut answers)).await;
    assert!(answers.len() <= 20 * limits::REQUESTS_PER_PEER * BULK_RESPONSE_BYTES);
    assert_eq!(asking.node.status().await.sent_bytes, 0);
    asking.assert_well().await;
}
