//! Mirrors as the engine knows them: peers that hold what their catalogue says, grant at once and want nothing. This is who plays them: it
//! hears what the engine says to a mirror and answers in its place, lets it come and go, and sends it on errands for bytes. The book is pure,
//! with time as an argument; an errand is a task of its own. Only the driver calls this.

mod errand;
mod proofs;
#[cfg(test)]
mod tests;
mod verdict;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use p2pweights_protocol::engine::{FetchOutcome, HangupReason, Input, PeerClass};
use p2pweights_protocol::geometry::Geometry;
use p2pweights_protocol::ids::{BlobHash, PeerId, Prefix, RequestId, SwarmId};
use p2pweights_protocol::limits;
use p2pweights_protocol::manifest::{MirrorUrl, ShardPath};
use p2pweights_protocol::time::Instant;
use p2pweights_protocol::wire::{BulkRequest, HavePieces, Message};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::net::ParentsConnector;
use crate::origin::OriginClient;
use crate::transfer::Transfers;
use errand::Errand;
use proofs::Proofs;
pub use proofs::{SIDECAR, proof_window};
use whole::Whole;

/// What a mirror's name is hashed with: no peer has the key to a name that is a hash.
const NAME_CONTEXT: &str = "p2pweights 2026 mirror source";
/// Mirrors of one swarm that are asked at a time, the preferred ones: four fill a line, and the others stand by for one that fails.
const AT_A_TIME: usize = 4;
/// Credits that a mirror has out: more than it is asked to use at once.
const CREDITS: u16 = 16;
/// The first block: 256 KiB would be mostly waiting, and 4 MiB a minute on a slow line. It grows and shrinks with what an answer takes.
const FIRST_BLOCK: u32 = 1024 * 1024;
/// An answer that takes less than this makes the next block twice as long ...
const QUICK: Duration = Duration::from_millis(500);
/// ... and one that takes longer than this half as long.
const SLOW: Duration = Duration::from_secs(4);
/// First pause after a mirror was of no use, or asked for one without saying how long; doubles each time until it delivers.
const PAUSE_MIN: Duration = Duration::from_secs(10);
/// Longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// Files in a row that a mirror does not have: then its address is probably wrong, and it is left alone for a while.
const LACKS: u32 = 16;

/// The files that lie below a mirror's address, by what they hold.
pub type Catalogue = BTreeMap<BlobHash, (ShardPath, u64)>;

/// The name by which the engine knows a mirror.
pub fn mirror_peer(url: &MirrorUrl) -> PeerId {
    PeerId(blake3::derive_key(NAME_CONTEXT, url.as_str().as_bytes()))
}

/// What an errand found out about its mirror.
#[derive(Debug)]
pub enum MirrorNews {
    /// It does not have this blob.
    Lacks(BlobHash),
    /// It may have it, but nobody has anything to prove it by.
    Unproved(BlobHash),
    /// Some more of such a blob has come.
    Came(BlobHash),
    /// All of such a blob has come, was right, and is durable.
    Whole {
        /// The blob.
        blob: BlobHash,
        /// Its size in bytes.
        size: u64,
    },
    /// It wants to be left alone, for so long if it said so.
    Busy(Option<Duration>),
    /// It is of no use at all.
    Useless(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    /// Waits for a place to become free.
    StandsBy,
    /// Not asked before this.
    Away(Instant),
    Dropped,
}

/// One mirror.
#[derive(Debug)]
struct Site {
    url: MirrorUrl,
    state: State,
    /// Pauses in a row.
    pauses: u32,
    /// Files in a row that it did not have.
    lacks: u32,
    block_bytes: u32,
    catalogues: BTreeMap<SwarmId, Arc<Catalogue>>,
    lacking: BTreeSet<BlobHash>,
    /// What it may have without proofs, to be fetched whole one after the other.
    unproved: BTreeSet<BlobHash>,
    /// Which of them is on its way, and what ends that.
    whole: Option<(BlobHash, CancellationToken)>,
    /// Errands under way: since when, and what ends them.
    errands: BTreeMap<RequestId, (Instant, CancellationToken)>,
}

/// All mirrors.
#[derive(Debug, Default)]
pub struct Mirrors {
    sites: BTreeMap<PeerId, Site>,
    /// The mirrors of each swarm, the preferred ones first.
    swarms: BTreeMap<SwarmId, Vec<PeerId>>,
    client: Option<OriginClient>,
    proofs: Arc<Proofs>,
}

impl Mirrors {
    /// None yet; peers are asked for parents by this.
    pub fn new(peers: ParentsConnector) -> Self {
        Self { proofs: Arc::new(Proofs::new(peers)), ..Self::default() }
    }

    /// Whether this is the name of a mirror.
    pub fn contains(&self, peer: PeerId) -> bool {
        self.sites.contains_key(&peer)
    }

    /// The files of a swarm also lie below these addresses, the preferred first.
    pub fn add(
        &mut self,
        now: Instant,
        swarm: SwarmId,
        urls: Vec<MirrorUrl>,
        files: &Arc<Catalogue>,
        client: OriginClient,
    ) -> Vec<Input> {
        self.client.get_or_insert(client);
        let mut inputs = Vec::new();
        for url in urls {
            let peer = mirror_peer(&url);
            let site = self.sites.entry(peer).or_insert_with(|| Site::new(url));
            let news = site.catalogues.insert(swarm, Arc::clone(files)).is_none();
            if news && site.state == State::Up {
                inputs.extend(files.keys().filter_map(|blob| site.have(peer, *blob)));
            }
            let of_swarm = self.swarms.entry(swarm).or_default();
            if !of_swarm.contains(&peer) {
                of_swarm.push(peer);
            }
        }
        inputs.extend(self.review(now));
        inputs
    }

    /// Nobody fetches this swarm any more.
    pub fn leave(&mut self, swarm: SwarmId) -> Vec<Input> {
        let mut inputs = Vec::new();
        for peer in self.swarms.remove(&swarm).unwrap_or_default() {
            let Some(site) = self.sites.get_mut(&peer) else { continue };
            site.catalogues.remove(&swarm);
            if site.catalogues.is_empty() {
                site.end_all();
                inputs.extend((site.state == State::Up).then_some(Input::PeerGone { peer }));
                self.sites.remove(&peer);
            }
        }
        inputs
    }

    /// When to call [`review`](Self::review) again.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let back = |site: &Site| match site.state {
            State::Away(until) => Some(until),
            State::Up | State::StandsBy | State::Dropped => None,
        };
        self.sites.values().filter_map(back).min()
    }

    /// Lets those come back that have been away for long enough, and others take the places of those that are gone.
    pub fn review(&mut self, now: Instant) -> Vec<Input> {
        for site in self.sites.values_mut().filter(|site| matches!(site.state, State::Away(until) if until <= now)) {
            site.state = State::StandsBy;
        }
        let mut inputs = Vec::new();
        for peers in self.swarms.values() {
            let in_state = |peer: &&PeerId, state| self.sites.get(*peer).is_some_and(|site| site.state == state);
            let free = AT_A_TIME.saturating_sub(peers.iter().filter(|peer| in_state(peer, State::Up)).count());
            let next: Vec<PeerId> = peers.iter().filter(|peer| in_state(peer, State::StandsBy)).take(free).copied().collect();
            for peer in next {
                let Some(site) = self.sites.get_mut(&peer) else { continue };
                site.state = State::Up;
                debug!(mirror = site.url.as_str(), "mirror is asked");
                inputs.push(Input::PeerConnected { peer, class: PeerClass::Mirror, prefix: Prefix::default() });
                inputs.push(site.grant(peer, CREDITS));
            }
        }
        inputs
    }

    /// What the engine says to a mirror, and what the mirror says to it.
    pub fn hear(&self, peer: PeerId, message: &Message) -> Vec<Input> {
        let (Some(site), Message::Interest { blobs }) = (self.sites.get(&peer), message) else { return Vec::new() };
        let mut inputs: Vec<Input> = blobs.iter().filter_map(|blob| site.have(peer, *blob)).collect();
        let lacking: Vec<BlobHash> = blobs.iter().filter(|blob| site.find(**blob).is_none()).copied().collect();
        if !lacking.is_empty() {
            inputs.push(Input::Message { peer, message: Message::HaveNot { blobs: lacking } });
        }
        inputs
    }

    /// Sends a mirror for a span, which these peers hold with all of its [`proof_window`]. Ends with exactly one [`Input::FetchEnded`].
    pub fn fetch(
        &mut self,
        now: Instant,
        peer: PeerId,
        request: BulkRequest,
        probe: bool,
        holders: Vec<PeerId>,
        transfers: &Transfers,
    ) {
        let (landing, bonds) = transfers.for_mirror(peer);
        let stop = bonds.stop.child_token();
        let found = self.sites.get_mut(&peer).and_then(|site| {
            let (path, _) = site.find(request.blob)?;
            let file = site.url.shard_url(path);
            site.errands.insert(request.request, (now, stop.clone()));
            Some((site.url.clone(), file))
        });
        let (Some((base, file)), Some(client)) = (found, self.client.clone()) else {
            return transfers.not_asked(request.request);
        };
        let proofs = Arc::clone(&self.proofs);
        let tasks = bonds.tasks.clone();
        let errand = Errand { client, proofs, base, file, request, probe, holders, landing: Arc::new(landing), bonds, stop };
        tasks.spawn(errand.run());
    }

    /// Sends for files that no mirror can prove, one at a time from each and none from two.
    pub fn fetch_whole(&mut self, transfers: &Transfers) {
        let Some(client) = self.client.clone() else { return };
        let mut under_way: BTreeSet<BlobHash> = self.sites.values().filter_map(|site| Some(site.whole.as_ref()?.0)).collect();
        let idle = self.sites.iter().filter(|(_, site)| site.state == State::Up && site.whole.is_none());
        let idle: Vec<PeerId> = idle.map(|(peer, _)| *peer).collect();
        for mirror in idle {
            let provable =
                |blob: &BlobHash| self.sites.values().any(|site| site.state == State::Up && site.find(*blob).is_some());
            let free = |blob: &&BlobHash| !under_way.contains(blob) && !provable(blob);
            let next = self.sites.get(&mirror).and_then(|site| site.unproved.iter().find(free).copied());
            let (Some(blob), Some(site)) = (next, self.sites.get_mut(&mirror)) else { continue };
            let Some((path, size)) = site.listed(blob).cloned() else { continue };
            under_way.insert(blob);
            info!(mirror = site.url.as_str(), %blob, "fetched whole, to be believed at its end");
            let (_, bonds) = transfers.for_mirror(mirror);
            let stop = bonds.stop.child_token();
            site.whole = Some((blob, stop.clone()));
            let (tasks, store, file) = (bonds.tasks.clone(), transfers.store().clone(), site.url.shard_url(&path));
            let whole = Whole { client: client.clone(), mirror, file, blob, size, store, bonds, stop };
            tasks.spawn(whole.run());
        }
    }

    /// All of a blob has come, whoever brought it.
    pub fn complete(&mut self, blob: BlobHash) {
        for site in self.sites.values_mut() {
            site.unproved.remove(&blob);
            site.end_whole(blob);
        }
    }

    /// The engine does not need this any more.
    pub fn cancel(&mut self, peer: PeerId, request: RequestId) {
        if let Some((_, stop)) = self.sites.get(&peer).and_then(|site| site.errands.get(&request)) {
            stop.cancel();
        }
    }

    /// An errand has ended; what the mirror says to that.
    pub fn ended(&mut self, now: Instant, request: RequestId, outcome: FetchOutcome) -> Option<Input> {
        let (peer, site) = self.sites.iter_mut().find(|(_, site)| site.errands.contains_key(&request))?;
        let (peer, (since, _)) = (*peer, site.errands.remove(&request)?);
        if outcome == FetchOutcome::Delivered {
            (site.pauses, site.lacks) = (0, 0);
            site.fit_block(now - since);
        }
        (site.state == State::Up).then(|| site.grant(peer, 1))
    }

    /// The engine hangs up on a mirror. Says what a person should know.
    pub fn hung_up(&mut self, now: Instant, peer: PeerId, reason: HangupReason) -> Option<String> {
        let site = self.sites.get_mut(&peer)?;
        site.end_errands();
        if reason == HangupReason::Banned {
            site.end_all();
            site.state = State::Dropped;
            return Some(format!("mirror {} sent bytes that are not the model's, or nothing: it is dropped", site.url.as_str()));
        }
        site.pause(now, None);
        None
    }

    /// What an errand found out. Says what a person should know, too.
    pub fn learn(&mut self, now: Instant, peer: PeerId, news: MirrorNews) -> (Vec<Input>, Option<String>) {
        let Some(site) = self.sites.get_mut(&peer) else { return (Vec::new(), None) };
        let mirror = site.url.as_str().to_owned();
        let away = |site: &mut Site, wait| {
            // Another errand may have been told the same.
            let was_up = site.state == State::Up;
            if was_up {
                site.pause(now, wait);
                site.end_errands();
            }
            was_up.then_some(Input::PeerGone { peer })
        };
        match news {
            MirrorNews::Lacks(blob) => {
                info!(mirror, %blob, "mirror lacks a blob");
                site.lacking.insert(blob);
                site.unproved.remove(&blob);
                site.end_whole(blob);
                site.lacks += 1;
                let message = Message::HaveNot { blobs: vec![blob] };
                let gone = if site.lacks.is_multiple_of(LACKS) { away(site, None) } else { None };
                ([Input::Message { peer, message }].into_iter().chain(gone).collect(), None)
            }
            MirrorNews::Unproved(blob) => {
                debug!(mirror, %blob, "nothing to prove it by");
                site.unproved.insert(blob);
                (vec![Input::Message { peer, message: Message::HaveNot { blobs: vec![blob] } }], None)
            }
            MirrorNews::Came(_) => (Vec::new(), None),
            MirrorNews::Whole { blob, size } => {
                (site.pauses, site.lacks) = (0, 0);
                site.unproved.remove(&blob);
                site.end_whole(blob);
                let stored = Geometry::of(size).whole().map(|span| Input::SpanStored { blob, size, span });
                (stored.into_iter().collect(), None)
            }
            MirrorNews::Busy(wait) => (away(site, wait).into_iter().collect(), None),
            MirrorNews::Useless(why) => {
                let was = std::mem::replace(&mut site.state, State::Dropped);
                site.end_all();
                let gone = (was == State::Up).then_some(Input::PeerGone { peer });
                (gone.into_iter().collect(), (was != State::Dropped).then(|| format!("mirror {mirror} is not used: {why}")))
            }
        }
    }
}

impl Site {
    fn new(url: MirrorUrl) -> Self {
        Self {
            url,
            state: State::StandsBy,
            pauses: 0,
            lacks: 0,
            block_bytes: FIRST_BLOCK,
            catalogues: BTreeMap::new(),
            lacking: BTreeSet::new(),
            unproved: BTreeSet::new(),
            whole: None,
            errands: BTreeMap::new(),
        }
    }

    fn find(&self, blob: BlobHash) -> Option<&(ShardPath, u64)> {
        self.listed(blob).filter(|_| !self.lacking.contains(&blob) && !self.unproved.contains(&blob))
    }

    fn listed(&self, blob: BlobHash) -> Option<&(ShardPath, u64)> {
        self.catalogues.values().find_map(|files| files.get(&blob))
    }

    /// A file that was fetched whole is over.
    fn end_whole(&mut self, blob: BlobHash) {
        if let Some((_, stop)) = self.whole.take_if(|(on, _)| *on == blob) {
            stop.cancel();
        }
    }

    /// Nothing more of any kind is wanted.
    fn end_all(&mut self) {
        self.end_errands();
        self.unproved.clear();
        if let Some((_, stop)) = self.whole.take() {
            stop.cancel();
        }
    }

    fn have(&self, peer: PeerId, blob: BlobHash) -> Option<Input> {
        let (_, size) = *self.find(blob)?;
        Some(Input::Message { peer, message: Message::Have { blob, size, pieces: HavePieces::All } })
    }

    fn grant(&self, peer: PeerId, credits: u16) -> Input {
        Input::Message { peer, message: Message::Grant { credits, block_bytes: self.block_bytes, hint: None } }
    }

    fn fit_block(&mut self, took: Duration) {
        if took < QUICK {
            self.block_bytes = (self.block_bytes * 2).min(limits::BLOCK_MAX_BYTES);
        } else if took > SLOW {
            self.block_bytes = (self.block_bytes / 2).max(limits::BLOCK_MIN_BYTES);
        }
    }

    fn pause(&mut self, now: Instant, wait: Option<Duration>) {
        let wait = wait.unwrap_or_else(|| (PAUSE_MIN * 2u32.pow(self.pauses.min(6))).min(PAUSE_MAX));
        self.pauses += 1;
        warn!(mirror = self.url.as_str(), ?wait, "mirror is left alone");
        self.state = State::Away(now + wait);
    }

    fn end_errands(&self) {
        self.errands.values().for_each(|(_, stop)| stop.cancel());
    }
}
