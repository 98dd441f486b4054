//! A folder, the program over data dirs in it, and two sources that may be killed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use p2pweights_protocol::ids::BlobHash;
use p2pweights_tests::content::{self, KIB, MIB};
use p2pweights_tests::processes::Running;
use serde_json::Value;
use tempfile::TempDir;

use super::evidence::{files, hash_of};

/// First argument of this program when it is about to become the program under test.
pub const CHILD: &str = "--as-child";
/// How long a node may take to be ready, on a machine under load.
const READY: Duration = Duration::from_secs(60);
/// What comes from both sources together is no faster than this, so that a transfer lives through many kills.
const DOWNLOAD: &str = "8MB/s";
/// Files that arrive in parts, and files that arrive whole.
const SHARD_BYTES: [usize; 4] = [12 * MIB + 77, 9 * MIB, 6 * MIB + 1, 5 * MIB];
const SMALL_FILES: usize = 40;

/// Becomes the program, which is killed with whoever started this: nothing is left running when a test dies.
pub fn become_child(program: &str, arguments: &[String]) -> String {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)) {
        return error.to_string();
    }
    Command::new(program).args(arguments).exec().to_string()
}

/// The folder, and what is published in it.
pub struct Lab {
    folder: TempDir,
    program: PathBuf,
    /// The model's hash.
    pub hash: String,
    /// The model's files and their hashes.
    model: BTreeMap<PathBuf, BlobHash>,
    /// Bytes of the model.
    pub bytes: u64,
}

/// A node that serves.
pub struct Source {
    name: String,
    process: Option<Running>,
    /// Where it listens, whenever it does.
    pub address: String,
}

impl Lab {
    /// Writes a model and publishes it twice: where it lies, and as a copy.
    pub fn new(program: &Path, seed: u64) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("p2pweights-chaos-").tempdir().map_err(|error| error.to_string())?;
        let model = folder.path().join("model");
        content::write_model(&model, seed, &SHARD_BYTES);
        for number in 0..SMALL_FILES {
            let bytes = content::noise(seed ^ (1 << 40) ^ number as u64, (number * number * 150 + 100).min(240 * KIB));
            content::write(&model.join(format!("parts/{number}.bin")), &bytes);
        }
        let hashed = files(&model).into_iter().map(|path| {
            let hash = hash_of(&path).map_err(|error| error.to_string())?;
            Ok((path.strip_prefix(&model).expect("below").to_owned(), hash))
        });
        let hashed = hashed.collect::<Result<BTreeMap<_, _>, String>>()?;
        let bytes = content::bytes_below(&model);
        let mut lab = Self { folder, program: program.to_owned(), hash: String::new(), model: hashed, bytes };
        for (source, more) in [("source-0", &[][..]), ("source-1", &["--copy"][..])] {
            let output = lab.command(source).arg("publish").arg(&model).args(more).output().map_err(|error| error.to_string())?;
            let text = String::from_utf8_lossy(&output.stdout);
            let last: Option<Value> = text.lines().last().and_then(json);
            let hash = last.as_ref().and_then(|last| last["hash"].as_str());
            lab.hash = hash.ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())?.to_owned();
        }
        Ok(lab)
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program over a data dir, in an environment of its own.
    pub fn command(&self, data_dir: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.arg(CHILD).arg(&self.program).env_clear().env("HOME", self.folder.path()).current_dir(self.folder.path());
        command.env("P2PWEIGHTS_LISTEN", "/ip4/127.0.0.1/tcp/0").env("P2PWEIGHTS_MDNS", "false");
        command.env("P2PWEIGHTS_NETWORK", "chaos").arg("--data-dir").arg(self.path(data_dir)).arg("--json");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self, data_dir: &str, arguments: &[&str]) -> Result<Running, String> {
        let errors = fs::File::options().create(true).append(true).open(self.path(&format!("{data_dir}.log")));
        let mut command = self.command(data_dir);
        command.args(arguments).stderr(errors.map_err(|error| error.to_string())?);
        Running::spawn(command)
    }

    /// A source over that data dir.
    pub fn source(&self, name: &str) -> Result<Source, String> {
        let mut source = Source { name: name.to_owned(), process: None, address: String::new() };
        source.start(self)?;
        Ok(source)
    }

    /// Begins to fetch, or goes on.
    pub fn fetch(&self, sources: &[Source]) -> Result<Running, String> {
        let mut arguments = vec!["fetch", &self.hash, "-o", "out", "--timeout", "120", "--max-download", DOWNLOAD];
        for source in sources {
            arguments.extend(["--peer", &source.address]);
        }
        self.start("fetcher", &arguments)
    }

    /// What a failure should show.
    pub fn complaints(&self) -> String {
        let text = fs::read_to_string(self.path("fetcher.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n  ")
    }

    /// Files under their final names that are not the model's, of which there must be none.
    pub fn wrong_exports(&self) -> Vec<PathBuf> {
        let out = self.path("out");
        let named = files(&out)
            .into_iter()
            .filter(|path| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".p2pweights-")));
        let right = |path: &PathBuf| {
            let name = path.strip_prefix(&out).expect("below");
            self.model.get(name).is_some_and(|hash| hash_of(path).is_ok_and(|found| found == *hash))
        };
        named.filter(|path| !right(path)).collect()
    }

    /// Whether all of the model is exported.
    pub fn is_exported(&self) -> bool {
        self.model.keys().all(|name| self.path("out").join(name).is_file())
    }

    /// Whether the published files are as they were.
    pub fn model_is_whole(&self) -> bool {
        self.model.iter().all(|(name, hash)| hash_of(&self.path("model").join(name)).is_ok_and(|found| found == *hash))
    }

    /// Removes what a fetch has left.
    pub fn forget_fetch(&self) -> Result<(), String> {
        for name in ["fetcher", "out"] {
            let path = self.path(name);
            if path.exists() {
                fs::remove_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
        Ok(())
    }
}

impl Source {
    fn start(&mut self, lab: &Lab) -> Result<(), String> {
        let mut arguments = vec!["node", "--gateway", "off"];
        // Whoever was told its address finds it there again.
        let listen = self.address.split("/p2p/").next().unwrap_or_default().to_owned();
        if !listen.is_empty() {
            arguments.extend(["--listen", &listen]);
        }
        let mut process = lab.start(&self.name, &arguments)?;
        let ready = json(&process.line_with("\"ready\"", READY)?).ok_or("not JSON")?;
        self.address = ready["listen"][0].as_str().ok_or("no address")?.to_owned();
        self.process = Some(process);
        Ok(())
    }

    /// Payload that it has sent since it was started; `None` if it does not say.
    pub fn sent_bytes(&self, lab: &Lab) -> Option<u64> {
        let output = lab.command(&self.name).arg("status").output().ok()?;
        json(String::from_utf8_lossy(&output.stdout).lines().last()?)?["sent_bytes"].as_u64()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Begins again after a kill.
    pub fn revive(&mut self, lab: &Lab) -> Result<(), String> {
        if self.process.is_some() { Ok(()) } else { self.start(lab) }
    }

    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }
}

/// A line of JSON, if it is one.
pub fn json(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}
