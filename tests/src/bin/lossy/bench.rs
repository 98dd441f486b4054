//! Which links are tried, in which order, and what is printed of each.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::link::LinkKind;
use super::namespaces::{CubicAllowed, Lab};
use super::transfer::{Fetched, Stage};
use super::yardstick;

/// What the program takes.
pub const USAGE: &str = "usage: lossy [flags]
  --quick               transfers of 6 s instead of 25 s, and only the links with 100 ms
  --only MBITxRTTxLOSS  only this link, such as 100x100x1 (Mbit/s, ms, percent); may be given several times
  --paths NAMES         what the program may carry payload over: direct, quic, stream (comma-separated); default all
  --no-yardsticks       no plain TCP over the same link
  --outage              instead: the link vanishes for 60 s in the middle of a transfer
  --program FILE        the program to measure; default the one of this workspace, built first
  --json FILE           the figures as JSON";

/// Payload in a packet of a full-sized TCP segment: 1,500 bytes less the headers of IPv4 and TCP with timestamps.
const PAYLOAD_SHARE: f64 = 1448.0 / 1500.0;
/// How long the link is away in the outage.
const OUTAGE: Duration = Duration::from_secs(60);

/// What is to be measured.
#[derive(Debug, PartialEq)]
pub struct Order {
    links: Vec<LinkKind>,
    seconds: u64,
    paths: Option<String>,
    yardsticks: bool,
    outage: bool,
    program: Option<PathBuf>,
    json: Option<PathBuf>,
}

fn link(mbit_per_s: u64, rtt_ms: u64, loss_percent: f64) -> LinkKind {
    // A round trip's worth, at least 100 ms and at most 1.25 MB: what home routers have.
    let queue_bytes = (mbit_per_s * 125 * rtt_ms.max(100)).min(1_250_000);
    LinkKind { mbit_per_s, rtt_ms, loss_percent, queue_bytes }
}

fn standing_links() -> Vec<LinkKind> {
    let grid = [20, 100, 600].into_iter().flat_map(|rtt| [0.0, 1.0, 3.0].map(|loss| link(100, rtt, loss)));
    grid.chain([link(2, 600, 2.0)]).collect()
}

impl Order {
    /// Reads the flags.
    pub fn parse(words: &[&str]) -> Result<Self, String> {
        let mut order =
            Self { links: Vec::new(), seconds: 25, paths: None, yardsticks: true, outage: false, program: None, json: None };
        let mut quick = false;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().copied().ok_or_else(|| format!("{word} wants a value"));
            match *word {
                "--quick" => quick = true,
                "--no-yardsticks" => order.yardsticks = false,
                "--outage" => order.outage = true,
                "--only" => order.links.push(parse_link(value()?)?),
                "--paths" => order.paths = Some(value()?.to_owned()),
                "--program" => order.program = Some(value()?.into()),
                "--json" => order.json = Some(value()?.into()),
                _ => return Err(format!("unknown flag {word}")),
            }
        }
        if quick {
            order.seconds = 6;
        }
        if order.links.is_empty() {
            order.links = if order.outage { vec![link(20, 100, 0.0)] } else { standing_links() };
            order.links.retain(|link| !quick || link.rtt_ms == 100);
        }
        Ok(order)
    }
}

fn parse_link(text: &str) -> Result<LinkKind, String> {
    let wrong = || format!("{text:?} is not a link such as 100x100x1");
    let parts: Vec<&str> = text.split('x').collect();
    let [mbit, rtt, loss] = parts.as_slice() else { return Err(wrong()) };
    match (mbit.parse(), rtt.parse(), loss.parse()) {
        (Ok(mbit @ 1..=1000), Ok(rtt @ 0..=5000), Ok(loss)) if (0.0..100.0).contains(&loss) => Ok(link(mbit, rtt, loss)),
        _ => Err(wrong()),
    }
}

/// Measures all, and prints as it goes.
pub fn run(order: &Order) -> Result<(), String> {
    let program = match &order.program {
        Some(program) => program.clone(),
        None => build()?,
    };
    let _allowed = CubicAllowed::new()?;
    let mut rows = Vec::new();
    if !order.outage {
        println!("Mbit/s  rtt     loss   p2pweights  steady  of capacity  first byte  queue drops  plain TCP: Cubic  BBR");
    }
    for (index, kind) in order.links.iter().enumerate() {
        let row = if order.outage { outage(order, &program, *kind)? } else { row(order, &program, *kind, index as u64)? };
        rows.push(row);
    }
    if let Some(path) = &order.json {
        let text = serde_json::to_string_pretty(&rows).map_err(|error| error.to_string())?;
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn build() -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo).args(["build", "--release", "--locked", "-p", "p2pweights"]).status();
    if !built.is_ok_and(|status| status.success()) {
        return Err("the program cannot be built; name one with --program".to_owned());
    }
    // Beside this one, which `cargo run --release` has put there.
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = here.parent().and_then(Path::parent).ok_or("no folder above this program")?;
    Ok(target.join("release").join("p2pweights"))
}

/// Bytes that the link carries in so many seconds, in whole MiB.
fn size(kind: LinkKind, seconds: u64) -> usize {
    ((kind.mbit_per_s * 125_000 * seconds) as usize).next_multiple_of(1 << 20)
}

fn row(order: &Order, program: &Path, kind: LinkKind, seed: u64) -> Result<Value, String> {
    // On a slow link a single block takes that long.
    let seconds = if kind.mbit_per_s < 10 { order.seconds * 4 } else { order.seconds };
    let bytes = size(kind, seconds);
    let ideal = Duration::from_secs(seconds);
    let stage = Stage::new(program, bytes, order.paths.as_deref())?;
    let lab = Lab::new(kind, seed)?;
    let fetched = stage.fetch(&lab, ideal, |_| ());
    let drops = lab.emulator.as_ref().map_or(0, |emulator| emulator.counts[0].dropped.load(Ordering::Relaxed));
    drop(lab);
    let mut plain = [None, None];
    for (rate, congestion) in plain.iter_mut().zip(["cubic", "bbr"]).filter(|_| order.yardsticks) {
        let lab = Lab::new(kind, seed)?;
        *rate = yardstick::measure(&lab, congestion, Duration::from_secs(order.seconds)).map(|rate| rate / 1e6).ok();
    }
    let capacity = kind.mbit_per_s as f64 * PAYLOAD_SHARE * (1.0 - kind.loss_percent / 100.0);
    let text = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
    let (rate, steady, first) = match &fetched {
        Ok(Fetched { bits_per_s, steady_bits_per_s, first_s, .. }) => {
            (bits_per_s / 1e6, steady_bits_per_s.map(|rate| rate / 1e6), *first_s)
        }
        Err(error) => {
            eprintln!("error: {error}");
            (0.0, None, 0.0)
        }
    };
    println!(
        "{:<7} {:<7} {:<6} {:<11.2} {:<7} {:<12.3} {:<11} {:<12} {:<17} {}",
        kind.mbit_per_s,
        format!("{} ms", kind.rtt_ms),
        format!("{} %", kind.loss_percent),
        rate,
        text(steady),
        rate / capacity,
        format!("{first:.1} s"),
        drops,
        text(plain[0]),
        text(plain[1]),
    );
    Ok(json!({
        "link": { "mbit_per_s": kind.mbit_per_s, "rtt_ms": kind.rtt_ms, "loss_percent": kind.loss_percent,
                  "queue_bytes": kind.queue_bytes },
        "bytes": bytes, "paths": order.paths, "mbit_per_s": rate, "steady_mbit_per_s": steady, "of_capacity": rate / capacity,
        "first_byte_s": first, "queue_drops": drops, "plain_cubic_mbit_per_s": plain[0], "plain_bbr_mbit_per_s": plain[1],
        "error": fetched.as_ref().err(),
    }))
}

fn outage(order: &Order, program: &Path, kind: LinkKind) -> Result<Value, String> {
    let bytes = size(kind, order.seconds);
    let stage = Stage::new(program, bytes, order.paths.as_deref())?;
    let lab = Lab::new(kind, 1)?;
    let emulator = lab.emulator.as_ref().ok_or("no emulator")?;
    let mut gone: Option<Instant> = None;
    let mut back: Option<Instant> = None;
    let mut again = None;
    let mut at_return = 0;
    // What is on its way within the program when the link goes may still be counted.
    let fetched = stage.fetch(&lab, Duration::from_secs(order.seconds) + OUTAGE, |seen| match (gone, back) {
        (None, _) if seen >= bytes as u64 / 3 => {
            emulator.cut(true);
            gone = Some(Instant::now());
        }
        (Some(since), None) if since.elapsed() >= OUTAGE => {
            emulator.cut(false);
            back = Some(Instant::now());
            at_return = seen;
        }
        (Some(_), Some(since)) if seen > at_return && again.is_none() => again = Some(since.elapsed()),
        _ => (),
    })?;
    let again = again.ok_or("the transfer was over before the link came back")?;
    println!(
        "{} Mbit/s, {} ms: the link was away for {} s; bytes came again {:.1} s after its return; no byte for {:.1} s in all",
        kind.mbit_per_s,
        kind.rtt_ms,
        OUTAGE.as_secs(),
        again.as_secs_f64(),
        fetched.longest_pause_s,
    );
    Ok(json!({ "outage_s": OUTAGE.as_secs(), "again_after_s": again.as_secs_f64(), "longest_pause_s": fetched.longest_pause_s }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_understood_or_refused() {
        let order = Order::parse(&["--only", "100x100x1", "--only", "2x600x2.5", "--no-yardsticks"]).expect("good");
        assert_eq!(order.links, [link(100, 100, 1.0), link(2, 600, 2.5)]);
        assert!(!order.yardsticks);
        assert_eq!(Order::parse(&[]).expect("good").links.len(), 10);
        assert_eq!(Order::parse(&["--quick"]).expect("good").links.len(), 3);
        for wrong in [&["--only", "100x100"][..], &["--only", "100x100x100"], &["--only"], &["--fast"], &["--only", "0x1x1"]] {
            assert!(Order::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
