//! Nodes of a test's own: real ones, on loopback, on ports that the system chooses, each with its data dir below the test's folder.

use std::path::{Path, PathBuf};

use p2pweights_node::config::NodeConfig;
use p2pweights_node::net::from_libp2p;
use p2pweights_node::node::Node;
use p2pweights_node::report::{
    Failure, FetchEvent, FetchRequest, MirrorReport, PublishEvent, PublishRequest, Published, SourceReport, StatusReport,
    VerifyEvent, VerifyReport, VerifyRequest,
};
use p2pweights_node::session::Session;
use p2pweights_node::store::{Store, StoreConfig};
use p2pweights_protocol::ids::PeerId;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::wait::within;

/// Where nodes listen unless a test says otherwise.
pub const TCP: &str = "/ip4/127.0.0.1/tcp/0";
/// The network that all nodes of these tests are in. None knows a node of another test, so one name will do.
pub const NETWORK: &str = "loopback";
/// Free disk space that the tests' stores leave alone, in bytes.
const RESERVE: u64 = 1 << 20;

/// A folder of a test's own, deleted at its end.
pub struct World {
    folder: TempDir,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// An empty folder.
    pub fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("p2pweights-test-").tempdir().expect("a folder can be made") }
    }

    /// A path within it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Settings of a node over the data dir of that name.
    pub fn config(&self, name: &str, listen: &str, bootstrap: &[&str]) -> NodeConfig {
        NodeConfig {
            listen: vec![listen.parse().expect("a multiaddr")],
            bootstrap: bootstrap.iter().map(|address| address.parse().expect("a multiaddr")).collect(),
            network: NETWORK.to_owned(),
            mdns: false,
            api: None,
            reserve_bytes: RESERVE,
            // What reads or fetches by itself would take away what tests look for.
            scrub_period: None,
            mend_pause: None,
            ..NodeConfig::new(self.path(name))
        }
    }

    /// A node on TCP over the data dir of that name.
    pub async fn node(&self, name: &str, bootstrap: &[&str]) -> TestNode {
        self.node_on(name, TCP, bootstrap).await
    }

    /// A node that listens there.
    pub async fn node_on(&self, name: &str, listen: &str, bootstrap: &[&str]) -> TestNode {
        TestNode::start(self.config(name, listen, bootstrap)).await
    }

    /// Publishes into the data dir of that name, on which no node runs.
    pub async fn publish(&self, name: &str, path: &Path) -> Published {
        self.publish_as(name, publish_request(path)).await
    }

    /// The same, with all that can be said about it.
    pub async fn publish_as(&self, name: &str, request: PublishRequest) -> Published {
        let session = Session::open_offline(self.config(name, TCP, &[])).await.expect("the store opens");
        let events = session.publish(request).await.expect("the order is taken");
        let published = published(events).await.expect("it can be published");
        session.close().await;
        published
    }

    /// The store in the data dir of that name, on which no node runs.
    pub fn store(&self, name: &str) -> Store {
        let config = StoreConfig { reserve_bytes: RESERVE, ..StoreConfig::default() };
        Store::open_with(&self.path(name), config).expect("the store opens")
    }

    /// Puts a small blob into the data dir of that name, on which no node runs.
    pub fn put(&self, name: &str, bytes: &[u8]) -> String {
        let store = self.store(name);
        let hash = store.put_bytes(bytes).expect("it is stored");
        store.close().expect("the store closes");
        hash.to_string()
    }

    /// Bytes of a blob in the data dir of that name, on which no node runs.
    pub fn blob(&self, name: &str, hash: &str) -> Vec<u8> {
        let hash = hash.parse().expect("a hash");
        self.store(name).read_all(hash, 1 << 30).expect("it is held")
    }
}

/// A running node.
pub struct TestNode {
    /// The node.
    pub node: Node,
    /// Where it listens, ending in its peer id.
    pub address: String,
    /// Its peer id.
    pub peer_id: String,
}

impl TestNode {
    /// Starts a node.
    pub async fn start(config: NodeConfig) -> Self {
        let node = within("a node's start", Node::start(config)).await.expect("a node starts");
        let status = node.status().await;
        let address = status.listen.first().expect("it listens").clone();
        Self { node, address, peer_id: status.peer_id }
    }

    /// Its peer id as the protocol knows it.
    pub fn peer(&self) -> PeerId {
        from_libp2p(&self.peer_id.parse().expect("a peer id")).expect("an Ed25519 key")
    }

    /// Its state.
    pub async fn status(&self) -> StatusReport {
        within("a status", self.node.status()).await
    }

    /// Publishes and serves.
    pub async fn publish(&self, path: &Path) -> Published {
        published(self.node.core().publish(publish_request(path))).await.expect("it can be published")
    }

    /// Reads everything again, or what belongs to one hash.
    pub async fn verify(&self, request: VerifyRequest) -> VerifyReport {
        let mut events = self.node.core().verify(request);
        within("a verify", async {
            loop {
                match events.recv().await.expect("a verify ends with a result") {
                    VerifyEvent::Done(report) => return report,
                    VerifyEvent::Failed(failure) => panic!("the verify failed: {failure:?}"),
                    VerifyEvent::Progress { .. } | VerifyEvent::Blob(_) | VerifyEvent::Mending { .. } => (),
                }
            }
        })
        .await
    }

    /// Begins to fetch.
    pub fn start_fetch(&self, request: FetchRequest) -> Fetch {
        Fetch { events: self.node.core().fetch(request), seen: Vec::new() }
    }

    /// Fetches to the end, which must be a good one.
    pub async fn fetch(&self, request: FetchRequest) -> Fetched {
        self.start_fetch(request).done().await
    }

    /// Strikes against a peer, as long as it is connected.
    pub async fn strikes(&self, peer_id: &str) -> u32 {
        let peers = self.node.core().peers().await.expect("a list of peers");
        peers.iter().find(|peer| peer.peer == peer_id).map_or(0, |peer| peer.strikes)
    }

    /// Whether a peer that was connected has a strike. One that does wrong again and again is banned within milliseconds: then no look may
    /// find it struck and connected.
    pub async fn has_struck(&self, peer_id: &str) -> bool {
        let peers = self.node.core().peers().await.expect("a list of peers");
        peers.iter().find(|peer| peer.peer == peer_id).is_none_or(|peer| peer.strikes > 0)
    }

    /// Whether a peer is connected.
    pub async fn is_connected(&self, peer_id: &str) -> bool {
        self.node.core().peers().await.expect("a list of peers").iter().any(|peer| peer.peer == peer_id)
    }

    /// Stops it in order.
    pub async fn stop(self) {
        within("a node's end", self.node.shutdown()).await;
    }
}

/// Asks to publish a path and nothing more.
pub fn publish_request(path: &Path) -> PublishRequest {
    PublishRequest { path: path.to_owned(), ..PublishRequest::default() }
}

async fn published(mut events: mpsc::Receiver<PublishEvent>) -> Result<Published, Failure> {
    within("a publish", async {
        loop {
            match events.recv().await.expect("a publish ends with a result") {
                PublishEvent::Progress { .. } | PublishEvent::File { .. } => (),
                PublishEvent::Done(published) => return Ok(published),
                PublishEvent::Failed(failure) => return Err(failure),
            }
        }
    })
    .await
}

/// Asks for a hash, all of it, into this folder.
pub fn request(target: &str, output: Option<PathBuf>) -> FetchRequest {
    FetchRequest { output, timeout_s: 45, ..FetchRequest::of(target.to_owned()) }
}

/// A fetch under way. Dropping it cancels it.
pub struct Fetch {
    events: mpsc::Receiver<FetchEvent>,
    seen: Vec<FetchEvent>,
}

impl Fetch {
    /// The first event, from now on, of which `pick` makes something.
    pub async fn until<T>(&mut self, what: &str, mut pick: impl FnMut(&FetchEvent) -> Option<T>) -> T {
        within(what, async {
            loop {
                let event =
                    self.events.recv().await.unwrap_or_else(|| panic!("the fetch ended before {what}: {:?}", self.seen.last()));
                let picked = pick(&event);
                self.seen.push(event);
                if let Some(picked) = picked {
                    return picked;
                }
            }
        })
        .await
    }

    /// Its good end.
    pub async fn done(self) -> Fetched {
        match self.end().await {
            Ok(fetched) => fetched,
            Err(failure) => panic!("the fetch failed: {failure:?}"),
        }
    }

    /// Its bad end.
    pub async fn failure(self) -> Failure {
        match self.end().await {
            Ok(fetched) => panic!("the fetch went well: {fetched:?}"),
            Err(failure) => failure,
        }
    }

    /// Its end, whichever.
    pub async fn end(mut self) -> Result<Fetched, Failure> {
        let end = self.until("its end", |event| match event {
            FetchEvent::Failed(failure) => Some(Err(failure.clone())),
            FetchEvent::Done { bytes, fetched, sources, mirrors, .. } => {
                Some(Ok((*bytes, *fetched, sources.clone(), mirrors.clone())))
            }
            _ => None,
        });
        let (bytes, fetched, sources, mirrors) = end.await?;
        let mut result = Fetched { bytes, fetched, held: 0, sources, mirrors, warnings: Vec::new() };
        for event in self.seen {
            match event {
                FetchEvent::Plan { held, .. } => result.held = held,
                FetchEvent::Warning { message } => result.warnings.push(message),
                _ => (),
            }
        }
        Ok(result)
    }
}

/// What a fetch that went well said of itself.
#[derive(Debug)]
pub struct Fetched {
    /// Bytes of the files chosen.
    pub bytes: u64,
    /// Bytes that came over the network.
    pub fetched: u64,
    /// Bytes that were held when it began.
    pub held: u64,
    /// Who delivered how much.
    pub sources: Vec<SourceReport>,
    /// Which mirrors did.
    pub mirrors: Vec<MirrorReport>,
    /// What it warned of.
    pub warnings: Vec<String>,
}

impl Fetched {
    /// Bytes that the mirror at this address delivered.
    pub fn from_mirror(&self, url: &str) -> u64 {
        self.mirrors.iter().find(|mirror| mirror.url == url).map_or(0, |mirror| mirror.bytes)
    }

    /// Bytes that this peer delivered.
    pub fn from(&self, peer_id: &str) -> u64 {
        self.sources.iter().find(|source| source.peer == peer_id).map_or(0, |source| source.bytes)
    }
}
