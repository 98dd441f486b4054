//! A node: store, network, driver and local API, started together and shut down in order.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use p2pweights_protocol::engine::{Command, Input};
use p2pweights_protocol::ids::BlobHash;
use tokio::sync::{OnceCell, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::api::Server;
use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::driver::{Driver, DriverHandle, FlightFile};
use crate::failure::phrase;
use crate::fetch;
use crate::gateway;
use crate::http;
use crate::identity;
use crate::import;
use crate::inventory;
use crate::mend::{self, Mending};
use crate::metrics;
use crate::net::{Net, NetConfig, NetError, NetStatus, from_libp2p};
use crate::origin::{OriginClient, OriginSettings, Reach};
use crate::peer_name::peer_name;
use crate::publish;
use crate::report::{
    Failure, FailureKind, FetchEvent, FetchRequest, ImportEvent, ImportRequest, ListEntry, PathReport, PeerReport, PinReport,
    PublishEvent, PublishRequest, RemoveReport, ShowReport, StatusReport, SwarmReport, VerifyEvent, VerifyRequest,
    WithdrawnReport,
};
use crate::scrub::{self, Record, ScrubSettings};
use crate::sharing::Sharing;
use crate::store::{Loss, Store, StoreConfig, StoreError};
use crate::transfer::{Budget, Caps, Fact, PathLook, Transfers};
use crate::upkeep::{self, UpkeepConfig};
use crate::verify;

/// Facts that may wait for the driver: a few for each of some hundred streams.
const FACTS: usize = 4096;
/// Events of one order that may wait for whoever asked.
pub const EVENTS: usize = 256;

/// What this program calls itself to peers.
pub const AGENT: &str = concat!("p2pweights/", env!("CARGO_PKG_VERSION"));

/// A running node.
pub struct Node {
    core: Arc<Core>,
    api: Option<Server>,
    gateway: Option<http::Server>,
    metrics: Option<http::Server>,
    driver: tokio::task::JoinHandle<()>,
    config: NodeConfig,
}

/// What the node's parts share: handles, no state of its own.
pub struct Core {
    pub(crate) store: Store,
    pub(crate) net: Net,
    pub(crate) driver: DriverHandle,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) record: Arc<Record>,
    pub(crate) mending: Arc<Mending>,
    /// What others may have.
    pub(crate) sharing: Sharing,
    scrub: Option<ScrubSettings>,
    network: String,
    clock: Clock,
    manifest_mirrors: bool,
    private_mirrors: bool,
    /// Asks mirrors; made when the first one is.
    mirror_client: OnceCell<OriginClient>,
    pub(crate) upkeep: UpkeepConfig,
    /// Who makes room has it: one at a time.
    pub(crate) upkeep_turn: Semaphore,
    /// Where the gateway listens, once it does.
    gateway: OnceLock<SocketAddr>,
    /// Where metrics are served, once they are.
    metrics: OnceLock<SocketAddr>,
}

/// Runs something that touches the disk on a blocking thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Failure::new(FailureKind::Internal, format!("a worker thread failed: {error}"))),
    }
}

/// Opens the store of a data dir.
pub(crate) async fn open_store(config: &NodeConfig) -> Result<Store, Failure> {
    let (dir, reserve_bytes, quota_bytes) = (config.data_dir.clone(), config.reserve_bytes, config.quota_bytes);
    blocking(move || {
        let settings = StoreConfig { reserve_bytes, quota_bytes, ..StoreConfig::default() };
        Ok(Store::open_with(&dir, settings)?)
    })
    .await
}

impl Node {
    /// Opens the store, joins the network and offers what is held.
    pub async fn start(config: NodeConfig) -> Result<Self, Failure> {
        let store = open_store(&config).await?;
        let dir = config.data_dir.clone();
        let keypair = blocking(move || Ok(identity::load_or_create(&dir)?)).await?;
        let flight = match config.flight_log.clone() {
            Some(path) => Some(blocking(move || Ok(FlightFile::create(&path)?)).await?),
            None => None,
        };
        let me = from_libp2p(&keypair.public().to_peer_id()).ok_or_else(|| Failure::internal(&NetError::Keypair))?;
        let clock = Clock::start();
        let (net, events) = Net::start(NetConfig {
            keypair,
            listen: config.listen.clone(),
            bootstrap: config.bootstrap.clone(),
            network: config.network.clone(),
            mdns: config.mdns,
            agent: AGENT.to_owned(),
            paths: config.paths.clone(),
        })
        .await?;
        let (facts, fact_queue) = mpsc::channel(FACTS);
        let (record, mending) = (Arc::new(Record::open(&config.data_dir)), Arc::new(Mending::default()));
        listen_to_losses(&store, facts.clone(), Arc::clone(&record), Arc::clone(&mending));
        let (upload, download) = (Caps::new(config.max_upload), Caps::new(config.max_download));
        let budget = Budget::new(config.transfer_memory_bytes);
        let transfers = Transfers::new(net.bulk_connector(), store.clone(), facts, upload, download, budget);
        let seed = getrandom::u64().map_err(|error| Failure::internal(&error))?;
        let (driver, handle) = Driver::new(clock, net.clone(), transfers, me, seed, flight);
        let stop = CancellationToken::new();
        let driver = tokio::spawn(driver.run(fact_queue, events, stop.clone()));
        let core = Arc::new(Core {
            store,
            net,
            driver: handle,
            tasks: TaskTracker::new(),
            stop,
            record,
            mending,
            sharing: Sharing::new(&config.share_gated),
            scrub: ScrubSettings::of(&config),
            network: config.network.clone(),
            clock,
            manifest_mirrors: config.manifest_mirrors,
            private_mirrors: config.private_mirrors,
            mirror_client: OnceCell::new(),
            upkeep: UpkeepConfig::of(&config),
            upkeep_turn: Semaphore::new(1),
            gateway: OnceLock::new(),
            metrics: OnceLock::new(),
        });
        let api = match config.api {
            None => None,
            Some(address) => Some(Server::start(Arc::clone(&core), address, &config.data_dir).await?),
        };
        let gateway = match &config.gateway {
            None => None,
            Some(gateway) => gateway::start(&core, gateway, config.shutdown_timeout).await?,
        };
        if let Some(gateway) = &gateway {
            // It is set only here.
            let _ = core.gateway.set(gateway.address());
        }
        let metrics = match config.metrics {
            None => None,
            Some(address) => Some(metrics::start(&core, address, config.shutdown_timeout).await?),
        };
        if let Some(metrics) = &metrics {
            let _ = core.metrics.set(metrics.address());
        }
        core.offer_all().await?;
        core.look_after_the_store(&config);
        let keeping = Arc::clone(&core);
        core.tasks.spawn(async move { keeping.keep_up().await });
        Ok(Self { core, api, gateway, metrics, driver, config })
    }

    /// What the node's parts share.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The state of the node.
    pub async fn status(&self) -> StatusReport {
        let api = self.api.as_ref().map(|api| api.address().to_string());
        self.core.status(api).await
    }

    /// Stops serving and fetching, makes durable what has arrived, closes the store.
    pub async fn shutdown(self) {
        let Self { core, api, gateway, metrics, driver, config } = self;
        core.stop.cancel();
        if let Some(gateway) = gateway {
            gateway.shutdown().await;
        }
        if let Some(metrics) = metrics {
            metrics.shutdown().await;
        }
        if let Some(api) = api {
            api.shutdown(config.shutdown_timeout).await;
        }
        core.tasks.close();
        let orderly = async {
            core.tasks.wait().await;
            if let Err(error) = driver.await {
                warn!(%error, "the driver failed");
            }
        };
        if tokio::time::timeout(config.shutdown_timeout * 6, orderly).await.is_err() {
            warn!("transfers did not end in time; what was not yet synced is checked at the next start");
        }
        if let Err(error) = core.net.shutdown(config.shutdown_timeout).await {
            warn!(%error, "the network did not end in time");
        }
        let store = core.store.clone();
        let closed = blocking(move || Ok(store.close()?)).await;
        if let Err(failure) = closed {
            warn!(error = failure.message, "the store was not closed cleanly");
        }
        info!("stopped");
    }
}

/// Whoever finds damage, on whatever thread: it is not offered any more, counted, and mended.
fn listen_to_losses(store: &Store, facts: mpsc::Sender<Fact>, record: Arc<Record>, mending: Arc<Mending>) {
    store.on_loss(move |Loss { hash: blob, size, groups, withdrawn }| {
        let (blob, tell) = (*blob, |input| {
            // Fails only when the driver has gone.
            let _ = facts.blocking_send(Fact::Engine(input));
        });
        if *withdrawn {
            return tell(Input::Command(Command::Withdraw { blob }));
        }
        groups.runs().for_each(|span| tell(Input::SpanLost { blob, span }));
        record.count(scrub::damage(*size, groups));
        mending.damage_found();
    });
}

impl Core {
    /// Starts what goes on in the background as long as the node runs.
    fn look_after_the_store(self: &Arc<Self>, config: &NodeConfig) {
        if let Some(settings) = self.scrub {
            self.tasks.spawn(scrub::run(Arc::clone(self), settings));
        }
        if let Some(first_pause) = config.mend_pause {
            self.tasks.spawn(mend::run(Arc::clone(self), first_pause));
        }
    }

    /// Offers everything the store holds.
    async fn offer_all(&self) -> Result<(), Failure> {
        let (store, sharing) = (self.store.clone(), self.sharing.clone());
        let (blobs, mut kept_back) = blocking(move || Ok((store.blobs(), sharing.withheld(&store)))).await?;
        kept_back.extend(self.store.withdrawn().into_iter().map(|gone| gone.hash));
        for status in blobs.into_iter().filter(|status| !kept_back.contains(&status.hash)) {
            let command = Command::Offer { blob: status.hash, size: status.size, held: status.held };
            self.driver.command(command).await.map_err(|error| Failure::internal(&error))?;
        }
        Ok(())
    }

    /// Offers some blobs of the store, but none that is withheld.
    pub(crate) async fn offer(&self, blobs: Vec<BlobHash>) -> Result<(), Failure> {
        let withheld = self.withheld().await?;
        for status in blobs.into_iter().filter(|blob| !withheld.contains(blob)).filter_map(|blob| self.store.blob(blob)) {
            let command = Command::Offer { blob: status.hash, size: status.size, held: status.held };
            self.driver.command(command).await.map_err(|error| Failure::internal(&error))?;
        }
        Ok(())
    }

    /// The blobs that others may not have.
    pub(crate) async fn withheld(&self) -> Result<BTreeSet<BlobHash>, Failure> {
        let (store, sharing) = (self.store.clone(), self.sharing.clone());
        blocking(move || Ok(sharing.withheld(&store))).await
    }

    /// Takes back what was offered and others may not have any more: a model went that let them.
    pub(crate) async fn withdraw_withheld(&self) -> Result<(), Failure> {
        for blob in self.withheld().await? {
            self.withdraw(blob).await?;
        }
        Ok(())
    }

    /// Imports; the last event is `Done` or `Failed`. Dropping the receiver cancels it, and what came stays for the next time.
    pub fn import(self: &Arc<Self>, request: ImportRequest) -> mpsc::Receiver<ImportEvent> {
        let (events, receiver) = mpsc::channel(EVENTS);
        let core = Arc::clone(self);
        self.tasks.spawn(async move {
            if let Err(failure) = import::import(&core, &request, &events).await {
                // Fails only when nobody listens any more.
                let _ = events.send(ImportEvent::Failed(failure)).await;
            }
        });
        receiver
    }

    /// Fetches; the last event is `Done` or `Failed`. Dropping the receiver cancels it, and what is verified stays.
    pub fn fetch(self: &Arc<Self>, request: FetchRequest) -> mpsc::Receiver<FetchEvent> {
        let (events, receiver) = mpsc::channel(EVENTS);
        let core = Arc::clone(self);
        self.tasks.spawn(async move {
            if let Err(failure) = fetch::fetch(&core, &request, &events).await {
                // Fails only when nobody listens any more.
                let _ = events.send(FetchEvent::Failed(failure)).await;
            }
        });
        receiver
    }

    /// Publishes and serves; the last event is `Done` or `Failed`. Dropping the receiver cancels it.
    pub fn publish(self: &Arc<Self>, request: PublishRequest) -> mpsc::Receiver<PublishEvent> {
        let (events, receiver) = mpsc::channel(EVENTS);
        let core = Arc::clone(self);
        self.tasks.spawn(async move {
            let (store, progress) = (core.store.clone(), events.clone());
            let outcome = blocking(move || publish::publish(&store, &request, &progress)).await;
            let event = match outcome {
                Ok(outcome) => match core.offer(outcome.blobs).await {
                    Ok(()) => PublishEvent::Done(outcome.published),
                    Err(failure) => PublishEvent::Failed(failure),
                },
                Err(failure) => PublishEvent::Failed(failure),
            };
            let _ = events.send(event).await;
        });
        receiver
    }

    /// A model or blob in full.
    pub async fn show(&self, target: String) -> Result<ShowReport, Failure> {
        let (store, sharing) = (self.store.clone(), self.sharing.clone());
        blocking(move || inventory::show(&store, &sharing, &target)).await
    }

    /// What the store holds.
    pub async fn list(&self) -> Result<Vec<ListEntry>, Failure> {
        let (store, sharing) = (self.store.clone(), self.sharing.clone());
        blocking(move || inventory::list(&store, &sharing)).await
    }

    /// Reads one blob again; what is damaged of it is no longer held.
    pub(crate) async fn prove(&self, blob: BlobHash) -> Result<(), Failure> {
        let store = self.store.clone();
        match blocking(move || Ok(store.verify(blob))).await? {
            Err(StoreError::Changed { .. }) => self.withdraw(blob).await,
            // What cannot be read is not held by those who need it, either way.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Re-reads what is held; damage is no longer served. The last event is `Done` or `Failed`; dropping the receiver ends it, and what was
    /// found by then stays found.
    pub fn verify(self: &Arc<Self>, request: VerifyRequest) -> mpsc::Receiver<VerifyEvent> {
        let (events, receiver) = mpsc::channel(EVENTS);
        let core = Arc::clone(self);
        self.tasks.spawn(async move {
            if let Err(failure) = verify::run(&core, &request, &events).await {
                // Fails only when nobody listens any more.
                let _ = events.send(VerifyEvent::Failed(failure)).await;
            }
        });
        receiver
    }

    /// Removes a model or blob from the store; the user's own files stay.
    pub async fn remove(&self, target: String) -> Result<RemoveReport, Failure> {
        let store = self.store.clone();
        let (blobs, pin) = blocking(move || inventory::removal(&store, &target)).await?;
        for blob in &blobs {
            self.withdraw(*blob).await?;
        }
        let store = self.store.clone();
        let report = blocking(move || inventory::remove(&store, &blobs, pin)).await?;
        self.withdraw_withheld().await?;
        Ok(report)
    }

    /// Pins a model or blob, or takes that back.
    pub async fn set_pinned(&self, target: String, pinned: bool) -> Result<PinReport, Failure> {
        let store = self.store.clone();
        blocking(move || upkeep::set_pinned(&store, &target, pinned)).await
    }

    pub(crate) async fn withdraw(&self, blob: BlobHash) -> Result<(), Failure> {
        self.driver.command(Command::Withdraw { blob }).await.map_err(|error| Failure::internal(&error))
    }

    /// Whether mirrors are asked that a manifest names.
    pub(crate) fn uses_manifest_mirrors(&self) -> bool {
        self.manifest_mirrors
    }

    /// Whether mirrors may lie within this machine or its network.
    pub(crate) fn allows_private_mirrors(&self) -> bool {
        self.private_mirrors
    }

    /// What mirrors are asked by.
    pub(crate) async fn mirror_client(&self) -> Result<OriginClient, Failure> {
        let reach = if self.private_mirrors { Reach::Anywhere } else { Reach::Public };
        let make =
            || blocking(move || OriginClient::new(&OriginSettings::new(reach, AGENT)).map_err(|error| Failure::internal(&error)));
        self.mirror_client.get_or_try_init(make).await.cloned()
    }

    /// The network joined.
    pub(crate) fn network(&self) -> &str {
        &self.network
    }

    /// The peers connected.
    pub async fn peers(&self) -> Result<Vec<PeerReport>, Failure> {
        let status = self.net.status().await?;
        let overview = self.driver.overview().await.map_err(|error| Failure::internal(&error))?;
        let path = |look: &PathLook| PathReport { path: look.path, current: look.current, rate: look.rate_bytes_per_s };
        let report = status.peers.iter().map(|peer| PeerReport {
            peer: peer_name(peer.peer),
            agent: peer.agent.clone(),
            address: peer.address.to_string(),
            rtt_ms: peer.rtt.and_then(|rtt| u64::try_from(rtt.as_millis()).ok()),
            received_bytes: overview.received.of(peer.peer),
            sent_bytes: overview.sent.of(peer.peer),
            strikes: overview.strikes.get(&peer.peer).copied().unwrap_or(0),
            paths: overview.paths.get(&peer.peer).map_or_else(Vec::new, |paths| paths.iter().map(path).collect()),
        });
        Ok(report.collect())
    }

    /// The state of the node. What cannot be learned in time is left empty.
    pub async fn status(&self, api: Option<String>) -> StatusReport {
        let net = self.net.status().await.map_err(|error| warn!(error = phrase(&error), "no network status")).ok();
        let overview = self.driver.overview().await.unwrap_or_default();
        let store = self.store.clone();
        let looked = blocking(move || Ok((store.blobs(), upkeep::shares(&store, &store.disk_usage()?).1))).await;
        let (blobs, disk) = looked.unwrap_or_default();
        let listen = |net: &NetStatus| net.listen.iter().map(ToString::to_string).collect();
        StatusReport {
            peer_id: net.as_ref().map_or_else(String::new, |net| net.peer.to_string()),
            agent: AGENT.to_owned(),
            network: self.network.clone(),
            listen: net.as_ref().map_or_else(Vec::new, listen),
            api,
            gateway: self.gateway.get().map(ToString::to_string),
            metrics: self.metrics.get().map(ToString::to_string),
            uptime_s: self.clock.uptime().as_secs(),
            connected: net.as_ref().map_or(0, |net| net.peers.len()),
            dht_peers: net.as_ref().map_or(0, |net| net.dht_peers),
            announced: net.as_ref().map_or(0, |net| net.announced),
            blobs: blobs.iter().filter(|status| status.complete).count(),
            bytes: blobs.iter().map(inventory::held_bytes).sum(),
            sent_bytes: overview.sent.total(),
            received_bytes: overview.received.total(),
            swarms: overview
                .swarms
                .iter()
                .map(|swarm| SwarmReport {
                    hash: swarm.swarm.to_string(),
                    total: swarm.progress.size.unwrap_or(0),
                    verified: swarm.progress.verified,
                    providers: swarm.progress.providers,
                    in_flight: swarm.progress.in_flight,
                })
                .collect(),
            scrub: scrub::report(&self.record, self.scrub, blobs.iter().map(inventory::held_bytes).sum()),
            repairs: self.mending.report(&self.store.repairs()),
            withdrawn: withdrawn(&self.store),
            disk,
            paused: overview.paused.map(|paused| paused.message),
        }
    }
}

/// Published files that changed.
pub(crate) fn withdrawn(store: &Store) -> Vec<WithdrawnReport> {
    let report =
        |gone: crate::store::Withdrawn| WithdrawnReport { hash: gone.hash.to_string(), path: gone.path, reason: gone.reason };
    store.withdrawn().into_iter().map(report).collect()
}
