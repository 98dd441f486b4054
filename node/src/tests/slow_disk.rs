//! A disk that is slower than the network: the network becomes as slow, and nothing piles up in between.

use std::path::PathBuf;
use std::time::Duration;

use p2pweights_protocol::limits;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::config::NodeConfig;
use crate::node::Node;
use crate::report::{FetchEvent, FetchRequest, PublishEvent, PublishRequest};

const MIB: u64 = 1 << 20;
/// Memory for payload on its way in.
const MEMORY_BYTES: u64 = 2 * MIB;
/// Least that a source takes of it before it has something to write.
const FLOW_BYTES: u64 = 256 * 1024 + 128 * 1024;
/// Several times what may be on its way at once.
const FILE_BYTES: u64 = 4 * limits::IN_FLIGHT_BYTES;
/// Any one thing that is waited for happens within this, also on a machine under load.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
/// A figure that stays the same for so many looks has come to rest. One that has not, but seemed so, makes no test fail.
const CALM_LOOKS: usize = 15;

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Sources that hold one file, and a fetcher.
struct Stage {
    folder: TempDir,
    sources: Vec<(Node, String)>,
    fetcher: Node,
    hash: String,
}

impl Stage {
    async fn new(sources: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weights");
        std::fs::File::create(&file).unwrap().set_len(FILE_BYTES).unwrap();
        let mut stage = Self { fetcher: node(&folder, "fetcher").await, folder, sources: Vec::new(), hash: String::new() };
        for index in 0..sources {
            let source = node(&stage.folder, &format!("source-{index}")).await;
            stage.hash = publish(&source, file.clone()).await;
            let address = source.status().await.listen[0].clone();
            stage.sources.push((source, address));
        }
        stage
    }

    fn start_fetch(&self) -> mpsc::Receiver<FetchEvent> {
        self.fetcher.core().fetch(FetchRequest {
            output: Some(self.folder.path().join("out")),
            peers: self.sources.iter().map(|(_, address)| address.clone()).collect(),
            ..FetchRequest::of(self.hash.clone())
        })
    }

    /// Bytes that all sources together have got rid of.
    async fn sent(&self) -> u64 {
        let mut sent = 0;
        for (source, _) in &self.sources {
            sent += source.status().await.sent_bytes;
        }
        sent
    }

    /// The same, once it has come to rest: at least one write waits for the disk, and nothing moves any more.
    async fn sent_at_rest(&self) -> u64 {
        let brake = &self.fetcher.core().store.stage().brake;
        let mut ticks = tokio::time::interval(LOOK);
        let (mut sent, mut calm) = (0, 0);
        let resting = async {
            while calm < CALM_LOOKS {
                ticks.tick().await;
                let now = self.sent().await;
                calm = if now == sent && brake.waiting() > 0 { calm + 1 } else { 0 };
                sent = now;
            }
        };
        within("a disk that stands still and sources that wait for it", resting).await;
        sent
    }

    async fn shut_down(self) {
        for node in self.sources.into_iter().map(|(node, _)| node).chain([self.fetcher]) {
            within("a node's end", node.shutdown()).await;
        }
    }
}

async fn node(folder: &TempDir, name: &str) -> Node {
    let config = NodeConfig {
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        network: "slow-disk".to_owned(),
        mdns: false,
        api: None,
        reserve_bytes: MIB,
        transfer_memory_bytes: MEMORY_BYTES,
        ..NodeConfig::new(folder.path().join(name))
    };
    within("a node's start", Node::start(config)).await.unwrap()
}

async fn publish(node: &Node, path: PathBuf) -> String {
    let mut events = node.core().publish(PublishRequest { path, no_sha256: true, ..PublishRequest::default() });
    within("a publish", async {
        loop {
            match events.recv().await.expect("a publish ends with a result") {
                PublishEvent::Done(published) => return published.hash,
                PublishEvent::Failed(failure) => panic!("{failure:?}"),
                _ => (),
            }
        }
    })
    .await
}

/// The bytes that came over the network, and what was warned of.
async fn done(mut events: mpsc::Receiver<FetchEvent>) -> (u64, Vec<String>) {
    within("a fetch", async {
        let mut warnings = Vec::new();
        loop {
            match events.recv().await.expect("a fetch ends with a result") {
                FetchEvent::Done { fetched, .. } => return (fetched, warnings),
                FetchEvent::Failed(failure) => panic!("{failure:?}"),
                FetchEvent::Warning { message } => warnings.push(message),
                _ => (),
            }
        }
    })
    .await
}

async fn a_slow_disk(sources: usize) {
    let stage = Stage::new(sources).await;
    let brake = &stage.fetcher.core().store.stage().brake;
    brake.hold();
    let fetch = stage.start_fetch();
    let mut sent = stage.sent_at_rest().await;
    let mut let_through = 0;
    // One write of a source each, as many as there is memory for.
    let room = (MEMORY_BYTES / FLOW_BYTES) as usize;
    let waiting = brake.waiting();
    assert!(waiting <= room, "{waiting} writes of {FLOW_BYTES} bytes in {MEMORY_BYTES}");
    assert!(sources <= room || waiting == room, "{waiting} writes wait, and there is memory for {room}");
    assert!(sent <= limits::IN_FLIGHT_BYTES, "{sent} bytes were sent to a node that can write none");
    // The disk moves a little, and so does the network: no more, and no less, for there is enough to send.
    for _ in 0..2 {
        brake.let_through(32 * MIB);
        let_through += 32 * MIB;
        let before = sent;
        sent = stage.sent_at_rest().await;
        assert!(sent <= let_through + limits::IN_FLIGHT_BYTES, "{sent} bytes were sent to a node that could write {let_through}");
        assert!(sent > before, "the disk wrote, and nobody sent more");
    }
    brake.release();
    let (fetched, warnings) = done(fetch).await;
    // Whoever had to wait for our disk is not to blame for it.
    assert_eq!(warnings, Vec::<String>::new());
    let strikes: Vec<u32> = stage.fetcher.core().peers().await.unwrap().iter().map(|peer| peer.strikes).collect();
    assert_eq!(strikes, vec![0; sources]);
    assert!(fetched >= FILE_BYTES);
    stage.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_makes_one_source_slow_and_piles_nothing_up() {
    a_slow_disk(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_sources_than_there_is_memory_for_pile_up_no_more() {
    a_slow_disk(8).await;
}
