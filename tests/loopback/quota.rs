//! The quota, and what makes room: hard for any number of fetches, least recently served first, last copies and pins stay.

use futures::future::join_all;
use p2pweights_node::config::{NodeConfig, Watermarks};
use p2pweights_node::report::{FailureKind, FetchRequest, GcRequest};
use p2pweights_node::upkeep::Eviction;
use p2pweights_tests::content::{KIB, MIB, write_model};
use p2pweights_tests::disk::{Watch, du};
use p2pweights_tests::nodes::{TCP, TestNode, World, request};
use p2pweights_tests::wait::{eventually, within};

/// What a store always leaves free.
const SLACK: u64 = 4 << 20;

/// A model of about 6 MiB, in a few files.
fn model(world: &World, name: &str, seed: u64) {
    write_model(&world.path(name), seed, &[4 * MIB, 2 * MIB - 77 * KIB, 77 * KIB]);
}

/// Settings with room for so many of those models and half of another.
async fn config(world: &World, name: &str, models: u64, bootstrap: &str) -> NodeConfig {
    // What an empty one takes differs between file systems.
    world.node(name, &[]).await.stop().await;
    let empty = du(&world.path(name));
    let quota = empty + SLACK + models * 6 * MIB as u64 + 3 * MIB as u64;
    NodeConfig { quota_bytes: Some(quota), ..world.config(name, TCP, &[bootstrap]) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_racing_fetches_do_not_overrun_it() {
    let world = World::new();
    let source = world.node("source", &[]).await;
    let mut hashes = Vec::new();
    for index in 0..8 {
        model(&world, &format!("model-{index}"), index);
        hashes.push(source.publish(&world.path(&format!("model-{index}"))).await.hash);
    }
    let config = config(&world, "mirror", 3, &source.address).await;
    let quota = config.quota_bytes.expect("set above");
    let mirror = TestNode::start(config).await;
    let watch = Watch::start(&world.path("mirror"));
    let ends = join_all(hashes.iter().map(|hash| mirror.start_fetch(request(hash, None)).end())).await;
    let done = ends.iter().filter(|end| end.is_ok()).count();
    for failure in ends.iter().filter_map(|end| end.as_ref().err()) {
        assert_eq!(failure.kind, FailureKind::Disk, "{failure:?}");
        for part in ["do not fit the quota", "storage.quota", "gc"] {
            assert!(failure.message.contains(part), "{failure:?}");
        }
    }
    mirror.stop().await;
    let (most, looks) = watch.most();
    let most = most.max(du(&world.path("mirror")));
    println!(
        "{done} of 8 fetches held; quota {quota}, most taken {most} in {looks} looks: {} bytes over",
        most.saturating_sub(quota)
    );
    assert_eq!(done, 3);
    assert!(most <= quota);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_recently_served_goes_unless_it_is_pinned_or_the_last() {
    let world = World::new();
    let source = world.node("source", &[]).await;
    let mut hashes = Vec::new();
    for index in 0..4 {
        model(&world, &format!("model-{index}"), 100 + index);
        hashes.push(source.publish(&world.path(&format!("model-{index}"))).await.hash);
    }
    let config = config(&world, "mirror", 2, &source.address).await;
    let quota = config.quota_bytes.expect("set above");
    let watermarks = Watermarks { high: 90, low: 50 };
    let mirror = TestNode::start(NodeConfig { eviction: Eviction::LeastRecentlyServed, watermarks, ..config }).await;
    let kept = async || -> Vec<usize> {
        let whole = async || {
            let list = mirror.node.core().list().await.expect("a list");
            list.iter().all(|entry| entry.kind == "model" && entry.held == entry.bytes).then_some(list)
        };
        let list = eventually("all is durable, and nothing but models is left", whole).await;
        (0..4).filter(|index| list.iter().any(|entry| entry.hash == hashes[*index])).collect()
    };
    let watch = Watch::start(&world.path("mirror"));
    mirror.fetch(FetchRequest { pin: true, ..request(&hashes[0], None) }).await;
    mirror.fetch(request(&hashes[1], None)).await;
    assert_eq!(kept().await, [0, 1]);
    // The first is older, and pinned.
    mirror.fetch(request(&hashes[2], None)).await;
    assert_eq!(kept().await, [0, 2]);
    mirror.node.core().set_pinned(hashes[0].clone(), false).await.expect("it is here");
    mirror.fetch(request(&hashes[3], None)).await;
    assert_eq!(kept().await, [2, 3]);

    let gc = async |dry_run| within("gc", mirror.node.core().gc(GcRequest { dry_run, older_than_s: 0 })).await.expect("a look");
    let would = gc(true).await;
    assert_eq!((would.evicted.len(), &would.evicted[0].hash, would.stays.len()), (1, &hashes[2], 0), "{would:?}");
    assert_eq!(kept().await, [2, 3]);

    // Nobody else has it, as far as anybody can tell.
    let last = world.node("other", &[&mirror.address]).await;
    model(&world, "model-9", 109);
    let fresh = last.publish(&world.path("model-9")).await.hash;
    source.stop().await;
    let failure = mirror.start_fetch(request(&fresh, None)).failure().await;
    for part in ["do not fit the quota", "last known copy"] {
        assert!(failure.message.contains(part), "{failure:?}");
    }
    let did = gc(false).await;
    assert!(did.evicted.is_empty() && did.stays.len() == 2, "{did:?}");
    assert!(did.stays.iter().all(|entry| entry.reason == "last known copy"), "{did:?}");
    assert_eq!(kept().await, [2, 3]);
    let (most, _) = watch.most();
    assert!(most <= quota, "{most} > {quota}");
    mirror.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cancelled_fetch_left_is_cleared_away_and_served_no_more() {
    let world = World::new();
    let source = world.node("source", &[]).await;
    model(&world, "model-0", 200);
    model(&world, "model-1", 201);
    let kept = source.publish(&world.path("model-0")).await.hash;
    let left = source.publish(&world.path("model-1")).await.hash;
    let mirror = world.node("mirror", &[&source.address]).await;
    mirror.fetch(request(&kept, None)).await;
    // As a fetch leaves it that got some files and was cancelled then: nothing says that they are kept.
    mirror.fetch(FetchRequest { exclude: vec!["*-00001-*".to_owned()], ..request(&left, None) }).await;
    mirror.stop().await;
    let store = world.store("mirror");
    assert!(store.remove_manifest(left.parse().expect("a hash")).expect("its record goes"));
    store.close().expect("the store closes");
    drop(store);
    let mirror = world.node("mirror", &[&source.address]).await;
    let gc = |older_than_s, dry_run| mirror.node.core().gc(GcRequest { dry_run, older_than_s });
    let none = within("gc", gc(3600, false)).await.expect("cleared");
    assert!(none.cleared.is_empty() && none.freed == 0, "{none:?}");
    let would = within("gc", gc(0, true)).await.expect("looked");
    assert!(would.dry_run && would.cleared.len() == 3 && would.freed > MIB as u64, "{would:?}");
    let before = du(&world.path("mirror"));
    let did = within("gc", gc(0, false)).await.expect("cleared");
    assert_eq!(did.cleared, would.cleared);
    assert_eq!((did.freed, did.taken), (before - du(&world.path("mirror")), du(&world.path("mirror"))));
    let status = mirror.status().await;
    assert_eq!((status.blobs, status.announced), (5, 5), "{status:?}");
    let again = within("gc", gc(0, false)).await.expect("cleared");
    assert!(again.cleared.is_empty(), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_add_up_to_what_the_disk_says() {
    let world = World::new();
    let source = world.node("source", &[]).await;
    let mirror = world.node("mirror", &[&source.address]).await;
    for index in 0..2 {
        model(&world, &format!("model-{index}"), 300 + index);
        // Both have the same config.json.
        let hash = source.publish(&world.path(&format!("model-{index}"))).await.hash;
        mirror.fetch(request(&hash, None)).await;
    }
    let blob = source.publish(&world.path("model-0").join("config.json")).await.hash;
    mirror.fetch(request(&blob, None)).await;
    for node in [&mirror, &source] {
        let disk = node.status().await.disk;
        let listed: u64 = node.node.core().list().await.expect("a list").iter().map(|entry| entry.disk).sum();
        let name = if std::ptr::eq(node, &mirror) { "mirror" } else { "source" };
        assert_eq!(disk.total, du(&world.path(name)), "{name}");
        assert_eq!((listed, listed + disk.shared + disk.other), (disk.listed, disk.total), "{name}: {disk:?}");
        assert!(disk.shared > 0, "{name}: {disk:?}");
    }
}
