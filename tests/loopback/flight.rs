//! Flight logs of real nodes, gone through again by simnet.

use std::path::PathBuf;

use p2pweights_node::config::NodeConfig;
use p2pweights_protocol::engine::Input;
use p2pweights_protocol::flight::{Ending, Line};
use p2pweights_simnet::flight::replay;
use p2pweights_tests::content::{MIB, assert_same_files, write_model};
use p2pweights_tests::nodes::{TCP, TestNode, World, request};

/// A node that keeps a flight log, and where.
async fn logged(world: &World, name: &str, bootstrap: &[&str]) -> (TestNode, PathBuf) {
    let path = world.path(&format!("{name}.flight"));
    let config = NodeConfig { flight_log: Some(path.clone()), ..world.config(name, TCP, bootstrap) };
    (TestNode::start(config).await, path)
}

/// The flight logs of a source and a fetcher after a fetch.
async fn flights(world: &World) -> [String; 2] {
    write_model(&world.path("model"), 1, &[6 * MIB, 70_000]);
    let (source, source_log) = logged(world, "source", &[]).await;
    let published = source.publish(&world.path("model")).await;
    let (fetcher, fetcher_log) = logged(world, "fetcher", &[&source.address]).await;
    let fetched = fetcher.fetch(request(&published.hash, Some(world.path("out")))).await;
    assert_eq!(fetched.from(&source.peer_id), published.bytes);
    assert_same_files(&world.path("model"), &world.path("out"));
    fetcher.stop().await;
    source.stop().await;
    [source_log, fetcher_log].map(|path| std::fs::read_to_string(path).expect("a flight log"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_fetch_is_gone_through_again_and_an_altered_one_is_told_apart() {
    let world = World::new();
    let logs = flights(&world).await;
    for log in &logs {
        let replayed = replay(log.as_bytes()).expect("a whole log");
        assert_eq!(replayed.difference, None);
        assert_eq!((replayed.steps as usize, replayed.ending), (log.lines().count() - 2, Some(Ending::Stopped)));
    }

    // The fetcher is told that one delivery failed.
    let [_, log] = logs;
    let mut lines: Vec<String> = log.lines().map(str::to_owned).collect();
    let delivered = |line: &String| line.contains("\"FetchEnded\"") && line.contains("\"Delivered\"");
    let altered = lines.iter().rposition(delivered).expect("something was delivered");
    lines[altered] = lines[altered].replace("\"Delivered\"", "\"BadBytes\"");
    let replayed = replay(lines.join("\n").as_bytes()).expect("still a log");
    let difference = replayed.difference.expect("another course of events");
    assert_eq!(difference.line as usize, altered + 1);
    assert!(matches!(difference.step.input, Input::FetchEnded { .. }), "{difference}");

    // A line is spoilt.
    lines[2].truncate(20);
    let error = replay(lines.join("\n").as_bytes()).expect_err("no log any more");
    assert!(error.to_string().starts_with("line 3 "), "{error}");
    // Its node was killed in the middle of a line.
    let killed = replay(&log.as_bytes()[..log.len() - 30]).expect("what is there");
    assert_eq!((killed.difference, killed.ending), (None, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_the_run_before_is_kept() {
    let world = World::new();
    let (node, path) = logged(&world, "node", &[]).await;
    node.stop().await;
    let first = std::fs::read_to_string(&path).expect("a flight log");
    let (node, _) = logged(&world, "node", &[]).await;
    node.stop().await;
    assert_eq!(std::fs::read_to_string(path.with_extension("flight.previous")).expect("the one before"), first);
    let second = std::fs::read_to_string(&path).expect("a flight log");
    assert!(Line::parse(second.lines().next().expect("a line").as_bytes()).is_ok() && second != first, "another seed");
}
