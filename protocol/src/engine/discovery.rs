//! Swarms and where their providers come from: the DHT, the owner, whoever is connected anyway.

use std::collections::BTreeSet;
use std::time::Duration;

use super::mirrors::is_mirror;
use super::peer::Peer;
use super::{Alarm, Engine, Event, Order, Output, PeerClass, Want};
use crate::geometry::Geometry;
use crate::ids::{BlobHash, PeerId, SwarmId};
use crate::limits;
use crate::swarm::download::Download;
use crate::time::Instant;
use crate::wire::Message;

/// Dials under way at a time: enough to fill a neighbourhood in a few seconds, too few to look like a scan.
pub(super) const DIALS_AT_A_TIME: usize = 16;
/// Neighbours after which no more are dialled; those that dial us come on top. Fifteen did as well as sixty in simulation.
const NEIGHBOURS: usize = 18;
/// Neighbours after which others are told to look elsewhere, and where: a peer with many neighbours gives each of them less, and those
/// with few would finish late.
const NEIGHBOURS_MAX: usize = 24;
/// How long a new neighbour counts as one though it has delivered nothing.
const NEWCOMER: Duration = Duration::from_secs(10);
/// How often due look-ups and dials are looked for.
const DISCOVERY_TICK: Duration = Duration::from_secs(1);
/// Longest pause between two look-ups.
const LOOKUP_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Look-ups for single blobs that nobody known provides, at a time.
const BLOB_LOOKUPS: usize = 3;

/// The peers around one hash, as far as we need them.
#[derive(Debug, Clone)]
pub(super) struct Swarm {
    /// Blobs still wanted.
    pub(super) wants: BTreeSet<BlobHash>,
    /// Peers said to provide them.
    pub(super) providers: BTreeSet<PeerId>,
    /// When it was joined.
    pub(super) joined_at: Instant,
    next_lookup: Instant,
    lookup_pause: Duration,
    /// Where the round of single-blob look-ups stands.
    looked_up: Option<BlobHash>,
}

impl Engine {
    pub(super) fn join(&mut self, id: SwarmId, wants: Vec<Want>, providers: Vec<PeerId>) {
        let (now, lookup_pause) = (self.now, self.config.lookup_interval);
        if self.downloads.is_empty() {
            self.brought_at = now; // A lease begins now.
        }
        let swarm = self.swarms.entry(id).or_insert_with(|| Swarm {
            wants: BTreeSet::new(),
            providers: BTreeSet::new(),
            joined_at: now,
            next_lookup: now,
            lookup_pause,
            looked_up: None,
        });
        swarm.wants.extend(wants.iter().map(|want| want.blob));
        swarm.providers.extend(providers.iter().take(limits::PROVIDERS_PER_SWARM));
        for want in wants {
            let blob = want.blob;
            self.want(want);
            self.review_claims(&[blob]);
        }
        for provider in providers {
            self.dial(provider);
        }
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        for peer in peers {
            self.introduce(peer);
        }
        self.discover();
    }

    fn want(&mut self, want: Want) {
        let Want { blob, size, held, order: wanted } = want;
        let order = self.next_order;
        self.next_order += 1;
        let download = self.downloads.entry(blob).or_insert_with(|| Download::new(blob, order));
        download.set_streamed(download.is_streamed() || wanted == Order::Stream);
        if let Some(size) = size
            && download.geometry().is_none()
        {
            let geometry = Geometry::of(size);
            download.set_geometry(geometry, &held);
            let verified = download.is_verified();
            self.offer(blob, size, &held);
            if verified {
                self.notify(Event::BlobVerified { blob });
            }
        }
        self.reopen(blob);
        self.finish_if_held(blob);
        self.mark_sources_ready();
    }

    pub(super) fn leave(&mut self, id: SwarmId) {
        let Some(swarm) = self.swarms.remove(&id) else { return };
        for blob in swarm.wants {
            if self.swarms.values().any(|other| other.wants.contains(&blob)) {
                continue;
            }
            let requests: Vec<_> = self.ledger.of_blob(blob).map(|(id, _)| id).collect();
            for request in requests {
                let Some(abandoned) = self.abandon(request) else { continue };
                if let Some(state) = self.peers.get_mut(&abandoned.provider) {
                    state.source.ended(abandoned.bytes, 0);
                    self.send(abandoned.provider, Message::Cancel { request });
                }
                self.emit(Output::Cancel { request, provider: abandoned.provider });
            }
            if let Some(download) = self.downloads.remove(&blob) {
                self.open.remove(&(download.order(), blob));
            }
            self.dropped.insert(blob);
        }
        self.wake_in(Alarm::News, self.config.news_delay);
        self.mark_sources_ready();
    }

    /// A blob is complete: no swarm wants it any more.
    pub(super) fn forget_want(&mut self, blob: BlobHash) {
        for swarm in self.swarms.values_mut() {
            swarm.wants.remove(&blob);
        }
        self.dropped.insert(blob);
        self.wake_in(Alarm::News, self.config.news_delay);
    }

    /// Asks a connected peer about all that we want, if it is likely to hold some of it or there is room to try.
    pub(super) fn introduce(&mut self, peer: PeerId) {
        // All on a local network must know of one another to share its link; mirrors are no neighbours.
        let near = self.peers.get(&peer).is_some_and(|state| matches!(state.class, PeerClass::Lan | PeerClass::Mirror));
        let room = near || self.neighbours() < limits::PROVIDERS_PER_SWARM;
        self.ask_about_all(peer, room);
    }

    /// Whether another neighbour would only thin out what each gets: there are many, and we hold nothing but what we fetch with them. A
    /// mirror that fetches one model still serves all others to whoever comes.
    pub(super) fn has_company(&self) -> bool {
        let only_fetches = !self.downloads.is_empty() && self.offers.keys().all(|blob| self.downloads.contains_key(blob));
        only_fetches && self.neighbours() >= NEIGHBOURS_MAX
    }

    /// Neighbours: connected peers that we asked about something, and that have delivered or may yet. Those that only sit there, whatever
    /// they say they hold, must not keep others out.
    fn neighbours(&self) -> usize {
        let may_yet = |state: &Peer| self.now - state.since < NEWCOMER;
        let counts = |state: &&Peer| {
            let asked = state.class != PeerClass::Mirror && !state.asked_about.is_empty();
            asked && (state.source.has_delivered() || may_yet(state))
        };
        self.peers.values().filter(counts).count()
    }

    /// Sends our interest in every wanted blob that this peer has not been asked about; `all`: also of swarms it is not known in.
    pub(super) fn ask_about_all(&mut self, peer: PeerId, all: bool) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let mut blobs: Vec<BlobHash> = self
            .swarms
            .values()
            .filter(|swarm| all || swarm.providers.contains(&peer))
            .flat_map(|swarm| swarm.wants.iter().copied())
            .filter(|blob| self.downloads.contains_key(blob) && !state.asked_about.contains(blob))
            .collect();
        blobs.sort_unstable();
        blobs.dedup();
        blobs.truncate(limits::INTERESTS_PER_PEER.saturating_sub(state.asked_about.len()));
        state.asked_about.extend(&blobs);
        state.chatter.expect(blobs.len());
        for chunk in blobs.chunks(limits::BLOBS_PER_MESSAGE) {
            self.send(peer, Message::Interest { blobs: chunk.to_vec() });
        }
    }

    pub(super) fn on_providers(&mut self, blob: BlobHash, found: Vec<PeerId>) {
        let mut wanted = false;
        for (id, swarm) in &mut self.swarms {
            if id.0 == blob || swarm.wants.contains(&blob) {
                wanted = true;
                let room = (2 * limits::PROVIDERS_PER_SWARM).saturating_sub(swarm.providers.len());
                swarm.providers.extend(found.iter().take(room));
            }
        }
        if !wanted {
            return;
        }
        let mut room = NEIGHBOURS.saturating_sub(self.neighbours());
        for peer in found.into_iter().take(limits::PROVIDERS_PER_SWARM) {
            if self.peers.contains_key(&peer) {
                self.ask_about_all(peer, false);
            } else if room > 0 {
                room -= 1;
                self.dial(peer);
            }
        }
    }

    /// Starts the look-ups and dials that are due.
    pub(super) fn discover(&mut self) {
        let mut lookups = Vec::new();
        let mut dials = Vec::new();
        let mut active = false;
        let room = self.neighbours() < NEIGHBOURS;
        for (id, swarm) in self.swarms.iter_mut().filter(|(_, swarm)| !swarm.wants.is_empty()) {
            active = true;
            if room {
                dials.extend(swarm.providers.iter().copied());
            }
            if swarm.next_lookup > self.now {
                continue;
            }
            swarm.next_lookup = self.now + swarm.lookup_pause;
            swarm.lookup_pause = (swarm.lookup_pause * 3 / 2).min(LOOKUP_PAUSE_MAX);
            lookups.push(id.0);
            // Blobs that no connected peer claims, a few at a time, going round.
            let from = swarm.looked_up.unwrap_or(BlobHash([0; 32]));
            let orphans: Vec<BlobHash> = swarm
                .wants
                .range(from..)
                .chain(swarm.wants.range(..from))
                .filter(|blob| **blob != id.0)
                .filter(|blob| {
                    let claimed = |download: &Download| download.providers().any(|peer| !is_mirror(&self.peers, peer));
                    self.downloads.get(blob).is_some_and(|download| !claimed(download))
                })
                .take(BLOB_LOOKUPS)
                .copied()
                .collect();
            swarm.looked_up = orphans.last().copied();
            lookups.extend(orphans);
        }
        for blob in lookups {
            self.emit(Output::FindProviders { blob });
        }
        for peer in dials {
            self.dial(peer);
        }
        self.review_leases();
        if active {
            self.wake_in(Alarm::Discovery, DISCOVERY_TICK);
        }
    }
}
