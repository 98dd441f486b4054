//! The mirrors of one fetch: those that its order names, and those that the manifest does. What is asked of them beyond the manifest is the
//! engine's to decide.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use p2pweights_protocol::ids::{BlobHash, PeerId};
use p2pweights_protocol::limits;
use p2pweights_protocol::manifest::{MirrorUrl, ShardPath};
use tracing::{info, warn};
use url::{Host, Url};

use super::{Fetching, Plan, stopped};
use crate::failure::phrase;
use crate::mirrors::{Catalogue, SIDECAR, mirror_peer};
use crate::node::blocking;
use crate::origin::{OriginClient, OriginError, Retry, is_public};
use crate::report::{Failure, FailureKind, FetchEvent, FetchRequest, MirrorReport, SourceReport};

/// From one look for a manifest beside all mirrors to the next, unless they say how long.
const ROUND: Duration = Duration::from_secs(5);
/// Mirrors of one fetch, those of the manifest included: as many as a manifest may name.
const MIRRORS: usize = p2pweights_protocol::manifest::MIRRORS;

/// Reads the mirrors of an order. One that names an address within this machine or its network is refused here, before anything is asked.
pub(super) fn parse(request: &FetchRequest, private_allowed: bool) -> Result<Vec<MirrorUrl>, Failure> {
    let usage = |message| Failure::new(FailureKind::Usage, message);
    if request.mirrors.len() > MIRRORS {
        return Err(usage(format!("--mirror: {} addresses are more than {MIRRORS}", request.mirrors.len())));
    }
    let parse = |text: &String| {
        let url = MirrorUrl::parse(text).map_err(|error| usage(format!("--mirror {text:?}: {}", phrase(&error))))?;
        let parsed = Url::parse(url.as_str()).map_err(|error| usage(format!("--mirror {text:?}: {error}")))?;
        let address = match parsed.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            Some(Host::Domain(_)) | None => None,
        };
        match address.filter(|address| !private_allowed && !is_public(*address)) {
            Some(_) => Err(usage(format!(
                "--mirror {text:?} lies within this machine or its network; allow that with --allow-private-mirrors or the setting \
                 mirrors.allow_private"
            ))),
            None => Ok(url),
        }
    };
    request.mirrors.iter().map(parse).collect()
}

impl Fetching<'_> {
    /// The size of the blob, from whoever proves it first: a peer, or a mirror that has it as a manifest.
    pub(super) async fn find_size(&self, hash: BlobHash, watched: &super::Watched<'_>) -> Result<u64, Failure> {
        tokio::select! {
            size = self.manifest_beside_mirrors(hash) => size,
            size = self.prove_size(hash, watched) => size,
        }
    }

    /// Takes the manifest from the first mirror that has it; never ends if none does.
    async fn manifest_beside_mirrors(&self, hash: BlobHash) -> Result<u64, Failure> {
        let mut mirrors: Vec<&MirrorUrl> = self.mirrors.iter().collect();
        while !mirrors.is_empty() {
            let client = self.core.mirror_client().await?;
            let mut left = Vec::new();
            let mut wait = ROUND;
            for mirror in mirrors {
                match manifest_beside(&client, mirror, hash).await {
                    Ok(Some(bytes)) => {
                        let (store, size) = (self.core.store.clone(), bytes.len() as u64);
                        blocking(move || Ok(store.put_bytes(&bytes)?)).await?;
                        self.core.offer(vec![hash]).await?;
                        info!(mirror = mirror.as_str(), %hash, "manifest from a mirror");
                        return Ok(size);
                    }
                    Ok(None) => {
                        let message = format!("mirror {} has another manifest under this hash", mirror.as_str());
                        self.tell(FetchEvent::Warning { message }).await?;
                    }
                    Err(error) => match error.retry() {
                        Retry::After(asked) => {
                            wait = wait.max(asked.unwrap_or_default());
                            left.push(mirror);
                        }
                        // Whoever has no sidecar may still have the files.
                        Retry::Never if matches!(error, OriginError::Status { .. }) => {
                            info!(mirror = mirror.as_str(), error = phrase(&error), "no manifest there");
                        }
                        Retry::Never => {
                            let message = format!("mirror {} is not used: {}", mirror.as_str(), phrase(&error));
                            self.tell(FetchEvent::Warning { message }).await?;
                        }
                    },
                }
            }
            mirrors = left;
            tokio::time::sleep(wait).await;
        }
        std::future::pending().await
    }

    /// Lets the engine know of the mirrors, and of what lies there.
    pub(super) async fn use_mirrors(&self, plan: &Plan) -> Result<(), Failure> {
        let urls = self.mirrors_of(plan);
        if urls.is_empty() || plan.manifest.is_none() {
            return Ok(());
        }
        let client = match self.core.mirror_client().await {
            Ok(client) => client,
            Err(failure) if self.mirrors.is_empty() => {
                warn!(error = failure.message, "mirrors of the manifest are not used");
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        let file = |file: &super::File| Some((file.blob, (ShardPath::parse(&file.path).ok()?, file.bytes)));
        let files: Catalogue = plan.files.iter().filter(|file| file.bytes > 0).filter_map(file).collect();
        self.core.driver.mirrors(self.swarm, urls, Arc::new(files), client).await.map_err(stopped)
    }

    /// Those of the order first.
    fn mirrors_of(&self, plan: &Plan) -> Vec<MirrorUrl> {
        let named = plan.manifest.iter().filter(|_| self.core.uses_manifest_mirrors());
        let named = named.flat_map(|manifest| &manifest.metadata().mirrors);
        let mut urls: Vec<MirrorUrl> = Vec::new();
        for url in self.mirrors.iter().chain(named) {
            if !urls.contains(url) && urls.len() < MIRRORS {
                urls.push(url.clone());
            }
        }
        urls
    }

    /// Who delivered how much: peers, and mirrors; the most first.
    pub(super) fn shares(&self, plan: &Plan, sources: BTreeMap<PeerId, u64>) -> (Vec<SourceReport>, Vec<MirrorReport>) {
        let urls: BTreeMap<PeerId, MirrorUrl> = self.mirrors_of(plan).into_iter().map(|url| (mirror_peer(&url), url)).collect();
        let (mut peers, mut mirrors) = (Vec::new(), Vec::new());
        for (peer, bytes) in sources.into_iter().filter(|(_, bytes)| *bytes > 0) {
            match urls.get(&peer) {
                Some(url) => mirrors.push(MirrorReport { url: url.as_str().to_owned(), bytes }),
                None => peers.push(SourceReport { peer: crate::peer_name::peer_name(peer), bytes }),
            }
        }
        peers.sort_by_key(|source| std::cmp::Reverse(source.bytes));
        mirrors.sort_by_key(|mirror| std::cmp::Reverse(mirror.bytes));
        (peers, mirrors)
    }
}

/// The blob that lies beside a mirror as the manifest of this hash; `None` if it is another one.
async fn manifest_beside(client: &OriginClient, mirror: &MirrorUrl, hash: BlobHash) -> Result<Option<Vec<u8>>, OriginError> {
    let Ok(url) = Url::parse(&format!("{}/{SIDECAR}/{hash}.json", mirror.as_str())) else { return Ok(None) };
    let bytes = client.get(&url, None, None).await?.whole(limits::MANIFEST_BYTES).await?;
    let right = tokio::task::spawn_blocking(move || (BlobHash::of(&bytes) == hash).then_some(bytes));
    Ok(right.await.ok().flatten())
}
