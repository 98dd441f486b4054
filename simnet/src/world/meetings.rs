//! How connections come and go.

use p2pweights_protocol::engine::{Input, PeerClass};
use p2pweights_protocol::ids::{PeerId, Prefix};

use super::{Happening, World};
use crate::network::{ConnectionId, HostId};

impl World {
    pub(super) fn dial(&mut self, here: HostId, peer: PeerId) {
        if let Some(there) = self.names.get(&peer).copied() {
            self.knock(here, there);
        }
    }

    /// A dial sets out. A host that is away is noticed by a timeout.
    pub(super) fn knock(&mut self, here: HostId, there: HostId) {
        self.after(self.latency(here, there), Happening::DialArrives { from: here, to: there });
    }

    pub(super) fn dial_arrives(&mut self, from: HostId, to: HostId) {
        if !self.hosts[to.0].up {
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
        let peer = self.hosts[from.0].peer;
        self.feed(to, Input::PeerConnected { peer, class: PeerClass::Wan, prefix: Prefix::default() });
    }

    pub(super) fn dial_answered(&mut self, from: HostId, to: HostId, connection: ConnectionId) {
        self.network.settle(connection);
        if !self.hosts[from.0].up || self.network.view(from, to).is_some() {
            return self.after(self.latency(from, to), Happening::Gone { here: to, there: from, connection });
        }
        self.network.open(from, to, connection);
        let peer = self.hosts[to.0].peer;
        self.feed(from, Input::PeerConnected { peer, class: PeerClass::Wan, prefix: Prefix::default() });
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
