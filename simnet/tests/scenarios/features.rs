//! What can lie between hosts and befall them: each test fails in a world without the feature that it is about.

use std::time::Duration;

use p2pweights_protocol::engine::{Misdeed, Order};
use p2pweights_protocol::ids::Prefix;
use p2pweights_simnet::{
    Disk, Fault, HostId, HostPlan, Link, MIB, Nat, Report, Scenario, Site, SiteId, Stay, Trouble, Vice, World,
};

use super::{START, finish, home, run, secs};

const VILLAGE: Option<SiteId> = Some(SiteId(0));

fn site(link: Link, lan: bool) -> Site {
    Site { name: "village".into(), link, lan, metered: lan, outages: Vec::new(), quota: None }
}

/// Machines on a fast local network, nothing of it in the way.
fn machines(scenario: Scenario, count: usize) -> Scenario {
    scenario.add("machines", count, Link::mbit(1000, 1000, 0), |plan| (plan.fetches, plan.site) = (true, VILLAGE))
}

/// A seed far away (host 0), and machines behind a link of 8/8 Mbit/s and 50 ms.
fn village(seed: u64, size: u64, count: usize, change: impl Fn(&mut Site)) -> Scenario {
    let mut scenario = Scenario::new(seed).blob(size).seeds(1, home());
    scenario.sites.push(site(Link::mbit(8, 8, 50), true));
    change(&mut scenario.sites[0]);
    machines(scenario, count)
}

fn befallen(mut scenario: Scenario, at: Duration, what: Trouble) -> Scenario {
    scenario.faults.push(Fault { at, what });
    scenario
}

fn received(report: &Report, hosts: std::ops::Range<usize>) -> u64 {
    report.hosts[hosts].iter().map(|host| host.received + host.wasted).sum()
}

#[test]
fn machines_of_a_site_share_its_link_and_trade_beside_it() {
    run(
        "a village of four",
        |seed| village(seed, 8 * MIB, 4, |_| ()),
        |report| {
            let link = &report.sites[0];
            assert!(finish(report) >= report.bound && report.bound > secs(8), "{:?}", report.bound);
            assert!(link.bytes_in >= 8 * MIB && link.bytes_in < 32 * MIB, "{link:?}");
            assert!(report.hosts[0].sent >= link.bytes_in && report.hosts[0].sent <= link.bytes_in + MIB);
            assert!(between(report, 1..5) > 8 * MIB, "and that is much");
            assert!(link.bytes_again >= link.bytes_in - 8 * MIB, "{link:?}");
        },
    );
}

/// What these hosts sent to one another.
fn between(report: &Report, hosts: std::ops::Range<usize>) -> u64 {
    let from_peers = |host: usize| report.hosts[host].received_from.iter().filter(|(from, _)| hosts.contains(&from.0));
    hosts.clone().flat_map(from_peers).map(|(_, bytes)| bytes).sum()
}

#[test]
fn machines_of_a_lan_find_one_another_without_a_directory() {
    let island = |lan| {
        move |seed| {
            let mut scenario = Scenario::new(seed).blob(8 * MIB);
            scenario.sites.push(site(Link::mbit(8, 8, 50), lan));
            scenario.timing.lookup = secs(3600);
            machines(scenario, 1).holding("#").add("machines", 2, Link::mbit(1000, 1000, 0), |plan| {
                (plan.fetches, plan.site) = (true, VILLAGE);
            })
        }
    };
    run("a local network", island(true), |report| {
        assert!(finish(report) < secs(3), "found within a second, fetched in a few milliseconds");
        assert_eq!(report.sites[0].bytes_in, 0);
    });
    run("near, but not on a local network", |seed| island(false)(seed).until(secs(60)), |report| assert!(!report.all_finished()));
}

#[test]
fn engines_are_told_how_a_peer_is_reached_and_in_which_network() {
    let mut scenario = village(1, MIB, 2, |_| ()).keep_lines(100_000);
    scenario.hosts[0].prefix = Prefix(77);
    let report = World::run(scenario);
    let told = |host: &str, what: &str| {
        let lines = report.lines.iter().filter(|line| line.contains("PeerConnected") && line.contains(&format!(" {host} ")));
        lines.filter(|line| line.contains(what)).count()
    };
    assert_eq!(told("h1", "class: Metered, prefix: Prefix(77)"), 1, "from within, what is outside is metered");
    assert_eq!((told("h1", "class: Lan"), told("h2", "class: Lan")), (1, 1));
    assert_eq!((told("h0", "class: Wan"), told("h0", "Metered")), (2, 0), "from outside it is not");
}

#[test]
fn a_short_outage_holds_things_up_and_a_long_one_breaks_connections() {
    let outage = |from: u64, to: u64| move |seed| village(seed, 8 * MIB, 1, |site| site.outages = vec![(secs(from), secs(to))]);
    run("an outage of two seconds", outage(4, 6), |report| {
        assert!(
            finish(report) > report.bound && finish(report) < report.bound + secs(3),
            "{:?} {:?}",
            finish(report),
            report.bound
        );
        assert_eq!(report.sites[0].down_time, secs(2));
        assert_eq!(report.traffic.interest, 2, "the connection lasts: each asks the other once");
        assert!(received(report, 1..2) <= 8 * MIB, "and nothing is lost");
    });
    run("an outage of a minute", outage(4, 64), |report| {
        assert!(finish(report) > secs(64) && finish(report) < secs(64 + 75), "{:?}", finish(report));
        assert!(report.traffic.interest > 2, "another connection");
        assert_eq!(report.sites[0].down_time, secs(60));
    });
}

#[test]
fn a_link_whose_quota_is_used_up_carries_nothing() {
    let quota = |seed| village(seed, 8 * MIB, 1, |site| site.quota = Some(4 * MIB)).until(secs(100));
    run("half a quota", quota, |report| {
        assert!(!report.all_finished());
        assert!(report.sites[0].bytes_in > 3 * MIB && report.sites[0].bytes_in <= 4 * MIB + MIB / 4, "{:?}", report.sites[0]);
        assert_eq!(report.gone_pieces, [], "nothing is gone: it cannot get here");
    });
}

#[test]
fn loss_costs_goodput() {
    let lossy = |loss_ppm| {
        move |seed| {
            let link = Link { loss_ppm, ..Link::mbit(100, 400, 10) };
            Scenario::new(seed).blob(64 * MIB).seeds(1, link).fetchers(1, home())
        }
    };
    run("three tenths are lost", lossy(300_000), |report| {
        let lossless = lossy(0)(0).bound();
        assert!(report.bound > lossless * 14 / 10 && report.bound < lossless * 145 / 100);
        assert!(finish(report) > report.bound && finish(report) < report.bound + START + secs(2));
    });
}

#[test]
fn what_is_lost_is_sent_again_a_round_trip_later() {
    let far = |loss_ppm| {
        move |seed| {
            let link = Link { loss_ppm, ..Link::mbit(1000, 1000, 300) };
            // Small enough that the last block's delay shows.
            Scenario::new(seed).blob(MIB).seeds(1, link).fetchers(1, link)
        }
    };
    let mut last = Vec::new();
    for loss in [0, 300_000] {
        let mut sum = Duration::ZERO;
        for seed in 0..5 {
            sum += finish(&World::run(far(loss)(seed)));
        }
        last.push(sum / 5);
    }
    assert!(last[1] > last[0] + Duration::from_millis(600), "{last:?}: at least a packet in a run is lost last");
}

/// A seed and two fetchers behind NATs, half of each piece at each fetcher.
fn behind_nats(seed: u64, punch_permille: u64, relay: Option<Link>) -> Scenario {
    let mut scenario = Scenario::new(seed).blob(8 * MIB);
    (scenario.punch_permille, scenario.relay) = (punch_permille, relay);
    let nat = |plan: &mut HostPlan| (plan.fetches, plan.nat) = (true, Nat::Cone);
    scenario.add("nat", 1, home(), nat).holding("#.#.").add("nat", 1, home(), nat).holding(".#.#").until(secs(120))
}

#[test]
fn hosts_behind_nats_meet_by_a_hole_or_by_the_relay() {
    run(
        "a hole",
        |seed| behind_nats(seed, 1000, None),
        |report| {
            assert!(finish(report) < secs(3));
            assert_eq!(report.hosts[0].relayed, 0);
        },
    );
    run(
        "no hole and no relay",
        |seed| behind_nats(seed, 0, None),
        |report| {
            assert!(!report.all_finished() && report.sent() == 0, "they never meet");
        },
    );
    run(
        "the relay",
        |seed| behind_nats(seed, 0, Some(Link::mbit(8, 8, 20))),
        |report| {
            assert!(finish(report) > secs(8), "both halves share its eight Mbit/s: {:?}", finish(report));
            assert_eq!((report.hosts[0].relayed, report.hosts[1].relayed), (4 * MIB, 4 * MIB));
        },
    );
}

#[test]
fn a_host_behind_a_nat_is_reached_by_open_ones() {
    let called = |seed| {
        let scenario = Scenario::new(seed).blob(8 * MIB).seeds(1, home()).fetchers(1, home());
        let mut scenario = scenario;
        (scenario.hosts[0].nat, scenario.punch_permille) = (Nat::Cone, 0);
        scenario
    };
    run("called back", called, |report| assert!(finish(report) < secs(3)));
}

#[test]
fn a_slow_disk_holds_a_fetch_up() {
    let slow = |seed| {
        let disk = Disk { bytes_per_s: Some(4 * MIB), capacity: None };
        Scenario::new(seed)
            .blob(32 * MIB)
            .seeds(1, home())
            .add("fetchers", 1, home(), |plan| (plan.fetches, plan.disk) = (true, disk))
    };
    run("4 MiB/s to disk", slow, |report| {
        assert!(finish(report) > secs(8) && finish(report) < secs(10), "{:?}", finish(report));
        assert!(received(report, 1..2) <= 33 * MIB, "nothing is fetched in vain");
    });
}

#[test]
fn a_disk_that_is_full_pauses_its_engine_until_there_is_room() {
    let full = |seed| {
        let what = Trouble::DiskFull { host: HostId(1), lasts: secs(60) };
        befallen(Scenario::new(seed).blob(64 * MIB).seeds(1, home()).fetchers(1, home()), secs(2), what)
    };
    run("full for a minute", full, |report| {
        // The source passes a host over for minutes that let its credits expire while it was paused.
        assert!(finish(report) > secs(62) && finish(report) < secs(500), "{:?}", finish(report));
        let events: u64 = report.events_per_second[15..60].iter().sum();
        assert!(events < 4_500, "a try every ten seconds: {events} events");
    });
    let small = |seed| {
        let disk = Disk { bytes_per_s: None, capacity: Some(16 * MIB) };
        let scenario = Scenario::new(seed).blob(32 * MIB).seeds(1, home()).until(secs(60));
        scenario.add("fetchers", 1, home(), |plan| (plan.fetches, plan.disk) = (true, disk))
    };
    run("half fits", small, |report| {
        assert!(!report.all_finished());
        assert!(report.hosts[1].received <= 16 * MIB && report.hosts[1].received > 12 * MIB, "{}", report.hosts[1].received);
    });
}

#[test]
fn what_a_failed_sync_has_lost_is_fetched_again() {
    let fails = |seed| {
        let what = Trouble::DiskFails { host: HostId(1), lasts: secs(1) };
        befallen(Scenario::new(seed).blob(64 * MIB).seeds(1, home()).fetchers(1, home()), secs(2), what)
    };
    run("a disk fails for a second", fails, |report| {
        assert!(finish(report) > secs(12) && finish(report) < secs(500), "{:?}", finish(report));
        assert!(report.hosts[1].refetched > 0 && report.hosts[1].refetched < 4 * MIB, "{}", report.hosts[1].refetched);
    });
}

#[test]
fn rot_is_found_by_serving_and_mended() {
    let rots = |seed| {
        let scenario = Scenario::new(seed).blob(16 * MIB).seeds(1, home()).fetchers(1, home()).fetchers(1, home());
        befallen(scenario.starting_at(secs(10)), secs(5), Trouble::Rot { host: HostId(1), groups: 30 })
    };
    run("thirty rotten groups", rots, |report| {
        finish(report);
        assert!(report.hosts[2].received_from[&HostId(1)] > 0);
        assert!(report.hosts[2].struck.is_empty(), "rot is no lie: {:?}", report.hosts[2].struck);
        assert_eq!(report.bad_groups_kept, 0);
    });
    let alone = |seed| {
        let scenario = Scenario::new(seed).blob(16 * MIB).seeds(1, home()).fetchers(1, home()).until(secs(300));
        befallen(scenario, Duration::from_millis(1), Trouble::Rot { host: HostId(0), groups: 1 })
    };
    run("the only copy rots", alone, |report| {
        assert!(!report.all_finished() && report.ended_at.0 < 60_000_000_000, "{:?}", report.ended_at);
        assert_eq!(report.gone_pieces.len(), 1, "{:?}", report.gone_pieces);
    });
}

#[test]
fn a_sleeper_does_nothing_and_goes_on_when_it_wakes_up() {
    let sleeps = |lasts| {
        move |seed| {
            let scenario = Scenario::new(seed).blob(64 * MIB).seeds(1, home()).fetchers(1, home());
            befallen(scenario, secs(2), Trouble::Sleep { host: HostId(1), lasts })
        }
    };
    run("a nap", sleeps(secs(1)), |report| {
        assert!(finish(report) > report.bound + secs(1) && finish(report) < report.bound + secs(3), "{:?}", finish(report));
        assert_eq!(report.traffic.interest, 2, "the connection lasts: each asks the other once");
        assert_eq!(report.hosts[1].received, 64 * MIB, "and nothing is lost");
    });
    run("a long sleep", sleeps(secs(60)), |report| {
        assert!(finish(report) > secs(62) && finish(report) < secs(62 + 10 + 6), "{:?}", finish(report));
        assert!(report.traffic.interest > 2, "its peers have given it up");
    });
}

#[test]
fn a_partition_ends_connections_in_both_directions() {
    for one_way in [false, true] {
        let parted = |lasts| {
            move |seed| {
                let scenario = Scenario::new(seed).blob(64 * MIB).seeds(1, home()).fetchers(2, home());
                befallen(scenario, secs(2), Trouble::Partition { side: vec![HostId(1)], lasts, one_way })
            }
        };
        run("parted for a minute", parted(secs(60)), |report| {
            assert!(finish(report) > secs(62) && finish(report) < secs(62 + 75), "{:?}", finish(report));
            assert!(report.hosts[2].finished_at.is_some_and(|at| at.0 < 15_000_000_000), "the others go on");
        });
        run("parted for a second", parted(secs(1)), |report| {
            assert!(finish(report) < report.bound + secs(3), "{:?}", finish(report));
            assert!(report.traffic.interest <= 6, "connections last: {:?}", report.traffic);
        });
    }
}

#[test]
fn a_cut_is_noticed_by_both_ends_even_if_they_have_nothing_to_say() {
    let idle = Scenario::new(1).blob(MIB).seeds(1, home()).fetchers(1, home()).linger(secs(60)).keep_lines(100_000);
    for one_way in [false, true] {
        let what = Trouble::Partition { side: vec![HostId(1)], lasts: secs(30), one_way };
        let report = World::run(befallen(idle.clone(), secs(20), what));
        let gone: Vec<_> = report.lines.iter().filter(|line| line.contains("PeerGone")).map(|line| line[..8].trim()).collect();
        assert_eq!(gone, ["t+23s h1", "t+23s h0"]);
    }
}

#[test]
fn a_slow_link_is_slow_for_a_while() {
    let slow = |seed| {
        let what = Trouble::Slow { host: HostId(0), permille: 100, lasts: secs(10) };
        befallen(Scenario::new(seed).blob(64 * MIB).seeds(1, home()).fetchers(1, home()), secs(1), what)
    };
    run("a tenth for ten seconds", slow, |report| {
        let late = finish(report) - report.bound;
        assert!(late > secs(8) && late < secs(11), "nine seconds' worth is missing: {late:?}");
    });
}

#[test]
fn a_site_may_be_cut_off_by_a_fault() {
    let down = |seed| {
        let what = Trouble::SiteDown { site: SiteId(0), lasts: secs(30) };
        befallen(village(seed, 8 * MIB, 1, |_| ()), secs(4), what)
    };
    run("a site is down", down, |report| {
        assert!(finish(report) > secs(34), "{:?}", finish(report));
        assert_eq!(report.sites[0].down_time, secs(30));
    });
}

fn staying(seed: u64, stay: Stay) -> Scenario {
    let scenario = Scenario::new(seed).blob(32 * MIB).add("seeds", 1, home(), |plan| {
        (plan.holding, plan.stay) = (p2pweights_simnet::Holding::All, stay);
    });
    scenario.fetchers(3, home()).until(secs(200))
}

#[test]
fn a_seed_goes_when_it_has_sent_its_share() {
    run(
        "half a copy",
        |seed| staying(seed, Stay::Sent(500)),
        |report| {
            let seed = &report.hosts[0];
            assert!(seed.left_at.is_some() && seed.sent >= 16 * MIB && seed.sent <= 18 * MIB, "{}", seed.sent);
            assert!(!report.all_finished() && report.ended_at.0 < 100_000_000_000, "the world knows that it is over");
            let gone = report.gone_pieces.len();
            assert!((50..=78).contains(&gone), "half of 128 are gone: {gone}");
            assert!(report.gone_pieces.is_sorted());
        },
    );
    run(
        "two copies",
        |seed| staying(seed, Stay::Sent(2000)),
        |report| {
            finish(report);
            assert_eq!(report.gone_pieces, []);
        },
    );
}

#[test]
fn fetchers_go_when_they_have_given_back() {
    let scenario = |stay| {
        move |seed| {
            let scenario = Scenario::new(seed).blob(32 * MIB).seeds(1, home()).linger(secs(60));
            scenario.add("fetchers", 3, home(), |plan| (plan.fetches, plan.stay) = (true, stay))
        }
    };
    run("after a second", scenario(Stay::After(secs(1))), |report| {
        for host in &report.hosts[1..] {
            assert_eq!(host.left_at.map(|at| at - host.finished_at.unwrap()), Some(secs(1)));
        }
    });
    run("none to give", scenario(Stay::ExtraPieces(0)), |report| {
        assert!(report.hosts[1..].iter().all(|host| host.left_at == host.finished_at));
    });
    run("four pieces more", scenario(Stay::ExtraPieces(4)), |report| {
        // Whoever is last has nobody left to give to, and stays.
        assert!(report.hosts[1..].iter().any(|host| host.left_at.is_none()));
    });
}

#[test]
fn a_poisoner_is_believed_until_it_poisons() {
    super::beside_an_honest_one(Vice::Poisoner, 64 * MIB, |report| {
        assert!(report.hosts[3].received_from.get(&HostId(1)).is_some_and(|bytes| *bytes > MIB), "good at first");
        assert!(!report.hosts[3].banned.is_empty());
        assert!(report.hosts[3].struck.keys().all(|(_, misdeed)| *misdeed == Misdeed::BadBytes), "{:?}", report.hosts[3].struck);
        assert_eq!(report.bad_groups_kept, 0);
    });
}

#[test]
fn a_leech_takes_and_gives_nothing() {
    let leeches = |seed| {
        let scenario = Scenario::new(seed).blob(32 * MIB).seeds(1, home()).hostile(Vice::Leech, 2, home());
        scenario.fetchers(2, home()).linger(secs(60))
    };
    run("two leeches", leeches, |report| {
        assert_eq!(report.fetchers, [HostId(3), HostId(4)], "nobody waits for leeches");
        assert_eq!((report.hosts[1].sent, report.hosts[2].sent), (0, 0));
        assert!(report.hosts[1].finished_at.is_some(), "nobody starves");
        assert!(report.hosts[1].received >= 32 * MIB);
    });
}

#[test]
fn a_reader_gets_one_file_after_the_other() {
    // Of all blocks, how many in a hundred have come when the first of four files is whole.
    let first_whole = |order| {
        let scenario = Scenario::new(1).manifest(&[8 * MIB; 4]).seeds(2, home()).add("readers", 1, home(), move |plan| {
            (plan.fetches, plan.order) = (true, order);
        });
        let report = World::run(scenario.keep_lines(100_000));
        assert!(report.all_finished());
        let came = |lines: &[String]| lines.iter().filter(|line| line.contains("outcome: Delivered")).count();
        let whole = report.lines.iter().position(|line| line.contains("Notify(BlobVerified")).expect("a file is whole");
        came(&report.lines[..whole]) * 100 / came(&report.lines)
    };
    let (in_order, rarest_first) = (first_whole(Order::Stream), first_whole(Order::RarestFirst));
    assert!(in_order < 40 && rarest_first > in_order, "{in_order} % and {rarest_first} %");
}

#[test]
fn sybils_are_many_in_one_network() {
    let sybils = |seed| {
        let scenario = Scenario::new(seed).blob(32 * MIB).seeds(1, home()).hostile(Vice::Sybil, 20, home());
        scenario.fetchers(2, home()).until(secs(60))
    };
    run("twenty names", sybils, |report| {
        assert!(finish(report) < secs(60), "{:?}", finish(report));
        assert!(report.hosts[1..21].iter().all(|host| host.received == 0));
    });
}

#[test]
fn sybils_share_a_prefix() {
    let scenario = Scenario::new(1).blob(MIB).seeds(1, home()).hostile(Vice::Sybil, 20, home());
    assert!(scenario.hosts[1..21].iter().all(|plan| plan.prefix == scenario.hosts[1].prefix));
    assert_ne!(scenario.hosts[1].prefix, scenario.hosts[0].prefix);
}

#[test]
fn a_report_tells_who_when_and_how() {
    let crowd =
        |seed| Scenario::new(seed).blob(64 * MIB).seeds(1, home()).fetchers(3, home()).starting_at(secs(1)).linger(secs(1));
    run("a report", crowd, |report| {
        assert_eq!(
            (report.groups.as_slice(), report.copy_bytes),
            (["seeds".to_string(), "fetchers".to_string()].as_slice(), 64 * MIB)
        );
        for host in &report.hosts[1..] {
            assert_eq!((host.group, host.began_at.map(|at| at.0), host.refetched), (1, Some(1_000_000_000), 0));
            assert!(host.bound > secs(5) && host.first_bytes_at < host.finished_at && host.first_bytes_at.is_some());
            assert!(host.largest_have_bytes > 0);
        }
        let moments = &report.moments;
        assert!(moments.len() > 50 && moments.len() <= 400, "{}", moments.len());
        let step = moments[1].at - moments[0].at;
        assert!(moments.windows(2).all(|pair| pair[1].at - pair[0].at == step && pair[1].sent >= pair[0].sent));
        let (first, last) = (moments[0], moments[moments.len() - 1]);
        assert_eq!((first.rarest, first.commonest, first.present, first.finished), (1, 1, 1, 0));
        assert!(last.present == 4 && last.finished >= 2 && last.mean_permille > 3000 && last.rarest >= 3, "{last:?}");
        assert!(moments.iter().any(|moment| moment.uplinks_busy_permille > 250));
    });
}
