//! Content that changes under a node: it is noticed, never served, and the fetch goes on elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use p2pweights_node::report::{FailureKind, FetchRequest};
use p2pweights_protocol::geometry::GROUP_BYTES;
use p2pweights_protocol::ids::BlobHash;
use p2pweights_tests::content::{MIB, assert_same_files, noise, shard_name, write, write_model};
use p2pweights_tests::nodes::{World, request};
use p2pweights_tests::wait::eventually;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_published_file_that_changed_is_not_served_until_published_again() {
    let world = World::new();
    write_model(&world.path("model"), 1, &[MIB, 2 * MIB]);
    let changed = world.path("model").join(shard_name(1, 2));
    let original = fs::read(&changed).expect("it is there");
    let mirror = world.node("mirror", &[]).await;
    let published = mirror.publish(&world.path("model")).await;
    // The same length, other content.
    write(&changed, &noise(99, original.len()));

    let fetcher = world.node("fetcher", &[&mirror.address]).await;
    let order = FetchRequest { timeout_s: 3, ..request(&published.hash, Some(world.path("out"))) };
    let failure = fetcher.start_fetch(order.clone()).failure().await;
    assert_eq!(failure.kind, FailureKind::Incomplete, "{failure:?}");
    let withdrawn = mirror.status().await.withdrawn;
    assert_eq!(withdrawn.iter().map(|gone| &gone.path).collect::<Vec<_>>(), [&changed.canonicalize().expect("a path")]);
    assert_eq!(withdrawn[0].hash, BlobHash::of(&original).to_string());
    // The rest of the model arrived; of the changed file, not a byte.
    assert!(world.path("out").join(shard_name(0, 2)).exists() && !world.path("out").join(shard_name(1, 2)).exists());
    assert!(mirror.status().await.sent_bytes < (MIB + MIB / 2) as u64);

    // Back as it was, and published again: the same hash, and it is served.
    write(&changed, &original);
    assert_eq!(mirror.publish(&world.path("model")).await.hash, published.hash);
    assert!(mirror.status().await.withdrawn.is_empty());
    let fetched = fetcher.fetch(FetchRequest { timeout_s: 45, ..order }).await;
    assert_eq!(fetched.held + fetched.fetched, published.bytes);
    assert_same_files(&world.path("model"), &world.path("out"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_published_anew_is_another_model() {
    let world = World::new();
    write_model(&world.path("model"), 1, &[MIB]);
    let mirror = world.node("mirror", &[]).await;
    let before = mirror.publish(&world.path("model")).await;
    write(&world.path("model").join(shard_name(0, 1)), &noise(99, MIB));
    let after = mirror.publish(&world.path("model")).await;
    assert_ne!(before.hash, after.hash);
    let fetcher = world.node("fetcher", &[&mirror.address]).await;
    fetcher.fetch(request(&after.hash, Some(world.path("out")))).await;
    assert_same_files(&world.path("model"), &world.path("out"));
    let failure = fetcher.start_fetch(FetchRequest { timeout_s: 3, ..request(&before.hash, None) }).failure().await;
    assert_eq!(failure.kind, FailureKind::Incomplete, "{failure:?}");
}

/// The file in which a store keeps a blob's bytes.
fn stored_file(data_dir: &Path, hash: BlobHash) -> PathBuf {
    let name = hash.to_string();
    let path = data_dir.join("blobs").join(&name[..2]).join(format!("{name}.data"));
    assert!(path.is_file(), "{} is not where docs/store.md says", path.display());
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_is_noticed_and_the_other_source_completes() {
    let world = World::new();
    write_model(&world.path("model"), 1, &[2 * MIB]);
    let origin = world.node("origin", &[]).await;
    let published = origin.publish(&world.path("model")).await;
    let rotten = world.node("rotten", &[&origin.address]).await;
    rotten.fetch(request(&published.hash, None)).await;
    // The shard, the config and the manifest.
    eventually("all is durable", async || (rotten.status().await.blobs == 3).then_some(())).await;
    origin.stop().await;
    rotten.stop().await;
    let shard = BlobHash::of(&fs::read(world.path("model").join(shard_name(0, 1))).expect("it is there"));
    let file = stored_file(&world.path("rotten"), shard);
    let mut bytes = fs::read(&file).expect("it is there");
    bytes[MIB + 5] ^= 1;
    fs::write(&file, bytes).expect("it can be written");

    let rotten = world.node("rotten", &[]).await;
    let fetcher = world.node("fetcher", &[&rotten.address]).await;
    let fetch = fetcher.start_fetch(request(&published.hash, Some(world.path("out"))));
    eventually("the damage is noticed", async || (rotten.status().await.blobs == 2).then_some(())).await;
    let origin = world.node("origin", &[&fetcher.address]).await;
    let fetched = fetch.done().await;
    assert_same_files(&world.path("model"), &world.path("out"));
    // Blocks asked of both sources count for both.
    assert!((published.bytes..2 * published.bytes).contains(&fetched.fetched), "{fetched:?}");
    assert!(fetched.from(&origin.peer_id) >= GROUP_BYTES, "{:?}", fetched.sources);
    // Bad luck is no misdeed.
    assert_eq!(fetcher.strikes(&rotten.peer_id).await, 0);
}
