//! Somebody reads through a node's gateway while the file is fetched from peers that lie or fall silent: only proved bytes come out, or the
//! connection is cut.

use p2pweights_node::config::NodeConfig;
use p2pweights_node::gateway::{GatewayConfig, Mappings};
use p2pweights_tests::content::{MIB, files_below};
use p2pweights_tests::nodes::{TCP, TestNode};
use p2pweights_tests::wait::within;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::hostile::{Liar, Mute};
use crate::stage::Stage;

const SHARDS: [usize; 1] = [6 * MIB + 17];

/// A node that knows the model's name, and nothing else but the bootstrap's address.
async fn reader(stage: &Stage) -> TestNode {
    let hash = stage.hash.to_string();
    let models = Mappings::parse([("org/m", hash.as_str())]).expect("a mapping");
    let gateway = GatewayConfig { listen: ([127, 0, 0, 1], 0).into(), optional: false, models, ..GatewayConfig::default() };
    let config = stage.world.config("fetcher", TCP, &[&stage.bootstrap.address]);
    TestNode::start(NodeConfig { gateway: Some(gateway), ..config }).await
}

/// The largest file of the model: its path and bytes.
fn shard(stage: &Stage) -> (String, Vec<u8>) {
    let files = files_below(&stage.world.path("model")).into_iter();
    let (path, content) = files.max_by_key(|(_, content)| content.len()).expect("there are files");
    (path.to_str().expect("text").to_owned(), content)
}

/// Asks for a file; returns when the head of the answer is there.
async fn get(node: &TestNode, stage: &Stage, path: &str) -> BufReader<TcpStream> {
    let address = node.status().await.gateway.expect("a gateway");
    let mut stream = BufReader::new(TcpStream::connect(address).await.expect("it listens"));
    let target = format!("/org/m/resolve/{}/{path}", &stage.hash.to_string()[..40]);
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it is taken");
    let mut line = String::new();
    within("an answer", stream.read_line(&mut line)).await.expect("a status");
    assert!(line.contains(" 200 "), "{line}");
    while !line.trim().is_empty() {
        line.clear();
        within("the head", stream.read_line(&mut line)).await.expect("a header");
    }
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_readers_bytes_are_proved_whoever_sends_them() {
    let stage = Stage::new(&SHARDS).await;
    let liar = stage.character("liar", Liar { group: 3 }).await;
    let node = reader(&stage).await;
    let (path, content) = shard(&stage);
    let mut body = get(&node, &stage, &path).await;
    liar.until_asked().await;
    let _honest = stage.honest_joins(&node).await;
    let mut read = Vec::new();
    within("the file", body.read_to_end(&mut read)).await.expect("to its end");
    assert!(read == content, "{} bytes of {}", read.len(), content.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_is_honest_the_connection_is_cut() {
    let stage = Stage::new(&SHARDS).await;
    let liar = stage.character("liar", Liar { group: 3 }).await;
    let mute = stage.character("mute", Mute).await;
    let node = reader(&stage).await;
    let (path, content) = shard(&stage);
    let mut body = get(&node, &stage, &path).await;
    liar.until_asked().await;
    mute.until_asked().await;
    // Its owner has seen enough.
    let stopping = tokio::spawn(node.node.shutdown());
    let mut read = Vec::new();
    // Cut off may be an error or an early end.
    let _ = within("the end", body.read_to_end(&mut read)).await;
    assert!(read.len() < content.len() && content.starts_with(&read), "{} bytes", read.len());
    within("the node's end", stopping).await.expect("in order");
}
