//! The same journey over every transport that a node speaks.

use std::net::TcpListener;

use p2pweights_tests::content::{MIB, assert_same_files, write_model};
use p2pweights_tests::nodes::{World, request};

/// Publish, serve and fetch among three nodes that listen only there.
async fn journey(listen: &str) {
    let world = World::new();
    write_model(&world.path("model"), 1, &[3 * MIB, 70_000]);
    let bootstrap = world.node_on("bootstrap", listen, &[]).await;
    let mirror = world.node_on("mirror", listen, &[&bootstrap.address]).await;
    let published = mirror.publish(&world.path("model")).await;
    let fetcher = world.node_on("fetcher", listen, &[&bootstrap.address]).await;
    let fetched = fetcher.fetch(request(&published.hash, Some(world.path("out")))).await;
    assert_eq!(fetched.from(&mirror.peer_id), published.bytes);
    assert_same_files(&world.path("model"), &world.path("out"));
}

/// Whether this machine has the loopback address of IPv6. Some containers do not.
fn has_ipv6() -> bool {
    let found = TcpListener::bind("[::1]:0").is_ok();
    if !found {
        eprintln!("SKIPPED: this machine has no ::1, so nothing was tried over IPv6");
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_alone_is_enough() {
    journey("/ip4/127.0.0.1/udp/0/quic-v1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_over_ipv6_is_enough() {
    if has_ipv6() {
        journey("/ip6/::1/tcp/0").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_over_ipv6_is_enough() {
    if has_ipv6() {
        journey("/ip6/::1/udp/0/quic-v1").await;
    }
}
