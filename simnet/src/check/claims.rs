//! I12: on a local network behind one link, nobody asks outside for what another member is just being sent from outside.
//!
//! Who asks for what follows from who is there and who brings something. While that changes, two members may see it differently for a
//! moment, and a member that takes another's place may ask for what that one still waits for: such takeovers are left out.

use std::time::Duration;

use p2pweights_protocol::engine::{Input, PeerClass};
use p2pweights_protocol::geometry::Span;
use p2pweights_protocol::ids::{BlobHash, PeerId};
use p2pweights_protocol::time::Instant;
use p2pweights_protocol::wire::Message;

use super::{Checker, Rule};
use crate::network::HostId;

/// For so long after a change in its company, a member may see it otherwise than others.
const SETTLED: Duration = Duration::from_secs(10);
/// Whoever has brought nothing for so long may soon be, or have been, replaced: half of what a lease lasts.
const BRINGING: Duration = Duration::from_secs(60);
/// Whoever has asked nothing outside for so long is not among those who do.
const RETIRED: Duration = Duration::from_secs(240);

impl Checker {
    /// A member learns of another's coming, going or wishes.
    pub(super) fn note_company(&mut self, now: Instant, host: HostId, input: &Input) {
        let Some(books) = self.books_mut(host) else { return };
        let near = |peer: &PeerId| books.peer(peer).class == Some(PeerClass::Lan);
        let changed = match input {
            Input::PeerConnected { class, .. } => *class == PeerClass::Lan,
            Input::PeerGone { peer }
            | Input::Message { peer, message: Message::Interest { .. } | Message::NoInterest { .. } } => near(peer),
            _ => false,
        };
        if changed {
            books.company_at = now;
        }
    }

    pub(super) fn check_owner(&mut self, now: Instant, host: HostId, provider: &PeerId, blob: BlobHash, span: Span) {
        let Some(books) = self.books_mut(host) else { return };
        if books.peer(provider).class == Some(PeerClass::Lan) {
            return;
        }
        books.outside_at = now;
        let Some(mates) = self.lans.values().find(|members| members.contains(&host)) else { return };
        let settled = |host: HostId| self.books(host).is_none_or(|books| now - books.company_at >= SETTLED);
        let bringing = |host: HostId| {
            self.books(host).is_none_or(|books| {
                let retired = books.outside_at == Instant::START || now - books.outside_at >= RETIRED;
                retired || now - books.brought_at.max(books.company_at) < BRINGING
            })
        };
        let asks = |mate: HostId| {
            self.books(mate).is_some_and(|books| {
                books.awaited().any(|open| {
                    open.blob == blob
                        && open.span.intersection(span).is_some()
                        && now - open.since < BRINGING
                        && books.peer(&open.provider).class != Some(PeerClass::Lan)
                })
            })
        };
        let other = mates.iter().copied().find(|mate| *mate != host && settled(*mate) && asks(*mate));
        if let Some(other) = other
            && settled(host)
            && mates.iter().all(|mate| bringing(*mate))
        {
            self.blame(now, host, Rule::I12, format!("asks outside for {span:?} of {blob:?}, and so does {other:?} beside it"));
        }
    }
}
