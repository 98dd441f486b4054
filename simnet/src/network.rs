//! Who is connected to whom. Each end has its own view: after a hang-up or a crash the other end believes in the connection until the
//! news has reached it, and what arrives over a connection that this end has closed is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use p2pweights_protocol::time::Instant;

/// A host, by its place in the scenario.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(pub usize);

impl fmt::Debug for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}", self.0)
    }
}

/// A connection, never named twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// Every connection, as its ends see it.
#[derive(Debug, Default)]
pub struct Network {
    next: u64,
    /// (this end, that end) → the connection that this end believes in.
    views: BTreeMap<(HostId, HostId), ConnectionId>,
    /// Connections whose dialler has not heard of them yet.
    pending: BTreeSet<ConnectionId>,
    /// Arrival of the last message in this direction: messages do not overtake one another.
    last: BTreeMap<(ConnectionId, HostId), Instant>,
}

impl Network {
    /// A new connection; neither end believes in it yet.
    pub fn connect(&mut self) -> ConnectionId {
        self.next += 1;
        self.pending.insert(ConnectionId(self.next));
        ConnectionId(self.next)
    }

    /// The dialler has heard of the connection.
    pub fn settle(&mut self, connection: ConnectionId) {
        self.pending.remove(&connection);
    }

    /// Whether the dialler has yet to hear of the connection.
    pub fn is_pending(&self, connection: ConnectionId) -> bool {
        self.pending.contains(&connection)
    }

    /// This end opens.
    pub fn open(&mut self, here: HostId, there: HostId, connection: ConnectionId) {
        self.views.insert((here, there), connection);
    }

    /// This end closes; returns the connection it believed in.
    pub fn close(&mut self, here: HostId, there: HostId) -> Option<ConnectionId> {
        let connection = self.views.remove(&(here, there))?;
        self.last.remove(&(connection, here));
        Some(connection)
    }

    /// The connection that this end believes in.
    pub fn view(&self, here: HostId, there: HostId) -> Option<ConnectionId> {
        self.views.get(&(here, there)).copied()
    }

    /// Whether this end still believes in that connection.
    pub fn is_open(&self, here: HostId, there: HostId, connection: ConnectionId) -> bool {
        self.view(here, there) == Some(connection)
    }

    /// All that this end is connected to.
    pub fn neighbours(&self, here: HostId) -> impl Iterator<Item = HostId> + '_ {
        self.views.range((here, HostId(0))..=(here, HostId(usize::MAX))).map(|((_, there), _)| *there)
    }

    /// When a message sent now arrives at `to`, given its travel time: never before one sent earlier.
    pub fn arrival(&mut self, connection: ConnectionId, to: HostId, now: Instant, travel: Duration) -> Instant {
        let last = self.last.entry((connection, to)).or_insert(now);
        *last = (now + travel).max(*last);
        *last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_have_views_of_their_own_and_messages_stay_in_order() {
        let (a, b, mut network) = (HostId(0), HostId(1), Network::default());
        let connection = network.connect();
        network.open(a, b, connection);
        network.open(b, a, connection);
        let first = network.arrival(connection, b, Instant(0), Duration::from_nanos(9));
        assert_eq!(network.arrival(connection, b, Instant(1), Duration::from_nanos(2)), first);
        assert_eq!(network.close(a, b), Some(connection));
        assert!(!network.is_open(a, b, connection) && network.is_open(b, a, connection));
        assert_eq!((network.neighbours(a).count(), network.neighbours(b).collect::<Vec<_>>()), (0, vec![a]));
    }
}
