//! What rots is found by reading, serving and scrubbing, is not served, and comes back from whoever has it.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use p2pweights_node::config::NodeConfig;
use p2pweights_node::report::{StatusReport, Verdict, VerifyRequest};
use p2pweights_protocol::geometry::GROUP_BYTES;
use p2pweights_protocol::ids::BlobHash;
use p2pweights_tests::content::{MIB, assert_same_files, shard_name, write_model};
use p2pweights_tests::nodes::{TCP, TestNode, World, request};
use p2pweights_tests::wait::eventually;

/// Blobs of the model: two shards, the config and the manifest.
const BLOBS: usize = 4;

/// An origin that published a model, and a mirror's data dir that holds all of it, both stopped.
async fn mirrored() -> (World, String, Vec<BlobHash>) {
    let world = World::new();
    write_model(&world.path("model"), 1, &[2 * MIB, 100_000]);
    let origin = world.node("origin", &[]).await;
    let published = origin.publish(&world.path("model")).await;
    let mirror = world.node("mirror", &[&origin.address]).await;
    mirror.fetch(request(&published.hash, Some(world.path("out")))).await;
    eventually("all is durable", async || (mirror.status().await.blobs == BLOBS).then_some(())).await;
    mirror.stop().await;
    origin.stop().await;
    let shards = (0..2).map(|index| fs::read(world.path("model").join(shard_name(index, 2))).expect("it is there"));
    let shards = shards.map(|bytes| BlobHash::of(&bytes)).collect();
    (world, published.hash, shards)
}

fn file(data_dir: &Path, hash: BlobHash, part: &str) -> PathBuf {
    let name = hash.to_string();
    data_dir.join("blobs").join(&name[..2]).join(format!("{name}.{part}"))
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("it is where docs/store.md says");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("it can be read");
    file.write_all_at(&[byte[0] ^ 8], at).expect("it can be written");
}

/// A node that mends by itself, and soon.
async fn mending(world: &World, name: &str, bootstrap: &[&str]) -> TestNode {
    TestNode::start(NodeConfig { mend_pause: Some(Duration::from_millis(50)), ..world.config(name, TCP, bootstrap) }).await
}

/// A node that scrubs from its start, as fast as it can, and mends.
async fn scrubbing(world: &World, name: &str, bootstrap: &[&str]) -> TestNode {
    let config = world.config(name, TCP, bootstrap);
    let (mend_pause, scrub_period) = (Some(Duration::from_millis(50)), Some(Duration::from_secs(3600)));
    TestNode::start(NodeConfig { mend_pause, scrub_period, scrub_rate: None, ..config }).await
}

async fn until_mended(node: &TestNode) -> StatusReport {
    eventually("all is mended", async || {
        let status = node.status().await;
        (status.blobs == BLOBS && status.repairs.is_empty() && status.scrub.ever.mended > 0).then_some(status)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scrub_finds_rot_which_is_mended_as_soon_as_somebody_has_it_and_an_edit_of_a_link_stays() {
    let (world, hash, shards) = mirrored().await;
    let mirror_dir = world.path("mirror");
    // The large shard is one file with the one the user got, who writes to it; the small one rots, and has no outboard.
    let exported = world.path("out").join(shard_name(0, 2));
    flip(&exported, 70 * GROUP_BYTES + 5);
    flip(&exported, 99 * GROUP_BYTES);
    let edited = fs::read(&exported).expect("it is there");
    let small = file(&mirror_dir, shards[1], "data");
    fs::copy(&small, world.path("alone"))
        .and_then(|_| fs::rename(world.path("alone"), &small))
        .expect("it has a file of its own");
    flip(&small, 7);

    let mirror = scrubbing(&world, "mirror", &[]).await;
    let status = eventually("the scrub has been everywhere", async || {
        let status = mirror.status().await;
        (status.scrub.last_cycle_s.is_some()).then_some(status)
    })
    .await;
    assert_eq!(status.blobs, BLOBS - 2);
    assert_eq!(status.scrub.since_start.damaged, 2 * GROUP_BYTES + 100_000);
    let under_repair: u64 = status.repairs.iter().map(|repair| repair.bytes).sum();
    assert_eq!((status.repairs.len(), under_repair), (2, status.scrub.since_start.damaged));
    // Nobody has it: it goes on trying after a restart.
    mirror.stop().await;
    let mirror = mending(&world, "mirror", &[]).await;
    assert_eq!(mirror.status().await.repairs.len(), 2);

    let origin = world.node("origin", &[&mirror.address]).await;
    let status = until_mended(&mirror).await;
    assert_eq!(status.scrub.ever.mended, status.scrub.ever.damaged);
    // Exactly the damaged groups came.
    assert_eq!(status.received_bytes, under_repair);
    assert!(fs::read(&exported).expect("it is there") == edited, "the user's edit was undone");
    origin.stop().await;
    let report = mirror.verify(VerifyRequest::default()).await;
    assert!(report.ok && report.entries.len() == BLOBS, "{report:?}");
    // And what it has now is served.
    let fetcher = world.node("fetcher", &[&mirror.address]).await;
    fetcher.fetch(request(&hash, Some(world.path("again")))).await;
    assert_same_files(&world.path("model"), &world.path("again"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rot_that_is_noticed_while_serving_is_mended_too_and_a_rotten_outboard_costs_nothing() {
    let (world, hash, shards) = mirrored().await;
    fs::remove_dir_all(world.path("out")).expect("it can be removed");
    flip(&file(&world.path("mirror"), shards[0], "data"), 70 * GROUP_BYTES + 5);
    flip(&file(&world.path("mirror"), shards[0], "outboard"), 64 * 20 + 3);
    let mirror = mending(&world, "mirror", &[]).await;
    let fetcher = world.node("fetcher", &[&mirror.address]).await;
    let fetch = fetcher.start_fetch(request(&hash, Some(world.path("out"))));
    let status = eventually("the damage is noticed", async || {
        let status = mirror.status().await;
        (status.scrub.since_start.damaged > 0).then_some(status)
    })
    .await;
    assert_eq!(status.scrub.since_start.damaged, GROUP_BYTES, "one group, whatever the outboard said");
    // It comes to the mirror alone, from which the fetcher has the rest.
    let origin = world.node("origin", &[&mirror.address]).await;
    let status = until_mended(&mirror).await;
    assert_eq!(status.received_bytes, GROUP_BYTES);
    fetch.done().await;
    assert_same_files(&world.path("model"), &world.path("out"));
    assert_eq!(fetcher.strikes(&mirror.peer_id).await, 0);
    drop(origin);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verify_mends_if_it_is_asked_to_and_says_what_became_of_each_blob() {
    let (world, hash, shards) = mirrored().await;
    fs::remove_dir_all(world.path("out")).expect("it can be removed");
    let origin = world.node("origin", &[]).await;
    flip(&file(&world.path("mirror"), shards[0], "outboard"), 64 * 100);
    flip(&file(&world.path("mirror"), shards[1], "data"), 9);
    let mirror = world.node("mirror", &[]).await;
    let verdicts = |report: &p2pweights_node::report::VerifyReport| {
        let of = |hash: &BlobHash| report.entries.iter().find(|entry| entry.hash == hash.to_string()).map(|entry| entry.verdict);
        shards.iter().map(|hash| of(hash).expect("it was read")).collect::<Vec<_>>()
    };
    let report = mirror.verify(VerifyRequest::default()).await;
    assert_eq!((report.ok, verdicts(&report)), (false, vec![Verdict::OutboardMended, Verdict::Damaged]));
    // Nothing more is found, but it is not forgotten.
    let order = VerifyRequest { target: Some(hash), mend: true, timeout_s: 1, ..VerifyRequest::default() };
    let report = mirror.verify(order.clone()).await;
    assert_eq!((report.ok, verdicts(&report)), (false, vec![Verdict::Ok, Verdict::Damaged]));
    let report = mirror.verify(VerifyRequest { peers: vec![origin.address.clone()], timeout_s: 45, ..order }).await;
    assert_eq!((report.ok, verdicts(&report)), (true, vec![Verdict::Ok, Verdict::Mended]));
    assert_eq!(mirror.status().await.received_bytes, 100_000);
}
