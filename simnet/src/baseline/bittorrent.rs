//! Our model of classic BitTorrent: slots, tit-for-tat, rarest first, endgame.
//!
//! | what | here | from |
//! |---|---|---|
//! | upload slots | 4, and 1 optimistic | BEP 3; Cohen, "Incentives build robustness in BitTorrent" (2003) |
//! | whom | the interested peers that gave most in the last 20 s; a seed: interested peers in turn | Cohen; libtorrent's `round_robin` |
//! | when | every 10 s, the optimistic one every 30 s; a free slot is given away at once | BEP 3; libtorrent |
//! | which piece | the first 4 at random, then the rarest among one's own peers | Cohen; libtorrent's `initial_picker_threshold` |
//! | pipeline | what came in 3 s, as far as the path needs it; at least 2 blocks | libtorrent's `request_queue_time` |
//! | endgame | when everything is asked for: one block more at each idle peer, cancelled on arrival | BEP 3; libtorrent's strict endgame |
//! | choking | what waits is dropped and free for others | BEP 3 without the fast extension |
//! | peers | dials up to 40 of 50 handed out, has at most 80, asks again below 20 | Legout et al., IMC 2006 (the mainline client) |
//!
//! A piece is a block, asked of one peer: requests of 16 KiB are not told apart. Not modelled: super-seeding, snubbing, uTP, peer exchange,
//! hash checks. Interest and chokes are known at once, who holds what too.

use std::time::Duration;

use super::BaselineReport;
use super::graph::{Dialling, Graph};
use super::network::Ask;
use super::swarm::{Model, Swarm, run};
use crate::network::HostId;
use crate::scenario::Scenario;

const SLOTS: usize = 4;
const OPTIMISTIC: usize = 1;
const ROUND: Duration = Duration::from_secs(10);
const QUEUE: Duration = Duration::from_secs(3);
const OPTIMISTIC_ROUNDS: u32 = 3;
const RANDOM_FIRST: usize = 4;
const DIALLING: Dialling = Dialling { handout: 50, aim: 40, most: 80 };
const FEW_PEERS: usize = 20;

/// What one end of a connection knows.
#[derive(Debug, Default)]
struct Side {
    /// How many blocks the peer holds that we lack: we are interested.
    wants: u32,
    /// We let the peer ask.
    unchoked: bool,
    /// What we have asked the peer for.
    asked: Vec<u32>,
    /// How much the path needs at once.
    window: usize,
    /// Payload bytes that the peer gave us in this round and in the one before.
    got: [u64; 2],
}

impl Side {
    /// How much to ask for at once: what came in some three seconds, as far as the path needs it.
    fn pipeline(&self, block: u64) -> usize {
        let rounds_bytes: u64 = self.got.iter().sum();
        let queue = rounds_bytes * QUEUE.as_secs() / ROUND.as_secs() / block;
        self.window.min(2 + queue as usize)
    }
}

/// What a host knows.
#[derive(Debug, Clone, Default)]
struct Mind {
    /// How many of its peers hold each block.
    copies: Vec<u32>,
    /// Slots in use.
    slots: usize,
    held: usize,
    /// The edge that is unchoked for luck.
    optimistic: Option<usize>,
    rounds: u32,
    /// Where a seed's turn has come to.
    turn: usize,
}

/// See the file.
#[derive(Debug)]
struct BitTorrent {
    graph: Graph<Side>,
    minds: Vec<Mind>,
}

/// Runs it.
pub fn model(scenario: &Scenario) -> BaselineReport {
    run(scenario, &mut BitTorrent { graph: Graph::new(), minds: vec![Mind::default(); scenario.hosts.len()] })
}

impl BitTorrent {
    fn other(&self, host: HostId, edge: usize) -> (HostId, usize) {
        let edge = self.graph.edge(host, edge);
        (edge.peer, edge.back)
    }

    fn dial(&mut self, swarm: &mut Swarm, host: HostId) {
        for edge in self.graph.dial(swarm, host, DIALLING) {
            let (peer, back) = self.other(host, edge);
            for (here, edge, there) in [(host, edge, peer), (peer, back, host)] {
                let theirs = &swarm.member(there).held;
                let side = self.graph.state(here, edge);
                (side.wants, side.window) = (swarm.member(here).lacks.count_both(theirs) as u32, swarm.window(there, here));
                theirs.iter().for_each(|block| self.minds[here.0].copies[block as usize] += 1);
            }
            self.give_slots(swarm, host);
            self.give_slots(swarm, peer);
        }
    }

    /// Edges whose peers want something.
    fn interested(&self, host: HostId) -> Vec<usize> {
        let wants = |edge: &usize| {
            let (peer, back) = self.other(host, *edge);
            self.graph.edge(peer, back).state.wants > 0
        };
        (0..self.graph.edges(host).len()).filter(wants).collect()
    }

    /// Gives free slots to interested peers, at random.
    fn give_slots(&mut self, swarm: &mut Swarm, host: HostId) {
        if self.minds[host.0].slots >= SLOTS + OPTIMISTIC {
            return;
        }
        let mut waiting = self.interested(host);
        waiting.retain(|edge| !self.graph.edge(host, *edge).state.unchoked);
        while self.minds[host.0].slots < SLOTS + OPTIMISTIC && !waiting.is_empty() {
            let edge = waiting.swap_remove(swarm.random.below(waiting.len() as u64) as usize);
            self.unchoke(swarm, host, edge);
        }
    }

    fn unchoke(&mut self, swarm: &mut Swarm, host: HostId, edge: usize) {
        if !std::mem::replace(&mut self.graph.state(host, edge).unchoked, true) {
            self.minds[host.0].slots += 1;
            let (peer, back) = self.other(host, edge);
            self.fill(swarm, peer, back);
        }
    }

    fn choke(&mut self, swarm: &mut Swarm, host: HostId, edge: usize) {
        if !std::mem::take(&mut self.graph.state(host, edge).unchoked) {
            return;
        }
        self.minds[host.0].slots -= 1;
        let (peer, back) = self.other(host, edge);
        for block in swarm.drop_waiting(host, peer) {
            self.graph.state(peer, back).asked.retain(|asked| *asked != block);
            if self.graph.edges(peer).iter().all(|edge| !edge.state.asked.contains(&block)) {
                swarm.reopen(peer, block);
            }
        }
        self.fill_all(swarm, peer);
    }

    fn fill_all(&mut self, swarm: &mut Swarm, host: HostId) {
        (0..self.graph.edges(host).len()).for_each(|edge| self.fill(swarm, host, edge));
    }

    /// Asks a peer that lets us for as much as the path needs.
    fn fill(&mut self, swarm: &mut Swarm, host: HostId, edge: usize) {
        let (peer, back) = self.other(host, edge);
        if swarm.is_complete(host) || !self.graph.edge(peer, back).state.unchoked {
            return;
        }
        while self.graph.edge(host, edge).state.asked.len() < self.graph.edge(host, edge).state.pipeline(swarm.block_size()) {
            let block = if self.minds[host.0].held < RANDOM_FIRST {
                swarm.any_open(peer, host)
            } else {
                swarm.rarest_open(peer, host, &self.minds[host.0].copies)
            };
            let Some(block) = block.or_else(|| self.asked_elsewhere(swarm, host, edge)) else { return };
            swarm.ask(peer, host, block);
            self.graph.state(host, edge).asked.push(block);
        }
    }

    /// When nothing is left to ask for, and a peer is idle: something that another peer was asked for.
    fn asked_elsewhere(&self, swarm: &mut Swarm, host: HostId, edge: usize) -> Option<u32> {
        if !self.graph.edge(host, edge).state.asked.is_empty() || !swarm.member(host).open.is_empty() {
            return None;
        }
        let peer = self.graph.edge(host, edge).peer;
        let asked = self.graph.edges(host).iter().flat_map(|edge| edge.state.asked.iter().copied());
        let theirs = &swarm.member(peer).held;
        let common: Vec<u32> = asked.filter(|block| theirs.has(*block)).collect();
        (!common.is_empty()).then(|| common[swarm.random.below(common.len() as u64) as usize])
    }

    /// Takes back what others were asked for and has come.
    fn cancel_elsewhere(&mut self, swarm: &mut Swarm, host: HostId, block: u32) {
        for edge in 0..self.graph.edges(host).len() {
            if self.graph.edge(host, edge).state.asked.contains(&block) {
                swarm.cancel(self.graph.edge(host, edge).peer, host, block);
                self.graph.state(host, edge).asked.retain(|asked| *asked != block);
            }
        }
    }

    /// Peers learn that a block has come.
    fn tell(&mut self, swarm: &mut Swarm, host: HostId, block: u32) {
        let mut freed = false;
        for edge in 0..self.graph.edges(host).len() {
            let (peer, back) = self.other(host, edge);
            self.minds[peer.0].copies[block as usize] += 1;
            if swarm.member(peer).held.has(block) {
                let wants = &mut self.graph.state(host, edge).wants;
                *wants = wants.saturating_sub(1);
                if *wants == 0 && std::mem::take(&mut self.graph.state(peer, back).unchoked) {
                    self.minds[peer.0].slots -= 1;
                    self.give_slots(swarm, peer);
                }
            } else if swarm.member(peer).lacks.has(block) {
                self.graph.state(peer, back).wants += 1;
                freed |= self.graph.edge(peer, back).state.wants == 1;
                if swarm.member(peer).open.has(block) {
                    self.fill(swarm, peer, back);
                }
            }
        }
        if freed {
            self.give_slots(swarm, host);
        }
    }

    /// Whom to unchoke in the next round: those who gave most, and one for luck.
    fn chosen(&mut self, swarm: &mut Swarm, host: HostId) -> Vec<usize> {
        let mut waiting = self.interested(host);
        if swarm.is_complete(host) {
            let turn = self.minds[host.0].turn;
            let first = waiting.partition_point(|edge| *edge < turn);
            waiting.rotate_left(first);
            waiting.truncate(SLOTS + OPTIMISTIC);
            self.minds[host.0].turn = waiting.last().map_or(0, |last| last + 1);
            return waiting;
        }
        let gave = |edge: usize| self.graph.edge(host, edge).state.got.iter().sum::<u64>();
        let mut ranked: Vec<(u64, u64, usize)> = waiting.drain(..).map(|edge| (gave(edge), swarm.random.any(), edge)).collect();
        ranked.sort_by(|a, b| b.cmp(a));
        let mut chosen: Vec<usize> = ranked.iter().take(SLOTS).map(|(_, _, edge)| *edge).collect();
        let rest: Vec<usize> = ranked.iter().skip(SLOTS).map(|(_, _, edge)| *edge).collect();
        let mind = &mut self.minds[host.0];
        let keeps = !mind.rounds.is_multiple_of(OPTIMISTIC_ROUNDS);
        let lucky = mind.optimistic.filter(|edge| keeps && rest.contains(edge));
        mind.optimistic = lucky.or_else(|| (!rest.is_empty()).then(|| rest[swarm.random.below(rest.len() as u64) as usize]));
        mind.rounds += 1;
        chosen.extend(mind.optimistic);
        chosen
    }
}

impl Model for BitTorrent {
    fn started(&mut self, swarm: &mut Swarm, hosts: &[HostId]) {
        for host in hosts {
            self.minds[host.0].copies = vec![0; swarm.block_count()];
            self.minds[host.0].held = swarm.member(*host).held.count();
        }
        for host in hosts {
            self.dial(swarm, *host);
            let phase = Duration::from_nanos(swarm.random.below(ROUND.as_nanos() as u64));
            swarm.tick_after(*host, phase);
        }
    }

    fn arrived(&mut self, swarm: &mut Swarm, ask: Ask, fresh: bool) {
        let host = ask.to;
        let Some(edge) = self.graph.find(host, ask.from) else { return };
        let side = self.graph.state(host, edge);
        side.asked.retain(|block| *block != ask.block);
        side.got[0] += swarm.payload(ask.block);
        if fresh {
            self.minds[host.0].held += 1;
            let endgame = swarm.member(host).open.is_empty();
            if endgame {
                self.cancel_elsewhere(swarm, host, ask.block);
            }
            self.tell(swarm, host, ask.block);
            if endgame {
                self.fill_all(swarm, host);
            }
        }
        self.fill(swarm, host, edge);
    }

    fn tick(&mut self, swarm: &mut Swarm, host: HostId) {
        let chosen = self.chosen(swarm, host);
        let edges = 0..self.graph.edges(host).len();
        for edge in edges.clone().filter(|edge| !chosen.contains(edge)) {
            self.choke(swarm, host, edge);
        }
        chosen.into_iter().for_each(|edge| self.unchoke(swarm, host, edge));
        for edge in edges {
            let got = &mut self.graph.state(host, edge).got;
            *got = [0, got[0]];
        }
        if self.graph.degree(host) < FEW_PEERS && !swarm.is_complete(host) {
            self.dial(swarm, host);
        }
        swarm.tick_after(host, ROUND);
    }
}
