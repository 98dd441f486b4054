//! Where the parents come from that prove a mirror's bytes: from the partial blob, if they are there, or else from the sidecar beside the
//! mirror's files, or from a peer, many at a time, checked against the blob's hash before any byte is believed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use futures::{StreamExt, TryStreamExt};
use p2pweights_protocol::engine::Input;
use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::{BlobHash, PeerId};
use p2pweights_protocol::limits;
use p2pweights_protocol::manifest::MirrorUrl;
use p2pweights_protocol::verify::{PAIR_BYTES, Parents, outboard_bytes, outboard_parts};
use p2pweights_protocol::wire::ParentsRequest;
use thiserror::Error;
use url::Url;

use crate::net::{AskError, OpenError, ParentsConnector};
use crate::origin::{Answer, ByteRange, OriginClient, OriginError};
use crate::store::{BlobWriter, StoreError, locked};
use crate::transfer::{Fact, Facts};

/// Folder of the sidecar below a mirror's address; never part of a model.
pub const SIDECAR: &str = ".p2pweights";
/// Groups whose parents are fetched together: those of 1 GiB take 4 MiB, so that they cost few requests and little memory.
const WINDOW_GROUPS: u64 = limits::PARENTS_GROUPS;
/// Peers asked for the parents of one window, one after the other.
const PEERS_ASKED: usize = 3;
/// Requests for single parents at a time: the few that lie above a window.
const SINGLES: usize = 4;

/// What is remembered of those that have no parents; after that all of it is forgotten, which costs a question each.
const REMEMBERED: usize = 10_000;

/// Why there are no parents.
#[derive(Debug, Error)]
pub(super) enum ProofError {
    /// The mirror has no sidecar for this blob, or a wrong one.
    #[error("no parents can be had of it")]
    None,
    /// It could not be asked.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The store could not keep them.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is known of sidecars, and who fetches from one now.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    peers: Option<ParentsConnector>,
    /// Mirrors without a right sidecar for a blob.
    without: Mutex<BTreeSet<(PeerId, BlobHash)>>,
    /// One at a time fetches parents of a blob: the others find them in the partial blob then.
    turns: Mutex<BTreeMap<BlobHash, Arc<tokio::sync::Mutex<()>>>>,
    /// Peers that do not speak of parents alone.
    mute: Mutex<BTreeSet<PeerId>>,
}

/// A sidecar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sidecar<'a> {
    pub client: &'a OriginClient,
    pub mirror: PeerId,
    pub base: &'a MirrorUrl,
}

impl Proofs {
    /// Nothing known yet.
    pub fn new(peers: ParentsConnector) -> Self {
        Self { peers: Some(peers), ..Self::default() }
    }

    /// The parents that lead to a span; `holders` have them, too. What a peer does wrong is told to `facts`.
    pub async fn parents(
        &self,
        sidecar: Sidecar<'_>,
        holders: &[PeerId],
        facts: &Facts,
        writer: &Arc<BlobWriter>,
        span: Span,
    ) -> Result<Parents, ProofError> {
        if let Some(parents) = held(writer, span).await? {
            return Ok(parents);
        }
        let turn = Arc::clone(locked(&self.turns).entry(writer.hash()).or_default());
        let result = {
            let _turn = turn.lock().await;
            match held(writer, span).await? {
                Some(parents) => Ok(parents),
                None => match self.fetch(sidecar, writer, span).await {
                    Err(ProofError::None) => self.ask(holders, facts, writer, span).await,
                    fetched => fetched,
                },
            }
        };
        // The last one to want a turn clears it away.
        let mut turns = locked(&self.turns);
        drop(turn);
        if turns.get(&writer.hash()).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(&writer.hash());
        }
        result
    }

    async fn fetch(&self, sidecar: Sidecar<'_>, writer: &Arc<BlobWriter>, span: Span) -> Result<Parents, ProofError> {
        let (hash, key) = (writer.hash(), (sidecar.mirror, writer.hash()));
        if locked(&self.without).contains(&key) {
            return Err(ProofError::None);
        }
        let window = proof_window(writer.geometry(), span);
        let fetched = sidecar.window(writer, window).await;
        let without = match &fetched {
            Ok(None) => true,
            Err(ProofError::Origin(error)) => lacks(error),
            _ => false,
        };
        if without {
            tracing::info!(mirror = sidecar.base.as_str(), blob = %hash, "no right outboard beside it");
            remember(&mut locked(&self.without), key);
            return Err(ProofError::None);
        }
        let Some(parents) = fetched? else { return Err(ProofError::None) };
        keep(writer, parents).await
    }

    /// The same, from peers.
    async fn ask(&self, holders: &[PeerId], facts: &Facts, writer: &Arc<BlobWriter>, span: Span) -> Result<Parents, ProofError> {
        let Some(connector) = &self.peers else { return Err(ProofError::None) };
        let (blob, geometry) = (writer.hash(), writer.geometry());
        let (size, window) = (geometry.size(), proof_window(geometry, span));
        // A span across two windows is a question for the sidecar only: it is rare, and the next span will do.
        if window.groups() > limits::PARENTS_GROUPS {
            return Err(ProofError::None);
        }
        let able: Vec<PeerId> = holders.iter().filter(|peer| !locked(&self.mute).contains(peer)).copied().collect();
        for peer in able.into_iter().take(PEERS_ASKED) {
            let parts = match connector.ask(peer, ParentsRequest { blob, size, span: window }).await {
                Ok(parts) => parts,
                Err(error) => {
                    tracing::debug!(peer = %peer.short(), error = crate::failure::phrase(&error), "no parents from a peer");
                    match error {
                        AskError::Open(OpenError::Unsupported(_)) => remember(&mut locked(&self.mute), peer),
                        AskError::Malformed(_) => blame(facts, peer).await,
                        AskError::Open(_) | AskError::Refused | AskError::Broken(_) => (),
                    }
                    continue;
                }
            };
            let checked = tokio::task::spawn_blocking(move || Parents::check(blob, geometry, window, parts));
            match checked.await {
                Ok(Ok(parents)) => return keep(writer, parents).await,
                Ok(Err(error)) => {
                    tracing::warn!(peer = %peer.short(), %error, "a peer lied");
                    blame(facts, peer).await;
                }
                Err(_) => return Err(ProofError::None),
            }
        }
        Err(ProofError::None)
    }
}

impl Sidecar<'_> {
    /// The parents of a window; `None` if what is there is wrong.
    async fn window(&self, writer: &Arc<BlobWriter>, window: Span) -> Result<Option<Parents>, ProofError> {
        let (hash, geometry) = (writer.hash(), writer.geometry());
        let Ok(url) = Url::parse(&format!("{}/{SIDECAR}/{hash}.outboard", self.base.as_str())) else { return Ok(None) };
        let whole = outboard_bytes(geometry);
        let parts = outboard_parts(geometry, window).into_iter().map(|part| self.part(&url, writer, part, whole));
        let parts: Vec<(u64, Vec<u8>)> = futures::stream::iter(parts).buffered(SINGLES).try_collect().await?;
        let checked = tokio::task::spawn_blocking(move || Parents::check(hash, geometry, window, parts).ok());
        Ok(checked.await.ok().flatten())
    }

    async fn part(
        &self,
        url: &Url,
        writer: &Arc<BlobWriter>,
        part: Range<u64>,
        whole: u64,
    ) -> Result<(u64, Vec<u8>), ProofError> {
        let start = part.start;
        // A single one above windows that were fetched before is here already.
        if part.end - part.start == PAIR_BYTES {
            let (reader, place) = (Arc::clone(writer), part.clone());
            let read =
                tokio::task::spawn_blocking(move || reader.read_outboard(&place)).await.map_err(|_| ProofError::None)??;
            if read.iter().any(|byte| *byte != 0) {
                return Ok((start, read));
            }
        }
        let range = ByteRange { first: part.start, last: Some(part.end - 1) };
        let answer = self.client.get(url, Some(range), None).await?;
        Ok((start, exactly(answer, range, part.end - part.start, whole).await?))
    }
}

/// The range asked for, and not a byte more.
async fn exactly(mut answer: Answer, range: ByteRange, wanted: u64, whole: u64) -> Result<Vec<u8>, ProofError> {
    let part = answer.part(range)?;
    if part.size.is_some_and(|size| size != whole) || part.first != range.first || part.bytes.is_some_and(|bytes| bytes < wanted)
    {
        return Err(ProofError::None);
    }
    let wanted = usize::try_from(wanted).map_err(|_| ProofError::None)?;
    let mut bytes = Vec::with_capacity(wanted);
    while bytes.len() < wanted {
        let Some(chunk) = answer.chunk().await? else { return Err(ProofError::None) };
        bytes.extend_from_slice(&chunk[..chunk.len().min(wanted - bytes.len())]);
    }
    Ok(bytes)
}

async fn keep(writer: &Arc<BlobWriter>, parents: Parents) -> Result<Parents, ProofError> {
    let keeper = Arc::clone(writer);
    let kept = tokio::task::spawn_blocking(move || keeper.keep_parents(&parents).map(|()| parents));
    Ok(kept.await.map_err(|_| ProofError::None)??)
}

async fn blame(facts: &Facts, peer: PeerId) {
    // Fails only when the driver has gone.
    let _ = facts.send(Fact::Engine(Input::Malformed { peer })).await;
}

/// The aligned windows around a span: what is asked of whoever has parents.
pub fn proof_window(geometry: Geometry, span: Span) -> Span {
    let start = span.start() / WINDOW_GROUPS * WINDOW_GROUPS;
    let end = (span.end().div_ceil(WINDOW_GROUPS) * WINDOW_GROUPS).min(geometry.groups());
    Span::new(start, end).unwrap_or(span)
}

fn remember<T: Ord>(known: &mut BTreeSet<T>, one: T) {
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(one);
}

/// Whether an origin's fault means that what was asked for is not there.
fn lacks(error: &OriginError) -> bool {
    super::verdict::Verdict::of(error) == super::verdict::Verdict::Lacks
}

async fn held(writer: &Arc<BlobWriter>, span: Span) -> Result<Option<Parents>, ProofError> {
    let writer = Arc::clone(writer);
    let read = tokio::task::spawn_blocking(move || writer.parents(span));
    Ok(read.await.map_err(|_| ProofError::None)??)
}
