//! Our model of uncoordinated pulling: receivers take the rarest block from whichever holder chance gives them.
//!
//! No program in particular, but what many are at heart. Each host knows some 30 random neighbours, has at most 16 requests open, 2 at
//! each of 8 neighbours, and takes the block with the fewest copies in the whole swarm, known at once. Nothing is asked twice, nothing
//! is taken back, senders serve their receivers in turn.
//!
//! Whom to ask decides. Chosen anew for each request, 1,000 peers and a seed with 1 Gbit/s each need 1.5 × the bound for 1 GB. Kept as
//! long as they have anything to give, the 8 sources make it 2.7 ×: receivers stay where they queue, above all at the seed, while other
//! uplinks idle. The more neighbours, the worse: 1.8 × with 16, 5.4 × with 120.

use super::BaselineReport;
use super::graph::{Dialling, Graph};
use super::network::Ask;
use super::swarm::{Model, Swarm, run};
use crate::network::HostId;
use crate::scenario::Scenario;

/// Requests open at one neighbour, at most.
const REQUESTS: usize = 2;
/// Neighbours that a host has requests open at, at most, if it keeps them; otherwise as many requests in all.
const SOURCES: usize = 8;
/// Each host dials 15 and is dialled by as many on average.
const DIALLING: Dialling = Dialling { handout: 50, aim: usize::MAX, most: usize::MAX };
const DIALS: usize = 15;

/// Whom a host asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sources {
    /// Any neighbour, for each request.
    Any,
    /// Those that it has requests open at, as long as they have something; others when there are fewer than may be.
    Kept,
}

/// See the file. An edge's state is how much is asked of the peer.
#[derive(Debug)]
struct Pull {
    graph: Graph<usize>,
    whom: Sources,
    /// How much each host has asked for.
    asked: Vec<usize>,
    /// At how many neighbours.
    sources: Vec<usize>,
}

/// Runs it.
pub fn model(scenario: &Scenario) -> BaselineReport {
    model_of(scenario, Sources::Any)
}

/// The like, with sources that are kept.
pub fn model_with_kept_sources(scenario: &Scenario) -> BaselineReport {
    model_of(scenario, Sources::Kept)
}

fn model_of(scenario: &Scenario, whom: Sources) -> BaselineReport {
    let none = vec![0; scenario.hosts.len()];
    run(scenario, &mut Pull { graph: Graph::new(), whom, asked: none.clone(), sources: none })
}

impl Pull {
    fn has_room(&self, host: HostId, edge: usize) -> bool {
        let asked = self.graph.edge(host, edge).state;
        asked < REQUESTS
            && match self.whom {
                Sources::Any => self.asked[host.0] < SOURCES * REQUESTS,
                Sources::Kept => asked > 0 || self.sources[host.0] < SOURCES,
            }
    }

    fn ask(&mut self, swarm: &mut Swarm, host: HostId, edge: usize) -> bool {
        let peer = self.graph.edge(host, edge).peer;
        let Some(block) = swarm.rarest_open_of_all(peer, host) else { return false };
        swarm.ask(peer, host, block);
        let asked = self.graph.state(host, edge);
        *asked += 1;
        self.sources[host.0] += usize::from(*asked == 1);
        self.asked[host.0] += 1;
        true
    }

    /// Asks random neighbours that hold something until there is no room or nobody does.
    fn fill(&mut self, swarm: &mut Swarm, host: HostId) {
        let edges = self.graph.edges(host).len();
        loop {
            let first = swarm.random.below(edges as u64) as usize;
            let mut order = (0..edges).map(|place| (first + place) % edges);
            let useful = |edge: &usize| self.has_room(host, *edge) && swarm.has_open(self.graph.edge(host, *edge).peer, host);
            let Some(edge) = order.find(useful) else { return };
            self.ask(swarm, host, edge);
        }
    }
}

impl Model for Pull {
    fn started(&mut self, swarm: &mut Swarm, hosts: &[HostId]) {
        for host in hosts {
            let aim = DIALS + self.graph.degree(*host);
            self.graph.dial(swarm, *host, Dialling { aim, ..DIALLING });
        }
        hosts.iter().for_each(|host| self.fill(swarm, *host));
        // Those who were dialled may have waited for a holder.
        for host in hosts {
            for edge in 0..self.graph.edges(*host).len() {
                let (peer, back) = (self.graph.edge(*host, edge).peer, self.graph.edge(*host, edge).back);
                while self.has_room(peer, back) && self.ask(swarm, peer, back) {}
            }
        }
    }

    fn arrived(&mut self, swarm: &mut Swarm, ask: Ask, fresh: bool) {
        if let Some(edge) = self.graph.find(ask.to, ask.from) {
            let asked = self.graph.state(ask.to, edge);
            *asked -= 1;
            self.sources[ask.to.0] -= usize::from(*asked == 0);
            self.asked[ask.to.0] -= 1;
        }
        self.fill(swarm, ask.to);
        if !fresh {
            return;
        }
        // Neighbours that have room may ask for it at once.
        for edge in 0..self.graph.edges(ask.to).len() {
            let (peer, back) = (self.graph.edge(ask.to, edge).peer, self.graph.edge(ask.to, edge).back);
            if swarm.member(peer).open.has(ask.block) && self.has_room(peer, back) {
                self.ask(swarm, peer, back);
            }
        }
    }
}
