//! The program itself over the link: one node that serves, one fetch.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use p2pweights_tests::content;
use serde_json::Value;
use tempfile::TempDir;

use super::namespaces::{ADDRESSES, Lab};
use p2pweights_tests::processes::Running;

/// How long a program may take to be ready.
const READY: Duration = Duration::from_secs(30);
/// The slowest fetch that is waited for takes this many times what the link would need, and a minute.
const PATIENCE: u32 = 10;

/// A program and a file that it has published.
pub struct Stage {
    folder: TempDir,
    program: PathBuf,
    hash: String,
    /// Bytes of the file.
    pub bytes: usize,
    paths: Option<String>,
}

/// What a fetch did.
#[derive(Debug)]
pub struct Fetched {
    /// Payload bits a second from the program's start to its last event.
    pub bits_per_s: f64,
    /// Likewise, but from the first verified byte; `None` for a file that the program told of only when all of it had come.
    pub steady_bits_per_s: Option<f64>,
    /// Seconds from the program's start to the first verified byte.
    pub first_s: f64,
    /// The longest time without a new verified byte, in seconds.
    pub longest_pause_s: f64,
}

impl Stage {
    /// Publishes a file of this size. `paths` is what the program's setting of that name is to be.
    pub fn new(program: &Path, bytes: usize, paths: Option<&str>) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("p2pweights-lossy-").tempdir().map_err(|error| error.to_string())?;
        let mut stage = Self { program: program.to_owned(), hash: String::new(), bytes, paths: paths.map(str::to_owned), folder };
        let file = stage.folder.path().join("weights.bin");
        content::write(&file, &content::noise(bytes as u64, bytes));
        let mut publish = Command::new(program);
        stage.settings(&mut publish, "provider");
        let output = publish.arg("publish").arg(&file).output().map_err(|error| format!("cannot run the program: {error}"))?;
        let answer: Value = last_json(&output.stdout).ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        stage.hash = answer["hash"].as_str().ok_or("publish printed no hash")?.to_owned();
        Ok(stage)
    }

    fn settings(&self, command: &mut Command, data_dir: &str) {
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("P2PWEIGHTS_")) {
            if name != "P2PWEIGHTS_LOG" {
                command.env_remove(name);
            }
        }
        if let Some(paths) = &self.paths {
            command.env("P2PWEIGHTS_PATHS", paths);
        }
        command
            .env("HOME", self.folder.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME")
            .env("P2PWEIGHTS_MDNS", "false")
            // What is measured is the transfer.
            .env("P2PWEIGHTS_STORAGE_SCRUB_PERIOD", "off")
            .env("P2PWEIGHTS_NETWORK", "lossy")
            .args(["--json", "--data-dir"])
            .arg(self.folder.path().join(data_dir));
    }

    /// Fetches the file over the lab's link. While it runs, `look` is told how many bytes are verified.
    pub fn fetch(&self, lab: &Lab, ideal: Duration, mut look: impl FnMut(u64)) -> Result<Fetched, String> {
        let listen = format!("/ip4/{0}/tcp/4001,/ip4/{0}/udp/4001/quic-v1", ADDRESSES[0]);
        let mut provider = lab.command(0, &self.program);
        self.settings(&mut provider, "provider");
        // Should this program be killed, its pipe ends, and the node with it.
        provider
            .stdin(Stdio::piped())
            .args(["node", "--stop-with-stdin", "--api", "off", "--gateway", "off"])
            .env("P2PWEIGHTS_LISTEN", listen)
            .stdout(Stdio::piped());
        let mut provider = Running::spawn(provider)?;
        let ready: Value = json(&provider.line_with("\"ready\"", READY)?).ok_or("not JSON")?;
        let addresses = ready["listen"].as_array().ok_or("no addresses")?.iter().filter_map(Value::as_str);
        let address = addresses.into_iter().find(|address| address.contains("/tcp/")).ok_or("no TCP address")?.to_owned();
        let _ = std::fs::remove_dir_all(self.folder.path().join("fetcher"));
        let _ = std::fs::remove_dir_all(self.folder.path().join("out"));
        let mut fetch = lab.command(1, &self.program);
        self.settings(&mut fetch, "fetcher");
        fetch
            .args(["fetch", &self.hash, "--peer", &address, "--timeout", "180", "-o"])
            .arg(self.folder.path().join("out"))
            .env("P2PWEIGHTS_LISTEN", format!("/ip4/{}/tcp/4001", ADDRESSES[1]))
            .stdout(Stdio::piped());
        let began = Instant::now();
        let deadline = began + ideal * PATIENCE + Duration::from_secs(60);
        let fetch = Running::spawn(fetch)?;
        let (mut first, mut last, mut seen, mut longest) = (None, began, 0, Duration::ZERO);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("not fetched in time: {seen} bytes after {} s", began.elapsed().as_secs()));
            }
            let Some(line) = fetch.line(left.min(Duration::from_millis(200)))? else {
                look(seen);
                continue;
            };
            let Some(event) = json(&line) else { continue };
            let bytes = event["bytes"].as_u64().unwrap_or(0);
            match event["event"].as_str() {
                Some("progress") if bytes > seen => {
                    let now = Instant::now();
                    match first {
                        None => first = Some((now, bytes)),
                        Some(_) => longest = longest.max(now - last),
                    }
                    (last, seen) = (now, bytes);
                    look(seen);
                }
                Some("done") => break,
                Some("failed") => return Err(event["message"].as_str().unwrap_or("it failed").to_owned()),
                _ => (),
            }
        }
        let whole = began.elapsed().as_secs_f64();
        let (first, before) = first.unwrap_or((began, 0));
        let fetched = (self.bytes as u64 - before) as f64;
        Ok(Fetched {
            bits_per_s: self.bytes as f64 * 8.0 / whole,
            steady_bits_per_s: (fetched > 0.0).then(|| fetched * 8.0 / first.elapsed().as_secs_f64()),
            first_s: (first - began).as_secs_f64(),
            longest_pause_s: longest.as_secs_f64(),
        })
    }
}

fn json(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}

fn last_json(output: &[u8]) -> Option<Value> {
    json(String::from_utf8_lossy(output).lines().last()?)
}
