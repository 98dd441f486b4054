//! Speed and memory of publishing and fetching, as ratios to yardsticks taken in the same run: machines are noisy, ratios less so.
//!
//! `cargo bench -p p2pweights` runs all of it (about 40 GB of disk traffic); `-- --quick` a small form. Figures are medians.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::Digest;

const MIB: u64 = 1024 * 1024;
/// What one read or write of a yardstick moves.
const BUFFER_BYTES: usize = 128 * 1024;
/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(600);

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["--tcp-source", file] => return tcp_source(Path::new(file)),
        ["--tcp-sink", address, file] => return tcp_sink(address, Path::new(file)),
        _ => (),
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let (rounds, bytes, large) = if quick { (1, 256 * MIB, 1024 * MIB) } else { (5, 2048 * MIB, 8192 * MIB) };
    let folder = tempfile::Builder::new().prefix("p2pweights-bench-").tempdir()?;
    let bench = Bench { folder: folder.path().to_owned() };
    println!("{} rounds of {} MiB over loopback, file to file; medians, with the spread behind", rounds, bytes / MIB);
    let file = bench.folder.join("model.bin");
    random_file(&file, bytes)?;

    let mut publishes = Vec::new();
    let (mut sha256, mut blake3) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        sha256.push(rate(bytes, timed(|| hash_file(&file, &mut sha2::Sha256::new()))?));
        blake3.push(rate(bytes, timed(|| hash_file(&file, &mut Blake3(blake3::Hasher::new())))?));
        publishes.push(bench.publish(&file, bytes, &format!("publish-{round}"))?);
    }
    let slower = if median(&sha256) < median(&blake3) { &sha256 } else { &blake3 };
    row("SHA-256 alone, one core", &sha256, None);
    row("BLAKE3 alone, one core", &blake3, None);
    let rates: Vec<f64> = publishes.iter().map(|run| run.rate).collect();
    row("publish: BLAKE3 + outboard + SHA-256 in one read", &rates, Some((slower, "slower hash")));

    let (mut copies, mut fetches) = (Vec::new(), Vec::new());
    let source = Source::start(&bench, &file, "source")?;
    for round in 0..rounds {
        copies.push(rate(bytes, bench.tcp_copy(&file)?));
        fetches.push(bench.fetch(&source, bytes, &format!("fetch-{round}"))?);
    }
    let source_mib = source.stop();
    row("plain TCP copy to a file: unchecked, unencrypted", &copies, None);
    let rates: Vec<f64> = fetches.iter().map(|run| run.rate).collect();
    row("one source to one fetcher: encrypted, every 16 KiB proved", &rates, Some((&copies, "plain copy")));

    println!("\npeak memory, MiB                                      source  fetcher");
    memory_row(bytes, source_mib, fetches.iter().map(|run| run.peak_mib).max().unwrap_or(0));
    for bytes in [64 * MIB, large] {
        let sparse = bench.folder.join("sparse.bin");
        File::create(&sparse)?.set_len(bytes)?;
        let source = Source::start(&bench, &sparse, "sparse-source")?;
        let run = bench.fetch(&source, bytes, "sparse-fetch")?;
        memory_row(bytes, source.stop(), run.peak_mib);
        fs::remove_dir_all(bench.folder.join("sparse-source"))?;
    }
    Ok(())
}

struct Bench {
    folder: PathBuf,
}

/// One run of the program under test.
struct Run {
    /// Bytes a second.
    rate: f64,
    peak_mib: u64,
}

impl Bench {
    fn program(&self, data_dir: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_p2pweights"));
        command.env_clear().env("HOME", &self.folder).arg("--data-dir").arg(self.folder.join(data_dir)).args(arguments);
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).current_dir(&self.folder);
        command
    }

    fn publish(&self, file: &Path, bytes: u64, data_dir: &str) -> Result<Run, Failure> {
        let began = Instant::now();
        let child = self.program(data_dir, &["publish", "--json", path(file)]).stdout(Stdio::null()).spawn()?;
        let peak_mib = finish(child)?;
        let rate = rate(bytes, began.elapsed());
        fs::remove_dir_all(self.folder.join(data_dir))?;
        Ok(Run { rate, peak_mib })
    }

    fn fetch(&self, source: &Source, bytes: u64, data_dir: &str) -> Result<Run, Failure> {
        let output = self.folder.join("out");
        let arguments = ["fetch", &source.hash, "--json", "--no-mdns", "--peer", &source.address, "-o", path(&output)];
        let mut child = self.program(data_dir, &arguments).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let reader = std::thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).last());
        let peak_mib = finish(child)?;
        let last = reader.join().map_err(|_| "reader failed")?.ok_or("the fetch said nothing")?;
        let done: Value = serde_json::from_str(&last)?;
        if done["event"] != "done" || done["fetched"] != bytes {
            return Err(format!("the fetch did not do its work: {last}").into());
        }
        fs::remove_dir_all(self.folder.join(data_dir))?;
        fs::remove_dir_all(output)?;
        Ok(Run { rate: bytes as f64 / done["seconds"].as_f64().ok_or("no seconds")?, peak_mib })
    }

    /// Two processes, one connection, nothing checked.
    fn tcp_copy(&self, file: &Path) -> Result<Duration, Failure> {
        let this = std::env::current_exe()?;
        let mut source = Command::new(&this).args(["--tcp-source", path(file)]).stdout(Stdio::piped()).spawn()?;
        let address = first_line(&mut source)?;
        let copy = self.folder.join("copy.bin");
        let began = Instant::now();
        let sink = Command::new(&this).args(["--tcp-sink", &address, path(&copy)]).spawn()?;
        finish(sink)?;
        let took = began.elapsed();
        finish(source)?;
        fs::remove_file(copy)?;
        Ok(took)
    }
}

/// A node that serves one published file.
struct Source {
    child: Child,
    address: String,
    hash: String,
}

impl Source {
    fn start(bench: &Bench, file: &Path, data_dir: &str) -> Result<Self, Failure> {
        let published = bench.program(data_dir, &["publish", "--json", path(file)]).output()?;
        let published: Value = serde_json::from_slice(&published.stdout)?;
        let arguments = ["node", "--json", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"];
        let mut child = bench.program(data_dir, &arguments).stdout(Stdio::piped()).spawn()?;
        let ready: Value = serde_json::from_str(&first_line(&mut child)?)?;
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or("a text is missing");
        Ok(Self { child, address: text(&ready["listen"][0])?, hash: text(&published["hash"])? })
    }

    /// Ends it; returns its peak memory in MiB.
    fn stop(mut self) -> u64 {
        let peak = peak_kib(self.child.id()) / 1024;
        let _ = self.child.kill();
        let _ = self.child.wait();
        peak
    }
}

fn tcp_source(file: &Path) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let (mut stream, _) = listener.accept()?;
    copy(&mut File::open(file)?, &mut stream)
}

fn tcp_sink(address: &str, file: &Path) -> Result<(), Failure> {
    copy(&mut TcpStream::connect(address)?, &mut File::create(file)?)
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> Result<(), Failure> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => to.write_all(&buffer[..count])?,
        }
    }
}

struct Blake3(blake3::Hasher);

trait Hash {
    fn take(&mut self, bytes: &[u8]);
}

impl Hash for sha2::Sha256 {
    fn take(&mut self, bytes: &[u8]) {
        Digest::update(self, bytes);
    }
}

impl Hash for Blake3 {
    fn take(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

fn hash_file(file: &Path, hasher: &mut impl Hash) -> Result<(), Failure> {
    let (mut file, mut buffer) = (File::open(file)?, vec![0; MIB as usize]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            count => hasher.take(&buffer[..count]),
        }
    }
}

/// Bytes that do not compress, the same each time.
fn random_file(file: &Path, bytes: u64) -> Result<(), Failure> {
    let mut bytes_of = blake3::Hasher::new().finalize_xof();
    let (mut file, mut buffer) = (File::create(file)?, vec![0; MIB as usize]);
    for _ in 0..bytes / MIB {
        bytes_of.fill(&mut buffer);
        file.write_all(&buffer)?;
    }
    file.sync_all()?;
    Ok(())
}

fn timed(work: impl FnOnce() -> Result<(), Failure>) -> Result<Duration, Failure> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed())
}

/// Waits for a child, watching its memory; returns the peak in MiB.
fn finish(mut child: Child) -> Result<u64, Failure> {
    let (id, over) = (child.id(), Arc::new(AtomicBool::new(false)));
    let peak = Arc::new(AtomicU64::new(0));
    let watcher = {
        let (over, peak) = (Arc::clone(&over), Arc::clone(&peak));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                peak.fetch_max(peak_kib(id), Ordering::Relaxed);
                std::thread::park_timeout(Duration::from_millis(20));
            }
        })
    };
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait()));
    let status = ended.recv_timeout(PATIENCE);
    over.store(true, Ordering::Relaxed);
    watcher.thread().unpark();
    let _ = watcher.join();
    let status = status.map_err(|_| "a process hangs")??;
    if !status.success() {
        return Err(format!("a process failed: {status}").into());
    }
    Ok(peak.load(Ordering::Relaxed) / 1024)
}

fn peak_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

fn first_line(child: &mut Child) -> Result<String, Failure> {
    let mut stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    // The rest is read and dropped, so that the child never waits for us.
    std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    Ok(line.trim().to_owned())
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

fn rate(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / took.as_secs_f64()
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn row(what: &str, rates: &[f64], yardstick: Option<(&[f64], &str)>) {
    let mega = |rate: f64| (rate / 1e6).round();
    let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let most = rates.iter().copied().fold(0.0, f64::max);
    // Round by round: what disturbs the one is likely to disturb the other, too.
    let ratio = yardstick.map_or_else(String::new, |(yardstick, name)| {
        let ratios: Vec<f64> = rates.iter().zip(yardstick).map(|(rate, yardstick)| rate / yardstick).collect();
        format!("   {:.2} x the {name}", median(&ratios))
    });
    println!("{what:<58} {:>5} MB/s [{}-{}]{ratio}", mega(median(rates)), mega(least), mega(most));
}

fn memory_row(bytes: u64, source: u64, fetcher: u64) {
    println!("  {:>6} MiB file{:>42}  {fetcher:>7}", bytes / MIB, source);
}
