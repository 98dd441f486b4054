//! Who is there in a model's world, what they hold and lack, and the loop that runs it. Hosts with a vice are left out; nobody crashes,
//! sleeps, leaves or runs out of disk. What all know at once: who holds what.

use std::time::Duration;

use p2pweights_protocol::random::Random;
use p2pweights_protocol::time::Instant;

use super::BaselineReport;
use super::bits::Bits;
use super::blocks::{BLOCKS, Blocks};
use super::network::{Ask, Event, Network};
use crate::network::HostId;
use crate::scenario::Scenario;

/// A world in which nothing has arrived for so long, and nothing is on its way, will not go on: blocks that nobody holds.
const STUCK: Duration = Duration::from_secs(600);

/// How others distribute: reacts to what happens by asking for blocks.
pub trait Model {
    /// Hosts have come, in an order of the seed's choice.
    fn started(&mut self, swarm: &mut Swarm, hosts: &[HostId]);

    /// A block has arrived; `fresh` if it was lacking.
    fn arrived(&mut self, swarm: &mut Swarm, ask: Ask, fresh: bool);

    /// A host's clock, as set by [`Swarm::tick_after`].
    fn tick(&mut self, swarm: &mut Swarm, host: HostId) {
        let _ = (swarm, host);
    }
}

/// What the swarm wants to be told about.
#[derive(Debug, Clone, Copy)]
enum Note {
    /// The hosts of this batch come.
    Start(usize),
    Tick(HostId),
}

/// One host.
#[derive(Debug)]
pub struct Member {
    /// What it holds.
    pub held: Bits,
    /// What it wants and does not hold.
    pub lacks: Bits,
    /// What of that it has asked nobody for.
    pub open: Bits,
    /// How many blocks it lacks.
    pub lacking: usize,
    /// Whether it held something when it began and fetches nothing.
    pub source: bool,
    finished_at: Option<Instant>,
}

/// Everybody.
#[derive(Debug)]
pub struct Swarm {
    /// All choices of the seed.
    pub random: Random,
    blocks: Blocks,
    network: Network<Note>,
    members: Vec<Member>,
    /// How many hosts hold each block, of those that have come.
    copies: Vec<u32>,
    present: Vec<HostId>,
    batches: Vec<(Duration, Vec<HostId>)>,
    starts_to_come: usize,
    unfinished: usize,
    last_arrival: Instant,
}

impl Swarm {
    fn new(scenario: &Scenario, aim: u64) -> Self {
        let blocks = Blocks::of(scenario, aim);
        let mut members = Vec::new();
        let mut starts: Vec<(Duration, HostId)> = Vec::new();
        for (host, plan) in scenario.hosts.iter().enumerate().map(|(host, plan)| (HostId(host), plan)) {
            let (mut open, held) = blocks.at(scenario, host);
            held.iter().for_each(|block| open.remove(block));
            let fetches = plan.fetches && plan.vice.is_none();
            let lacking = if fetches { open.count() } else { 0 };
            if !fetches {
                open = Bits::none(blocks.count());
            }
            let finished_at = (lacking == 0).then_some(Instant::START + plan.starts_at);
            let source = !plan.fetches && !held.is_empty();
            members.push(Member { held, lacks: open.clone(), open, lacking, source, finished_at });
            if plan.vice.is_none() {
                let lookup = if fetches { scenario.timing.lookup } else { Duration::ZERO };
                starts.push((plan.starts_at + lookup, host));
            }
        }
        starts.sort();
        let mut batches: Vec<(Duration, Vec<HostId>)> = Vec::new();
        for (at, host) in starts {
            match batches.last_mut().filter(|(last, _)| *last == at) {
                Some((_, hosts)) => hosts.push(host),
                None => batches.push((at, vec![host])),
            }
        }
        let payload = (0..blocks.count()).map(|block| blocks.payload(block as u32)).collect();
        let wire = (0..blocks.count()).map(|block| blocks.wire(block as u32)).collect();
        let mut network = Network::new(scenario, payload, wire);
        batches.iter().enumerate().for_each(|(batch, (at, _))| network.note(Instant::START + *at, Note::Start(batch)));
        Self {
            random: Random::new(scenario.seed),
            copies: vec![0; blocks.count()],
            blocks,
            network,
            unfinished: members.iter().filter(|member| member.lacking > 0).count(),
            members,
            present: Vec::new(),
            starts_to_come: batches.len(),
            batches,
            last_arrival: Instant::START,
        }
    }

    /// The present.
    pub fn now(&self) -> Instant {
        self.network.now()
    }

    /// A host.
    pub fn member(&self, host: HostId) -> &Member {
        &self.members[host.0]
    }

    /// How many blocks there are.
    pub fn block_count(&self) -> usize {
        self.blocks.count()
    }

    /// Bytes of a whole one.
    pub fn block_size(&self) -> u64 {
        self.blocks.size()
    }

    /// Payload bytes of a block.
    pub fn payload(&self, block: u32) -> u64 {
        self.blocks.payload(block)
    }

    /// Whether there is nothing left to do for a host: it fetches nothing, or has it all.
    pub fn is_complete(&self, host: HostId) -> bool {
        self.members[host.0].lacking == 0
    }

    /// Everybody who has come, in no order that means anything.
    pub fn present(&self) -> &[HostId] {
        &self.present
    }

    /// Some of those who have come, at random, each once: what a tracker hands out.
    pub fn handout(&mut self, count: usize) -> Vec<HostId> {
        let count = count.min(self.present.len());
        for place in 0..count {
            let other = place + self.random.below((self.present.len() - place) as u64) as usize;
            self.present.swap(place, other);
        }
        self.present[..count].to_vec()
    }

    /// Puts hosts into a random order.
    pub fn shuffle(&mut self, hosts: &mut [HostId]) {
        for place in (1..hosts.len()).rev() {
            let other = self.random.below(place as u64 + 1) as usize;
            hosts.swap(place, other);
        }
    }

    /// Whether two hosts can meet.
    pub fn can_meet(&self, one: HostId, other: HostId) -> bool {
        one != other && self.network.can_meet(one, other)
    }

    /// See [`Network::window`].
    pub fn window(&self, from: HostId, to: HostId) -> usize {
        self.network.window(from, to)
    }

    /// Whether a host holds a block that another lacks and has asked nobody for.
    pub fn has_open(&self, from: HostId, to: HostId) -> bool {
        self.members[from.0].held.meets(&self.members[to.0].open)
    }

    /// Of those blocks, the first one.
    pub fn first_open(&self, from: HostId, to: HostId) -> Option<u32> {
        self.members[from.0].held.both(&self.members[to.0].open).next()
    }

    /// Of those blocks, any one.
    pub fn any_open(&mut self, from: HostId, to: HostId) -> Option<u32> {
        let (held, open) = (&self.members[from.0].held, &self.members[to.0].open);
        let count = held.count_both(open) as u64;
        if count == 0 { None } else { held.both(open).nth(self.random.below(count) as usize) }
    }

    /// Of those blocks, one of those with the fewest copies, as counted in `copies`, any one of equals.
    pub fn rarest_open(&mut self, from: HostId, to: HostId, copies: &[u32]) -> Option<u32> {
        rarest(&mut self.random, self.members[from.0].held.both(&self.members[to.0].open), copies)
    }

    /// The like, with the fewest copies in the whole swarm.
    pub fn rarest_open_of_all(&mut self, from: HostId, to: HostId) -> Option<u32> {
        rarest(&mut self.random, self.members[from.0].held.both(&self.members[to.0].open), &self.copies)
    }

    /// Asks for a block.
    pub fn ask(&mut self, from: HostId, to: HostId, block: u32) {
        self.members[to.0].open.remove(block);
        self.network.ask(Ask { from, to, block });
    }

    /// Takes a request back.
    pub fn cancel(&mut self, from: HostId, to: HostId, block: u32) {
        self.network.cancel(Ask { from, to, block });
    }

    /// A sender drops what waits for a receiver; returns it, for the model to reopen.
    pub fn drop_waiting(&mut self, from: HostId, to: HostId) -> Vec<u32> {
        self.network.drop_waiting(from, to)
    }

    /// Nobody is asked for a block any more.
    pub fn reopen(&mut self, to: HostId, block: u32) {
        if self.members[to.0].lacks.has(block) {
            self.members[to.0].open.add(block);
        }
    }

    /// A host's clock strikes after so long.
    pub fn tick_after(&mut self, host: HostId, after: Duration) {
        let at = self.network.now() + after;
        self.network.note(at, Note::Tick(host));
    }

    fn come(&mut self, batch: usize) -> Vec<HostId> {
        let mut hosts = std::mem::take(&mut self.batches[batch].1);
        self.starts_to_come -= 1;
        self.shuffle(&mut hosts);
        for host in &hosts {
            self.members[host.0].held.iter().for_each(|block| self.copies[block as usize] += 1);
        }
        self.present.extend(&hosts);
        hosts
    }

    fn take(&mut self, ask: Ask) -> bool {
        self.last_arrival = self.network.now();
        let member = &mut self.members[ask.to.0];
        if member.held.has(ask.block) {
            return false;
        }
        member.held.add(ask.block);
        member.lacks.remove(ask.block);
        member.open.remove(ask.block);
        member.lacking -= 1;
        self.copies[ask.block as usize] += 1;
        if member.lacking == 0 {
            member.finished_at = Some(self.network.now());
            self.unfinished -= 1;
        }
        true
    }

    fn is_stuck(&self) -> bool {
        self.starts_to_come == 0 && self.network.under_way() == 0 && self.network.now() - self.last_arrival > STUCK
    }
}

fn rarest(random: &mut Random, blocks: impl Iterator<Item = u32>, copies: &[u32]) -> Option<u32> {
    let (mut best, mut fewest, mut equals) = (None, u32::MAX, 0);
    for block in blocks {
        let count = copies[block as usize];
        if count < fewest {
            (best, fewest, equals) = (Some(block), count, 1);
        } else if count == fewest {
            equals += 1;
            if random.below(equals) == 0 {
                best = Some(block);
            }
        }
    }
    best
}

/// Runs a model until every fetcher has finished, or nothing can happen any more.
pub fn run(scenario: &Scenario, model: &mut impl Model) -> BaselineReport {
    run_in_blocks(scenario, model, BLOCKS)
}

/// The like, with at most about so many blocks.
pub fn run_in_blocks(scenario: &Scenario, model: &mut impl Model, aim: u64) -> BaselineReport {
    let mut swarm = Swarm::new(scenario, aim);
    while swarm.unfinished > 0 && !swarm.is_stuck() {
        match swarm.network.next() {
            None => break,
            Some(Event::Arrived(ask)) => {
                let fresh = swarm.take(ask);
                model.arrived(&mut swarm, ask, fresh);
            }
            Some(Event::Note(Note::Start(batch))) => {
                let hosts = swarm.come(batch);
                model.started(&mut swarm, &hosts);
            }
            Some(Event::Note(Note::Tick(host))) => model.tick(&mut swarm, host),
        }
    }
    let finished = |host: HostId| swarm.members[host.0].finished_at.map(|at| at - Instant::START);
    let finished_at = scenario.awaited().into_iter().map(finished).collect();
    let (sent, transfers) = swarm.network.into_sent();
    BaselineReport { finished_at, sent, transfers }
}
