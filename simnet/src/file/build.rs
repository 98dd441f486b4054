//! From a scenario file to the world of a seed.

use std::time::Duration;

use p2pweights_protocol::engine::Order;
use p2pweights_protocol::geometry::Geometry;
use p2pweights_protocol::ids::Prefix;
use p2pweights_protocol::limits;
use p2pweights_protocol::random::Random;

use super::Wrong;
use super::arrivals::starts;
use super::befalling::faults;
use super::either::Either;
use super::tables::*;
use crate::hostile::Vice;
use crate::link::Link;
use crate::scenario::{Disk, Nat, Scenario, Site, SiteId, Stay};
use crate::units::{Share, Time};

/// The one network that Sybils are in, unless told otherwise.
const SYBILS: Prefix = Prefix(u64::MAX);
/// Networks that groups share, above all that hosts have of their own.
const SHARED: u64 = 1 << 48;
/// A look at an engine's invariants costs about as much as a step for so many pieces. By default it is taken as rarely as makes it cost no
/// more than the steps themselves.
const PIECES_PER_STEP: u64 = 16;
/// A world ends after so many times its bound, unless told otherwise: what has not finished then never will.
const UNTIL_BOUNDS: u32 = 10;
/// And after so long at least.
const UNTIL_MIN: Duration = Duration::from_secs(600);
/// Happenings for each block of the smallest size that somebody wants, and besides: some twenty are usual; more is a storm.
const EVENTS_PER_BLOCK: u64 = 400;
const EVENTS_MIN: u64 = 50_000_000;

/// A stream of chance for one part of a world, which changes elsewhere leave as it is.
pub fn chance(seed: u64, part: &str, index: usize) -> Random {
    let mut mixed = seed;
    for byte in part.bytes().chain((index as u64).to_le_bytes()) {
        // FNV-1a's step, with the seed as its beginning.
        mixed = (mixed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    Random::new(mixed)
}

fn link(up: crate::units::Rate, down: crate::units::Rate, delay: Time, loss: Option<Share>) -> Link {
    let loss_ppm = loss.map_or(0, |loss| u32::try_from(loss.0).unwrap_or(u32::MAX));
    Link { up_bytes_per_s: up.0, down_bytes_per_s: down.0, latency: delay.0, loss_ppm }
}

impl ScenarioFile {
    /// The world of a seed.
    pub(super) fn build(&self, seed: u64) -> Result<Scenario, Wrong> {
        let mut scenario = Scenario::new(seed);
        for blob in &self.blob {
            let sizes: Vec<u64> = blob.size.iter().chain(&blob.files).map(|size| size.0).collect();
            scenario = scenario.manifest(&sizes);
        }
        scenario.punch_permille = self.punch.map_or(1000, Share::permille);
        scenario.relay = self.relay.as_ref().map(|relay| link(relay.up, relay.down, relay.delay, None));
        self.build_timing(&mut scenario);
        // Outages go on until the end, which may follow from the bound, which hosts decide: sites get theirs last.
        for site in &self.site {
            for name in site.names() {
                let link = link(site.up, site.down, site.delay, site.loss);
                let quota = site.quota.map(|quota| quota.0);
                scenario.sites.push(Site { name, link, lan: site.lan, metered: site.metered, outages: Vec::new(), quota });
            }
        }
        for index in 0..self.group.len() {
            scenario = self.build_group(scenario, index, seed);
        }
        let blocks: u64 = scenario
            .awaited()
            .into_iter()
            .map(|host| scenario.bytes_wanted(host).div_ceil(limits::BLOCK_MIN_BYTES.into()))
            .fold(0, u64::saturating_add);
        scenario.max_events = self.max_events.unwrap_or(EVENTS_MIN.saturating_add(blocks.saturating_mul(EVENTS_PER_BLOCK)));
        let pieces: u64 = scenario.swarms.iter().flatten().map(|(_, size)| u64::from(Geometry::of(*size).pieces())).sum();
        scenario.check_every = self.check_every.unwrap_or(pieces / PIECES_PER_STEP).max(1);
        scenario.linger = self.linger.map_or(Duration::ZERO, |linger| linger.0);
        scenario.until = match self.until {
            Some(until) => until.0,
            None => scenario.bound().saturating_mul(UNTIL_BOUNDS).max(UNTIL_MIN),
        };
        self.build_outages(&mut scenario);
        scenario.faults = faults(self, &scenario, seed)?;
        Ok(scenario)
    }

    fn build_timing(&self, scenario: &mut Scenario) {
        let set = |to: &mut Duration, from: Option<Time>| {
            if let Some(time) = from {
                *to = time.0;
            }
        };
        let (timing, table) = (&mut scenario.timing, &self.timing);
        set(&mut timing.sync_delay, table.sync_delay);
        set(&mut timing.lookup, table.lookup);
        set(&mut timing.announce, table.announce);
        set(&mut timing.crash_notice, table.crash_notice);
        set(&mut timing.dial_timeout, table.dial_timeout);
        set(&mut timing.beat, table.beat);
        let (engine, table) = (&mut scenario.engine, &self.engine);
        set(&mut engine.news_delay, table.news_delay);
        set(&mut engine.rescue_interval, table.rescue_interval);
        set(&mut engine.lookup_interval, table.lookup_interval);
        set(&mut engine.back_off, table.back_off);
        set(&mut engine.ban, table.ban);
        engine.first_credits = table.first_credits.unwrap_or(engine.first_credits);
        engine.first_in_flight_bytes = table.first_in_flight.map_or(engine.first_in_flight_bytes, |size| size.0);
    }

    fn build_group(&self, mut scenario: Scenario, index: usize, seed: u64) -> Scenario {
        let group = &self.group[index];
        let begins = starts(group.starts.as_ref(), group.count, &mut chance(seed, "starts", index));
        let sites: Vec<SiteId> = group.site.iter().flat_map(|name| self.sites_of(&scenario, name)).collect();
        let first = scenario.hosts.len();
        scenario = scenario.add(&group.name, begins.len(), link(group.up, group.down, group.delay, group.loss), |plan| {
            plan.nat = if group.nat == Some(NatWord::Cone) { Nat::Cone } else { Nat::Open };
            plan.vice = group.vice.map(|vice| vice.0);
            plan.holding = group.holding();
            plan.fetches = group.is_fetching();
            plan.order = if group.order == Some(OrderWord::Stream) { Order::Stream } else { Order::RarestFirst };
            plan.stay = stay(group.stay.as_ref());
            plan.knows_sizes = group.knows_sizes;
            match (group.prefix, plan.vice) {
                (None, Some(Vice::Sybil)) => plan.prefix = SYBILS,
                (Some(PrefixWord::Shared), _) => plan.prefix = Prefix(SHARED + index as u64),
                _ => (),
            }
            if let Some(disk) = &group.disk {
                plan.disk = Disk { bytes_per_s: disk.write.map(|rate| rate.0), capacity: disk.capacity.map(|size| size.0) };
            }
            if let Some(swarms) = &group.swarms {
                plan.swarms.clone_from(swarms);
            }
        });
        for (place, (plan, begin)) in scenario.hosts[first..].iter_mut().zip(begins).enumerate() {
            plan.starts_at = begin;
            plan.site = (!sites.is_empty()).then(|| sites[place % sites.len()]);
        }
        scenario
    }

    /// The site of this name, or all its copies.
    fn sites_of(&self, scenario: &Scenario, name: &str) -> Vec<SiteId> {
        let copies = self.site.iter().find(|site| site.name == name).map(SiteTable::names);
        let names = copies.unwrap_or_else(|| vec![name.into()]);
        let known = scenario.sites.iter().enumerate().filter(|(_, site)| names.contains(&site.name));
        known.map(|(id, _)| SiteId(id)).collect()
    }

    fn build_outages(&self, scenario: &mut Scenario) {
        let mut place = 0;
        for site in &self.site {
            let copies = site.names().len();
            let outages: Vec<(Duration, Duration)> = match &site.outages {
                None => Vec::new(),
                Some(Either::Simple(list)) => list.iter().map(|(from, to)| (from.0, to.0)).collect(),
                Some(Either::Table(table)) => {
                    let first = table.from.map_or(table.every.0, |from| from.0);
                    let begins = (0_u32..).map(|turn| first + table.every.0 * turn).take_while(|from| *from < scenario.until);
                    begins.map(|from| (from, from + table.lasts.0)).collect()
                }
            };
            scenario.sites[place..place + copies].iter_mut().for_each(|site| site.outages.clone_from(&outages));
            place += copies;
        }
    }
}

fn stay(stay: Option<&Either<StayWord, StayTable>>) -> Stay {
    match stay {
        None | Some(Either::Simple(StayWord::Forever)) => Stay::Forever,
        Some(Either::Simple(StayWord::LeaveSafe)) => Stay::LeaveSafe,
        Some(Either::Table(table)) => match (table.sent, table.extra_pieces, table.after) {
            (Some(sent), _, _) => Stay::Sent(sent.0 / 1000),
            (_, Some(pieces), _) => Stay::ExtraPieces(pieces),
            (_, _, after) => Stay::After(after.map_or(Duration::ZERO, |after| after.0)),
        },
    }
}
