//! Swarms of real engines in virtual time. Each world runs twice from each of its seeds and must end the same; the rules that simnet
//! checks hold in all of them. `docs/simnet.md` says how to add one.

mod digests;
mod features;
mod mutants;

use std::time::Duration;

use p2pweights_protocol::engine::Misdeed;
use p2pweights_protocol::random::Random;
use p2pweights_simnet::{HostId, KIB, Link, MIB, Report, Scenario, Vice, World};

const SEEDS: std::ops::Range<u64> = 0..3;
/// Random worlds drawn by the lottery.
const WORLDS: u64 = 40;
/// A look-up, a dial and five trips before the first byte, a sync after the last.
const START: Duration = Duration::from_millis(700);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A home with a good line.
fn home() -> Link {
    Link::mbit(100, 400, 10)
}

/// A fetcher whose downlink is never what limits it.
fn wide() -> Link {
    Link::mbit(100, 2000, 10)
}

fn run(name: &str, scenario: impl Fn(u64) -> Scenario, judge: impl Fn(&Report)) {
    for seed in SEEDS {
        let report = World::run(scenario(seed).keep_lines(40));
        println!("{name}, seed {seed}: {}", report.summary());
        assert_eq!(report.violations, [], "{name}, seed {seed}:\n{}", report.lines.join("\n"));
        assert!(!report.ran_out_of_events, "{name}, seed {seed}: a storm\n{}", report.lines.join("\n"));
        assert_eq!(World::run(scenario(seed)).digest, report.digest, "{name}, seed {seed}: not repeatable");
        judge(&report);
    }
}

fn finish(report: &Report) -> Duration {
    report.last_finish().expect("every fetcher finishes")
}

#[test]
fn one_source_one_fetcher() {
    run(
        "one to one",
        |seed| Scenario::new(seed).blob(64 * MIB).seeds(1, home()).fetchers(1, home()),
        |report| {
            assert!(finish(report) < report.bound + START);
            assert_eq!(report.waste_per_100k(), 0);
            assert!(report.messages_per_mib_permille() < 5_000);
        },
    );
}

#[test]
fn a_flash_crowd_trades_among_itself() {
    let crowd = |seed| Scenario::new(seed).blob(256 * MIB).seeds(1, home()).fetchers(8, home()).check_every(9);
    run("one to eight", crowd, |report| {
        assert!(finish(report) < report.bound * 13 / 10);
        assert!(report.hosts[0].sent < 256 * MIB * 5 / 4, "the source sends little more than one copy");
        assert!(report.waste_per_100k() < 500);
        assert!(report.messages_per_mib_permille() < 20_000);
    });
}

#[test]
fn a_crowd_behind_slow_uplinks() {
    let slow = || Link::mbit(20, 100, 20);
    let crowd = |seed| Scenario::new(seed).blob(64 * MIB).seeds(1, slow()).fetchers(20, slow()).check_every(99);
    run("one to twenty, 20/100", crowd, |report| {
        assert!(finish(report) < report.bound * 14 / 10);
        assert!(report.hosts[0].sent < 64 * MIB * 3 / 2);
    });
}

#[test]
fn four_sources_add_up() {
    run(
        "four to one",
        |seed| Scenario::new(seed).blob(128 * MIB).seeds(4, home()).fetchers(1, wide()),
        |report| {
            for source in 0..4 {
                assert!(report.hosts[4].received_from[&HostId(source)] > 24 * MIB, "{:?}", report.hosts[4].received_from);
            }
            assert!(finish(report) < report.bound + START);
        },
    );
}

#[test]
fn unequal_sources_are_used_as_far_as_they_go() {
    let unequal = |seed| {
        Scenario::new(seed)
            .blob(256 * MIB)
            .seeds(1, Link::mbit(400, 400, 10))
            .seeds(1, Link::mbit(100, 100, 40))
            .seeds(1, Link::mbit(20, 20, 150))
            .seeds(1, Link::mbit(2, 20, 20))
            .fetchers(1, wide())
    };
    run("unequal to one", unequal, |report| {
        assert!(finish(report) < report.bound * 15 / 10 + START);
        assert!(report.waste_per_100k() < 1_000);
    });
}

#[test]
fn a_fat_and_far_link_is_filled() {
    let far = || Link::mbit(1000, 1000, 50);
    run(
        "1 Gbit/s, 200 ms",
        |seed| Scenario::new(seed).blob(512 * MIB).seeds(1, far()).fetchers(1, far()).check_every(99),
        |report| {
            assert!(finish(report) < report.bound + secs(5), "no more than a slow start");
        },
    );
}

#[test]
fn a_satellite_link_is_filled_and_nothing_is_sent_twice() {
    let village =
        |seed| Scenario::new(seed).blob(16 * MIB).seeds(1, Link::mbit(1000, 1000, 10)).fetchers(1, Link::mbit(2, 2, 290));
    run("2 Mbit/s, 600 ms", village, |report| {
        assert!(finish(report) < report.bound * 11 / 10);
        assert_eq!(report.waste_per_100k(), 0);
    });
}

#[test]
fn partial_sources_make_a_whole() {
    let parts = |seed| {
        Scenario::new(seed)
            .blob(64 * MIB)
            .partial("###.......", home())
            .partial("..####....", home())
            .partial(".....#####", home())
            .fetchers(2, home())
    };
    run("three parts", parts, |report| assert!(finish(report) < secs(8)));
}

#[test]
fn two_halves_complete_one_another() {
    let halves =
        |seed| Scenario::new(seed).blob(64 * MIB).fetchers(1, home()).holding("#.#.#.#.").fetchers(1, home()).holding(".#.#.#.#");
    run("two halves", halves, |report| {
        assert!(finish(report) < secs(4));
        assert_eq!(report.sent() / MIB, 64);
    });
}

#[test]
fn a_fetcher_serves_what_it_has_so_far() {
    let chain =
        |seed| Scenario::new(seed).blob(64 * MIB).seeds(1, home()).fetchers(1, home()).fetchers(1, home()).starting_at(secs(2));
    run("a latecomer", chain, |report| {
        assert!(finish(report) < secs(9));
        assert!(report.hosts[2].received_from[&HostId(1)] > 16 * MIB, "{:?}", report.hosts[2].received_from);
    });
}

#[test]
fn a_source_dies_midway() {
    let dies = |seed| Scenario::new(seed).blob(64 * MIB).seeds(2, home()).fetchers(1, home()).die(secs(2), 0);
    run("a source dies", dies, |report| assert!(finish(report) < secs(8)));
}

#[test]
fn every_source_is_away_for_a_minute() {
    let away = |seed| {
        let sources = Scenario::new(seed).blob(64 * MIB).seeds(2, home()).fetchers(2, home());
        sources.crash(secs(2), 0, secs(60)).crash(secs(2), 1, secs(60))
    };
    run("all sources away", away, |report| {
        assert!(finish(report) < secs(120));
        assert!(report.busiest_second_after(10) < 3_000 && report.events_per_second[20..60].iter().all(|events| *events < 50));
    });
}

#[test]
fn a_fetcher_crashes_and_resumes() {
    let crashes = |seed| Scenario::new(seed).blob(64 * MIB).seeds(1, home()).fetchers(1, home()).crash(secs(3), 1, secs(5));
    run("the fetcher crashes", crashes, |report| {
        assert!(finish(report) < secs(15));
        let fetcher = &report.hosts[1];
        assert!(fetcher.lost_in_crashes < 4 * MIB, "what one sync takes in");
        assert!(fetcher.received <= 64 * MIB + fetcher.lost_in_crashes, "only what was not synced is fetched again");
    });
}

/// One honest source, two hostile peers, one honest fetcher (host 3).
fn beside_an_honest_one(vice: Vice, size: u64, judge: impl Fn(&Report)) {
    let scenario = |seed| Scenario::new(seed).blob(size).seeds(1, home()).hostile(vice, 2, home()).fetchers(1, home());
    run(&format!("{vice:?}"), scenario, |report| {
        finish(report);
        judge(report);
    });
}

fn strikes(report: &Report, of: usize, misdeed: Misdeed) -> u32 {
    report.hosts[3].struck.get(&(HostId(of), misdeed)).copied().unwrap_or(0)
}

#[test]
fn a_liar_costs_a_block_and_is_banned() {
    beside_an_honest_one(Vice::Liar, 64 * MIB, |report| {
        assert!(finish(report) < report.bound + START);
        assert_eq!(report.hosts[3].banned.len(), 2);
        assert!(report.hosts[3].wasted <= 2 * MIB, "what was in flight from each when its lie was found out");
    });
}

#[test]
fn a_false_claimer_is_struck() {
    beside_an_honest_one(Vice::FalseClaimer, 64 * MIB, |report| {
        assert!(finish(report) < report.bound + START);
        assert!(strikes(report, 1, Misdeed::FalseClaim) > 0 && strikes(report, 2, Misdeed::FalseClaim) > 0);
        assert!(report.messages_per_mib_permille() < 9_000);
    });
}

#[test]
fn a_mute_peer_costs_a_bounded_delay() {
    beside_an_honest_one(Vice::Mute, 256 * MIB, |report| {
        assert!(finish(report) < report.bound + START + secs(2));
        assert!(strikes(report, 1, Misdeed::Late) > 0 && strikes(report, 2, Misdeed::Late) > 0);
    });
}

#[test]
fn a_dripping_peer_costs_a_bounded_delay() {
    beside_an_honest_one(Vice::Drip, 256 * MIB, |report| {
        assert!(finish(report) < report.bound + START + secs(2));
        assert!(strikes(report, 1, Misdeed::Late) > 0 && strikes(report, 2, Misdeed::Late) > 0);
        assert!(report.waste_per_100k() < 1_000);
    });
}

#[test]
fn a_refuser_is_left_alone() {
    beside_an_honest_one(Vice::Refuser, 64 * MIB, |report| {
        assert!(finish(report) < report.bound + START);
        assert!(report.traffic.refusals < 300, "{}", report.traffic.refusals);
    });
}

#[test]
fn a_hoarder_starves_nobody() {
    beside_an_honest_one(Vice::Hoarder, 64 * MIB, |report| assert!(finish(report) < report.bound * 13 / 10 + START));
}

#[test]
fn a_flooder_is_banned() {
    beside_an_honest_one(Vice::Flooder, 64 * MIB, |report| {
        // Its requests and returns, valid by chance, take credits that the honest one could use: the weakest of the answers to a vice.
        assert!(finish(report) < report.bound * 4);
        assert_eq!(report.hosts[3].banned.len(), 2);
    });
}

#[test]
fn an_unknown_size_is_proved_first() {
    let liars = |seed| {
        let scenario = Scenario::new(seed).blob(16 * MIB + 5).seeds(1, home());
        scenario.hostile(Vice::SizeLiar, 3, home()).fetchers(1, home()).without_sizes()
    };
    run("no size known", liars, |report| {
        assert!(finish(report) < secs(5));
        assert!(!report.hosts[4].struck.is_empty(), "whoever claimed another size");
    });
}

#[test]
fn a_size_liar_beside_a_manifest_is_passed_over() {
    beside_an_honest_one(Vice::SizeLiar, 64 * MIB, |report| {
        assert!(finish(report) < report.bound + START);
        assert_eq!(report.hosts[3].sizes_disputed, 2);
    });
}

#[test]
fn pieces_that_nobody_holds_are_reported_in_peace() {
    let gone = |seed| {
        Scenario::new(seed).blob(16 * MIB).partial("#######.", home()).fetchers(3, home()).until(secs(300)).linger(secs(300))
    };
    run("a piece is gone", gone, |report| {
        assert!(!report.all_finished());
        assert_eq!(report.gone_pieces.iter().map(|(_, piece)| *piece).collect::<Vec<_>>(), (56..64).collect::<Vec<_>>());
        assert!(report.hosts[1..].iter().all(|fetcher| fetcher.unavailable == 8));
        assert!(report.busiest_second_after(60) < 30, "no spinning: {}", report.busiest_second_after(60));
    });
}

#[test]
fn after_the_work_there_is_silence() {
    let crowd = |seed| Scenario::new(seed).blob(16 * MIB).seeds(1, home()).fetchers(4, home()).linger(secs(100));
    run("silence", crowd, |report| {
        let end = finish(report).as_secs() as usize;
        assert_eq!(report.events_per_second.iter().skip(end + 20).sum::<u64>(), 0, "{:?}", report.events_per_second);
    });
}

#[test]
fn two_swarms_at_once() {
    let two = |seed| {
        let both = Scenario::new(seed).blob(32 * MIB).blob(32 * MIB);
        both.seeds(1, home()).in_swarm(0).seeds(1, home()).in_swarm(1).fetchers(2, home())
    };
    run("two swarms", two, |report| assert!(finish(report) < secs(8)));
}

#[test]
fn many_small_blobs() {
    let small = |seed| Scenario::new(seed).manifest(&[100 * KIB; 300]).seeds(2, home()).fetchers(2, home()).check_every(20);
    run("300 small blobs", small, |report| assert!(finish(report) < secs(4)));
}

#[test]
fn churn() {
    let comings_and_goings = |seed| {
        let scenario = Scenario::new(seed).blob(64 * MIB).seeds(1, home()).fetchers(6, home()).check_every(9);
        let hosts = [1, 2, 3, 4, 5, 6, 1, 3, 5, 0];
        hosts
            .into_iter()
            .enumerate()
            .fold(scenario, |scenario, (step, host)| scenario.crash(secs(1 + step as u64 * 2), host, secs(4 + step as u64 % 3)))
    };
    run("churn", comings_and_goings, |report| {
        assert!(finish(report) < secs(60));
        let lost: u64 = report.hosts.iter().map(|host| host.lost_in_crashes).sum();
        let received: u64 = report.hosts.iter().map(|host| host.received).sum();
        assert!(received <= 6 * 64 * MIB + lost + 6 * MIB, "only what was lost is fetched again");
    });
}

/// A small world drawn from a seed: honest sources and fetchers, hostile peers of any kind, crashes.
fn lottery(seed: u64) -> Scenario {
    let mut random = Random::new(seed);
    let mut upto = |most: u64| random.below(most + 1);
    let mut scenario = Scenario::new(seed);
    for _ in 0..=upto(1) {
        scenario = scenario.blob(upto(6 * MIB) + 1);
    }
    let link = |random: &mut Random| {
        let mut between = |least: u64, most: u64| least + random.below(most - least + 1);
        Link::mbit(between(2, 200), between(5, 500), between(1, 150))
    };
    let mut random = Random::new(!seed);
    for _ in 0..=random.below(2) {
        scenario = scenario.seeds(1, link(&mut random));
    }
    for _ in 0..=random.below(3) {
        scenario = scenario.fetchers(1, link(&mut random)).starting_at(secs(random.below(5)));
        if random.below(3) == 0 {
            scenario = scenario.without_sizes();
        }
    }
    let honest = scenario.hosts.len() as u64;
    for _ in 0..random.below(4) {
        let vice = Vice::ALL[random.below(8) as usize];
        scenario = scenario.hostile(vice, 1, link(&mut random));
    }
    for _ in 0..random.below(4) {
        let (host, away) = (random.below(honest) as usize, secs(1 + random.below(20)));
        scenario = scenario.crash(Duration::from_millis(random.below(8_000)), host, away);
    }
    scenario.until(secs(900)).keep_lines(60)
}

#[test]
fn random_worlds_end_well() {
    for seed in 0..WORLDS {
        let report = World::run(lottery(seed));
        let context = || format!("world {seed}: {}\n{:#?}\n{}", report.summary(), lottery(seed).hosts, report.lines.join("\n"));
        assert_eq!(report.violations, [], "{}", context());
        assert!(!report.ran_out_of_events, "a storm in {}", context());
        assert!(report.all_finished(), "not finished: {}", context());
    }
}
