//! The models that the gateway can name: those that are held, and those that are mapped to a hash, whose manifests it has fetched when they
//! are first asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::link::Link;
use tokio::sync::watch;

use super::model::Model;
use super::refusal::Refusal;
use crate::fetch;
use crate::inventory;
use crate::names::{Head, Kept, MAIN, Mappings, Meant, ModelId, Names};
use crate::node::{Core, blocking};
use crate::report::{Failure, FailureKind};
use crate::store::locked;

/// Parsed models kept in memory: what a handful of clients load at a time. The largest takes some 60 MiB, a usual one some kilobytes.
const MODELS: usize = 8;
/// How long a manifest is looked for before the client is told that nobody has it. Clients' calls to `/api/` have no deadline of their own.
const PATIENCE_S: u64 = 60;
/// How long a `HEAD` waits for it: clients give up after ten seconds, and ask again if told so.
const BRIEFLY: Duration = Duration::from_secs(5);

/// Whether somebody can wait for a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until it is here or given up.
    Long,
    /// A few seconds; then the client is to ask again.
    Briefly,
}

/// A manifest on its way; `None` until that has ended.
type Coming = watch::Receiver<Option<Result<(), Failure>>>;

/// All models by name.
pub struct Catalog {
    core: Arc<Core>,
    mapped: Mappings,
    /// The latest used last.
    models: Mutex<Vec<Arc<Model>>>,
    /// Commits of manifests, which never change.
    commits: Mutex<BTreeMap<BlobHash, String>>,
    coming: Arc<Mutex<BTreeMap<BlobHash, Coming>>>,
}

impl Catalog {
    /// With these names beside those of the models held.
    pub fn new(core: Arc<Core>, mapped: Mappings) -> Self {
        let (models, commits, coming) = Default::default();
        Self { core, mapped, models, commits, coming }
    }

    /// Every name.
    pub fn ids(&self) -> Vec<String> {
        let kept = self.kept().into_iter();
        let kept = kept.map(|(hash, id, branch, order)| Kept { id, branch, commit: None, hash, order }).collect();
        Names::new(self.mapped.clone(), kept).ids().into_iter().map(ToString::to_string).collect()
    }

    /// A revision of a model, and the link to it. Its manifest is fetched if need be.
    pub async fn find(&self, id: &ModelId, revision: &str, wait: Wait) -> Result<(Arc<Model>, Link), Refusal> {
        let names = self.names(id).await?;
        let link = match names.find(id, revision) {
            Meant::Manifest(link) => link,
            Meant::OneOf(links) => return self.find_among(id, revision, links, wait).await,
            Meant::NoRevision => return Err(Refusal::NoRevision(revision.to_owned())),
            Meant::NoModel => return Err(Refusal::NoModel),
        };
        Ok((self.open(id, &link, wait).await?, link))
    }

    /// The branches of a model, and their commits. Those that cannot be got are left out.
    pub async fn branches(&self, id: &ModelId) -> Result<Vec<(String, String)>, Refusal> {
        let heads = self.names(id).await?.heads(id);
        if heads.is_empty() {
            return Err(Refusal::NoModel);
        }
        let commits = heads.into_iter().map(|Head { branch, link, commit }| async move {
            match commit {
                Some(commit) => Ok((branch, commit)),
                None => self.open(id, &link, Wait::Long).await.map(|model| (branch, model.commit().to_owned())),
            }
        });
        let found = futures::future::join_all(commits).await;
        if found.iter().all(Result::is_err) {
            return Err(found.into_iter().find_map(Result::err).unwrap_or(Refusal::NoModel));
        }
        Ok(found.into_iter().flatten().collect())
    }

    async fn find_among(&self, id: &ModelId, commit: &str, links: Vec<Link>, wait: Wait) -> Result<(Arc<Model>, Link), Refusal> {
        let opened = links.into_iter().map(|link| async move { (self.open(id, &link, wait).await, link) });
        let opened = futures::future::join_all(opened).await;
        let not_yet = opened.iter().any(|(model, _)| matches!(model, Err(Refusal::NotYet)));
        let found = opened.into_iter().filter_map(|(model, link)| Some((model.ok()?, link)));
        let mut found = found.filter(|(model, _)| model.commit() == commit);
        let missing = || if not_yet { Refusal::NotYet } else { Refusal::NoRevision(commit.to_owned()) };
        found.next().ok_or_else(missing)
    }

    /// The names of one model.
    async fn names(&self, id: &ModelId) -> Result<Names, Refusal> {
        let mut kept = Vec::new();
        let mut known = Vec::new();
        for (hash, of, branch, order) in self.kept().into_iter().filter(|(_, of, _, _)| of == id) {
            known.push(hash);
            kept.push(Kept { id: of, branch, commit: self.commit(hash).await?, hash, order });
        }
        // A manifest may be kept under its own name, and mapped to another.
        for hash in self.mapped.hashes(id).filter(|hash| !known.contains(hash)) {
            self.commit(hash).await?;
        }
        Ok(Names::new(self.mapped.of(id), kept).with_commits(&locked(&self.commits)))
    }

    /// Manifests that have a name: with its branch, and its place in the order.
    fn kept(&self) -> Vec<(BlobHash, ModelId, String, u64)> {
        let names = self.core.store.manifest_names().into_iter();
        let named = names.filter_map(|(hash, name, revision, order)| {
            Some((hash, name.parse().ok()?, revision.unwrap_or_else(|| MAIN.to_owned()), order))
        });
        named.collect()
    }

    /// The commit of a manifest; `None` if that is not here, or not to be read.
    async fn commit(&self, hash: BlobHash) -> Result<Option<String>, Refusal> {
        if let Some(commit) = locked(&self.commits).get(&hash) {
            return Ok(Some(commit.clone()));
        }
        let store = self.core.store.clone();
        let found = blocking(move || match inventory::manifest(&store, hash) {
            Ok(found) => Ok(found.map(|(manifest, _)| manifest.commit())),
            // What is damaged is fetched again, like what is missing.
            Err(failure) if matches!(failure.kind, FailureKind::NotFound | FailureKind::Disk) => Ok(None),
            Err(failure) => Err(failure),
        });
        let commit = found.await?;
        if let Some(commit) = &commit {
            locked(&self.commits).insert(hash, commit.clone());
        }
        Ok(commit)
    }

    async fn open(&self, id: &ModelId, link: &Link, wait: Wait) -> Result<Arc<Model>, Refusal> {
        if let Some(model) = self.known(link.hash()).await? {
            return Ok(model);
        }
        let mut coming = self.bring(id, link);
        let arrived = async {
            // The sender's end without a word means that the node stops.
            let done = coming.wait_for(Option::is_some).await.ok().and_then(|done| done.clone());
            done.unwrap_or_else(|| Err(Failure::new(FailureKind::Interrupted, "the node is shutting down")))
        };
        match wait {
            Wait::Long => arrived.await?,
            Wait::Briefly => tokio::time::timeout(BRIEFLY, arrived).await.map_err(|_| Refusal::NotYet)??,
        }
        let lost = || Failure::new(FailureKind::NotFound, format!("{} was removed meanwhile", link.hash()));
        Ok(self.known(link.hash()).await?.ok_or_else(lost)?)
    }

    /// A model whose manifest is here.
    async fn known(&self, hash: BlobHash) -> Result<Option<Arc<Model>>, Refusal> {
        {
            let mut models = locked(&self.models);
            if let Some(index) = models.iter().position(|model| model.hash() == hash) {
                let model = models.remove(index);
                models.push(Arc::clone(&model));
                return Ok(Some(model));
            }
        }
        let store = self.core.store.clone();
        let read = blocking(move || match inventory::manifest(&store, hash) {
            Ok(found) => Ok(found.map(|(manifest, _)| Model::new(manifest))),
            Err(failure) if matches!(failure.kind, FailureKind::NotFound | FailureKind::Disk) => Ok(None),
            Err(failure) => Err(failure),
        });
        let Some(model) = read.await? else { return Ok(None) };
        let model = Arc::new(model?);
        let mut models = locked(&self.models);
        if models.len() >= MODELS {
            models.remove(0);
        }
        models.push(Arc::clone(&model));
        Ok(Some(model))
    }

    /// Has a manifest fetched, unless it is on its way already.
    fn bring(&self, id: &ModelId, link: &Link) -> Coming {
        let mut all = locked(&self.coming);
        if let Some(coming) = all.get(&link.hash()) {
            return coming.clone();
        }
        let (done, coming) = watch::channel(None);
        all.insert(link.hash(), coming.clone());
        let (core, link, name, all) = (Arc::clone(&self.core), link.clone(), id.to_string(), Arc::clone(&self.coming));
        self.core.tasks.spawn(async move {
            let result = fetch::manifest(&core, &link, &name, PATIENCE_S).await.map(drop);
            locked(&all).remove(&link.hash());
            // Nobody may wait any more.
            let _ = done.send(Some(result));
        });
        coming
    }
}
