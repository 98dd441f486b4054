//! I3, I11: every block served was granted before, and nobody grants anything to a peer that it has banned.

use p2pweights_protocol::ids::{PeerId, RequestId};
use p2pweights_protocol::time::Instant;

use super::{Checker, Rule};
use crate::network::HostId;

impl Checker {
    pub(super) fn granted(&mut self, now: Instant, host: HostId, peer: &PeerId, credits: u16) {
        let Some(books) = self.books_mut(host) else { return };
        books.peer_mut(peer).credits += u64::from(credits);
        if books.is_banned(peer, now) {
            self.blame(now, host, Rule::I11, format!("granted {peer:?} credits in spite of its ban"));
        }
    }

    /// A peer hands credits back: those that expired meanwhile no longer count, so what is left is an upper bound still.
    pub(super) fn returned(&mut self, host: HostId, peer: &PeerId, credits: u16) {
        let Some(books) = self.books_mut(host) else { return };
        let held = &mut books.peer_mut(peer).credits;
        *held = held.saturating_sub(credits.into());
    }

    pub(super) fn pays(&mut self, now: Instant, host: HostId, peer: &PeerId, request: RequestId) {
        let Some(books) = self.books_mut(host) else { return };
        let credits = &mut books.peer_mut(peer).credits;
        let paid = *credits > 0;
        *credits = credits.saturating_sub(1);
        if !paid {
            self.blame(now, host, Rule::I3, format!("serves {request:?} of {peer:?} without a credit"));
        }
    }
}
