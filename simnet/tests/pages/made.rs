//! Records of runs that never were, as the standing scenarios may look: for tests, and for looking at the page. Chance comes from a seed.

use std::time::Duration;

use p2pweights_simnet::pages::{Expectation, GroupRecord, LinkRecord, MomentRecord, RunRecord, SCHEMA};

/// Chance: a linear congruential generator is good enough for pictures.
pub struct Dice(u64);

impl Dice {
    /// By a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 to 1.
    pub fn throw(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// So many completion times between two multiples of a bound, most of them late.
    pub fn times(&mut self, count: usize, bound_s: f64, from: f64, to: f64) -> Vec<Option<Duration>> {
        let time = |share: f64| Duration::from_micros(((from + (to - from) * (1.0 - share * share)) * bound_s * 1e6) as u64);
        (0..count).map(|_| Some(time(self.throw()))).collect()
    }
}

/// A group whose fetchers finish between two multiples of the bound.
pub fn group(dice: &mut Dice, name: &str, fetchers: usize, bound_s: f64, from: f64, to: f64) -> GroupRecord {
    let seconds = |time: &Duration| time.as_micros() as f64 / 1e6;
    let mut finished_s: Vec<f64> = dice.times(fetchers, bound_s, from, to).iter().flatten().map(seconds).collect();
    finished_s.sort_by(f64::total_cmp);
    let slowdowns = finished_s.iter().map(|at| (at / bound_s * 1e6).round() / 1e6).collect();
    let count = fetchers as u64;
    GroupRecord { name: name.into(), hosts: count, fetchers: count, finished_s, slowdowns, ..GroupRecord::default() }
}

/// Hosts that send so many thousandths of a copy and fetch nothing.
pub fn sources(count: u64, copy_bytes: u64, copies_permille: u64) -> GroupRecord {
    GroupRecord { name: "seeds".into(), hosts: count, sent_bytes: copy_bytes / 1000 * copies_permille, ..GroupRecord::default() }
}

/// What was asked, in thousandths of the bound.
pub fn at_most(name: &str, limit: u64, result: u64) -> Expectation {
    Expectation {
        name: name.into(),
        target: format!("≤ {:.2} × bound", limit as f64 / 1e3),
        result: format!("{:.3} × bound", result as f64 / 1e3),
        passed: result <= limit,
        limit_permille: Some(limit),
        badness: Some(result),
    }
}

/// A run in which everybody begins at once and holds more and more, uplinks being used but where `down` says that they are not.
pub fn run(
    name: &str,
    row: u32,
    seed: u64,
    copy_bytes: u64,
    bound_s: f64,
    groups: Vec<GroupRecord>,
    down: fn(f64) -> bool,
) -> RunRecord {
    let mut dice = Dice(seed);
    let finished: Vec<f64> = groups.iter().flat_map(|group| group.finished_s.iter().copied()).collect();
    let last = finished.iter().copied().fold(bound_s, f64::max);
    let fetchers: u64 = groups.iter().map(|group| group.fetchers).sum();
    let moments = (0..=200).map(|index| {
        let at_s = (last * 1.01 * f64::from(index) / 200.0 * 1e6).round() / 1e6;
        let share = at_s / last;
        let rise = (share * 12.0).min(1.0);
        let done = finished.iter().filter(|at| **at <= at_s).count() as u32;
        let copies = fetchers as f64 * share.min(1.0) * (0.5 + 0.5 * share.min(1.0));
        let tail = if share > 0.985 { (1.01 - share).max(0.0) / 0.025 } else { 1.0 };
        MomentRecord {
            at_s,
            uplinks_permille: if down(share) { 12 } else { ((930.0 + 60.0 * dice.throw()) * rise * tail) as u64 },
            rarest: 1 + if share > 0.06 {
                (copies * (0.75 + 0.1 * dice.throw()) * (0.3 + 0.7 * share.min(1.0))) as u32
            } else {
                0
            },
            mean_permille: ((1.0 + copies) * 1e3) as u64,
            commonest: (1.0 + (copies * 1.3 + 3.0 * rise).min(fetchers as f64)) as u32,
            present: groups.iter().map(|group| group.hosts as u32).sum(),
            finished: done,
        }
    });
    let moments = moments.collect();
    let received_bytes = copy_bytes * fetchers;
    RunRecord {
        schema: SCHEMA,
        engine: "0.1.0".into(),
        name: name.into(),
        row: Some(row),
        seed,
        full: true,
        command: format!("cargo run --release -p p2pweights-simnet -- run simnet/scenarios/{row:02}.toml --seed {seed}"),
        digest: format!("{:016x}", seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        bound_s,
        ended_s: last,
        hosts: groups.iter().map(|group| group.hosts).sum(),
        fetchers,
        copy_bytes,
        moments,
        groups,
        sent_bytes: received_bytes + received_bytes / 900,
        received_bytes: received_bytes + received_bytes / 1200,
        duplicate_bytes: received_bytes / 1200,
        wasted_bytes: received_bytes / 9000,
        traffic: [("have", received_bytes / 3_000_000), ("grant", received_bytes / 1_100_000)]
            .map(|(kind, count)| (kind.to_owned(), count))
            .into(),
        transfers: received_bytes / 1_048_576,
        idle_permille: 11,
        events: received_bytes / 100_000,
        ..RunRecord::default()
    }
}

/// The standing scenarios, some of them, as they may come out.
pub fn standing() -> Vec<RunRecord> {
    let mut runs = Vec::new();
    let never = |_: f64| false;
    for seed in 1..=8 {
        runs.push(data_centre(seed, never));
        runs.push(mixed_homes(seed, never));
    }
    runs.extend((1..=3).map(village));
    runs.push(borders());
    runs.push(vanishing_seed());
    runs.push(coming_and_going());
    runs
}

fn data_centre(seed: u64, down: fn(f64) -> bool) -> RunRecord {
    let mut dice = Dice(seed);
    let bound = 80.31;
    let last = 1.006 + 0.008 * dice.throw();
    let groups = vec![sources(1, 100_000_000_000, 1013), group(&mut dice, "fetchers", 1000, bound, 0.993, last)];
    let mut run = run("Data centre, everybody at once", 1, seed, 100_000_000_000, bound, groups, down);
    run.about = "A thousand machines and one source of the same speed, 10 Gbit/s each, 100 GB: the source, the downlinks and all uplinks \
                 together are tight at once, so every idle moment of anybody is lost for good."
        .into();
    let result = run.last_ratio().map_or(0, |last| (last * 1e3) as u64);
    run.expectations = vec![at_most("last", 1030, result)];
    run.with_baseline("our model of one HTTP origin", &dice.times(1000, bound, 1.0, 1000.0))
        .with_baseline("our model of uncoordinated pull", &dice.times(1000, bound, 2.1, 3.3))
        .with_baseline("our model of BitTorrent", &dice.times(1000, bound, 1.25, 2.15))
        .with_baseline("our model of sequential providers", &dice.times(1000, bound, 6.0, 31.0))
        .with_baseline("our model of Kraken", &dice.times(1000, bound, 1.1, 1.62))
}

fn mixed_homes(seed: u64, down: fn(f64) -> bool) -> RunRecord {
    let mut dice = Dice(seed + 100);
    let bound = 16_140.0;
    let worst = if seed == 5 { 1.113 } else { 1.022 + 0.02 * dice.throw() };
    let mut groups = vec![sources(1, 50_000_000_000, 1004)];
    for (name, count, to) in [
        ("5/50 Mbit/s", 400, worst),
        ("20/100 Mbit/s", 300, 1.021),
        ("100/300 Mbit/s", 200, 1.012),
        ("1000/1000 Mbit/s", 100, 1.008),
    ] {
        groups.push(group(&mut dice, name, count, bound, 0.985, to));
    }
    let mut run = run("Mixed homes", 6, seed, 50_000_000_000, bound, groups, down);
    run.about = "Four classes of homes, from 5/50 to 1000/1000 Mbit/s. Nobody should wait for those who are slower than he is.\n\nEach class \
                 is measured against the least time that it needs by itself."
        .into();
    let ratios = run.ratios();
    let at = |index: usize| (ratios[index] * 1e3) as u64;
    run.expectations = vec![at_most("p99", 1030, at(989)), at_most("last", 1060, at(999))];
    run.with_baseline("our model of BitTorrent", &dice.times(1000, bound, 1.1, 1.45))
}

fn village(seed: u64) -> RunRecord {
    let mut dice = Dice(seed + 7);
    let bound = 431_000.0;
    let night = |share: f64| (share * 5.0).fract() > 0.75;
    let groups = vec![sources(1, 80_000_000_000, 1003), group(&mut dice, "machines of the village", 50, bound, 0.999, 1.009)];
    let mut run = run("Village behind a satellite", 11, seed, 80_000_000_000, bound, groups, night);
    run.about = "Fifty machines on a local network behind one link of 2 Mbit/s with 600 ms and 1 % loss, which is down for six hours each day. \
                 One copy crosses the link, and fifty machines get it."
        .into();
    run.links = vec![LinkRecord {
        name: "village".into(),
        bytes_in: 80_100_000_000 + seed * 40_000_000,
        bytes_out: 120_000_000,
        bytes_again: 80_000_000 + seed * 40_000_000,
        down_s: 100_000.0,
    }];
    let copies = run.links[0].bytes_in as f64 / 8e10;
    run.expectations = vec![
        at_most("last", 1020, run.last_ratio().map_or(0, |last| (last * 1e3) as u64)),
        Expectation {
            name: "copies over the link".into(),
            target: "≤ 1.005".into(),
            result: format!("{copies:.3}"),
            passed: copies <= 1.005,
            limit_permille: None,
            badness: Some((copies * 1e4) as u64),
        },
    ];
    run
}

fn borders() -> RunRecord {
    let mut dice = Dice(77);
    let groups = vec![sources(4, 20_000_000_000, 1100), group(&mut dice, "subscribers", 1000, 1600.0, 0.98, 1.061)];
    let mut run = run("Twenty providers", 14, 1, 20_000_000_000, 1600.0, groups, |_| false);
    run.about =
        "Twenty providers with fifty subscribers each. What crosses a border costs money; what stays inside does not.".into();
    run.links = (1..=20)
        .map(|index| {
            let again = (dice.throw() * 1.6e9) as u64;
            LinkRecord {
                name: format!("provider {index}"),
                bytes_in: 20_000_000_000 + again,
                bytes_again: again,
                ..LinkRecord::default()
            }
        })
        .collect();
    run.expectations = vec![at_most("last", 1100, run.last_ratio().map_or(0, |last| (last * 1e3) as u64))];
    run
}

fn vanishing_seed() -> RunRecord {
    let mut dice = Dice(3);
    let mut some = group(&mut dice, "fetchers", 300, 8200.0, 0.99, 1.03);
    some.finished_s.truncate(297);
    some.slowdowns.truncate(297);
    let mut run =
        run("The seed vanishes", 7, 4, 100_000_000_000, 8200.0, vec![sources(1, 100_000_000_000, 1005), some], |_| false);
    run.about = "The only seed leaves for good once it has sent 1.005 copies. Everybody must finish without it.".into();
    run.gone_pieces = 2;
    run.violations = vec!["h17 at t+12.5s: serves a group that it does not hold <b>".into()];
    run.expectations = vec![Expectation {
        name: "all finish".into(),
        target: "100 %".into(),
        result: "99 %".into(),
        passed: false,
        limit_permille: None,
        badness: Some(3),
    }];
    run
}

fn coming_and_going() -> RunRecord {
    let mut dice = Dice(9);
    let fetchers = group(&mut dice, "arrivals", 4000, 900.0, 1.0, 1.9);
    let mut run = run("Coming and going", 9, 2, 5_000_000_000, 900.0, vec![sources(1, 5_000_000_000, 2100), fetchers], |_| false);
    run.about = "Peers arrive at ten times the rate that the seed can serve, and leave after giving one extra piece.".into();
    run.staggered = true;
    run.full = false;
    for (index, moment) in run.moments.iter_mut().enumerate() {
        moment.at_s = index as f64 * 12_960.0;
        moment.present = 2 + (40.0 * (1.0 - (-(index as f64) / 9.0).exp()) + 9.0 * dice.throw()) as u32;
        (moment.rarest, moment.mean_permille, moment.commonest) =
            (2 + (dice.throw() * 5.0) as u32, 21_000, 25 + moment.present / 3);
        moment.finished = index as u32 * 20;
        moment.uplinks_permille = 500 + (300.0 * dice.throw()) as u64;
    }
    run
}
