//! The world of the black-box tests: a temporary folder, the program, nodes that end with the test. Every wait is bounded.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Any one thing that a test waits for happens within this, also on a machine under load: a minute in which the program gives a source up
/// and the minute until it tries again are in it.
pub const DEADLINE: Duration = Duration::from_secs(180);
/// How often a condition is looked at that nobody tells us about.
const POLL: Duration = Duration::from_millis(20);
/// What a node listens on unless a test says otherwise.
const LISTEN: &str = "/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1";

/// A folder and a network of a test's own.
pub struct World {
    folder: TempDir,
    network: String,
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("p2pweights-test-").tempdir().unwrap();
        // The folder's name differs from that of any other test's; a network name has no upper-case letters.
        let hash = blake3::hash(folder.path().to_str().unwrap().as_bytes()).to_hex();
        Self { network: format!("test-{}", &hash[..16]), folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub fn network(&self) -> &str {
        &self.network
    }

    /// The program over the data dir of that name, in an environment without any setting of the user's.
    pub fn command(&self, data_dir: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_p2pweights"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("P2PWEIGHTS_")) {
            command.env_remove(name);
        }
        command
            .env("HOME", self.path("home"))
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME")
            .env("P2PWEIGHTS_NETWORK", &self.network)
            .env("P2PWEIGHTS_LISTEN", LISTEN)
            .env("P2PWEIGHTS_MDNS", "false")
            .env("P2PWEIGHTS_GATEWAY_LISTEN", "off")
            .arg("--data-dir")
            .arg(self.path(data_dir))
            .current_dir(self.folder.path());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, data_dir: &str, arguments: &[&str]) -> Ended {
        self.start(data_dir, arguments).end()
    }

    /// Starts the program and lets it run.
    pub fn start(&self, data_dir: &str, arguments: &[&str]) -> Running {
        let mut command = self.command(data_dir);
        command.args(arguments);
        Running::spawn(command)
    }

    /// Runs the program with nothing but these arguments and variables: what a test about settings needs.
    pub fn bare(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        let mut command = self.command("unused");
        let mut bare = Command::new(command.get_program());
        bare.env_clear()
            .env("HOME", self.path("home"))
            .current_dir(self.folder.path())
            .args(arguments)
            .envs(variables.iter().copied());
        std::mem::swap(&mut command, &mut bare);
        Running::spawn(command).end()
    }

    /// A node that serves what is in that data dir.
    pub fn node(&self, data_dir: &str, arguments: &[&str]) -> NodeUp {
        let mut all = vec!["node", "--json", "--no-mdns", "--stop-with-stdin"];
        all.extend(arguments);
        let mut running = self.start(data_dir, &all);
        let ready = running.wait_event("ready");
        NodeUp { running, ready }
    }

    /// Publishes; gives the hash.
    pub fn publish(&self, data_dir: &str, path: &Path, more: &[&str]) -> String {
        let mut arguments = vec!["publish", "--json", path.to_str().unwrap()];
        arguments.extend(more);
        let ended = self.run(data_dir, &arguments).expect_code(0);
        ended.last_json()["hash"].as_str().expect("publish prints its hash").to_owned()
    }

    /// A model folder with shards of these sizes: pseudo-random, the same for the same seed.
    pub fn model(&self, name: &str, seed: u64, shard_bytes: &[usize]) -> PathBuf {
        let folder = self.path(name);
        fs::create_dir_all(folder.join("onnx")).unwrap();
        for (index, bytes) in shard_bytes.iter().enumerate() {
            let file = format!("model-{:05}-of-{:05}.safetensors", index + 1, shard_bytes.len());
            fs::write(folder.join(file), noise(seed + index as u64, *bytes)).unwrap();
        }
        fs::write(folder.join("config.json"), b"{\"model_type\":\"test\"}\n").unwrap();
        fs::write(folder.join("onnx").join("notes with spaces.txt"), b"a file in a folder below\n").unwrap();
        fs::write(folder.join("empty.txt"), b"").unwrap();
        folder
    }
}

/// Bytes that look random and are the same on every run.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut content);
    content
}

/// A program that was started. Killed when dropped.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    pub fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let lines = read_lines(child.stdout.take().expect("stdout is piped"));
        let errors = read_lines(child.stderr.take().expect("stderr is piped"));
        Self { stdin: child.stdin.take(), child, lines, errors, seen: Vec::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that passes.
    pub fn wait_line(&mut self, what: &str, mut passes: impl FnMut(&str) -> bool) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if passes(&line) {
                        return line;
                    }
                }
                Err(reason) => {
                    let why = if reason == RecvTimeoutError::Timeout { "in time" } else { "before its end" };
                    let errors: Vec<_> = self.errors.try_iter().collect();
                    panic!(
                        "no line with {what} {why}; it printed\n{}\nand to stderr\n{}",
                        self.seen.join("\n"),
                        errors.join("\n")
                    );
                }
            }
        }
    }

    /// Waits for a JSON line with that event.
    pub fn wait_event(&mut self, event: &str) -> Value {
        let line = self.wait_line(event, |line| json(line).is_some_and(|value| value["event"] == event));
        json(&line).expect("it was read just now")
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).expect("a process has an id");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the process is ours");
    }

    /// SIGINT, as Ctrl-C sends it.
    pub fn interrupt(&self) {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).expect("a process has an id");
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("the process is ours");
    }

    /// SIGKILL, and its end.
    pub fn kill(mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("a killed process ends");
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let deadline = Instant::now() + DEADLINE * 2;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the process is ours") {
                break status;
            }
            assert!(Instant::now() < deadline, "the program did not end in time; it printed\n{}", self.rest());
            std::thread::sleep(POLL);
        };
        let stdout = self.rest();
        let stderr = drain(&self.errors).join("\n");
        Ended { status, stdout, stderr }
    }

    fn rest(&mut self) -> String {
        let ended = self.child.try_wait().is_ok_and(|status| status.is_some());
        let more: Vec<_> = if ended { drain(&self.lines) } else { self.lines.try_iter().collect() };
        self.seen.extend(more);
        self.seen.join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stdin = None;
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All lines to the end of the stream, which the process's end brings.
fn drain(lines: &Receiver<String>) -> Vec<String> {
    let mut all = Vec::new();
    while let Ok(line) = lines.recv_timeout(DEADLINE) {
        all.push(line);
    }
    all
}

fn read_lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// A program that has ended.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Every part stands somewhere on standard error.
    #[track_caller]
    pub fn expect_error(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in\n{}", self.stderr);
        }
        self
    }

    pub fn events(&self) -> Vec<Value> {
        self.stdout.lines().filter_map(json).collect()
    }

    #[track_caller]
    pub fn event(&self, name: &str) -> Value {
        let found = self.events().into_iter().rev().find(|event| event["event"] == name);
        found.unwrap_or_else(|| panic!("no event {name:?} in\n{}\nstderr:\n{}", self.stdout, self.stderr))
    }

    #[track_caller]
    pub fn last_json(&self) -> Value {
        let last = self.stdout.lines().last().unwrap_or_else(|| panic!("no output; stderr:\n{}", self.stderr));
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error} in {last}"))
    }
}

fn json(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}

/// A node that serves.
pub struct NodeUp {
    pub running: Running,
    pub ready: Value,
}

impl NodeUp {
    /// Its TCP address, ending in its peer id.
    pub fn address(&self) -> String {
        let addresses = self.ready["listen"].as_array().expect("listen is an array");
        let tcp = addresses.iter().filter_map(Value::as_str).find(|address| address.contains("/tcp/"));
        tcp.expect("it listens on TCP").to_owned()
    }

    /// Where its gateway is: what `HF_ENDPOINT` has to be.
    pub fn gateway(&self) -> String {
        self.ready["gateway"].as_str().expect("it has a gateway").to_owned()
    }

    pub fn peer_id(&self) -> &str {
        self.ready["peer_id"].as_str().expect("peer_id is a text")
    }
}

/// Every file below a folder, by relative path.
pub fn files_below(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        for entry in fs::read_dir(&current).unwrap_or_else(|error| panic!("{}: {error}", current.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push((path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// Both folders hold the same files with the same bytes.
#[track_caller]
pub fn assert_same_files(left: &Path, right: &Path) {
    let (left, right) = (files_below(left), files_below(right));
    let names = |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    assert_eq!(names(&left), names(&right));
    for ((path, one), (_, other)) in left.iter().zip(&right) {
        assert!(one == other, "{} differs", path.display());
    }
}

/// Looks until it holds.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(POLL);
    }
}

/// The model that the end-to-end test is to travel with, if one was named.
pub fn given_model() -> Option<PathBuf> {
    std::env::var_os("P2PWEIGHTS_TEST_MODEL").filter(|path| path != OsStr::new("")).map(PathBuf::from)
}
