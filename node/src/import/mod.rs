//! An import: from a repository of a hub to a model in the store. What the hub says is written down by its listing first; then every file must
//! be that, byte for byte, before any of it counts. Nothing is published otherwise. `docs/import.md` says what is promised.

mod bring;
mod held;
mod hub;
mod meter;
mod retry;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::link::Link;
use p2pweights_protocol::manifest::{Fields, Manifest, Metadata, ModelName, Shard, ShardPath, Source, Text};
use tokio::sync::mpsc;
use tracing::info;
use url::Url;

use self::hub::{Hub, Info, Listed};
use crate::card::{CARD, CARD_BYTES, Card};
use crate::failure::phrase;
use crate::fetch::chosen;
use crate::git_ids::git_id;
use crate::node::{AGENT, Core, blocking};
use crate::origin::{OriginClient, OriginSettings, Reach, is_public};
use crate::publish::{license_file, openness, pin};
use crate::report::{Failure, FailureKind, ImportEvent, ImportRequest, Imported};
use crate::store::{FileId, ImportRecord, IntakeError, Intakes, Need, Promise, StoreError, Taken};

/// How often room is made for one import: others may take what was made.
const TRIES: u32 = 4;
/// How long a name may take to be resolved.
const RESOLVED: Duration = Duration::from_secs(10);

/// Imports; sends every event but a failure, which it returns.
pub async fn import(core: &Arc<Core>, request: &ImportRequest, events: &mpsc::Sender<ImportEvent>) -> Result<(), Failure> {
    let importing = Importing { core, request, events, began: Instant::now() };
    let done = tokio::select! {
        done = importing.run() => done?,
        () = events.closed() => return Err(Failure::new(FailureKind::Interrupted, "nobody waits for the result any more")),
        () = core.stop.cancelled() => return Err(Failure::new(FailureKind::Interrupted, "the node is shutting down")),
    };
    events.send(done).await.map_err(|_| Failure::new(FailureKind::Interrupted, "nobody waits for the result any more"))
}

struct Importing<'a> {
    core: &'a Arc<Core>,
    request: &'a ImportRequest,
    events: &'a mpsc::Sender<ImportEvent>,
    began: Instant,
}

/// What is to be had of each content, and what of it is here.
struct Contents {
    /// Found in the store, with what keeps it there.
    held: BTreeMap<FileId, Taken>,
    _promise: Promise,
    /// To be brought.
    missing: BTreeMap<FileId, u64>,
    intakes: Arc<Intakes>,
}

impl Importing<'_> {
    /// Returns the last event.
    async fn run(&self) -> Result<ImportEvent, Failure> {
        let chosen = chosen(&self.request.include, &self.request.exclude)?;
        let reach = reach(&hub::endpoint(&self.request.endpoint)?).await;
        let client = OriginClient::new(&OriginSettings::new(reach, AGENT)).map_err(|error| Failure::internal(&error))?;
        let hub = Arc::new(Hub::new(client, self.request)?);
        let info = hub.info().await?;
        let files = hub.listing(&info.commit, &chosen).await?;
        if files.is_empty() {
            let message = format!("{} has no file that matches --include and --exclude", hub.address());
            return Err(Failure::new(FailureKind::Usage, message));
        }
        self.rehearse(&hub, &info, &files)?;
        let contents = self.contents(&hub, &files).await?;
        self.tell_plan(&info, &files, &contents).await?;
        let (mut taken, fetched) = bring::bring(&hub, &info.commit, &files, &contents, self.events).await?;
        taken.extend(&contents.held);
        self.publish(&hub, info, &files, &contents, taken, fetched).await
    }

    /// Puts the manifest together with made-up hashes: what would be refused in the end is refused before anything is fetched.
    fn rehearse(&self, hub: &Hub, info: &Info, files: &[Listed]) -> Result<(), Failure> {
        let mut shards = Vec::new();
        for file in files {
            let blake3 = if file.size == 0 { BlobHash::of(b"") } else { BlobHash::of(file.id.to_string().as_bytes()) };
            if file.size == 0 && !is_empty(file.id) {
                return Err(Failure::new(
                    FailureKind::Refused,
                    format!("{}: the listing gives no bytes, and the id of some", file.path),
                ));
            }
            shards.push(Shard::new(file.path.clone(), file.size, blake3, None)?);
        }
        let metadata = self.metadata(hub, info, &Card::default(), &paths(files))?;
        Manifest::new(metadata, shards)?;
        Ok(())
    }

    fn metadata(&self, hub: &Hub, info: &Info, card: &Card, paths: &[ShardPath]) -> Result<Metadata, Failure> {
        let text = |text: &str| {
            Text::parse(text).map_err(|error| Failure::new(FailureKind::Usage, format!("{text:?}: {}", phrase(&error))))
        };
        let source = Source { repo: text(&hub.address())?, revision: text(&info.commit.to_string())?, extra: Fields::new() };
        Ok(Metadata {
            // A name without an organisation has no place there; the source still says it.
            name: ModelName::parse(&self.request.repo).ok(),
            revision: Some(text(&self.request.revision)?),
            license: card.license(),
            license_file: license_file(paths),
            gated: info.gated,
            source: Some(source),
            base_model: card.base_model(paths),
            openness: openness(paths),
            ..Metadata::default()
        })
    }

    /// Looks what is here already, and has room promised for the rest.
    async fn contents(&self, hub: &Hub, files: &[Listed]) -> Result<Contents, Failure> {
        let mut wanted: BTreeMap<FileId, u64> = BTreeMap::new();
        for file in files.iter().filter(|file| file.size > 0) {
            if *wanted.entry(file.id).or_insert(file.size) != file.size {
                let message =
                    format!("{}: {} is listed with two sizes, of which one belongs to {}", hub.address(), file.id, file.path);
                return Err(Failure::new(FailureKind::Refused, message));
            }
        }
        let store = self.core.store.clone();
        let asked = wanted.clone();
        let (held, promise) = blocking(move || held::find(&store, &asked)).await?;
        let missing: BTreeMap<FileId, u64> = wanted.into_iter().filter(|(id, _)| !held.contains_key(id)).collect();
        let intakes = Arc::new(self.intakes(&missing).await?);
        Ok(Contents { held, _promise: promise, missing, intakes })
    }

    async fn intakes(&self, missing: &BTreeMap<FileId, u64>) -> Result<Intakes, Failure> {
        let mut tries = 0;
        loop {
            let (store, asked) = (self.core.store.clone(), missing.clone());
            let intakes = match blocking(move || Ok(store.intakes(&asked))).await? {
                Ok(intakes) => intakes,
                Err(IntakeError::Store(StoreError::OverQuota { needed, .. })) if tries < TRIES => {
                    tries += 1;
                    if self.core.make_room(needed).await?.is_ok() {
                        continue;
                    }
                    tries = TRIES;
                    continue;
                }
                Err(error) => return Err(of_intake(error)),
            };
            let bytes = missing.values().sum::<u64>().saturating_sub(intakes.here());
            self.core.check_room(bytes, "imported").await?;
            return Ok(intakes);
        }
    }

    async fn tell_plan(&self, info: &Info, files: &[Listed], contents: &Contents) -> Result<(), Failure> {
        let held: u64 = files.iter().filter(|file| contents.held.contains_key(&file.id)).map(|file| file.size).sum();
        self.tell(ImportEvent::Plan {
            repo: self.request.repo.clone(),
            revision: self.request.revision.clone(),
            commit: info.commit.to_string(),
            files: files.len(),
            bytes: files.iter().map(|file| file.size).sum(),
            held: held + contents.intakes.here(),
            gated: info.gated,
            private: info.private,
        })
        .await
    }

    /// Everything is here and right: says why it is kept, and by whom it may be had, makes blobs of it, and offers them.
    async fn publish(
        &self,
        hub: &Hub,
        info: Info,
        files: &[Listed],
        contents: &Contents,
        taken: BTreeMap<FileId, Taken>,
        fetched: u64,
    ) -> Result<ImportEvent, Failure> {
        let card = self.card(&info, files, &contents.intakes, &taken).await?;
        let shards = files.iter().map(|file| {
            let git_oid = match file.id {
                FileId::Git(oid) => Some(oid),
                FileId::Sha256(_) => None,
            };
            let empty = Taken { hash: BlobHash::of(b""), sha256: sha256_of_nothing(), size: 0 };
            let Taken { hash, sha256, size } = if file.size == 0 { empty } else { taken[&file.id] };
            Ok(Shard::new(file.path.clone(), size, hash, Some(sha256))?.with_git_oid(git_oid))
        });
        let shards = shards.collect::<Result<Vec<_>, Failure>>()?;
        let manifest = Manifest::new(self.metadata(hub, &info, &card, &paths(files))?, shards)?;
        let hash = manifest.id();
        let mut record = pin(hash, &manifest, Some(&self.request.repo));
        let consent = info.gated || info.private;
        record.imported =
            Some(ImportRecord { repo: self.request.repo.clone(), endpoint: self.request.endpoint.clone(), consent });
        let withheld = self.core.sharing.withholds(&record);
        let (store, intakes) = (self.core.store.clone(), Arc::clone(&contents.intakes));
        let (bytes, blobs) = (manifest.total_bytes(), record.shards.iter().copied().chain([hash]).collect::<BTreeSet<_>>());
        let ours: BTreeMap<FileId, Taken> = taken.into_iter().filter(|(id, _)| contents.missing.contains_key(id)).collect();
        let name = record.name.clone();
        let keep = move || {
            let encoded = manifest.encode();
            let _room = store.promise(&[Need::of(hash, encoded.len() as u64)])?;
            // Before the blobs: without it a node that starts again would take them for anybody's.
            store.add_newest_manifest(record)?;
            intakes.adopt(&ours)?;
            if manifest.shards().iter().any(|shard| shard.size() == 0) {
                store.put_bytes(b"")?;
            }
            store.put_bytes(&encoded)?;
            Ok(())
        };
        let core = Arc::clone(self.core);
        // Goes on to its end even if nobody waits for it any more: what is written down must be what others are told.
        let kept = self.core.tasks.spawn(async move {
            let kept = blocking(keep).await;
            // What others could have so far, of a repository that was public then or from an import that was not finished, they cannot any
            // more, whatever became of the rest.
            core.withdraw_withheld().await?;
            kept?;
            core.offer(blobs.into_iter().collect()).await
        });
        kept.await.map_err(|error| Failure::internal(&error))??;
        info!(%hash, repo = self.request.repo, commit = %info.commit, withheld, "imported");
        let link = Link::new(hash);
        let link = link.clone().with_name(&name).unwrap_or(link);
        Ok(ImportEvent::Done(Imported {
            hash: hash.to_string(),
            link: link.to_string(),
            commit: info.commit.to_string(),
            files: files.len(),
            bytes,
            fetched,
            seconds: self.began.elapsed().as_secs_f64(),
            withheld,
        }))
    }

    /// The model's card: its own file, or else what the hub has read in it.
    async fn card(
        &self,
        info: &Info,
        files: &[Listed],
        intakes: &Arc<Intakes>,
        taken: &BTreeMap<FileId, Taken>,
    ) -> Result<Card, Failure> {
        let file = files.iter().find(|file| file.path.as_str() == CARD && (1..=CARD_BYTES).contains(&file.size));
        let Some(file) = file else { return Ok(Card::of_hub(&info.card, &info.tags)) };
        let (store, intakes, id, blob) = (self.core.store.clone(), Arc::clone(intakes), file.id, taken[&file.id].hash);
        let bytes = blocking(move || match intakes.read(id)? {
            Some(bytes) => Ok(bytes),
            None => Ok(store.read_all(blob, CARD_BYTES)?),
        })
        .await?;
        Ok(Card::of_text(&String::from_utf8_lossy(&bytes)))
    }

    async fn tell(&self, event: ImportEvent) -> Result<(), Failure> {
        let gone = |_| Failure::new(FailureKind::Interrupted, "nobody waits for the result any more");
        self.events.send(event).await.map_err(gone)
    }
}

/// How far the hub may send us: not into this machine or its network, unless it is there itself, or a proxy connects for us.
async fn reach(endpoint: &Url) -> Reach {
    let proxies = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
    let set = |name: &&str| {
        [name.to_string(), name.to_lowercase()].iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
    };
    if proxies.iter().any(set) {
        return Reach::Anywhere;
    }
    let host = endpoint.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let resolve = tokio::net::lookup_host((host, endpoint.port_or_known_default().unwrap_or(443)));
    let found: Vec<_> = match tokio::time::timeout(RESOLVED, resolve).await {
        Ok(Ok(addresses)) => addresses.collect(),
        _ => Vec::new(),
    };
    if found.iter().any(|address| !is_public(address.ip())) { Reach::Anywhere } else { Reach::Public }
}

fn paths(files: &[Listed]) -> Vec<ShardPath> {
    files.iter().map(|file| file.path.clone()).collect()
}

/// SHA-256 of no bytes.
fn sha256_of_nothing() -> p2pweights_protocol::ids::Sha256 {
    use sha2::Digest;
    p2pweights_protocol::ids::Sha256(sha2::Sha256::digest(b"").into())
}

/// Whether this is the id of no bytes.
fn is_empty(id: FileId) -> bool {
    match id {
        FileId::Sha256(hash) => hash == sha256_of_nothing(),
        FileId::Git(oid) => oid == git_id("blob", b""),
    }
}

/// What the user is told of trouble with a file on its way in.
fn of_intake(error: IntakeError) -> Failure {
    match error {
        IntakeError::Store(error) => error.into(),
        error => Failure::new(FailureKind::Refused, phrase(&error)),
    }
}
