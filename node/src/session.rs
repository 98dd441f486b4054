//! What a command talks to: the node that owns the data dir already, or one started here, or the store alone.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::api::Client;
use crate::config::NodeConfig;
use crate::inventory;
use crate::mend::Mending;
use crate::node::{AGENT, Core, EVENTS, Node, blocking, open_store, withdrawn};
use crate::publish;
use crate::report::{
    Failure, FailureKind, FetchEvent, FetchRequest, GcReport, GcRequest, ImportEvent, ImportRequest, ListEntry, PeerReport,
    PinReport, PublishEvent, PublishRequest, RebuildReport, RemoveReport, ShowReport, StatusReport, VerifyEvent, VerifyRequest,
};
use crate::scrub::{self, Record};
use crate::sharing::Sharing;
use crate::store::Store;
use crate::upkeep::{self, UpkeepConfig};
use crate::verify;

/// A way to carry out commands on a data dir.
pub enum Session {
    /// A node runs already; everything goes through its local API.
    Remote(Client),
    /// A node of our own, for as long as the command takes.
    Embedded(Box<Node>),
    /// Only the store; nothing is sent or received.
    Offline(Box<Offline>),
}

/// The store alone.
pub struct Offline {
    store: Store,
    config: NodeConfig,
}

impl Session {
    /// Uses the running node if one owns the data dir; otherwise starts an embedded node with this config.
    pub async fn open(config: NodeConfig) -> Result<Self, Failure> {
        match Client::find(&config.data_dir).await {
            Some(client) => Ok(Self::Remote(client)),
            None => {
                // It lives for one command: what takes days, and what is looked at for days, is for a node that stays.
                let config = NodeConfig { scrub_period: None, mend_pause: None, metrics: None, ..config };
                Ok(Self::Embedded(Box::new(Node::start(config).await?)))
            }
        }
    }

    /// Like [`open`](Self::open), but without networking when no node runs.
    pub async fn open_offline(config: NodeConfig) -> Result<Self, Failure> {
        match Client::find(&config.data_dir).await {
            Some(client) => Ok(Self::Remote(client)),
            None => Ok(Self::Offline(Box::new(Offline { store: open_store(&config).await?, config }))),
        }
    }

    /// Whether a node that was running already does the work.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Remote(_))
    }

    /// Fetches; the last event is `Done` or `Failed`. Dropping the receiver cancels it, and what is verified stays.
    pub async fn fetch(&self, request: FetchRequest) -> Result<mpsc::Receiver<FetchEvent>, Failure> {
        match self {
            Self::Remote(client) => client.fetch(&request).await,
            Self::Embedded(node) => Ok(node.core().fetch(request)),
            Self::Offline(_) => Err(offline("fetch")),
        }
    }

    /// Publishes; the last event is `Done` or `Failed`. Dropping the receiver cancels it.
    pub async fn publish(&self, request: PublishRequest) -> Result<mpsc::Receiver<PublishEvent>, Failure> {
        match self {
            Self::Remote(client) => client.publish(&request).await,
            Self::Embedded(node) => Ok(node.core().publish(request)),
            Self::Offline(offline) => Ok(offline.publish(request)),
        }
    }

    /// Imports; the last event is `Done` or `Failed`. Dropping the receiver cancels it, and what came stays for the next time.
    pub async fn import(&self, request: ImportRequest) -> Result<mpsc::Receiver<ImportEvent>, Failure> {
        match self {
            Self::Remote(client) => client.import(&request).await,
            Self::Embedded(node) => Ok(node.core().import(request)),
            Self::Offline(_) => Err(offline("import")),
        }
    }

    /// A model or blob in the store.
    pub async fn show(&self, target: String) -> Result<ShowReport, Failure> {
        match self {
            Self::Remote(client) => client.show(&target).await,
            Self::Embedded(node) => node.core().show(target).await,
            Self::Offline(offline) => {
                let sharing = offline.sharing();
                offline.with(move |store| inventory::show(store, &sharing, &target)).await
            }
        }
    }

    /// What the store holds.
    pub async fn list(&self) -> Result<Vec<ListEntry>, Failure> {
        match self {
            Self::Remote(client) => client.list().await,
            Self::Embedded(node) => node.core().list().await,
            Self::Offline(offline) => {
                let sharing = offline.sharing();
                offline.with(move |store| inventory::list(store, &sharing)).await
            }
        }
    }

    /// The state of the node, or what can be said of the store without one.
    pub async fn status(&self) -> Result<StatusReport, Failure> {
        match self {
            Self::Remote(client) => client.status().await,
            Self::Embedded(node) => Ok(node.status().await),
            Self::Offline(offline) => offline.status().await,
        }
    }

    /// The peers connected.
    pub async fn peers(&self) -> Result<Vec<PeerReport>, Failure> {
        match self {
            Self::Remote(client) => client.peers().await,
            Self::Embedded(node) => node.core().peers().await,
            Self::Offline(_) => Err(offline("peers")),
        }
    }

    /// Re-reads everything held, or what belongs to one hash; the last event is `Done` or `Failed`. Dropping the receiver ends it, and what
    /// was found by then stays found.
    pub async fn verify(&self, request: VerifyRequest) -> Result<mpsc::Receiver<VerifyEvent>, Failure> {
        match self {
            Self::Remote(client) => client.verify(&request).await,
            Self::Embedded(node) => Ok(node.core().verify(request)),
            Self::Offline(_) if request.mend => Err(offline("verify --mend")),
            Self::Offline(offline) => Ok(offline.verify(request)),
        }
    }

    /// Removes a model or blob; the user's own files stay.
    pub async fn remove(&self, hash: String) -> Result<RemoveReport, Failure> {
        match self {
            Self::Remote(client) => client.remove(&hash).await,
            Self::Embedded(node) => node.core().remove(hash).await,
            Self::Offline(offline) => {
                let remove = move |store: &Store| {
                    let (blobs, pin) = inventory::removal(store, &hash)?;
                    inventory::remove(store, &blobs, pin)
                };
                offline.with(remove).await
            }
        }
    }

    /// Pins a model or blob, named by hash, link or name, or takes that back.
    pub async fn set_pinned(&self, target: String, pinned: bool) -> Result<PinReport, Failure> {
        match self {
            Self::Remote(client) => client.set_pinned(&target, pinned).await,
            Self::Embedded(node) => node.core().set_pinned(target, pinned).await,
            Self::Offline(offline) => offline.with(move |store| upkeep::set_pinned(store, &target, pinned)).await,
        }
    }

    /// Clears away what nothing keeps and, over the low watermark, evicts.
    pub async fn gc(&self, request: GcRequest) -> Result<GcReport, Failure> {
        match self {
            Self::Remote(client) => client.gc(&request).await,
            Self::Embedded(node) => node.core().gc(request).await,
            Self::Offline(offline) => {
                let config = UpkeepConfig::of(&offline.config);
                offline.with(move |store| upkeep::gc(store, config, request)).await
            }
        }
    }

    /// Makes the index again from the files; not while a node uses it.
    pub async fn rebuild(&self) -> Result<RebuildReport, Failure> {
        match self {
            Self::Offline(offline) => offline.with(inventory::rebuild).await,
            Self::Remote(_) | Self::Embedded(_) => {
                let message = "a node uses this store; stop it first, then run `store rebuild` again";
                Err(Failure::new(FailureKind::Refused, message))
            }
        }
    }

    /// Syncs and shuts an embedded node down.
    pub async fn close(self) {
        match self {
            Self::Remote(_) => (),
            Self::Embedded(node) => node.shutdown().await,
            Self::Offline(offline) => {
                if let Err(failure) = offline.with(|store| Ok(store.close()?)).await {
                    tracing::warn!(error = failure.message, "the store was not closed cleanly");
                }
            }
        }
    }
}

impl Offline {
    fn sharing(&self) -> Sharing {
        Sharing::new(&self.config.share_gated)
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let store = self.store.clone();
        blocking(move || work(&store)).await
    }

    fn publish(&self, request: PublishRequest) -> mpsc::Receiver<PublishEvent> {
        let (events, receiver) = mpsc::channel(EVENTS);
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            let event = match publish::publish(&store, &request, &events) {
                Ok(outcome) => PublishEvent::Done(outcome.published),
                Err(failure) => PublishEvent::Failed(failure),
            };
            // Fails only when nobody listens any more.
            let _ = events.blocking_send(event);
        });
        receiver
    }

    fn verify(&self, request: VerifyRequest) -> mpsc::Receiver<VerifyEvent> {
        let (events, receiver) = mpsc::channel(EVENTS);
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || {
            let event = match verify::read(&store, request.target.as_deref(), &events) {
                Ok(report) => VerifyEvent::Done(report),
                Err(failure) => VerifyEvent::Failed(failure),
            };
            // Fails only when nobody listens any more.
            let _ = events.blocking_send(event);
        });
        receiver
    }

    async fn status(&self) -> Result<StatusReport, Failure> {
        let dir = self.config.data_dir.clone();
        let keypair = blocking(move || Ok(crate::identity::load_or_create(&dir)?)).await?;
        let network = self.config.network.clone();
        let record = Record::open(&self.config.data_dir);
        self.with(move |store| {
            let blobs = store.blobs();
            let (_, disk) = upkeep::shares(store, &store.disk_usage()?);
            Ok(StatusReport {
                peer_id: keypair.public().to_peer_id().to_string(),
                agent: AGENT.to_owned(),
                network,
                listen: Vec::new(),
                api: None,
                gateway: None,
                metrics: None,
                uptime_s: 0,
                connected: 0,
                dht_peers: 0,
                announced: 0,
                blobs: blobs.iter().filter(|status| status.complete).count(),
                bytes: blobs.iter().map(inventory::held_bytes).sum(),
                sent_bytes: 0,
                received_bytes: 0,
                swarms: Vec::new(),
                withdrawn: withdrawn(store),
                disk,
                paused: None,
                scrub: scrub::report(&record, None, 0),
                repairs: Mending::default().report(&store.repairs()),
            })
        })
        .await
    }
}

fn offline(verb: &str) -> Failure {
    Failure::new(FailureKind::Usage, format!("`{verb}` needs a running node; start one with `p2pweights node`"))
}

// The core is shared by the API and the session: both must be able to hand it to tasks.
const _: fn() = || {
    fn shareable<T: Send + Sync>() {}
    shareable::<Arc<Core>>();
};
