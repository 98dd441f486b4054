//! Caps on payload between real nodes, over direct connections and over streams of libp2p's.

use std::num::NonZeroU64;
use std::time::Duration;

use p2pweights_node::config::{MIN_RATE_BYTES_PER_S, NodeConfig, RateLimits};
use p2pweights_node::report::FetchEvent;
use p2pweights_tests::content::{MIB, noise, write};
use p2pweights_tests::nodes::{TCP, TestNode, World, request};
use p2pweights_tests::wait::within;
use tokio::time::Instant;

/// Slow enough for a machine under load, fast enough for a test.
const RATE: u64 = 4 * MIB as u64;
/// What a fetch of this size takes at least: a cap may pass a tenth of a second's worth at once.
const BYTES: usize = 6 * MIB;
const AT_LEAST: Duration = Duration::from_millis(1350);

/// No cap.
const OFF: RateLimits = RateLimits { total: None, lan: None, wan: None };
/// What nobody here is far enough away for, and too slow for any test.
const TRICKLE: Option<NonZeroU64> = NonZeroU64::new(MIN_RATE_BYTES_PER_S);

fn total(rate: u64) -> RateLimits {
    RateLimits { total: NonZeroU64::new(rate), ..OFF }
}

/// A fetch between two nodes that listen there; returns how long it took.
async fn fetch(listen: &str, max_upload: RateLimits, max_download: RateLimits) -> Duration {
    let world = World::new();
    write(&world.path("weights"), &noise(1, BYTES));
    let source = TestNode::start(NodeConfig { max_upload, ..world.config("source", listen, &[]) }).await;
    let published = source.publish(&world.path("weights")).await;
    let fetcher = TestNode::start(NodeConfig { max_download, ..world.config("fetcher", listen, &[&source.address]) }).await;
    let began = Instant::now();
    fetcher.fetch(request(&published.hash, Some(world.path("out")))).await;
    let took = began.elapsed();
    let out = world.path("out").join(&published.hash);
    assert!(std::fs::read(out).expect("it is placed") == noise(1, BYTES));
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_out_keeps_to_its_cap_whatever_carries_it() {
    // Over QUIC there is no direct connection: streams of libp2p's carry the payload.
    for listen in [TCP, "/ip4/127.0.0.1/udp/0/quic-v1"] {
        let took = fetch(listen, total(RATE), OFF).await;
        assert!(took >= AT_LEAST, "{listen}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_in_keeps_to_its_cap() {
    for listen in [TCP, "/ip4/127.0.0.1/udp/0/quic-v1"] {
        let took = fetch(listen, OFF, total(RATE)).await;
        assert!(took >= AT_LEAST, "{listen}: {took:?}");
    }
}

/// Six mebibytes at the rate for those far away would take three minutes, which no wait here allows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_on_this_machine_keep_to_the_cap_for_those_near_and_not_to_that_for_those_far() {
    let near = RateLimits { lan: NonZeroU64::new(RATE), wan: TRICKLE, ..OFF };
    for (upload, download) in [(near, OFF), (OFF, near)] {
        let took = fetch(TCP, upload, download).await;
        assert!(took >= AT_LEAST, "{took:?}");
    }
    // The cap over all stands above one that allows more.
    let took = fetch(TCP, RateLimits { lan: NonZeroU64::new(RATE * 100), ..total(RATE) }, OFF).await;
    assert!(took >= AT_LEAST, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_peers_share_one_cap_and_a_stop_does_not_wait_for_it() {
    let world = World::new();
    write(&world.path("weights"), &noise(1, 64 * MIB));
    let source = TestNode::start(NodeConfig { max_upload: total(RATE), ..world.config("source", TCP, &[]) }).await;
    let published = source.publish(&world.path("weights")).await;
    let began = Instant::now();
    let mut fetchers = Vec::new();
    for name in ["one", "other"] {
        let node = world.node(name, &[&source.address]).await;
        let fetch = node.start_fetch(request(&published.hash, Some(world.path(&format!("out-{name}")))));
        fetchers.push((node, fetch));
    }
    let some = |event: &FetchEvent| matches!(event, FetchEvent::Progress { bytes, .. } if *bytes >= 4 * MIB as u64).then_some(());
    for (_, fetch) in &mut fetchers {
        fetch.until("some of it", some).await;
    }
    let sent = source.status().await.sent_bytes;
    let (took, most) = (began.elapsed(), |took: Duration| RATE * (took.as_millis() as u64 + 150) / 1000);
    assert!(sent <= most(took), "{sent} bytes in {took:?}");
    // A quarter of a minute's worth is still asked for.
    let stopping = Instant::now();
    within("the source's end", source.node.shutdown()).await;
    assert!(stopping.elapsed() < Duration::from_secs(5), "{:?}", stopping.elapsed());
    for (node, fetch) in fetchers {
        drop(fetch);
        node.stop().await;
    }
}
