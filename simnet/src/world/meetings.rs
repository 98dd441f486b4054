//! How connections come and go.

use std::time::Duration;

use p2pweights_protocol::engine::Input;
use p2pweights_protocol::ids::PeerId;

use super::{Happening, World};
use crate::network::{ConnectionId, HostId};

/// Connections up to which others found on the local network are dialled: the node's number.
const LOCAL_PEERS: usize = 64;
/// Between two looks for others on the local network: how often libp2p's multicast DNS asks.
const LOOKS_AROUND_EVERY: Duration = Duration::from_secs(300);

impl World {
    pub(super) fn dial(&mut self, here: HostId, peer: PeerId) {
        if let Some(there) = self.names.get(&peer).copied() {
            self.knock(here, there);
        }
    }

    /// A dial sets out. A host that is away is noticed by a timeout.
    pub(super) fn knock(&mut self, here: HostId, there: HostId) {
        self.after(self.routes.dial_latency(here, there), Happening::DialArrives { from: here, to: there });
    }

    pub(super) fn dial_arrives(&mut self, from: HostId, to: HostId) {
        if !self.reaches(from, to) {
            return self.after(self.scenario.timing.dial_timeout, Happening::DialFails { from, to });
        }
        // Both dialled at the same time: the other dial does for both.
        if self.network.view(from, to).is_some_and(|connection| self.network.is_pending(connection)) {
            return;
        }
        if let Some(connection) = self.network.view(to, from) {
            if self.network.view(from, to) == Some(connection) || self.network.is_pending(connection) {
                return;
            }
            // This end has not heard yet that the old connection is gone.
            self.gone(to, from, connection);
        }
        let connection = self.network.connect();
        self.network.open(to, from, connection);
        self.after(self.latency(from, to), Happening::DialAnswered { from, to, connection });
        self.connected(to, from);
    }

    pub(super) fn dial_answered(&mut self, from: HostId, to: HostId, connection: ConnectionId) {
        self.network.settle(connection);
        if !self.hosts[from.0].up || self.network.view(from, to).is_some() {
            return self.after(self.latency(from, to), Happening::Gone { here: to, there: from, connection });
        }
        self.network.open(from, to, connection);
        self.connected(from, to);
    }

    fn connected(&mut self, here: HostId, there: HostId) {
        let (peer, prefix) = (self.hosts[there.0].peer, self.hosts[there.0].plan.prefix);
        self.feed(here, Input::PeerConnected { peer, class: self.routes.class(here, there), prefix });
    }

    /// Whether a dial can succeed now.
    fn reaches(&self, from: HostId, to: HostId) -> bool {
        let there = &self.hosts[to.0];
        let cut = self.cut(from, to).or_else(|| self.cut(to, from));
        there.up && there.asleep_until <= self.now() && cut.is_none() && self.routes.path(from, to).is_some()
    }

    /// A host asks around on its local network who else is there, as multicast DNS does, and connects to them.
    pub(super) fn look_around(&mut self, here: HostId, incarnation: u64) {
        if !self.is(here, incarnation) {
            return;
        }
        let Some(site) = self.hosts[here.0].plan.site else { return };
        let mut connected = self.network.neighbours(here).count();
        // Each begins with those behind it, so that not everybody connects to the same ones.
        let (before, behind): (Vec<HostId>, Vec<HostId>) = self.routes.members(site).iter().partition(|other| **other < here);
        let present = |there: &HostId| *there != here && self.hosts[there.0].up;
        let others: Vec<HostId> = behind.into_iter().chain(before).filter(present).collect();
        for there in others {
            if connected < LOCAL_PEERS && self.network.view(here, there).is_none() {
                connected += 1;
                self.knock(here, there);
            }
        }
        self.after(LOOKS_AROUND_EVERY, Happening::LooksAround(here, incarnation));
    }

    /// The news that a connection is gone has reached this end.
    pub(super) fn gone(&mut self, here: HostId, there: HostId, connection: ConnectionId) {
        if self.network.is_open(here, there, connection) {
            self.network.close(here, there);
            let peer = self.hosts[there.0].peer;
            self.lose_blocks(here, there, connection);
            self.feed(here, Input::PeerGone { peer });
        }
    }

    pub(super) fn hang_up(&mut self, here: HostId, peer: PeerId) {
        let Some(there) = self.names.get(&peer).copied() else { return };
        let Some(connection) = self.network.close(here, there) else { return };
        self.lose_blocks(here, there, connection);
        self.after(self.latency(here, there), Happening::Gone { here: there, there: here, connection });
        self.tell(here, Input::PeerGone { peer });
    }

    /// A host is gone without a word: its peers notice in a while.
    pub(super) fn disappear(&mut self, here: HostId) {
        let neighbours: Vec<HostId> = self.network.neighbours(here).collect();
        for there in neighbours {
            if let Some(connection) = self.network.close(here, there) {
                let notice = self.scenario.timing.crash_notice;
                self.after(notice, Happening::Gone { here: there, there: here, connection });
            }
        }
    }
}
