//! Readers: somebody consumes a blob while it is still being fetched, and must not be kept waiting while it could be had. What lies ahead
//! of the hungriest reader is asked for first, and asked twice if a slow source sits on it.

use super::fetching::Choice;
use super::{Engine, PeerClass};
use crate::geometry::{GROUP_BYTES, groups_in_block};
use crate::ids::{BlobHash, PeerId};
use crate::limits;
use crate::swarm::piece_picker;
use crate::swarm::rescue::late_for_reader;

/// A reader with less than this ahead of it is hungry: its need goes before what a lone source names. What Hugging Face's client reads at a
/// time, and loses if it has to wait for the rest.
pub(super) const HUNGRY_BYTES: u64 = 10 * 1024 * 1024;
/// So far ahead of a reader the next bytes come first: as much as may be in flight, so that a reader can be as fast as the fetch.
pub(super) const AHEAD_BYTES: u64 = limits::IN_FLIGHT_BYTES;

impl Engine {
    pub(super) fn read(&mut self, blob: BlobHash, at: Vec<u64>) {
        self.readers.set(blob, at);
        self.mark_sources_ready();
    }

    /// What lies nearest ahead of a reader, no further than `window` bytes, of all that this source can be asked for.
    pub(super) fn pick_ahead(&self, peer: PeerId, window: u64) -> Option<Choice> {
        let block = self.peers.get(&peer)?.source.block_bytes();
        let choices = self.readers.iter().filter_map(|(blob, reader)| {
            let download = self.downloads.get(&blob)?;
            let size = download.geometry()?.size();
            let has = download.map_of(peer)?;
            let claimable = self.claimable_of(peer, blob, has);
            let span = piece_picker::pick_ahead(download, claimable.as_ref().unwrap_or(has), block, reader, window)?;
            Some((span.start() - reader, Choice { blob, size, span, probe: false }))
        });
        choices.min_by_key(|(distance, choice)| (*distance, choice.blob)).map(|(_, choice)| choice)
    }

    /// Asks this source, too, for what a reader waits for, if the one that was asked first is far slower; `false` if there is nothing of
    /// the kind.
    pub(super) fn rescue_reader(&mut self, peer: PeerId) -> bool {
        let Some(choice) = self.late_for_a_reader(peer) else { return false };
        self.request(peer, &choice);
        true
    }

    fn late_for_a_reader(&self, peer: PeerId) -> Option<Choice> {
        let state = self.peers.get(&peer)?;
        if matches!(state.class, PeerClass::Metered | PeerClass::Relay) {
            return None;
        }
        let block_groups = groups_in_block(state.source.block_bytes().into());
        let source_of = |peer: PeerId| self.peers.get(&peer).map(|state| &state.source);
        self.readers.iter().find_map(|(blob, reader)| {
            let download = self.downloads.get(&blob)?;
            let geometry = download.geometry()?;
            if self.is_shared_way(peer, blob) {
                return None; // Nothing crosses a shared link twice.
            }
            let late = late_for_reader(download, &self.ledger, source_of, peer, self.now, reader)?;
            let rest = download.verified().first_gap(self.ledger.find(late)?.span)?;
            Some(Choice { blob, size: geometry.size(), span: rest.prefix(block_groups), probe: false })
        })
    }
}

const _: () = assert!(HUNGRY_BYTES < AHEAD_BYTES && HUNGRY_BYTES > 16 * GROUP_BYTES);
