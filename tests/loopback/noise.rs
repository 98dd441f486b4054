//! Noise on every protocol: bytes that mean nothing, lengths that promise too much. The stream ends, the peer is struck, the node serves on.

use p2pweights_node::report::FetchRequest;
use p2pweights_protocol::ids::{BlobHash, RequestId};
use p2pweights_protocol::limits;
use p2pweights_protocol::random::Random;
use p2pweights_protocol::wire::{BULK_REQUEST_BYTES, Message, encode_frame};
use p2pweights_tests::content::{MIB, assert_same_files, noise, write_model};
use p2pweights_tests::nodes::{TestNode, World, request};
use p2pweights_tests::wait::eventually;

use crate::raw_peer::RawPeer;

/// Streams of noise thrown at one node.
const ROUNDS: u64 = 60;

async fn serving(world: &World) -> (TestNode, String) {
    write_model(&world.path("model"), 1, &[MIB, MIB]);
    let node = world.node("node", &[]).await;
    let hash = node.publish(&world.path("model")).await.hash;
    (node, hash)
}

/// The node is as well as ever: a stranger fetches all of it.
async fn assert_well(world: &World, node: &TestNode, hash: &str) {
    let fetcher = world.node("fetcher", &[&node.address]).await;
    fetcher.fetch(FetchRequest { timeout_s: 20, ..request(hash, Some(world.path("out"))) }).await;
    assert_same_files(&world.path("model"), &world.path("out"));
    assert!(node.status().await.withdrawn.is_empty());
}

fn hello() -> Vec<u8> {
    encode_frame(&Message::Hello { agent: "noise".into() })
}

/// What to throw in one round: pure noise, noise behind a good beginning, a huge length, a good frame cut short or with a bit flipped.
fn control_noise(random: &mut Random) -> Vec<u8> {
    let any = |random: &mut Random| noise(random.any(), usize::try_from(random.below(4096)).expect("small"));
    let frame = encode_frame(&Message::Interest { blobs: vec![BlobHash([7; 32]); limits::BLOBS_PER_MESSAGE] });
    match random.below(5) {
        0 => any(random),
        1 => [hello(), any(random)].concat(),
        2 => [hello(), vec![0xff; 4], any(random)].concat(),
        3 => [hello(), frame[..usize::try_from(random.below(frame.len() as u64)).expect("small")].to_vec()].concat(),
        _ => {
            let mut frame = frame;
            let at = usize::try_from(random.below(6)).expect("small");
            frame[at] ^= 1 << random.below(8);
            [hello(), frame].concat()
        }
    }
}

fn bulk_noise(random: &mut Random) -> Vec<u8> {
    let requests = usize::try_from(random.below(200)).expect("small");
    noise(random.any(), requests * BULK_REQUEST_BYTES + usize::try_from(random.below(60)).expect("small"))
}

/// Throws noise from one identity after the other: each is banned after a few rounds.
async fn bombard(address: &str, protocol: &str, seed: u64, mut make: impl FnMut(&mut Random) -> Vec<u8>) {
    let mut random = Random::new(seed);
    let mut thrown = 0;
    while thrown < ROUNDS {
        let mut peer = RawPeer::connect(address).await;
        while thrown < ROUNDS && peer.throw(protocol, &make(&mut random)).await {
            thrown += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_outlives_noise_on_control() {
    let world = World::new();
    let (node, hash) = serving(&world).await;
    bombard(&node.address, "control", 1, control_noise).await;
    assert_well(&world, &node, &hash).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_outlives_noise_on_bulk() {
    let world = World::new();
    let (node, hash) = serving(&world).await;
    bombard(&node.address, "bulk", 2, bulk_noise).await;
    assert_well(&world, &node, &hash).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_outlives_noise_on_parents() {
    let world = World::new();
    let (node, hash) = serving(&world).await;
    let make = |random: &mut Random| noise(random.any(), usize::try_from(random.below(200)).expect("small"));
    bombard(&node.address, "parents", 3, make).await;
    assert_well(&world, &node, &hash).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_huge_length_ends_the_stream_and_three_end_the_peer() {
    let world = World::new();
    let (node, hash) = serving(&world).await;
    let mut flooder = RawPeer::connect(&node.address).await;
    eventually("a connection", async || node.is_connected(&flooder.peer_id).await.then_some(())).await;
    for strikes in 1..=2 {
        assert!(flooder.throw("control", &[hello(), vec![0xff; 64 * 1024]].concat()).await);
        eventually("a strike", async || (node.strikes(&flooder.peer_id).await == strikes).then_some(())).await;
    }
    assert!(flooder.throw("control", &[0xff; 64 * 1024]).await);
    eventually("a ban", async || (!node.is_connected(&flooder.peer_id).await).then_some(())).await;
    assert!(flooder.open("control").await.is_none());
    assert_well(&world, &node, &hash).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_request_ends_the_stream_and_is_struck() {
    let world = World::new();
    let (node, hash) = serving(&world).await;
    let mut flooder = RawPeer::connect(&node.address).await;
    eventually("a connection", async || node.is_connected(&flooder.peer_id).await.then_some(())).await;
    // An empty span, one beyond the blob's end, a size above every limit.
    let header = |size: u64, first: u64, groups: u32| {
        let request = RequestId(1).0.to_be_bytes();
        [&request[..], &[7; 32], &size.to_be_bytes(), &first.to_be_bytes(), &groups.to_be_bytes()].concat()
    };
    for (strikes, bad) in [header(1 << 20, 0, 0), header(1 << 20, 64, 1)].into_iter().enumerate() {
        assert!(flooder.throw("bulk", &bad).await);
        eventually("a strike", async || (node.strikes(&flooder.peer_id).await as usize == strikes + 1).then_some(())).await;
    }
    assert!(flooder.throw("bulk", &header(u64::MAX, 0, 1)).await);
    eventually("a ban", async || (!node.is_connected(&flooder.peer_id).await).then_some(())).await;
    assert_well(&world, &node, &hash).await;
}
