//! Our model of a Kraken-like swarm (uber/kraken).
//!
//! | what | here | there |
//! |---|---|---|
//! | connections of a host | at most 10 | `lib/torrent/scheduler/connstate/config.go`: `max_open_conn` 10 |
//! | who is handed out | up to 50 random peers, origins among them | `tracker/peerhandoutpolicy`: the default policy ranks nobody |
//! | asking the tracker again | every 5 s while connections are wanting | `lib/torrent/scheduler/announcer`: `DefaultInterval` 5 s |
//! | idle connections | closed after 30 s | `lib/torrent/scheduler/config.go`: an idle connection lives 30 s |
//! | requests on a connection | 3, at an origin 5 | `lib/torrent/scheduler/dispatch/config.go`: `pipeline_limit`, `origin_pipeline_limit` |
//! | which piece | any | `dispatch/piecerequest`: the default; `config/agent/base.yaml` sets `rarest_first`: a model of its own |
//! | endgame | the last 3 pieces from every peer that has them | `endgame_threshold`, by default the pipeline's depth |
//! | cancelling | none | `dispatcher.go`: a cancellation does nothing |
//! | when both ends are complete | the connection is closed | `dispatcher.go`: `complete` |
//!
//! Not modelled: time-outs (4 s, and 4 s a MB) and blacklisting, bandwidth limits, the tracker's and origins' own load. Pieces there are
//! of 4 MB, ours may be smaller, which helps it. Its published figures (3 GB, 2,600 hosts, 5 origins: p50 10 s, p99 18 s, p99.9 22 s of a
//! limit of 300 MB/s) are from production and must not be compared with this model's.

use std::time::Duration;

use p2pweights_protocol::time::Instant;

use super::BaselineReport;
use super::graph::{Dialling, Graph};
use super::network::Ask;
use super::swarm::{Model, Swarm, run};
use crate::network::HostId;
use crate::scenario::Scenario;

const DIALLING: Dialling = Dialling { handout: 50, aim: 10, most: 10 };
const ANNOUNCE: Duration = Duration::from_secs(5);
/// How long an idle connection lives.
const IDLE: Duration = Duration::from_secs(30);
const PIPELINE: usize = 3;
const PIPELINE_AT_ORIGIN: usize = 5;
const ENDGAME: usize = 3;

/// Which piece is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Any one.
    Random,
    /// The one that the fewest connected peers hold.
    Rarest,
}

/// What one end of a connection knows.
#[derive(Debug, Default)]
struct Side {
    /// What the peer was asked for.
    asked: Vec<u32>,
    /// When something came.
    came_at: Instant,
}

/// See the file.
#[derive(Debug)]
struct Kraken {
    order: Order,
    graph: Graph<Side>,
}

/// Runs it.
pub fn model(scenario: &Scenario) -> BaselineReport {
    model_in(scenario, Order::Random)
}

/// The like with the rarest piece first, equals at random.
pub fn model_with_rarest_first(scenario: &Scenario) -> BaselineReport {
    model_in(scenario, Order::Rarest)
}

fn model_in(scenario: &Scenario, order: Order) -> BaselineReport {
    run(scenario, &mut Kraken { order, graph: Graph::new() })
}

impl Kraken {
    fn dial(&mut self, swarm: &mut Swarm, host: HostId) {
        for edge in self.graph.dial(swarm, host, DIALLING) {
            let (peer, back) = (self.graph.edge(host, edge).peer, self.graph.edge(host, edge).back);
            (self.graph.state(host, edge).came_at, self.graph.state(peer, back).came_at) = (swarm.now(), swarm.now());
            self.fill(swarm, host, edge);
            self.fill(swarm, peer, back);
        }
    }

    fn choose(&mut self, swarm: &mut Swarm, host: HostId, peer: HostId) -> Option<u32> {
        if self.order == Order::Random {
            return swarm.any_open(peer, host);
        }
        let mut copies = vec![0; swarm.block_count()];
        for edge in self.graph.edges(host).iter().filter(|edge| edge.open) {
            swarm.member(edge.peer).held.both(&swarm.member(host).open).for_each(|block| copies[block as usize] += 1);
        }
        swarm.rarest_open(peer, host, &copies)
    }

    fn fill(&mut self, swarm: &mut Swarm, host: HostId, edge: usize) {
        let peer = self.graph.edge(host, edge).peer;
        let most = if swarm.member(peer).source { PIPELINE_AT_ORIGIN } else { PIPELINE };
        while self.graph.edge(host, edge).open && self.graph.edge(host, edge).state.asked.len() < most {
            let block = self.choose(swarm, host, peer).or_else(|| self.asked_elsewhere(swarm, host, edge));
            let Some(block) = block else { return };
            swarm.ask(peer, host, block);
            self.graph.state(host, edge).asked.push(block);
        }
    }

    /// Near the end, a block that others were asked for already.
    fn asked_elsewhere(&self, swarm: &Swarm, host: HostId, edge: usize) -> Option<u32> {
        if swarm.member(host).lacking > ENDGAME {
            return None;
        }
        let asked: Vec<u32> = self.graph.edges(host).iter().flat_map(|edge| edge.state.asked.iter().copied()).collect();
        let edge = self.graph.edge(host, edge);
        let wanted = |block: &u32| {
            swarm.member(host).lacks.has(*block) && swarm.member(edge.peer).held.has(*block) && !edge.state.asked.contains(block)
        };
        asked.into_iter().find(wanted)
    }

    fn close_useless(&mut self, swarm: &Swarm, host: HostId) {
        for edge in 0..self.graph.edges(host).len() {
            if self.graph.edge(host, edge).open && swarm.is_complete(self.graph.edge(host, edge).peer) {
                self.graph.close(host, edge);
            }
        }
    }

    /// Closes connections over which nothing has come for long and nothing is about to, either way.
    fn close_idle(&mut self, swarm: &Swarm, host: HostId) {
        for edge in 0..self.graph.edges(host).len() {
            let mine = self.graph.edge(host, edge);
            let theirs = self.graph.edge(mine.peer, mine.back);
            let quiet = |side: &Side| side.asked.is_empty() && swarm.now() - side.came_at > IDLE;
            if mine.open && quiet(&mine.state) && quiet(&theirs.state) {
                self.graph.close(host, edge);
            }
        }
    }
}

impl Model for Kraken {
    fn started(&mut self, swarm: &mut Swarm, hosts: &[HostId]) {
        for host in hosts {
            self.dial(swarm, *host);
            if !swarm.is_complete(*host) {
                swarm.tick_after(*host, ANNOUNCE);
            }
        }
    }

    fn arrived(&mut self, swarm: &mut Swarm, ask: Ask, fresh: bool) {
        let host = ask.to;
        if let Some(edge) = self.graph.find(host, ask.from) {
            let side = self.graph.state(host, edge);
            side.asked.retain(|block| *block != ask.block);
            side.came_at = swarm.now();
            self.fill(swarm, host, edge);
        }
        if !fresh {
            return;
        }
        for edge in 0..self.graph.edges(host).len() {
            let (peer, back, open) = {
                let edge = self.graph.edge(host, edge);
                (edge.peer, edge.back, edge.open)
            };
            let wants = swarm.member(peer).open.has(ask.block) || swarm.member(peer).lacking <= ENDGAME;
            if open && wants && !swarm.is_complete(peer) {
                self.fill(swarm, peer, back);
            }
            if open && swarm.member(host).lacking <= ENDGAME {
                self.fill(swarm, host, edge);
            }
        }
        if swarm.is_complete(host) {
            self.close_useless(swarm, host);
        }
    }

    fn tick(&mut self, swarm: &mut Swarm, host: HostId) {
        if swarm.is_complete(host) {
            return;
        }
        self.close_idle(swarm, host);
        self.dial(swarm, host);
        swarm.tick_after(host, ANNOUNCE);
    }
}
