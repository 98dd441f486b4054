//! The ways on which payload travels: each alone, and from one to the next.

use p2pweights_node::config::NodeConfig;
use p2pweights_node::net::BulkPath;
use p2pweights_node::report::{FetchEvent, PathReport};
use p2pweights_tests::content::{MIB, assert_same_files, write_model};
use p2pweights_tests::nodes::{TCP, TestNode, World, request};

use crate::hostile::Breaker;
use crate::stage::Stage;

/// How payload came from that peer.
async fn paths(node: &TestNode, peer_id: &str) -> Vec<PathReport> {
    let peers = node.node.core().peers().await.expect("a list of peers");
    peers.into_iter().find(|peer| peer.peer == peer_id).expect("it is connected").paths
}

fn current(paths: &[PathReport]) -> BulkPath {
    paths.iter().find(|path| path.current).expect("one is in use").path
}

/// A fetch between two nodes of which each allows some paths; the path taken.
async fn journey(of_source: &[BulkPath], of_fetcher: &[BulkPath]) -> BulkPath {
    let world = World::new();
    write_model(&world.path("model"), 1, &[3 * MIB, 70_000]);
    let allowing =
        |name, paths: &[BulkPath], known: &[&str]| NodeConfig { paths: paths.to_vec(), ..world.config(name, TCP, known) };
    let source = TestNode::start(allowing("source", of_source, &[])).await;
    let published = source.publish(&world.path("model")).await;
    let fetcher = TestNode::start(allowing("fetcher", of_fetcher, &[&source.address])).await;
    fetcher.fetch(request(&published.hash, Some(world.path("out")))).await;
    assert_same_files(&world.path("model"), &world.path("out"));
    current(&paths(&fetcher, &source.peer_id).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_path_carries_a_transfer_alone() {
    for path in BulkPath::ALL {
        assert_eq!(journey(&BulkPath::ALL, &[path]).await, path);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_source_does_not_offer_is_done_without() {
    assert_eq!(journey(&[BulkPath::Stream], &BulkPath::ALL).await, BulkPath::Stream);
    assert_eq!(journey(&[BulkPath::Quic, BulkPath::Stream], &BulkPath::ALL).await, BulkPath::Quic);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_goes_on_when_its_path_breaks() {
    let stage = Stage::new(&[6 * MIB, 2 * MIB]).await;
    let breaker = stage.character("breaker", Breaker::default()).await;
    let fetcher = stage.fetcher().await;
    let mut fetch = fetcher.start_fetch(stage.request());
    let all = |event: &FetchEvent| matches!(event, FetchEvent::Progress { bytes, .. } if *bytes >= 8 * MIB as u64).then_some(());
    fetch.until("all that the source has", all).await;
    let paths = paths(&fetcher, &breaker.peer_id).await;
    assert_eq!(current(&paths), BulkPath::Quic, "{paths:?}");
    let (fetched, _honest) = stage.rescued(&fetcher, fetch).await;
    assert!(fetched.from(&breaker.peer_id) >= 8 * MIB as u64, "{fetched:?}");
}
