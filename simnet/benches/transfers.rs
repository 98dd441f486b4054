//! What it costs to simulate a block transfer: time, split into engines and simulator, and memory, for worlds of three sizes.
//!
//! `cargo bench -p p2pweights-simnet` runs all of it, some minutes; `-- --quick` the smallest world only; `-- HOSTS BLOCKS` one world.
//! Each world runs in a process of its own. Time is CPU time of that process. Engines are timed by telling them again, without a
//! world around them, what they were told: all of them in small worlds, some and scaled up in larger ones, where their memory then is
//! nearer than it was, so that their share comes out a little small. Machines are noisy: beside each figure stands its ratio to a
//! yardstick taken in the same process.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use p2pweights_protocol::ids::BlobHash;
use p2pweights_simnet::{KIB, Link, MIB, Scenario, World};

/// Hosts, blocks that each fetches, and runs of which the median counts.
const WORLDS: [(usize, u64, usize); 3] = [(100, 1_000, 5), (1_000, 1_000, 1), (10_000, 100, 1)];
/// One block: a piece of a small blob.
const BLOCK_BYTES: u64 = 256 * KIB;
/// Engines told again, at most about so many.
const ENGINES: usize = 100;
/// From so many hosts on, books are kept of some of them only, as they are in large scenarios.
const LARGE: usize = 10_000;

/// Hashes that the yardstick takes: the system counts CPU time in steps of milliseconds.
const HASHES: u32 = 500;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--world", hosts, blocks] => measure(hosts.parse()?, blocks.parse()?),
        ["--quick"] => heading().and_then(|()| row(WORLDS[0])),
        [hosts, blocks] => heading().and_then(|()| row((hosts.parse()?, blocks.parse()?, 1))),
        _ => heading().and_then(|()| WORLDS.into_iter().try_for_each(row)),
    }
}

fn heading() -> Result<(), Failure> {
    println!("one seed, 1 Gbit/s and 1 ms to each host, {} KiB a block; medians; CPU time", BLOCK_BYTES / KIB);
    println!("yardsticks: put into and taken from a map by time and sequence, with 10,000 in it; BLAKE3 of 1 MiB\n");
    println!("  hosts  blocks   transfers  a second  us each = engines + simulator  of a map step  of a hash  KiB a host");
    Ok(())
}

/// Measures a world in processes of their own, and prints the medians.
fn row((hosts, blocks, rounds): (usize, u64, usize)) -> Result<(), Failure> {
    let mut runs: Vec<Vec<f64>> = Vec::new();
    for _ in 0..rounds {
        let child = Command::new(std::env::current_exe()?).args(["--world", &hosts.to_string(), &blocks.to_string()]).output()?;
        if !child.status.success() {
            return Err(String::from_utf8_lossy(&child.stderr).into_owned().into());
        }
        let figures: Result<Vec<f64>, _> = String::from_utf8(child.stdout)?.split_whitespace().map(str::parse).collect();
        runs.push(figures?);
    }
    let median = |which: usize| {
        let mut figures: Vec<f64> = runs.iter().map(|run| run[which]).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let [transfers, each, engines, step, hash, memory] = std::array::from_fn(median);
    println!(
        "{hosts:7} {blocks:7} {transfers:11.0} {:9.0} {each:8.2} {engines:9.2} {:11.2} {:14.1} {:10.4} {memory:11.1}",
        1e6 / each,
        each - engines,
        each / step,
        each / hash,
    );
    Ok(())
}

/// In a process of its own: prints the figures of one run.
fn measure(hosts: usize, blocks: u64) -> Result<(), Failure> {
    let link = Link::mbit(1000, 1000, 1);
    let mut scenario = Scenario::new(1).blob(blocks * BLOCK_BYTES).seeds(1, link).fetchers(hosts - 1, link).check_every(u64::MAX);
    scenario.max_events = u64::MAX;
    if hosts >= LARGE {
        scenario = scenario.books_every(hosts / ENGINES);
    }
    let (all, report) = timed(|| World::run(scenario.clone()))?;
    let memory = peak_kib()? / hosts as f64;
    if !report.all_finished() || !report.violations.is_empty() {
        return Err(format!("not a world to measure: {}, {:?}", report.summary(), report.violations).into());
    }
    let (_, recording) = World::record(scenario, hosts.div_ceil(ENGINES));
    let share = report.hosts.iter().map(|host| host.steps).sum::<u64>() as f64 / recording.facts() as f64;
    let (engines, _) = timed(|| recording.replay())?;
    let transfers = report.traffic.requests as f64;
    let bytes = vec![7; MIB as usize];
    let (hash, _) = timed(|| (0..HASHES).for_each(|_| _ = std::hint::black_box(BlobHash::of(&bytes))))?;
    let (step, _) = timed(map_steps)?;
    println!(
        "{transfers} {} {} {} {} {memory}",
        all / transfers,
        engines * share / transfers,
        step / 1e6,
        hash / f64::from(HASHES)
    );
    Ok(())
}

/// A million times puts something into a map by time and sequence, and takes the first thing out.
fn map_steps() {
    let (mut map, mut delay) = (BTreeMap::new(), 1_u64);
    for sequence in 0..1_010_000_u64 {
        delay = delay.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        map.insert((sequence * 1000 + (delay >> 40), sequence), [sequence; 5]);
        if map.len() > 10_000 {
            std::hint::black_box(map.pop_first());
        }
    }
}

/// Microseconds of CPU time.
fn timed<T>(work: impl FnOnce() -> T) -> Result<(f64, T), Failure> {
    let before = cpu_nanos()?;
    let result = work();
    Ok(((cpu_nanos()? - before) / 1000.0, result))
}

/// CPU time of this process so far, which has one thread.
fn cpu_nanos() -> Result<f64, Failure> {
    Ok(fs::read_to_string("/proc/self/schedstat")?.split_whitespace().next().ok_or("no time")?.parse()?)
}

/// Most memory that this process had so far.
fn peak_kib() -> Result<f64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no peak")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
