//! What a checker is worth: engines that are each wrong in one line. In each small world the right engine breaks no rule, and the wrong one
//! breaks the rule that is meant for it.

use std::collections::BTreeSet;
use std::time::Duration;

use p2pweights_protocol::engine::Mutant;
use p2pweights_simnet::{Fault, HostId, Link, MIB, Rule, Scenario, Site, SiteId, Trouble, Vice, World};

use super::{home, secs};

/// Runs a world with the right engine and with a wrong one. The engine's own assertions are left out: it is not to judge itself.
fn caught(mutant: Mutant, meant: Rule, world: Scenario) {
    let world = world.check_every(u64::MAX);
    let right = World::run(world.clone().keep_lines(40));
    assert_eq!(right.violations, [], "{mutant:?}: the right engine\n{}", right.lines.join("\n"));
    let wrong = World::run(world.engine(|engine| engine.mutant = Some(mutant)));
    let broken: BTreeSet<Rule> = wrong.violations.iter().map(|violation| violation.rule).collect();
    println!("{mutant:?}: {broken:?}, first {:?}; events {} and {}", wrong.violations.first(), right.events, wrong.events);
    assert!(broken.contains(&meant), "{mutant:?} breaks {broken:?}, not {meant}: {}", wrong.summary());
}

fn befallen(mut scenario: Scenario, at: Duration, what: Trouble) -> Scenario {
    scenario.faults.push(Fault { at, what });
    scenario
}

fn slow() -> Link {
    Link::mbit(20, 100, 20)
}

/// A far seed, and machines on a local network behind a link of 8 Mbit/s, over which bytes may be counted.
fn village(size: u64, count: usize, metered: bool) -> Scenario {
    let mut scenario = Scenario::new(1).blob(size).seeds(1, home());
    let link = Link::mbit(8, 8, 50);
    scenario.sites.push(Site { name: "village".into(), link, lan: true, metered, outages: Vec::new(), quota: None });
    scenario.add("machines", count, Link::mbit(1000, 1000, 0), |plan| (plan.fetches, plan.site) = (true, Some(SiteId(0))))
}

#[test]
fn serving_what_is_not_there() {
    let flood = Scenario::new(1).blob(64 * MIB).seeds(1, slow()).hostile(Vice::Flooder, 6, home()).fetchers(3, home());
    caught(Mutant::ServeAnything, Rule::I2, flood);
}

#[test]
fn serving_what_nobody_paid_for() {
    let flood = Scenario::new(1).blob(16 * MIB).seeds(1, home()).hostile(Vice::Flooder, 2, home()).fetchers(1, home());
    caught(Mutant::ServeUnpaid, Rule::I3, flood);
}

#[test]
fn asking_without_limits() {
    let mute = Scenario::new(1).blob(64 * MIB).seeds(1, slow()).hostile(Vice::Mute, 1, home()).fetchers(1, home());
    caught(Mutant::NoLimits, Rule::I4, mute);
}

#[test]
fn asking_twice_before_the_end() {
    caught(Mutant::AskTwice, Rule::I5, Scenario::new(1).blob(16 * MIB).seeds(3, slow()).fetchers(1, home()));
}

#[test]
fn asking_twice_over_a_metered_link() {
    let mut village = village(4 * MIB, 1, true);
    village = village.seeds(2, Link::mbit(1, 1, 100)).seeds(2, home());
    caught(Mutant::AskTwiceOverLink, Rule::I5, village);
}

#[test]
fn forgetting_what_has_come() {
    caught(Mutant::ForgetVerified, Rule::I7, Scenario::new(1).blob(16 * MIB).seeds(1, home()).fetchers(1, home()));
}

#[test]
fn dealing_with_the_banned() {
    let liars = Scenario::new(1).blob(64 * MIB).seeds(1, slow()).hostile(Vice::Poisoner, 2, home()).fetchers(1, home());
    caught(Mutant::IgnoreBan, Rule::I11, liars);
}

#[test]
fn fetching_what_others_fetch_over_the_same_link() {
    caught(Mutant::EverybodyOwns, Rule::I12, village(48 * MIB, 4, false));
}

#[test]
fn announcing_what_is_not_durable() {
    caught(Mutant::AnnounceEarly, Rule::I14, Scenario::new(1).blob(16 * MIB).seeds(1, home()).fetchers(2, home()));
}

#[test]
fn never_asking_again_for_what_did_not_come() {
    let liar = Scenario::new(1).blob(16 * MIB).seeds(1, home()).hostile(Vice::FalseClaimer, 1, home()).fetchers(1, home());
    caught(Mutant::NeverRelease, Rule::L1, liar);
}

#[test]
fn never_granting_again() {
    let full = Scenario::new(1).blob(64 * MIB).seeds(1, home()).fetchers(1, home());
    caught(Mutant::NeverAgain, Rule::L2, befallen(full, secs(2), Trouble::DiskFull { host: HostId(1), lasts: secs(10) }));
}

#[test]
fn counting_what_has_been_sent() {
    let world = Scenario::new(1).blob(MIB).seeds(1, home()).fetchers(2, home()).linger(secs(150));
    caught(Mutant::ServedForever, Rule::L3, world);
}

#[test]
fn serving_the_first_alone() {
    let leeches = Scenario::new(1).blob(128 * MIB).seeds(1, slow()).fetchers(1, home()).hostile(Vice::Leech, 3, home());
    caught(Mutant::FirstPeer, Rule::L4, leeches.check_every(99));
}
