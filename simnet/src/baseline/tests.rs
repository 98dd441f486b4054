//! What holds for every model, in worlds of every kind.

use super::blocks::{BLOCKS, Blocks};
use super::*;
use crate::network::HostId;
use crate::scenario::{Nat, Site, SiteId};
use crate::{Link, MIB, Vice};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A source and so many fetchers, all with 1 Gbit/s.
fn flash(fetchers: usize, seed: u64) -> Scenario {
    let link = Link::mbit(1000, 1000, 1);
    Scenario::new(seed).blob(256 * MIB).seeds(1, link).fetchers(fetchers, link)
}

fn homes() -> Scenario {
    let home = Link::mbit(20, 100, 10);
    Scenario::new(2).blob(64 * MIB).seeds(1, home).seeds(2, Link::mbit(50, 50, 3)).fetchers(40, home)
}

/// Hosts that hold parts, that come later, a source that comes later, several blobs.
fn motley() -> Scenario {
    let link = Link::mbit(50, 100, 20);
    Scenario::new(3)
        .manifest(&[3 * MIB + 77, 40 * MIB, 16_384])
        .manifest(&[20 * MIB])
        .seeds(1, link)
        .in_swarm(0)
        .seeds(1, Link::mbit(10, 10, 100))
        .starting_at(secs(8))
        .partial("#..#", link)
        .fetchers(5, link)
        .fetchers(5, Link { loss_ppm: 20_000, ..link })
        .holding("##..")
        .fetchers(5, link)
        .in_swarm(0)
        .starting_at(secs(30))
}

/// A village behind a thin link that is down at times, and hosts behind NATs with a relay.
fn village() -> Scenario {
    let mut scenario = Scenario::new(4).blob(16 * MIB).seeds(1, Link::mbit(100, 100, 5));
    let outages = vec![(secs(5), secs(20)), (secs(60), secs(90))];
    let link = Link { loss_ppm: 10_000, ..Link::mbit(8, 16, 300) };
    scenario.sites.push(Site { name: "v".into(), link, lan: true, metered: true, outages, quota: None });
    (scenario.punch_permille, scenario.relay) = (500, Some(Link::mbit(50, 50, 10)));
    scenario.add("village", 8, Link::mbit(1000, 1000, 1), |plan| (plan.fetches, plan.site) = (true, Some(SiteId(0)))).add(
        "homes",
        8,
        Link::mbit(20, 100, 10),
        |plan| (plan.fetches, plan.nat) = (true, Nat::Cone),
    )
}

fn worlds() -> [(&'static str, Scenario); 4] {
    [("flash", flash(30, 1)), ("homes", homes()), ("motley", motley()), ("village", village())]
}

/// The last finish against the bound, in thousandths.
fn permille(report: &BaselineReport, scenario: &Scenario) -> u128 {
    report.last_finish().expect("everybody finishes").as_nanos() * 1000 / scenario.bound().as_nanos()
}

fn model(name: &str) -> Baseline {
    *all().iter().find(|model| model.name == name).expect("a model has this name")
}

#[test]
fn everybody_gets_everything_and_no_model_beats_the_bound() {
    for (world, scenario) in worlds() {
        let blocks = Blocks::of(&scenario, BLOCKS);
        let lacking = |host: &HostId| -> u64 {
            let (mut wants, held) = blocks.at(&scenario, *host);
            held.iter().for_each(|block| wants.remove(block));
            wants.iter().map(|block| blocks.payload(block)).sum()
        };
        let fetchers = scenario.awaited();
        let needed: u64 = fetchers.iter().map(lacking).sum();
        for model in all() {
            let report = (model.run)(&scenario);
            assert_eq!(report.finished_at.len(), fetchers.len());
            let last = report.last_finish().unwrap_or_else(|| panic!("{}: not all finish in {world}", model.name));
            assert!(last >= scenario.bound(), "{} beats the bound in {world}: {last:?} < {:?}", model.name, scenario.bound());
            for (host, finish) in fetchers.iter().zip(&report.finished_at) {
                let own = scenario.hosts[host.0].starts_at + scenario.timing.lookup;
                assert!(*finish >= Some(own), "{} in {world}", model.name);
            }
            let sent: u64 = report.sent.iter().sum();
            assert!(sent >= needed, "{} in {world}: {sent} sent, {needed} received", model.name);
            assert!(sent <= needed + needed / 10, "{} in {world}: more than a tenth sent twice", model.name);
            assert!(report.finished_by(500) <= report.finished_by(990), "{} in {world}", model.name);
        }
    }
}

#[test]
fn what_serves_nobody_sends_nothing() {
    let report = (model("origin").run)(&flash(10, 1));
    assert_eq!(report.sent.iter().filter(|sent| **sent > 0).count(), 1);
    assert_eq!(report.sent[0], 10 * 256 * MIB);
}

#[test]
fn one_seed_is_one_run() {
    for (world, scenario) in worlds() {
        for model in all() {
            assert_eq!((model.run)(&scenario), (model.run)(&scenario), "{} in {world}", model.name);
        }
    }
    let pull = model("pull").run;
    assert_ne!(pull(&flash(20, 1)), pull(&flash(20, 2)));
}

#[test]
fn an_origin_needs_as_long_as_its_uplinks_need_for_everybody() {
    let one = flash(40, 1);
    let mirrors = Scenario::new(1)
        .blob(256 * MIB)
        .seeds(1, Link::mbit(300, 300, 20))
        .seeds(3, Link::mbit(100, 100, 20))
        .fetchers(30, Link::mbit(10, 1000, 20));
    for (scenario, fetchers, up_mbit) in [(one, 40, 1000), (mirrors, 30, 600)] {
        let last = (model("origin").run)(&scenario).last_finish().unwrap();
        let wire = crate::scenario::wire_bytes(256 * MIB) * fetchers;
        let ideal = crate::link::time_for(wire, up_mbit * 125_000);
        let permille = last.as_nanos() * 1000 / ideal.as_nanos();
        assert!((1000..1030).contains(&permille), "{permille}");
    }
}

#[test]
fn pulling_from_kept_sources_needs_about_three_times_the_bound() {
    // 1,000 peers and 1 GB: 2.7, and 1.5 with sources chosen anew. Here with fewer peers and coarser blocks.
    for seed in 1..=3 {
        let scenario = flash(150, seed);
        let of = |name| permille(&(model(name).run)(&scenario), &scenario);
        let (kept, anew) = (of("sticky-pull"), of("pull"));
        assert!((2000..3800).contains(&kept), "{kept}");
        assert!((1100..2000).contains(&anew), "{anew}");
    }
}

#[test]
fn trading_beats_queueing_at_the_source() {
    let scenario = flash(60, 1);
    let of = |name| permille(&(model(name).run)(&scenario), &scenario);
    let [origin, sequential, sticky] = ["origin", "sequential", "sticky-pull"].map(of);
    let trading = ["pull", "kraken", "kraken-rarest", "bittorrent"].map(of);
    assert!(origin.abs_diff(sequential) * 100 < origin, "in a flash crowd nobody has a second provider");
    assert!(sticky * 5 < sequential && trading.iter().all(|ratio| *ratio < sticky), "{sticky}, {trading:?}");
}

#[test]
fn late_comers_find_a_second_provider() {
    let link = Link::mbit(100, 1000, 1);
    let mut scenario = Scenario::new(1).blob(128 * MIB).seeds(1, link);
    for batch in 0..6 {
        scenario = scenario.fetchers(4, link).starting_at(secs(batch * 30));
    }
    let last = |name| (model(name).run)(&scenario).last_finish().unwrap();
    assert!(last("sequential") < last("origin"));
}

#[test]
fn tit_for_tat_keeps_those_who_give_little_waiting() {
    let class = |up| Link::mbit(up, 200, 5);
    let scenario = Scenario::new(5).blob(512 * MIB).seeds(1, class(50)).fetchers(30, class(20)).fetchers(30, class(2));
    let report = (model("bittorrent").run)(&scenario);
    let mean = |range: std::ops::Range<usize>| report.finished_at[range].iter().flatten().sum::<Duration>() / 30;
    assert!(mean(0..30) < mean(30..60), "{:?} {:?}", mean(0..30), mean(30..60));
}

#[test]
fn what_nobody_holds_ends_the_run() {
    let link = Link::mbit(100, 100, 1);
    let scenario = Scenario::new(1).blob(32 * MIB).partial("##.#", link).fetchers(6, link);
    for model in all() {
        let report = (model.run)(&scenario);
        assert_eq!((report.last_finish(), report.finished_by(1)), (None, None), "{}", model.name);
        assert!(report.transfers > 0, "{}: what there is is passed on", model.name);
    }
}

#[test]
fn what_is_left_out_is_said() {
    assert_eq!(ignored(&flash(1, 1)), Vec::<&str>::new());
    let mut scenario = flash(2, 1).die(secs(1), 2).hostile(Vice::Mute, 1, Link::mbit(1, 1, 1));
    scenario.hosts[0].stay = Stay::Sent(1005);
    assert_eq!(ignored(&scenario), ["faults", "hosts that leave", "hostile hosts"]);
    assert!(all().iter().all(|model| (model.run)(&scenario).last_finish().is_some() && model.label.starts_with("our model of ")));
}
