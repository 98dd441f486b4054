//! A fetch from hash to files: find out what the hash is, plan, join the swarm, place each file when it is complete and proved.

mod chosen;
mod destination;
mod errand;
mod hf_cache;
mod mirrors;
mod pull;
mod room;
mod watched;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2pweights_protocol::engine::{Command, Order, Want};
use p2pweights_protocol::ids::{BlobHash, PeerId, SwarmId};
use p2pweights_protocol::limits;
use p2pweights_protocol::link::Link;
use p2pweights_protocol::manifest::{Manifest, MirrorUrl, Shard, ShardPath};
use p2pweights_protocol::span_set::SpanSet;
use tokio::sync::mpsc;
use tokio::time::Instant;

pub(crate) use self::chosen::{Chosen, chosen};
pub use self::errand::{blob, manifest};
use self::hf_cache::CachePlaces;
use self::pull::Pull;
use self::watched::Watched;
use crate::driver::{Look, News, Stopped};
use crate::inventory::held_bytes;
use crate::node::{Core, blocking};
use crate::report::{Failure, FailureKind, FetchEvent, FetchRequest, FilePlan};
use crate::store::{Export, Exports, Need, Promise, locked};

/// How often progress is told.
const TICK: Duration = Duration::from_millis(250);

/// How long room on a full disk is waited for. Somebody has to make it, and that may take until the morning.
const ROOM_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// Files placed at a time: the first are told of before the last is placed.
const FILES_PLACED: usize = 256;

/// One file to be placed.
#[derive(Debug, Clone)]
struct File {
    /// Path within the model, or the name of a plain blob.
    path: String,
    blob: BlobHash,
    bytes: u64,
    /// Where it goes, below the output folder.
    place: String,
}

/// What a hash turned out to be, and what of it is wanted.
struct Plan {
    hash: BlobHash,
    name: Option<String>,
    manifest: Option<Manifest>,
    files: Vec<File>,
    /// Its places, if it goes into Hugging Face's cache.
    cache: Option<CachePlaces>,
}

/// Fetches; sends every event but a failure, which it returns.
pub async fn fetch(core: &Arc<Core>, request: &FetchRequest, events: &mpsc::Sender<FetchEvent>) -> Result<(), Failure> {
    let began = Instant::now();
    let link = Link::parse_target(&request.target)?;
    let chosen = chosen(&request.include, &request.exclude)?;
    let mut providers = introduce(core, &request.bootstrap, &request.peers)?;
    providers.extend(introduce(core, &[], link.providers())?);
    let swarm = SwarmId(link.hash());
    let mirrors = mirrors::parse(request, core.allows_private_mirrors())?;
    let ((room, kept), room_patience) = (Default::default(), ROOM_PATIENCE);
    let fetching = Fetching { core, request, events, swarm, providers, mirrors, began, room_patience, room, kept };
    let watched = Watched::start(&core.driver);
    core.driver.enter(swarm).await.map_err(stopped)?;
    let result = tokio::select! {
        result = fetching.run(&link, &chosen, &watched) => result,
        () = events.closed() => Err(Failure::new(FailureKind::Interrupted, "nobody waits for the result any more")),
        () = core.stop.cancelled() => Err(Failure::new(FailureKind::Interrupted, "the node is shutting down")),
    };
    fetching.end(watched).await?;
    // Told last: a fetch that begins when this one has ended counts its own deliveries only.
    events.send(result?).await.map_err(|_| Failure::new(FailureKind::Interrupted, "nobody waits for the result any more"))
}

struct Fetching<'a> {
    core: &'a Arc<Core>,
    request: &'a FetchRequest,
    events: &'a mpsc::Sender<FetchEvent>,
    swarm: SwarmId,
    providers: Vec<PeerId>,
    /// Named by the order.
    mirrors: Vec<MirrorUrl>,
    began: Instant,
    /// How long room on a full disk is waited for.
    room_patience: Duration,
    /// What is promised to it until it ends.
    room: Mutex<Vec<Promise>>,
    /// Places where something lies that leads to the right file.
    kept: Mutex<BTreeSet<String>>,
}

impl Fetching<'_> {
    /// However it ended: the swarm is left, and what has arrived is made durable.
    async fn end(&self, watched: Watched<'_>) -> Result<(), Failure> {
        // Fails only when the driver has stopped, and then both are done already.
        let _ = self.core.driver.leave(self.swarm).await;
        watched.end().await;
        // Many blobs are looked at when their room is given back.
        let room = std::mem::take(&mut *locked(&self.room));
        let give_back = move || {
            drop(room);
            Ok(())
        };
        blocking(give_back).await
    }

    /// Returns the last event.
    async fn run(&self, link: &Link, chosen: &Chosen, watched: &Watched<'_>) -> Result<FetchEvent, Failure> {
        self.check_network(link)?;
        let plan = self.plan(link, chosen, watched).await?;
        let output = self.output(&plan);
        if let (Some(output), false) = (&output, self.request.dry_run) {
            self.check_destination(&plan, output).await?;
        }
        let held = self.tell_plan(&plan, output.as_deref()).await?;
        if self.request.dry_run {
            return Ok(self.done(&plan, output, 0, BTreeMap::new()));
        }
        let missing = plan.bytes().saturating_sub(held);
        self.take_room(&plan).await?;
        self.core.check_room(missing, "fetched").await?;
        self.use_mirrors(&plan).await?;
        let sources = self.bring(&plan, output.as_deref(), watched).await?;
        self.keep(&plan, link.name()).await?;
        let fetched = sources.values().sum();
        Ok(self.done(&plan, output, fetched, sources))
    }

    /// A link may be for another network than the one this node is in.
    fn check_network(&self, link: &Link) -> Result<(), Failure> {
        if self.core.network() != link.network().unwrap_or(self.core.network()) {
            let message = format!(
                "the link is for network {:?}, this node is in {:?}; start with --network {}",
                link.network().unwrap_or_default(),
                self.core.network(),
                link.network().unwrap_or_default()
            );
            return Err(Failure::new(FailureKind::Usage, message));
        }
        Ok(())
    }

    // What is it?

    async fn plan(&self, link: &Link, chosen: &Chosen, watched: &Watched<'_>) -> Result<Plan, Failure> {
        let hash = link.hash();
        let name = link.name().map(str::to_owned);
        if hash == BlobHash::of(b"") {
            // It has no group by which a provider could prove its size.
            self.core.store.put_bytes(b"")?;
        }
        let size = match self.core.store.blob(hash) {
            Some(status) => status.size,
            None => self.find_size(hash, watched).await?,
        };
        if size <= limits::MANIFEST_BYTES {
            // Small enough to be a manifest: only its bytes tell.
            self.take_room_for(vec![Need::of(hash, size)]).await?;
            self.bring_whole(hash, size, watched).await?;
            let found = match self.manifest(hash).await {
                Err(failure) if failure.kind == FailureKind::Disk => {
                    // What lies on the disk is damaged: it is taken out of what is held, and fetched again.
                    self.core.prove(hash).await?;
                    self.bring_whole(hash, size, watched).await?;
                    self.manifest(hash).await?
                }
                found => found?,
            };
            if let Some((manifest, _)) = found {
                let cache = self.request.hf_cache.then(|| CachePlaces::of(&manifest)).transpose()?;
                let chosen = manifest.shards().iter().filter(|shard| chosen.wants(shard.path().as_str()));
                let file = |shard: &Shard| {
                    let path = shard.path().as_str().to_owned();
                    let place = cache.as_ref().map_or_else(|| path.clone(), |cache| cache.blob(shard));
                    File { path, blob: shard.blake3(), bytes: shard.size(), place }
                };
                let files: Vec<File> = chosen.map(file).collect();
                if files.is_empty() {
                    let message = "no file of the model matches --include and --exclude; `--dry-run` shows what it has";
                    return Err(Failure::new(FailureKind::Usage, message));
                }
                let own = manifest.metadata().name.as_ref().map(|name| name.as_str().to_owned());
                return Ok(Plan { hash, name: own.or(name), manifest: Some(manifest), files, cache });
            }
        }
        if self.request.hf_cache {
            return Err(Failure::new(
                FailureKind::Usage,
                format!("{hash} is a plain blob; only models go into Hugging Face's cache"),
            ));
        }
        let file_name = name.as_deref().and_then(|name| name.rsplit('/').next()).map(ShardPath::parse);
        let path = match file_name {
            Some(Ok(path)) => path.as_str().to_owned(),
            _ => hash.to_string(),
        };
        let file = File { place: path.clone(), path, blob: hash, bytes: size };
        Ok(Plan { hash, name, manifest: None, files: vec![file], cache: None })
    }

    async fn manifest(&self, hash: BlobHash) -> Result<Option<(Manifest, Vec<u8>)>, Failure> {
        let store = self.core.store.clone();
        blocking(move || crate::inventory::manifest(&store, hash)).await
    }

    /// Finds a provider and learns the size of a blob from it, proved.
    async fn prove_size(&self, hash: BlobHash, watched: &Watched<'_>) -> Result<u64, Failure> {
        watched.add(&[hash]).await?;
        self.join(vec![Want { blob: hash, size: None, held: SpanSet::new(), order: Order::default() }]).await?;
        let asked_before = self.peers_asked().await;
        let mut changes = self.core.driver.changes();
        let mut last_told = None;
        loop {
            let look = self.look(vec![hash]).await?;
            if let Some(size) = look.blobs.first().and_then(|blob| blob.size) {
                return Ok(size);
            }
            let peers_asked = self.peers_asked().await.saturating_sub(asked_before);
            if self.began.elapsed() >= self.timeout() {
                return Err(self.not_found(hash, &look, peers_asked));
            }
            let searching = (peers_asked, look.connected, look.providers);
            if last_told != Some(searching) {
                last_told = Some(searching);
                let (connected, providers) = (look.connected, look.providers);
                self.tell(FetchEvent::Searching { peers_asked, connected, providers }).await?;
            }
            wait(&mut changes, TICK).await;
        }
    }

    fn not_found(&self, hash: BlobHash, look: &Look, peers_asked: u64) -> Failure {
        let waited = self.timeout().as_secs();
        let message = format!(
            "no provider found for {hash} in {waited} s: {peers_asked} requests to the DHT, {} connected peers asked",
            look.connected
        );
        Failure::new(FailureKind::NotFound, message)
    }

    async fn peers_asked(&self) -> u64 {
        self.core.net.status().await.map_or(0, |status| status.peers_asked)
    }

    /// Fetches one small blob whole and waits until it can be read.
    async fn bring_whole(&self, blob: BlobHash, size: u64, watched: &Watched<'_>) -> Result<(), Failure> {
        let files = vec![File { path: blob.to_string(), blob, bytes: size, place: blob.to_string() }];
        let quiet = Plan { hash: blob, name: None, manifest: None, files, cache: None };
        let mut pull = Pull::new(self, &quiet, watched).await?;
        let mut changes = self.core.driver.changes();
        loop {
            let news = pull.look().await?;
            if pull.is_stored() {
                return Ok(());
            }
            if let Some(event) = pull.pause(&news) {
                self.tell(event).await?;
            }
            pull.check(&news).await?;
            wait(&mut changes, TICK).await;
        }
    }

    // Where does it go, and is there room?

    async fn tell_plan(&self, plan: &Plan, output: Option<&Path>) -> Result<u64, Failure> {
        let store = self.core.store.clone();
        let files = plan.files.clone();
        let files = blocking(move || {
            let plan = |file: File| FilePlan {
                held: store.blob(file.blob).map_or(0, |status| held_bytes(&status)),
                path: file.path,
                hash: file.blob.to_string(),
                bytes: file.bytes,
            };
            Ok(files.into_iter().map(plan).collect::<Vec<_>>())
        })
        .await?;
        let held = files.iter().map(|file| file.held).sum();
        self.tell(FetchEvent::Plan {
            hash: plan.hash.to_string(),
            name: plan.name.clone(),
            model: plan.manifest.is_some(),
            bytes: plan.bytes(),
            held,
            output: output.map(Path::to_owned),
            files,
        })
        .await?;
        Ok(held)
    }

    // Get it.

    /// Fetches all files of a plan and places each as soon as it is complete. Returns who delivered how much.
    async fn bring(&self, plan: &Plan, output: Option<&Path>, watched: &Watched<'_>) -> Result<BTreeMap<PeerId, u64>, Failure> {
        let mut pull = Pull::new(self, plan, watched).await?;
        let mut changes = self.core.driver.changes();
        let mut next_tick = Instant::now();
        let mut exports = output.map(|output| self.core.store.exports(output, self.request.force));
        let mut told_warnings = pull.look().await?.warnings.last().map_or(0, |(number, _)| *number);
        loop {
            let news = pull.look().await?;
            for (number, message) in &news.warnings {
                if *number > told_warnings {
                    told_warnings = *number;
                    self.tell(FetchEvent::Warning { message: message.clone() }).await?;
                }
            }
            let complete: Vec<&File> = pull.take_complete().into_iter().map(|index| &plan.files[index]).collect();
            for files in complete.chunks(FILES_PLACED) {
                exports = self.place(files, exports).await?;
            }
            if Instant::now() >= next_tick || pull.is_over() {
                next_tick = Instant::now() + TICK;
                let progress = pull.progress(&news);
                self.tell(progress).await?;
            }
            if pull.is_over() {
                if let Some(mut exports) = exports {
                    let cache = plan.cache.clone();
                    let files = plan.files.iter().map(|file| file.path.clone()).collect();
                    let finish = move || {
                        cache.map_or(Ok(()), |cache| cache.link(&mut exports, &files))?;
                        Ok(exports.finish()?)
                    };
                    blocking(finish).await?;
                }
                return pull.sources().await;
            }
            if let Some(event) = pull.pause(&news) {
                self.tell(event).await?;
            }
            pull.check(&news).await?;
            wait(&mut changes, TICK).await;
        }
    }

    /// Puts complete files under their final names, all in one go.
    async fn place(&self, files: &[&File], exports: Option<Exports>) -> Result<Option<Exports>, Failure> {
        let output = exports.as_ref().map(|exports| exports.root().to_owned());
        let named: Vec<(BlobHash, String)> = files.iter().map(|file| (file.blob, file.place.clone())).collect();
        let (exports, placed) = match exports {
            None => (None, files.iter().map(|_| None).collect()),
            Some(mut exports) => {
                let kept = locked(&self.kept).clone();
                let place = move || {
                    let mut place = |blob: &BlobHash, path: &String| match kept.contains(path) {
                        true => Ok(Export::AlreadyThere),
                        false => exports.place(*blob, path),
                    };
                    let placed: Vec<_> = named.iter().map(|(blob, path)| Some(place(blob, path))).collect();
                    Ok((Some(exports), placed))
                };
                blocking(place).await?
            }
        };
        for (file, placed) in files.iter().zip(placed) {
            let how = match placed.transpose() {
                Ok(None) => "stored",
                Ok(Some(Export::Linked)) => "linked",
                Ok(Some(Export::Shared)) => "shared",
                Ok(Some(Export::Copied)) => "copied",
                Ok(Some(Export::InPlace | Export::AlreadyThere)) => "already_there",
                Err(error) => {
                    let failure = Failure::from(error);
                    if failure.kind == FailureKind::Disk {
                        // If the store's bytes are damaged, they are not held from now on, and the next run fetches them again.
                        self.core.prove(file.blob).await?;
                    }
                    return Err(failure);
                }
            };
            self.tell(FetchEvent::File {
                path: file.path.clone(),
                hash: file.blob.to_string(),
                bytes: file.bytes,
                placed: output.as_ref().map(|output| output.join(&file.place)),
                how: how.to_owned(),
            })
            .await?;
        }
        Ok(exports)
    }

    async fn join(&self, wants: Vec<Want>) -> Result<(), Failure> {
        let command = Command::Join { swarm: self.swarm, wants, providers: self.providers.clone() };
        self.core.driver.command(command).await.map_err(stopped)
    }

    async fn news(&self, since: u64) -> Result<News, Failure> {
        self.core.driver.news(since).await.map_err(stopped)
    }

    async fn look(&self, blobs: Vec<BlobHash>) -> Result<Look, Failure> {
        self.core.driver.look(self.swarm, blobs).await.map_err(stopped)
    }

    async fn tell(&self, event: FetchEvent) -> Result<(), Failure> {
        let gone = |_| Failure::new(FailureKind::Interrupted, "nobody waits for the result any more");
        self.events.send(event).await.map_err(gone)
    }

    fn done(&self, plan: &Plan, output: Option<PathBuf>, fetched: u64, sources: BTreeMap<PeerId, u64>) -> FetchEvent {
        let (sources, mirrors) = self.shares(plan, sources);
        // A cache is named by the place in it where programs find the model.
        let snapshot = plan.cache.as_ref().zip(output.as_ref()).map(|(cache, output)| cache.snapshot(output));
        let output = snapshot.or(output);
        FetchEvent::Done {
            hash: plan.hash.to_string(),
            bytes: plan.bytes(),
            fetched,
            seconds: self.began.elapsed().as_secs_f64(),
            sources,
            mirrors,
            output,
        }
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.request.timeout_s)
    }
}

impl Plan {
    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// Tells the network where the peers are that the user named.
pub fn introduce(core: &Core, bootstrap: &[String], peers: &[String]) -> Result<Vec<PeerId>, Failure> {
    let parse = |text: &String| {
        crate::config::parse_peer(text).map_err(|error| Failure::new(FailureKind::Usage, format!("{text:?}: {error}")))
    };
    for text in bootstrap {
        core.net.add_bootstrap(&parse(text)?)?;
    }
    peers.iter().map(|text| Ok(core.net.add_peer_address(&parse(text)?)?)).collect()
}

fn stopped(error: Stopped) -> Failure {
    Failure::internal(&error)
}

async fn wait(changes: &mut tokio::sync::watch::Receiver<u64>, at_most: Duration) {
    // Ends early when something changed; the driver's end shows at the next look.
    let _ = tokio::time::timeout(at_most, changes.changed()).await;
}
