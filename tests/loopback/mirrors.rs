//! Web servers as sources: alone, beside peers, and with one vice each.

use std::num::NonZeroU64;

use p2pweights_node::config::{NodeConfig, RateLimits};
use p2pweights_node::report::{FailureKind, FetchEvent, FetchRequest, PublishRequest, Published};
use p2pweights_tests::content::{MIB, assert_same_files, files_below, write_model};
use p2pweights_tests::nodes::{Fetch, Fetched, TCP, TestNode, World, publish_request, request};
use p2pweights_tests::web::{Vice, Web};

/// A file of each kind: one whose proof takes a sidecar, one that is fetched whole, one that is a group.
const SHARDS: [usize; 3] = [6 * MIB + 5, 200_000, 9_000];
/// Bytes a second that a peer sends, where that matters: much less than a mirror on this machine.
const PEER_RATE: u64 = 2 * MIB as u64;

/// A model, published with a sidecar into `public`, from where web servers serve it.
async fn published(world: &World, shards: &[usize], mirrors: &[&str]) -> Published {
    write_model(&world.path("public"), 1, shards);
    let mirrors = mirrors.iter().map(ToString::to_string).collect();
    let request = PublishRequest { mirrors, sidecar: true, ..publish_request(&world.path("public")) };
    world.publish_as("publisher", request).await
}

/// Somebody who may ask this machine's web servers.
async fn fetcher(world: &World, known: &[&str]) -> TestNode {
    TestNode::start(NodeConfig { private_mirrors: true, ..world.config("fetcher", TCP, known) }).await
}

fn order(world: &World, published: &Published, mirrors: &[&Web]) -> FetchRequest {
    let mirrors = mirrors.iter().map(|web| web.url.clone()).collect();
    FetchRequest { mirrors, ..request(&published.hash, Some(world.path("out"))) }
}

/// What was published lies where it was fetched to, without the sidecar.
#[track_caller]
fn assert_arrived(world: &World) {
    std::fs::remove_dir_all(world.path("public").join(".p2pweights")).expect("there is a sidecar");
    assert_same_files(&world.path("public"), &world.path("out"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_and_nobody_else_is_enough() {
    let world = World::new();
    let published = published(&world, &SHARDS, &[]).await;
    let web = Web::start(&world.path("public"), Vice::None).await;
    let fetcher = fetcher(&world, &[]).await;
    let fetched = fetcher.fetch(order(&world, &published, &[&web])).await;
    assert_eq!((fetched.from_mirror(&web.url), fetched.sources.len()), (published.bytes, 0), "{fetched:?}");
    assert_arrived(&world);
    let report = fetcher.verify(Default::default()).await;
    assert!(report.ok, "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_names_its_mirrors_and_they_are_asked_unless_that_is_forbidden() {
    let world = World::new();
    write_model(&world.path("public"), 1, &SHARDS);
    let web = Web::start(&world.path("public"), Vice::None).await;
    let published = published(&world, &SHARDS, &[&web.url]).await;
    let manifest = world.blob("publisher", &published.hash);
    for name in ["fetcher", "wary", "shielded"] {
        world.put(name, &manifest);
    }
    let settings = |name| NodeConfig { private_mirrors: true, ..world.config(name, TCP, &[]) };
    let quick = FetchRequest { timeout_s: 4, ..request(&published.hash, None) };
    let wary = TestNode::start(NodeConfig { manifest_mirrors: false, ..settings("wary") }).await;
    assert_eq!(wary.start_fetch(quick.clone()).failure().await.kind, FailureKind::NotFound);
    // This machine is out of bounds unless the owner says otherwise.
    let shielded = TestNode::start(NodeConfig { private_mirrors: false, ..settings("shielded") }).await;
    assert_eq!(shielded.start_fetch(quick).failure().await.kind, FailureKind::NotFound);
    let named = FetchRequest { mirrors: vec![web.url.clone()], ..request(&published.hash, None) };
    let failure = shielded.start_fetch(named).failure().await;
    assert!(failure.kind == FailureKind::Usage && failure.message.contains("mirrors.allow_private"), "{failure:?}");
    assert_eq!(web.asked(), []);
    let fetched = fetcher(&world, &[]).await.fetch(request(&published.hash, Some(world.path("out")))).await;
    assert_eq!(fetched.from_mirror(&web.url), published.bytes);
    assert_arrived(&world);
}

/// Four peers that together send as much as a good line brings; the mirror could send many times as much.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_four_peers_a_mirror_carries_little() {
    let world = World::new();
    let published = published(&world, &[40 * MIB], &[]).await;
    let web = Web::start(&world.path("public"), Vice::None).await;
    let max_upload = RateLimits { total: NonZeroU64::new(PEER_RATE), ..RateLimits::default() };
    let mut peers = Vec::new();
    for index in 0..4 {
        let name = format!("peer-{index}");
        world.publish(&name, &world.path("public")).await;
        peers.push(TestNode::start(NodeConfig { max_upload, ..world.config(&name, TCP, &[]) }).await);
    }
    let addresses: Vec<&str> = peers.iter().map(|peer| peer.address.as_str()).collect();
    let fetcher = fetcher(&world, &addresses).await;
    // However long it takes to find the peers on this machine today: the mirror waits until they have begun.
    web.close();
    let mut fetch = fetcher.start_fetch(order(&world, &published, &[&web]));
    let begun =
        |event: &FetchEvent| matches!(event, FetchEvent::Progress { bytes, .. } if *bytes >= 4 * MIB as u64).then_some(());
    fetch.until("four mebibytes of it", begun).await;
    web.open();
    let fetched = fetch.done().await;
    let share = fetched.from_mirror(&web.url) * 100 / fetched.fetched;
    assert!(share < 40, "{share} % of it came from the mirror: {fetched:?}");
    assert!(peers.iter().all(|peer| fetched.from(&peer.peer_id) > 0), "{fetched:?}");
    assert_arrived(&world);
}

/// One that has a vice, preferred to one that has none.
async fn beside_an_honest_one(shards: &[usize], vice: Vice) -> (Web, Fetched, World, Published) {
    let world = World::new();
    let published = published(&world, shards, &[]).await;
    let bad = Web::start(&world.path("public"), vice).await;
    let good = Web::start(&world.path("public"), Vice::None).await;
    let fetcher = fetcher(&world, &[]).await;
    let fetched = fetcher.fetch(order(&world, &published, &[&bad, &good])).await;
    assert_eq!(fetched.from_mirror(&bad.url) + fetched.from_mirror(&good.url), published.bytes, "{vice:?} {fetched:?}");
    assert_arrived(&world);
    (bad, fetched, world, published)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_flips_a_bit_is_dropped_after_one_group() {
    let (bad, fetched, ..) = beside_an_honest_one(&[24 * MIB], Vice::FlipsABit).await;
    assert_eq!(fetched.from_mirror(&bad.url), 0, "the first group was the wrong one: {fetched:?}");
    assert!(bad.asked_of_files().len() <= 2, "what was under way when it was found out: {:?}", bad.asked_of_files());
    assert!(fetched.warnings.iter().any(|text| text.contains(&bad.url) && text.contains("dropped")), "{fetched:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_the_file_is_not_taken_and_not_asked_for_again() {
    for vice in [Vice::Apologises, Vice::Lacks] {
        let (bad, fetched, ..) = beside_an_honest_one(&[12 * MIB, 11 * MIB], vice).await;
        assert!(fetched.from_mirror(&bad.url) < MIB as u64, "{fetched:?}");
        let large = bad.asked_of_files().into_iter().filter(|asked| asked.path.contains("safetensors")).count();
        // Of each of the two, the four requests that may be under way when the first is answered.
        assert!(large <= 8, "{vice:?}: {:?}", bad.asked_of_files());
        assert!(fetched.warnings.is_empty(), "no crime: {fetched:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_asks_for_a_pause_gets_it() {
    let (bad, fetched, ..) = beside_an_honest_one(&[12 * MIB], Vice::Busy).await;
    assert!(bad.asked_of_files().len() <= 3, "{:?}", bad.asked_of_files());
    assert!(fetched.warnings.is_empty(), "no crime: {fetched:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_leads_in_circles_is_not_used() {
    let (bad, fetched, ..) = beside_an_honest_one(&[12 * MIB], Vice::Circles).await;
    assert!(fetched.warnings.iter().any(|text| text.contains(&bad.url) && text.contains("redirects")), "{fetched:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_before_a_body_broke_off_is_kept() {
    let (bad, fetched, ..) = beside_an_honest_one(&[12 * MIB], Vice::Truncates).await;
    assert!(fetched.from_mirror(&bad.url) > 0 && !bad.asked_of_files().is_empty(), "{fetched:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_stalls_holds_nothing_up() {
    let (bad, fetched, ..) = beside_an_honest_one(&[12 * MIB], Vice::Stalls).await;
    assert_eq!(fetched.from_mirror(&bad.url), 0);
    assert!(!bad.asked_of_files().is_empty());
}

/// Its bytes are right, so nobody blames it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_one_with_proofs_the_others_bytes_are_proved_by_them() {
    for vice in [Vice::WrongSidecar, Vice::NoSidecar] {
        let (_, fetched, ..) = beside_an_honest_one(&SHARDS, vice).await;
        assert!(fetched.warnings.is_empty(), "{fetched:?}");
    }
}

/// The manifest is here, and this mirror the only source.
async fn alone_without_proofs(vice: Vice) -> (World, Published, Web, TestNode, Fetch) {
    let world = World::new();
    let published = published(&world, &SHARDS, &[]).await;
    world.put("fetcher", &world.blob("publisher", &published.hash));
    let web = Web::start(&world.path("public"), vice).await;
    let order = FetchRequest { timeout_s: 8, ..order(&world, &published, &[&web]) };
    let fetcher = fetcher(&world, &[]).await;
    let fetch = fetcher.start_fetch(order);
    (world, published, web, fetcher, fetch)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_proofs_or_ranges_a_file_is_believed_when_all_of_it_is_right() {
    for vice in [Vice::WrongSidecar, Vice::NoSidecar, Vice::IgnoresRanges] {
        let (world, published, web, _fetcher, fetch) = alone_without_proofs(vice).await;
        let fetched = fetch.done().await;
        assert_eq!(fetched.from_mirror(&web.url), published.bytes, "{vice:?} {fetched:?}");
        assert!(fetched.warnings.is_empty(), "{fetched:?}");
        let whole = web.asked_of_files().into_iter().filter(|asked| asked.range == Some(0..u64::MAX)).count();
        assert_eq!(whole, 1, "{vice:?} {:?}", web.asked_of_files());
        assert_arrived(&world);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_proofs_a_wrong_file_is_found_out_at_its_end_and_nothing_of_it_kept() {
    let world = World::new();
    write_model(&world.path("public"), 1, &SHARDS);
    let published = world.publish("publisher", &world.path("public")).await;
    world.put("fetcher", &world.blob("publisher", &published.hash));
    let web = Web::start(&world.path("public"), Vice::SpoilsTheEnd).await;
    let order = FetchRequest { timeout_s: 5, ..order(&world, &published, &[&web]) };
    let fetcher = fetcher(&world, &[]).await;
    let mut fetch = fetcher.start_fetch(order);
    let warned =
        |event: &FetchEvent| matches!(event, FetchEvent::Warning { message } if message.contains(&web.url)).then_some(());
    fetch.until("a warning", warned).await;
    assert_eq!(fetch.failure().await.kind, FailureKind::Incomplete);
    let placed: usize = files_below(&world.path("out")).iter().map(|(_, content)| content.len()).sum();
    assert!(placed < SHARDS[0], "{placed}");
    assert_eq!(files_below(&world.path("fetcher").join("tmp")).len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_manifest_under_the_name_is_refused() {
    let world = World::new();
    let published = published(&world, &SHARDS, &[]).await;
    let bad = Web::start(&world.path("public"), Vice::WrongManifest).await;
    let good = Web::start(&world.path("public"), Vice::None).await;
    let fetched = fetcher(&world, &[]).await.fetch(order(&world, &published, &[&bad, &good])).await;
    assert!(fetched.warnings.iter().any(|text| text.contains(&bad.url) && text.contains("another manifest")), "{fetched:?}");
    assert_arrived(&world);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_is_no_part_of_the_model() {
    let world = World::new();
    let with = published(&world, &SHARDS, &[]).await;
    let sidecar: Vec<String> = files_below(&world.path("public").join(".p2pweights"))
        .into_iter()
        .map(|(path, _)| path.extension().expect("an ending").to_str().expect("text").to_owned())
        .collect();
    assert_eq!(sidecar.iter().filter(|ending| *ending == "json").count(), 1);
    assert_eq!(sidecar.iter().filter(|ending| *ending == "outboard").count(), 1, "of what is larger than a block");
    let again = world.publish("another", &world.path("public")).await;
    assert_eq!((again.hash, again.files), (with.hash, with.files));
}
