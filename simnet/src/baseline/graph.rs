//! Who is connected with whom: a random graph, made as trackers do, by handing out random peers that a newcomer dials. Each end keeps what
//! a model knows of the other. Dialling takes no time.

use super::swarm::Swarm;
use crate::network::HostId;

/// One end of a connection.
#[derive(Debug)]
pub struct Edge<S> {
    /// The other host.
    pub peer: HostId,
    /// The other end, by its place among the peer's edges.
    pub back: usize,
    /// Whether it is there: edges are closed, never removed.
    pub open: bool,
    /// What this end knows and does.
    pub state: S,
}

/// All connections.
#[derive(Debug)]
pub struct Graph<S> {
    edges: Vec<Vec<Edge<S>>>,
    degrees: Vec<usize>,
}

/// A rule for dialling.
#[derive(Debug, Clone, Copy)]
pub struct Dialling {
    /// A tracker hands out so many peers at once.
    pub handout: usize,
    /// A host dials until it has so many connections.
    pub aim: usize,
    /// A host has at most so many.
    pub most: usize,
}

impl<S: Default> Graph<S> {
    /// No connections yet.
    pub fn new() -> Self {
        Self { edges: Vec::new(), degrees: Vec::new() }
    }

    /// How many connections a host has.
    pub fn degree(&self, host: HostId) -> usize {
        self.degrees.get(host.0).copied().unwrap_or(0)
    }

    /// The edges of a host, closed ones too.
    pub fn edges(&self, host: HostId) -> &[Edge<S>] {
        self.edges.get(host.0).map_or(&[], Vec::as_slice)
    }

    /// One edge.
    pub fn edge(&self, host: HostId, edge: usize) -> &Edge<S> {
        &self.edges[host.0][edge]
    }

    /// What one end knows.
    pub fn state(&mut self, host: HostId, edge: usize) -> &mut S {
        &mut self.edges[host.0][edge].state
    }

    /// The newest edge from a host to another, open or closed.
    pub fn find(&self, host: HostId, peer: HostId) -> Option<usize> {
        self.edges(host).iter().rposition(|edge| edge.peer == peer)
    }

    fn are_connected(&self, host: HostId, peer: HostId) -> bool {
        self.edges(host).iter().any(|edge| edge.open && edge.peer == peer)
    }

    /// A host asks the tracker for peers and dials them as long as it wants more; returns its new edges.
    pub fn dial(&mut self, swarm: &mut Swarm, host: HostId, rule: Dialling) -> Vec<usize> {
        if self.degree(host) >= rule.aim {
            return Vec::new();
        }
        let mut new = Vec::new();
        for peer in swarm.handout(rule.handout) {
            if self.degree(host) >= rule.aim {
                break;
            }
            let wanted = swarm.can_meet(host, peer) && self.degree(peer) < rule.most && !self.are_connected(host, peer);
            if wanted && !(swarm.is_complete(host) && swarm.is_complete(peer)) {
                new.push(self.connect(host, peer));
            }
        }
        new
    }

    /// Closes a connection at both ends.
    pub fn close(&mut self, host: HostId, edge: usize) {
        let (peer, back) = (self.edges[host.0][edge].peer, self.edges[host.0][edge].back);
        for (host, edge) in [(host, edge), (peer, back)] {
            if std::mem::take(&mut self.edges[host.0][edge].open) {
                self.degrees[host.0] -= 1;
            }
        }
    }

    fn connect(&mut self, host: HostId, peer: HostId) -> usize {
        let hosts = host.0.max(peer.0) + 1;
        if self.edges.len() < hosts {
            self.edges.resize_with(hosts, Vec::new);
            self.degrees.resize(hosts, 0);
        }
        let places = (self.edges[host.0].len(), self.edges[peer.0].len());
        for (host, peer, back) in [(host, peer, places.1), (peer, host, places.0)] {
            self.edges[host.0].push(Edge { peer, back, open: true, state: S::default() });
            self.degrees[host.0] += 1;
        }
        places.0
    }
}
