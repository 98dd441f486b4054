//! Which path a bulk stream takes, and who may bring a connection for one.

use std::net::SocketAddr;

use super::super::certificates::Certificates;
use super::super::quic::Quic;
use super::*;

/// A node that allows these paths.
async fn node(paths: &[BulkPath]) -> TestNode {
    TestNode::start_with(NetConfig { paths: paths.to_vec(), ..config("test", &[]) }).await
}

/// Opens a bulk stream, the wanted path first, and sends a word over it; the path taken.
async fn send_word(from: &TestNode, to: &mut TestNode, wanted: BulkPath) -> BulkPath {
    let connector = from.net.bulk_connector().on(wanted);
    let mut ours = within("a stream", connector.open(to.peer)).await.expect("taken");
    ours.write_all(b"word").await.expect("written");
    ours.flush().await.expect("written");
    let bulk = |event| match event {
        NetEvent::Bulk { peer, stream } if peer == from.peer => Some(stream),
        _ => None,
    };
    let mut theirs = to.until(bulk).await;
    let mut word = [0; 4];
    within("a word", theirs.read_exact(&mut word)).await.expect("read");
    assert_eq!(&word, b"word");
    connector.taken().expect("one was taken")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wanted_path_is_taken_or_another_one_that_both_allow() {
    use BulkPath::{Direct, Quic, Stream};
    for (allowed, wanted, taken) in [
        (&BulkPath::ALL[..], Direct, Direct),
        (&BulkPath::ALL, Quic, Quic),
        (&BulkPath::ALL, Stream, Stream),
        (&[Direct, Stream], Quic, Direct),
        (&[Quic, Stream], Direct, Quic),
        (&[Stream], Quic, Stream),
    ] {
        let (mut a, mut b) = (node(&BulkPath::ALL).await, node(allowed).await);
        a.connect_to(&mut b).await;
        assert_eq!(send_word(&a, &mut b, wanted).await, taken, "{wanted} of {allowed:?}");
        assert_eq!(send_word(&b, &mut a, wanted).await, taken, "{wanted} of {allowed:?}, the other way round");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_path_in_common_there_is_an_error() {
    let (mut a, mut b) = (node(&[BulkPath::Direct]).await, node(&[BulkPath::Quic]).await);
    a.connect_to(&mut b).await;
    assert!(matches!(a.net.open_bulk(b.peer).await, Err(OpenError::NoPath)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_gets_no_further_than_a_handshake() {
    let (mut a, mut b) = (node(&[BulkPath::Quic]).await, node(&[BulkPath::Quic]).await);
    a.connect_to(&mut b).await;
    let (_stream, [_, port]) = a.net.bulk_connector().greeted(b.peer).await.expect("taken");
    let stranger = Quic::new(Certificates::new(&Keypair::generate_ed25519(), "/p2pweights/test/bulk/1/quic").expect("made"));
    let mut refused = stranger.connect(b.peer, SocketAddr::from(([127, 0, 0, 1], port))).await.expect("a handshake");
    let ended = within("the end of the connection", refused.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_err(), "served");
    // The node goes on: somebody it knows is welcome, and is the first to be heard of.
    assert_eq!(send_word(&a, &mut b, BulkPath::Quic).await, BulkPath::Quic);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_a_peer_are_limited_whatever_carries_them() {
    let (mut a, mut b) = (node(&BulkPath::ALL).await, node(&BulkPath::ALL).await);
    a.connect_to(&mut b).await;
    let bulk = |event| matches!(event, NetEvent::Bulk { .. }).then_some(event);
    let mut held = Vec::new();
    for path in [BulkPath::Quic, BulkPath::Direct, BulkPath::Stream, BulkPath::Quic] {
        let ours = a.net.bulk_connector().on(path).open(b.peer).await.expect("taken");
        held.push((ours, b.until(bulk).await));
    }
    for path in BulkPath::ALL {
        assert!(a.net.bulk_connector().on(path).open(b.peer).await.is_err(), "a fifth stream, over {path}");
    }
    held.pop();
    assert_eq!(send_word(&a, &mut b, BulkPath::Quic).await, BulkPath::Quic, "room again");
}
