//! One life after the other, and what is counted.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use p2pweights_protocol::random::Random;
use p2pweights_tests::processes::Running;
use serde_json::json;

use super::Order;
use super::evidence::Evidence;
use super::lab::{Lab, Source, json};
use super::moments::{Moment, Outage, spoil_index};

/// How long a fetch may say nothing and not end.
const SILENCE: Duration = Duration::from_secs(150);
/// How often we look whether something else is due.
const LOOK: Duration = Duration::from_millis(5);
/// What a kill may cost at most: what all spans in flight may be, [`p2pweights_protocol::limits::IN_FLIGHT_BYTES`].
const TWICE_MOST: u64 = p2pweights_protocol::limits::IN_FLIGHT_BYTES;

#[derive(Debug, Default)]
struct Figures {
    kills: u64,
    source_kills: u64,
    spoiled_indexes: u64,
    transfers: u64,
    fetched_twice: u64,
    fetched_twice_most: u64,
    lost: u64,
    wrong_exports: u64,
}

/// How a run of the fetch ended.
#[derive(Debug, PartialEq)]
enum End {
    Killed,
    Done,
}

/// One run, as it went.
struct Watched {
    end: End,
    /// Bytes that the sources sent which were killed meanwhile.
    sent_by_the_dead: u64,
}

struct Chaos<'a> {
    lab: &'a Lab,
    sources: [Source; 2],
    /// What each had sent at the last look.
    sent: [u64; 2],
    figures: Figures,
    stop: Arc<AtomicBool>,
    deadline: Instant,
}

/// Does what was ordered, and prints the figures.
pub fn run(order: &Order) -> Result<(), String> {
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signals(&stop)?;
    let program = order.program.clone().map_or_else(build, Ok)?;
    let began = Instant::now();
    let lab = Lab::new(&program, order.seed)?;
    let sources = [lab.source("source-0")?, lab.source("source-1")?];
    let deadline = began + order.time;
    let mut chaos = Chaos { lab: &lab, sources, sent: [0; 2], figures: Figures::default(), stop, deadline };
    let outcome = chaos.kill_until_done(order);
    let figures = &chaos.figures;
    if order.json {
        let value = json!({
            "seed": order.seed, "kills": figures.kills, "source_kills": figures.source_kills,
            "spoiled_indexes": figures.spoiled_indexes, "transfers": figures.transfers, "transfer_bytes": lab.bytes,
            "fetched_twice": figures.fetched_twice, "fetched_twice_most": figures.fetched_twice_most,
            "lost": figures.lost, "wrong_exports": figures.wrong_exports, "seconds": began.elapsed().as_secs_f64(),
        });
        println!("{value}");
    } else {
        let mega = |bytes: u64| bytes as f64 / 1e6;
        println!("seed {}: {} kills survived in {:.0} s", order.seed, figures.kills, began.elapsed().as_secs_f64());
        println!("  {} transfers of {:.1} MB were completed", figures.transfers, mega(lab.bytes));
        println!("  {} kills of a source, {} indexes deleted or damaged", figures.source_kills, figures.spoiled_indexes);
        println!("  fetched twice: {:.1} MB in all", mega(figures.fetched_twice));
        println!("  fetched twice after one kill: {:.2} MB at most", mega(figures.fetched_twice_most));
        println!("  verified bytes lost: {}", figures.lost);
        println!("  wrong files under final names: {}", figures.wrong_exports);
    }
    outcome.map_err(|error| format!("{error}\n  {}", lab.complaints()))
}

/// SIGINT and SIGTERM let everything end in order.
fn stop_on_signals(stop: &Arc<AtomicBool>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        runtime.block_on(async {
            let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else { return };
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
    Ok(())
}

/// The program beside this one.
fn build() -> Result<PathBuf, String> {
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = here.parent().ok_or("no folder above this program")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked", "-p", "p2pweights"]);
    if folder.file_name().is_some_and(|name| name == "release") {
        command.arg("--release");
    }
    if !command.status().is_ok_and(|status| status.success()) {
        return Err("the program cannot be built; name one with --program".to_owned());
    }
    Ok(folder.join("p2pweights"))
}

impl Chaos<'_> {
    fn kill_until_done(&mut self, order: &Order) -> Result<(), String> {
        let mut random = Random::new(order.seed);
        let data_dir = self.lab.path("fetcher");
        let mut before = Evidence::default();
        loop {
            // The last transfer is left in peace, so that it ends.
            let kill = self.figures.kills < order.kills;
            let (moment, outage) = (Moment::draw(&mut random), Outage::draw(&mut random));
            for (source, sent) in self.sources.iter_mut().zip(&mut self.sent) {
                if !source.is_up() {
                    source.revive(self.lab)?;
                    *sent = 0;
                }
            }
            let watched = self.watch(kill.then_some(moment), outage.filter(|_| kill))?;
            let now = Evidence::of(&data_dir)?;
            let what = format!("kill {} at {moment:?}", self.figures.kills + 1);
            self.judge(&what, &before, &now, &watched)?;
            before = now;
            if watched.end == End::Killed {
                self.figures.kills += 1;
                self.figures.spoiled_indexes += u64::from(spoil_index(&data_dir, &mut random).is_some());
                continue;
            }
            self.figures.transfers += 1;
            if !self.lab.is_exported() {
                return Err("a fetch said that it was done, and not all files are there".to_owned());
            }
            if !self.lab.model_is_whole() {
                return Err("a published file is not what it was".to_owned());
            }
            if !kill {
                return Ok(());
            }
            self.lab.forget_fetch()?;
            before = Evidence::default();
        }
    }

    /// Lets the fetch run until its moment has come or it has ended.
    fn watch(&mut self, moment: Option<Moment>, mut outage: Option<Outage>) -> Result<Watched, String> {
        let mut fetch = self.lab.fetch(&self.sources)?;
        let (began, mut heard) = (Instant::now(), Instant::now());
        let mut due = match moment {
            Some(Moment::After(time)) => Some(began + time),
            _ => None,
        };
        let (mut placed, mut sent_by_the_dead, mut failure) = (0, 0, None);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err("interrupted".to_owned());
            }
            let now = Instant::now();
            if now > self.deadline {
                return Err("not done in time".to_owned());
            }
            if due.is_some_and(|due| now >= due) {
                fetch.kill();
                return Ok(Watched { end: End::Killed, sent_by_the_dead });
            }
            if let Some(Outage { source, .. }) = outage.filter(|outage| began.elapsed() >= outage.after) {
                outage = None;
                let sent = self.sources[source].sent_bytes(self.lab).unwrap_or(self.sent[source]);
                sent_by_the_dead += sent.saturating_sub(self.sent[source]);
                self.sources[source].kill();
                self.sent[source] = 0;
                self.figures.source_kills += 1;
            }
            let line = match fetch.line(due.map_or(LOOK, |due| due.saturating_duration_since(now).min(LOOK))) {
                Ok(Some(line)) => line,
                Ok(None) if heard.elapsed() > SILENCE => return Err("a fetch says nothing and does not end".to_owned()),
                Ok(None) => continue,
                Err(_) => match self.end_of(&mut fetch)? {
                    true => return Ok(Watched { end: End::Done, sent_by_the_dead }),
                    false => return Err(format!("a fetch failed: {}", failure.unwrap_or_default())),
                },
            };
            heard = Instant::now();
            let Some(event) = json(&line) else { continue };
            let reached = match (event["event"].as_str().unwrap_or_default(), moment) {
                ("progress", Some(Moment::AtShare(share, then))) => {
                    let bytes = event["bytes"].as_u64().unwrap_or(0);
                    (bytes * 1000 >= share * self.lab.bytes).then_some(then)
                }
                ("file", Some(Moment::AtFile(files, then))) => {
                    placed += 1;
                    (placed >= files).then_some(then)
                }
                ("done", Some(Moment::AtDone(then))) => Some(then),
                ("failed", _) => {
                    failure = event["message"].as_str().map(str::to_owned);
                    None
                }
                _ => None,
            };
            due = due.or(reached.map(|then| heard + then));
        }
    }

    /// Whether a fetch that closed its output ended well.
    fn end_of(&self, fetch: &mut Running) -> Result<bool, String> {
        let began = Instant::now();
        while began.elapsed() < SILENCE {
            if let Some(status) = fetch.ended() {
                return Ok(status.success());
            }
            std::thread::park_timeout(LOOK);
        }
        Err("a fetch does not end".to_owned())
    }

    fn judge(&mut self, what: &str, before: &Evidence, now: &Evidence, watched: &Watched) -> Result<(), String> {
        let lost = now.lost_since(before);
        self.figures.lost += lost;
        let wrong = self.lab.wrong_exports();
        self.figures.wrong_exports += wrong.len() as u64;
        let mut sent = watched.sent_by_the_dead;
        for (source, last) in self.sources.iter().zip(&mut self.sent) {
            if let Some(bytes) = source.is_up().then(|| source.sent_bytes(self.lab)).flatten() {
                sent += bytes.saturating_sub(*last);
                *last = bytes;
            }
        }
        let twice = sent.saturating_sub(now.bytes().saturating_sub(before.bytes()));
        self.figures.fetched_twice += twice;
        self.figures.fetched_twice_most = self.figures.fetched_twice_most.max(twice);
        if lost > 0 {
            return Err(format!("{what}: {lost} verified bytes are gone"));
        }
        if let Some(path) = wrong.first() {
            return Err(format!("{what}: {} is not the model's", path.display()));
        }
        if twice > TWICE_MOST {
            return Err(format!("{what}: {twice} bytes were sent and are not there"));
        }
        Ok(())
    }
}
