//! A process under measurement: started, read line by line, watched, and ended whatever happens. Every wait has an end.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::Outcome;

/// Nothing that is waited for takes longer, unless it hangs: 64 GiB at the rate of a slow disk.
const PATIENCE: Duration = Duration::from_secs(1800);
/// How often the peak memory of a process is read, which is gone with the process.
const LOOK: Duration = Duration::from_millis(20);
/// What `/proc` counts processor time in, on every architecture that matters.
const TICKS_PER_S: f64 = 100.0;
/// Last lines of its standard error that a failure shows.
const COMPLAINTS: usize = 12;

/// What a process used.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// Most memory that was resident at a time, in bytes.
    pub peak_bytes: u64,
    /// Seconds of processor time, all threads, user and system.
    pub cpu_s: f64,
    /// When it ended.
    pub ended: Instant,
}

/// A child that is killed when it is dropped.
pub struct Process {
    what: String,
    child: Child,
    lines: Receiver<(Instant, String)>,
    end: Receiver<(Instant, f64)>,
    peak_kib: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    errors: PathBuf,
}

impl Process {
    /// Starts it; what it complains of goes into a file beside `errors`.
    pub fn start(what: &str, command: &mut Command, errors: &Path) -> Outcome<Self> {
        let complaints = File::options().create(true).append(true).open(errors)?;
        // Standard input stays open as long as we live: a node told so ends with it.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints);
        let mut child = command.spawn().map_err(|error| format!("{what} does not start: {error}"))?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        let (peak_kib, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        watch_memory(child.id(), Arc::clone(&peak_kib), Arc::clone(&over));
        let end = watch_end(child.id(), Arc::clone(&over));
        Ok(Self { what: what.to_owned(), child, lines, end, peak_kib, over, errors: errors.to_owned() })
    }

    /// Its next line, and when it came.
    pub fn line(&mut self) -> Outcome<(Instant, String)> {
        self.lines.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => self.failed("says nothing"),
            RecvTimeoutError::Disconnected => self.failed("ended too early"),
        })
    }

    /// Its next line of which `pick` makes something, and when it came.
    pub fn until<T>(&mut self, mut pick: impl FnMut(&str) -> Option<T>) -> Outcome<(Instant, T)> {
        loop {
            let (when, line) = self.line()?;
            if let Some(picked) = pick(&line) {
                return Ok((when, picked));
            }
        }
    }

    /// Waits for its end, which must be a good one.
    pub fn end(mut self) -> Outcome<Spent> {
        let (ended, cpu_s) = self.end.recv_timeout(PATIENCE).map_err(|_| self.failed("hangs"))?;
        let status = self.child.wait()?;
        if !status.success() {
            return Err(self.failed(&format!("failed: {status}")));
        }
        Ok(Spent { peak_bytes: self.peak_bytes(), cpu_s, ended })
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(mut self) -> Outcome<Spent> {
        let peak_bytes = self.peak_bytes();
        self.child.kill()?;
        let (ended, cpu_s) = self.end.recv_timeout(PATIENCE).map_err(|_| self.failed("cannot be killed"))?;
        self.child.wait()?;
        Ok(Spent { peak_bytes, cpu_s, ended })
    }

    /// Lets a node that stops with its standard input end in order.
    pub fn stop(mut self) -> Outcome<Spent> {
        self.child.stdin = None;
        self.end()
    }

    /// Most memory resident so far, in bytes.
    pub fn peak_bytes(&self) -> u64 {
        self.peak_kib.fetch_max(status_kib(self.child.id(), "VmHWM:"), Ordering::Relaxed);
        self.peak_kib.load(Ordering::Relaxed) * 1024
    }

    /// Memory resident now, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        status_kib(self.child.id(), "VmRSS:") * 1024
    }

    /// Seconds of processor time so far.
    pub fn cpu_s(&self) -> f64 {
        cpu_s(self.child.id())
    }

    fn failed(&self, how: &str) -> crate::Failure {
        let said = fs::read_to_string(&self.errors).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(COMPLAINTS)..].join("\n  ");
        format!("{} {how}\n  {last}", self.what).into()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn watch_memory(process: u32, peak_kib: Arc<AtomicU64>, over: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            peak_kib.fetch_max(status_kib(process, "VmHWM:"), Ordering::Relaxed);
            std::thread::park_timeout(LOOK);
        }
    });
}

/// Tells when a process ended, and the processor time that it took in all: until it is waited for, its account stays open.
fn watch_end(process: u32, over: Arc<AtomicBool>) -> Receiver<(Instant, f64)> {
    let (sender, end) = mpsc::channel();
    std::thread::spawn(move || {
        let Some(pid) = Pid::from_raw(process.cast_signed()) else { return };
        // An error means that somebody waited for it already, who then has no use for this.
        if waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).is_ok() {
            let ended = Instant::now();
            over.store(true, Ordering::Relaxed);
            let _ = sender.send((ended, cpu_s(process)));
        }
    });
    end
}

fn status_kib(process: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

fn cpu_s(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The program's name stands in brackets and may hold anything; user and system time are the 14th and 15th field of all.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / TICKS_PER_S
}
