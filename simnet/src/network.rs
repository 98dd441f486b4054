//! Who is connected to whom. Each end has its own view: after a hang-up or a crash the other end believes in the connection until the
//! news has reached it, and what arrives over a connection that this end has closed is dropped.

use std::collections::BTreeSet;
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

/// A connection as one end sees it.
#[derive(Debug, Clone, Copy)]
struct View {
    connection: ConnectionId,
    /// Arrival of the last message sent from here: messages do not overtake one another.
    last: Instant,
}

/// The connections that one end believes in.
#[derive(Debug, Default)]
struct End {
    /// Their other ends, in order; apart from the rest, so that a search looks at little memory.
    others: Vec<u32>,
    /// In the same order.
    views: Vec<View>,
}

impl End {
    fn find(&self, there: HostId) -> Result<usize, usize> {
        self.others.binary_search(&number(there))
    }
}

/// Every connection, as its ends see it.
#[derive(Debug, Default)]
pub struct Network {
    next: u64,
    /// By this end.
    ends: Vec<End>,
    /// Connections whose dialler has not heard of them yet.
    pending: BTreeSet<ConnectionId>,
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
        if here.0 >= self.ends.len() {
            self.ends.resize_with(here.0 + 1, End::default);
        }
        let end = &mut self.ends[here.0];
        let view = View { connection, last: Instant::START };
        match end.find(there) {
            Ok(index) => end.views[index] = view,
            Err(index) => {
                end.others.insert(index, number(there));
                end.views.insert(index, view);
            }
        }
    }

    /// This end closes; returns the connection it believed in.
    pub fn close(&mut self, here: HostId, there: HostId) -> Option<ConnectionId> {
        let end = self.ends.get_mut(here.0)?;
        let index = end.find(there).ok()?;
        end.others.remove(index);
        Some(end.views.remove(index).connection)
    }

    /// The connection that this end believes in.
    pub fn view(&self, here: HostId, there: HostId) -> Option<ConnectionId> {
        let end = self.ends.get(here.0)?;
        end.find(there).ok().map(|index| end.views[index].connection)
    }

    /// Whether this end still believes in that connection.
    pub fn is_open(&self, here: HostId, there: HostId, connection: ConnectionId) -> bool {
        self.view(here, there) == Some(connection)
    }

    /// All that this end is connected to, in order.
    pub fn neighbours(&self, here: HostId) -> impl Iterator<Item = HostId> + '_ {
        self.ends.get(here.0).into_iter().flat_map(|end| &end.others).map(|there| HostId(*there as usize))
    }

    /// Sends a message over the connection that this end believes in: which one, and when the message arrives given its travel time,
    /// which is never before one sent earlier. `None` if there is no connection.
    pub fn send(&mut self, here: HostId, there: HostId, now: Instant, travel: Duration) -> Option<(ConnectionId, Instant)> {
        let end = self.ends.get_mut(here.0)?;
        let view = end.find(there).ok().map(|index| &mut end.views[index])?;
        view.last = (now + travel).max(view.last);
        Some((view.connection, view.last))
    }
}

fn number(host: HostId) -> u32 {
    u32::try_from(host.0).expect("fewer than 2^32 hosts")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ends_have_views_of_their_own_and_messages_stay_in_order() {
        let (a, b, mut network) = (HostId(0), HostId(1), Network::default());
        let connection = network.connect();
        network.open(a, b, connection);
        network.open(b, a, connection);
        let first = network.send(a, b, Instant(0), Duration::from_nanos(9));
        assert_eq!(first, Some((connection, Instant(9))));
        assert_eq!(network.send(a, b, Instant(1), Duration::from_nanos(2)), first);
        assert_eq!(network.send(b, a, Instant(1), Duration::from_nanos(2)), Some((connection, Instant(3))));
        assert_eq!(network.close(a, b), Some(connection));
        assert!(!network.is_open(a, b, connection) && network.is_open(b, a, connection));
        assert_eq!((network.neighbours(a).count(), network.neighbours(b).collect::<Vec<_>>()), (0, vec![a]));
    }

    proptest! {
        /// The slow oracle: a map of all pairs, and one of all last arrivals.
        #[test]
        fn agrees_with_a_map_of_pairs(steps in prop::collection::vec((0..4u8, 0..6usize, 0..6usize, 0..20u64), 0..200)) {
            let mut network = Network::default();
            let mut views: BTreeMap<(HostId, HostId), ConnectionId> = BTreeMap::new();
            let mut last: BTreeMap<(ConnectionId, HostId), Instant> = BTreeMap::new();
            for (now, (what, here, there, travel)) in steps.into_iter().enumerate() {
                let (here, there, now) = (HostId(here), HostId(there), Instant(now as u64));
                match what {
                    0 => {
                        let connection = network.connect();
                        network.open(here, there, connection);
                        views.insert((here, there), connection);
                    }
                    1 => prop_assert_eq!(network.close(here, there), views.remove(&(here, there))),
                    _ => {
                        let expected = views.get(&(here, there)).map(|connection| {
                            let last = last.entry((*connection, there)).or_insert(now);
                            *last = (now + Duration::from_nanos(travel)).max(*last);
                            (*connection, *last)
                        });
                        prop_assert_eq!(network.send(here, there, now, Duration::from_nanos(travel)), expected);
                    }
                }
                for host in (0..6).map(HostId) {
                    let theirs = views.range((host, HostId(0))..=(host, HostId(9))).map(|((_, there), _)| *there);
                    prop_assert_eq!(network.neighbours(host).collect::<Vec<_>>(), theirs.collect::<Vec<_>>());
                    prop_assert_eq!(network.view(here, host), views.get(&(here, host)).copied());
                }
            }
        }
    }
}
