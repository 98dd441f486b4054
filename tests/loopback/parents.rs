//! Parents without the bytes below them: asked of a peer, for a mirror's bytes or by whoever writes what it likes.

use p2pweights_node::config::{NodeConfig, RateLimits};
use p2pweights_node::net::NetEvent;
use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::verify::{Parents, outboard_bytes, outboard_parts};
use p2pweights_protocol::wire::{HavePieces, Message, ParentsRequest, ParentsStatus};
use p2pweights_tests::content::{MIB, assert_same_files, noise, write};
use p2pweights_tests::nodes::{TCP, TestNode, World, request};
use p2pweights_tests::wait::{eventually, within};
use p2pweights_tests::web::{Vice, Web};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::hostile::Hand;
use crate::raw_peer::RawPeer;

const BYTES: usize = 12 * MIB + 7;

/// A model of one large file: the hash of the model, and of the file.
async fn published(world: &World) -> (String, BlobHash) {
    let content = noise(5, BYTES);
    write(&world.path("public").join("weights.bin"), &content);
    let model = world.publish("peer", &world.path("public")).await.hash;
    (model, BlobHash::of(&content))
}

fn whole(blob: BlobHash) -> ParentsRequest {
    let size = BYTES as u64;
    ParentsRequest { blob, size, span: Geometry::of(size).whole().expect("not empty") }
}

/// Asks and reads the answer to its end.
async fn ask(peer: &mut RawPeer, question: &[u8]) -> Option<Vec<u8>> {
    let mut stream = peer.open("parents").await?;
    stream.write_all(question).await.ok()?;
    let mut answer = Vec::new();
    // A node may hang up before it has answered.
    let _ = within("an answer", stream.read_to_end(&mut answer)).await;
    Some(answer)
}

/// A mirror without a sidecar, and a peer that is much too slow to fetch the model from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_peer_proves_what_a_mirror_sends() {
    let world = World::new();
    let (model, _) = published(&world).await;
    let slow = RateLimits { total: std::num::NonZeroU64::new(250_000), ..RateLimits::default() };
    let peer = TestNode::start(NodeConfig { max_upload: slow, ..world.config("peer", TCP, &[]) }).await;
    let web = Web::start(&world.path("public"), Vice::None).await;
    let config = NodeConfig { private_mirrors: true, ..world.config("fetcher", TCP, &[&peer.address]) };
    let fetcher = TestNode::start(config).await;
    let order =
        p2pweights_node::report::FetchRequest { mirrors: vec![web.url.clone()], ..request(&model, Some(world.path("out"))) };
    let fetched = fetcher.fetch(order).await;
    let (from_mirror, all) = (fetched.from_mirror(&web.url), fetched.fetched);
    assert!(from_mirror * 100 / all > 60, "nearly all of it is the mirror's to bring: {fetched:?}");
    assert_same_files(&world.path("public"), &world.path("out"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn right_questions_get_right_parents_and_only_so_often() {
    let world = World::new();
    let (_, blob) = published(&world).await;
    let node = world.node("peer", &[]).await;
    let mut asker = RawPeer::connect(&node.address).await;
    let geometry = Geometry::of(BYTES as u64);
    for span in [geometry.whole(), Span::new(100, 101), Span::new(700, 768)].into_iter().flatten() {
        let question = ParentsRequest { blob, size: BYTES as u64, span }.encode();
        let answer = ask(&mut asker, &question).await.expect("a stream");
        let (status, mut rest) = answer.split_first().expect("a status");
        assert_eq!(*status, ParentsStatus::Data as u8);
        let mut parts = Vec::new();
        for part in outboard_parts(geometry, span) {
            parts.push((part.start, rest.split_off(..(part.end - part.start) as usize).expect("a part").to_vec()));
        }
        assert!(rest.is_empty() && Parents::check(blob, geometry, span, parts).is_ok(), "{span:?}");
    }
    // Of another size, or not here at all.
    let wrong = ParentsRequest { size: BYTES as u64 + 1, ..whole(blob) };
    for request in [wrong, whole(BlobHash([7; 32]))] {
        assert_eq!(ask(&mut asker, &request.encode()).await, Some(vec![ParentsStatus::NotHeld as u8]));
    }
    let small = ParentsRequest { span: Span::new(0, 1).expect("a group"), ..whole(blob) }.encode();
    let mut refused = false;
    for _ in 0..64 {
        refused |= ask(&mut asker, &small).await == Some(vec![ParentsStatus::Busy as u8]);
    }
    assert!(refused, "nobody is answered without end");
    assert_eq!(node.strikes(&asker.peer_id).await, 0, "a question is no crime");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_question_is_struck() {
    let world = World::new();
    let (model, blob) = published(&world).await;
    let node = world.node("peer", &[]).await;
    let mut flooder = RawPeer::connect(&node.address).await;
    eventually("a connection", async || node.is_connected(&flooder.peer_id).await.then_some(())).await;
    let question = |size: u64, first: u64, groups: u32| {
        [&blob.0[..], &size.to_be_bytes(), &first.to_be_bytes(), &groups.to_be_bytes()].concat()
    };
    // An empty span, one beyond the blob's end, one that is too long.
    for (strikes, bad) in [question(1 << 30, 0, 0), question(1 << 20, 64, 1)].into_iter().enumerate() {
        assert!(ask(&mut flooder, &bad).await.is_some());
        eventually("a strike", async || (node.strikes(&flooder.peer_id).await as usize == strikes + 1).then_some(())).await;
    }
    assert!(ask(&mut flooder, &question(1 << 40, 0, 1 << 17)).await.is_some());
    eventually("a ban", async || (!node.is_connected(&flooder.peer_id).await).then_some(())).await;
    let fetcher = world.node("fetcher", &[&node.address]).await;
    fetcher.fetch(request(&model, Some(world.path("out")))).await;
    assert_same_files(&world.path("public"), &world.path("out"));
}

/// It says that it holds the file, never serves it, and answers questions with hashes of nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_lies_about_parents_is_struck_and_an_honest_one_asked() {
    let world = World::new();
    let (model, blob) = published(&world).await;
    world.put("fetcher", &world.blob("peer", &model));
    let config = NodeConfig { private_mirrors: true, ..world.config("fetcher", TCP, &[]) };
    let fetcher = TestNode::start(config).await;
    let mut liar = Hand::start(&world, "liar", &[&fetcher.address]).await;
    let web = Web::start(&world.path("public"), Vice::None).await;
    let order =
        p2pweights_node::report::FetchRequest { mirrors: vec![web.url.clone()], ..request(&model, Some(world.path("out"))) };
    let fetch = fetcher.start_fetch(order);
    let (net, name) = (liar.net.clone(), liar.peer_id.clone());
    let playing = tokio::spawn(async move {
        while let Some(event) = liar.events.recv().await {
            match event {
                NetEvent::Message { peer, message: Message::Interest { blobs } } if blobs.contains(&blob) => {
                    let have = Message::Have { blob, size: BYTES as u64, pieces: HavePieces::All };
                    // Whoever is gone does not hear it.
                    let _ = net.send(peer, &have);
                }
                NetEvent::Parents { mut asked, .. } => {
                    let lie = vec![7; outboard_bytes(Geometry::of(BYTES as u64)) as usize];
                    let _ = asked.begin().await;
                    let _ = asked.write(&lie).await;
                }
                _ => (),
            }
        }
    });
    eventually("a strike", async || fetcher.has_struck(&name).await.then_some(())).await;
    let honest = world.node("peer", &[&fetcher.address]).await;
    let fetched = fetch.done().await;
    assert!(fetched.from(&honest.peer_id) + fetched.from_mirror(&web.url) == fetched.fetched, "{fetched:?}");
    assert_same_files(&world.path("public"), &world.path("out"));
    playing.abort();
}
