//! Several fetches in one node at the same time: what they share is fetched once, and the end of one is not the end of another.

use p2pweights_node::report::FetchEvent;
use p2pweights_tests::content::{MIB, assert_same_files, noise, write};
use p2pweights_tests::nodes::{World, request};
use p2pweights_tests::wait::eventually;

use crate::hostile::Half;
use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_models_share_is_fetched_once() {
    let world = World::new();
    let (own, shared) = (2 * MIB, 6 * MIB);
    for (model, seed) in [("left", 1), ("right", 2)] {
        write(&world.path(model).join("own.bin"), &noise(seed, own));
        write(&world.path(model).join("shared.bin"), &noise(3, shared));
    }
    let mirror = world.node("mirror", &[]).await;
    let left = mirror.publish(&world.path("left")).await;
    let right = mirror.publish(&world.path("right")).await;
    let fetcher = world.node("fetcher", &[&mirror.address]).await;
    let one = fetcher.start_fetch(request(&left.hash, Some(world.path("left-out"))));
    let other = fetcher.start_fetch(request(&right.hash, Some(world.path("right-out"))));
    let (one, other) = tokio::join!(one.done(), other.done());
    assert_eq!((one.bytes, other.bytes), (left.bytes, right.bytes));
    assert_same_files(&world.path("left"), &world.path("left-out"));
    assert_same_files(&world.path("right"), &world.path("right-out"));
    let received = fetcher.status().await.received_bytes;
    assert!(received < (2 * own + shared + MIB) as u64, "{received} bytes were received");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_fetches_of_a_model_may_be_given_up() {
    let stage = Stage::new(&[2 * MIB, MIB]).await;
    let _source = stage.character("half", Half { patron: None }).await;
    let fetcher = stage.fetcher().await;
    let mut dropped = fetcher.start_fetch(request(&stage.hash.to_string(), Some(stage.world.path("dropped"))));
    let mut kept = fetcher.start_fetch(stage.request());
    let half = Half::bytes_of(2 * MIB as u64) + Half::bytes_of(MIB as u64);
    let progress = |event: &FetchEvent| matches!(event, FetchEvent::Progress { bytes, .. } if *bytes >= half).then_some(());
    dropped.until("half of the model", progress).await;
    kept.until("half of the model", progress).await;
    drop(dropped);
    stage.rescued(&fetcher, kept).await;
    eventually("the end of the swarm", async || fetcher.status().await.swarms.is_empty().then_some(())).await;
}
