//! The main job between real nodes that find each other through the DHT alone: publish, serve, fetch, from many sources at once.

use p2pweights_node::report::{FetchEvent, FetchRequest};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_tests::content::{MIB, assert_same_files, bytes_below, noise, shard_name, write, write_model};
use p2pweights_tests::nodes::{TestNode, World, request};
use p2pweights_tests::wait::eventually;

use crate::hostile::Half;
use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_found_through_the_dht_alone() {
    let world = World::new();
    write_model(&world.path("model"), 1, &[5 * MIB, 3 * MIB + 17, 70_000]);
    let bootstrap = world.node("bootstrap", &[]).await;
    let mirror = world.node("mirror", &[&bootstrap.address]).await;
    let published = mirror.publish(&world.path("model")).await;
    assert_eq!((published.files, published.bytes), (4, bytes_below(&world.path("model"))));
    let fetcher = world.node("fetcher", &[&bootstrap.address]).await;
    let fetched = fetcher.fetch(request(&published.hash, Some(world.path("out")))).await;
    assert_same_files(&world.path("model"), &world.path("out"));
    assert_eq!((fetched.bytes, fetched.fetched, fetched.held), (published.bytes, published.bytes, 0));
    assert_eq!((fetched.from(&mirror.peer_id), fetched.from(&bootstrap.peer_id)), (published.bytes, 0));
    assert_eq!(bootstrap.status().await.blobs, 0);
    // The four files and the manifest.
    eventually("all is durable", async || (fetcher.status().await.blobs == 5).then_some(())).await;
    // The link is as good as the hash, and what is held already is not fetched again.
    let again = fetcher.fetch(request(&published.link, Some(world.path("again")))).await;
    assert_eq!((again.fetched, again.held), (0, published.bytes));
    assert_same_files(&world.path("model"), &world.path("again"));
}

/// A node that holds only these shards of a model which `origin` serves.
async fn partial(world: &World, name: &str, origin: &TestNode, hash: &str, shards: &[String]) -> TestNode {
    let node = world.node(name, &[&origin.address]).await;
    node.fetch(FetchRequest { include: shards.to_vec(), ..request(hash, None) }).await;
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partial_sources_that_together_hold_everything_are_all_used() {
    let world = World::new();
    write_model(&world.path("model"), 2, &[2 * MIB; 5]);
    let origin = world.node("origin", &[]).await;
    let published = origin.publish(&world.path("model")).await;
    // Each of the four holds a shard that no other has, and all hold the last.
    let mut sources = Vec::new();
    for index in 0..4 {
        let shards = [shard_name(index, 5), shard_name(4, 5), "config.json".to_owned()];
        sources.push(partial(&world, &format!("source-{index}"), &origin, &published.hash, &shards).await);
    }
    origin.stop().await;
    let fetcher = world.node("fetcher", &[&sources[0].address]).await;
    let fetched = fetcher.fetch(request(&published.hash, Some(world.path("out")))).await;
    assert_same_files(&world.path("model"), &world.path("out"));
    assert_eq!((fetched.bytes, fetched.sources.len()), (published.bytes, 4), "{:?}", fetched.sources);
    for source in &sources {
        assert!(fetched.from(&source.peer_id) >= 2 * MIB as u64, "{:?}", fetched.sources);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_downloading_node_serves_what_it_has_already() {
    let stage = Stage::new(&[4 * MIB, 2 * MIB]).await;
    let half = Half::bytes_of(4 * MIB as u64) + Half::bytes_of(2 * MIB as u64);
    // Nobody but the first fetcher can have anything from the source.
    let first = stage.fetcher().await;
    let source = stage.character("half", Half { patron: Some(first.peer()) }).await;
    let mut fetch = first.start_fetch(stage.request());
    let progress = |event: &FetchEvent| matches!(event, FetchEvent::Progress { bytes, .. } if *bytes >= half).then_some(());
    fetch.until("half of the model", progress).await;

    let second = stage.world.node("second", &[&first.address]).await;
    let mut second_fetch = second.start_fetch(request(&stage.hash.to_string(), Some(stage.world.path("second-out"))));
    second_fetch.until("half of the model, second hand", progress).await;

    let (fetched, honest) = stage.rescued(&first, fetch).await;
    assert!(fetched.from(&source.peer_id) >= half && fetched.from(&honest.peer_id) > 0, "{:?}", fetched.sources);
    let fetched = second_fetch.done().await;
    assert!(fetched.from(&first.peer_id) >= half, "{:?}", fetched.sources);
    assert_same_files(&stage.world.path("model"), &stage.world.path("second-out"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chosen_files_first_and_the_rest_later() {
    let world = World::new();
    write_model(&world.path("model"), 4, &[MIB, 2 * MIB, 3 * MIB]);
    let mirror = world.node("mirror", &[]).await;
    let published = mirror.publish(&world.path("model")).await;
    let fetcher = world.node("fetcher", &[&mirror.address]).await;
    let order = request(&published.hash, Some(world.path("out")));
    let some = FetchRequest { include: vec!["*-00002-*".to_owned(), "*.json".to_owned()], ..order.clone() };
    let chosen = fetcher.fetch(some).await;
    assert_eq!(chosen.bytes, chosen.fetched);
    assert!(!world.path("out").join(shard_name(0, 3)).exists());
    eventually("all is durable", async || (fetcher.status().await.bytes >= chosen.bytes).then_some(())).await;
    let rest = fetcher.fetch(order).await;
    assert_eq!((rest.held, rest.fetched), (chosen.bytes, published.bytes - chosen.bytes));
    assert_same_files(&world.path("model"), &world.path("out"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_fetch_goes_on_where_it_was() {
    let stage = Stage::new(&[4 * MIB, MIB]).await;
    let half = Half::bytes_of(4 * MIB as u64) + Half::bytes_of(MIB as u64);
    let source = stage.character("half", Half { patron: None }).await;
    let fetcher = stage.fetcher().await;
    let mut fetch = fetcher.start_fetch(stage.request());
    let progress = |event: &FetchEvent| matches!(event, FetchEvent::Progress { bytes, .. } if *bytes >= half).then_some(());
    fetch.until("half of the model", progress).await;
    drop(fetch);
    eventually("the end of the swarm", async || fetcher.status().await.swarms.is_empty().then_some(())).await;
    fetcher.stop().await;
    assert!(source.asked() > 0);
    drop(source);

    let fetcher = stage.fetcher().await;
    let _honest = stage.honest_joins(&fetcher).await;
    let fetched = fetcher.fetch(stage.request()).await;
    stage.assert_arrived();
    assert!(fetched.held >= half, "{} held of {half} verified", fetched.held);
    assert_eq!(fetched.held + fetched.fetched, stage.bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_small_files_and_empty_ones_travel() {
    let world = World::new();
    let model = world.path("model");
    for index in 0..300u64 {
        let bytes = noise(1000 + index, usize::try_from(index * 97 % 5000).expect("small"));
        write(&model.join(format!("folder {}/file-{index}.bin", index % 7)), &bytes);
    }
    let mirror = world.node("mirror", &[]).await;
    let published = mirror.publish(&model).await;
    assert_eq!(published.files, 300);
    let fetcher = world.node("fetcher", &[&mirror.address]).await;
    let fetched = fetcher.fetch(request(&published.hash, Some(world.path("out")))).await;
    assert_eq!((fetched.bytes, fetched.fetched), (published.bytes, published.bytes));
    assert_same_files(&model, &world.path("out"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_of_empty_files_needs_no_payload() {
    let world = World::new();
    let model = world.path("model");
    write(&model.join("a"), b"");
    write(&model.join("folder/b"), b"");
    let mirror = world.node("mirror", &[]).await;
    let published = mirror.publish(&model).await;
    let fetcher = world.node("fetcher", &[&mirror.address]).await;
    let fetched = fetcher.fetch(request(&published.hash, Some(world.path("out")))).await;
    assert_eq!((fetched.bytes, fetched.fetched), (0, 0));
    assert_same_files(&model, &world.path("out"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_blob_travels_by_its_bare_hash() {
    let world = World::new();
    for (index, bytes) in [1, 16 * 1024, 2 * MIB + 5, 40 * MIB].into_iter().enumerate() {
        let content = noise(index as u64, bytes);
        let file = world.path(&format!("weights-{index}.gguf"));
        write(&file, &content);
        let mirror = world.node(&format!("mirror-{index}"), &[]).await;
        let published = mirror.publish(&file).await;
        assert_eq!(published.hash, BlobHash::of(&content).to_string());
        let fetcher = world.node(&format!("fetcher-{index}"), &[&mirror.address]).await;
        let fetched = fetcher.fetch(request(&published.hash, Some(world.path(&format!("out-{index}"))))).await;
        assert_eq!((fetched.bytes, fetched.fetched), (bytes as u64, bytes as u64));
        let placed = std::fs::read(world.path(&format!("out-{index}")).join(&published.hash)).expect("it is placed");
        assert!(placed == content);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_serves_on_after_a_restart() {
    let world = World::new();
    write_model(&world.path("model"), 7, &[MIB, MIB]);
    let mirror = world.node("mirror", &[]).await;
    let published = mirror.publish(&world.path("model")).await;
    let peer_id = mirror.peer_id.clone();
    mirror.stop().await;
    let bootstrap = world.node("bootstrap", &[]).await;
    let mirror = world.node("mirror", &[&bootstrap.address]).await;
    assert_eq!(mirror.peer_id, peer_id);
    let fetcher = world.node("fetcher", &[&bootstrap.address]).await;
    let fetched = fetcher.fetch(request(&published.hash, Some(world.path("out")))).await;
    assert_eq!(fetched.from(&mirror.peer_id), published.bytes);
    // The fetcher serves on as well, though it has only a copy, and the mirror is gone.
    mirror.stop().await;
    fetcher.stop().await;
    let fetcher = world.node("fetcher", &[&bootstrap.address]).await;
    let last = world.node("last", &[&bootstrap.address]).await;
    let fetched = last.fetch(request(&published.hash, Some(world.path("last-out")))).await;
    assert_eq!(fetched.from(&fetcher.peer_id), published.bytes);
    assert_same_files(&world.path("model"), &world.path("last-out"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hash_that_nobody_provides_is_not_found() {
    let world = World::new();
    let bootstrap = world.node("bootstrap", &[]).await;
    let fetcher = world.node("fetcher", &[&bootstrap.address]).await;
    let hash = BlobHash::of(b"nobody has this").to_string();
    let failure = fetcher.start_fetch(FetchRequest { timeout_s: 1, ..request(&hash, None) }).failure().await;
    assert_eq!(failure.kind, p2pweights_node::report::FailureKind::NotFound, "{failure:?}");
    assert!(failure.message.contains(&hash) && failure.message.contains("1 connected peer"), "{failure:?}");
}
