//! The stage on which characters appear: a bootstrap node that holds a model's manifest and nothing else, the model itself in the hands of
//! an honest node that comes when it is called, and a fetcher that knows a hash and the bootstrap's address.

use std::path::PathBuf;
use std::time::Duration;

use p2pweights_node::report::FetchRequest;
use p2pweights_protocol::ids::BlobHash;
use p2pweights_tests::content::{assert_same_files, files_below, write_model};
use p2pweights_tests::nodes::{Fetch, Fetched, TestNode, World, request};
use tokio::time::Instant;

use crate::hostile::{Character, Goods, Hand, Vice};

/// How long a fetch may take once an honest node is there, whatever the others do: the first silence is noticed after ten seconds.
pub const SOON: Duration = Duration::from_secs(20);

/// Largest of the files that are no shards, in bytes.
const SMALL: usize = 1000;

/// See the module's text.
pub struct Stage {
    pub world: World,
    /// The manifest's hash.
    pub hash: BlobHash,
    /// Bytes of the model's files.
    pub bytes: u64,
    pub bootstrap: TestNode,
}

impl Stage {
    /// A stage around a model with shards of these sizes.
    pub async fn new(shard_bytes: &[usize]) -> Self {
        let world = World::new();
        write_model(&world.path("model"), 1, shard_bytes);
        let published = world.publish("honest", &world.path("model")).await;
        world.put("bootstrap", &world.blob("honest", &published.hash));
        let bootstrap = world.node("bootstrap", &[]).await;
        Self { world, hash: published.hash.parse().expect("a hash"), bytes: published.bytes, bootstrap }
    }

    /// The shards of the model; whoever needs its small files must ask somebody honest.
    pub fn goods(&self) -> Goods {
        let files = files_below(&self.world.path("model")).into_iter();
        Goods::new(files.map(|(_, content)| content).filter(|content| content.len() > SMALL))
    }

    /// A character that has the model, or says so, and can be found in the DHT.
    pub async fn character(&self, name: &str, vice: impl Vice) -> Character {
        self.character_with(name, self.hash, self.goods(), vice).await
    }

    /// A character that has these goods and can be found in the DHT as a provider of that hash.
    pub async fn character_with(&self, name: &str, hash: BlobHash, goods: Goods, vice: impl Vice) -> Character {
        let hand = Hand::start(&self.world, name, &[&self.bootstrap.address]).await;
        let character = Character::play(hand, hash, goods, vice);
        let mut scout = Hand::start(&self.world, &format!("{name}-scout"), &[&self.bootstrap.address]).await;
        scout.until_provided(hash, character.peer).await;
        character
    }

    /// Somebody who knows the bootstrap's address.
    pub async fn fetcher(&self) -> TestNode {
        self.world.node("fetcher", &[&self.bootstrap.address]).await
    }

    /// An order for the whole model.
    pub fn request(&self) -> FetchRequest {
        request(&self.hash.to_string(), Some(self.output()))
    }

    /// The honest node comes to the fetcher.
    pub async fn honest_joins(&self, fetcher: &TestNode) -> TestNode {
        self.world.node("honest", &[&fetcher.address]).await
    }

    /// Where the model is put.
    pub fn output(&self) -> PathBuf {
        self.world.path("out")
    }

    /// The model arrived, byte for byte.
    #[track_caller]
    pub fn assert_arrived(&self) {
        assert_same_files(&self.world.path("model"), &self.output());
    }

    /// The last act: the honest node comes, and the fetch completes soon.
    pub async fn rescued(&self, fetcher: &TestNode, fetch: Fetch) -> (Fetched, TestNode) {
        let began = Instant::now();
        let honest = self.honest_joins(fetcher).await;
        let fetched = fetch.done().await;
        let took = began.elapsed();
        assert!(took < SOON, "it took {took:?} with an honest node at hand");
        self.assert_arrived();
        assert_eq!((fetched.bytes, fetched.held), (self.bytes, 0));
        (fetched, honest)
    }
}
