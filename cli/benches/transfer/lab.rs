//! Where everything happens: a folder, the program over data dirs in it, rounds.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::process::{Process, Spent};
use crate::{MIB, Outcome};

/// Where all nodes listen: nothing leaves the machine.
const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";

/// How large everything is.
#[derive(Debug, Clone, Copy)]
pub enum Scale {
    /// What the targets are about.
    Full,
    /// Small enough for a look in between.
    Quick,
    /// Only to see that everything runs.
    Smoke,
}

/// The folder and the scale of a run.
pub struct Lab {
    folder: PathBuf,
    /// Measured rounds of each bench.
    pub rounds: usize,
    scale: Scale,
}

/// A published path.
pub struct Published {
    /// Its hash.
    pub hash: String,
    /// Seconds from the command's start to its end.
    pub took_s: f64,
    /// What the command used.
    pub spent: Spent,
}

/// A node that serves what is in its data dir.
pub struct Node {
    /// Its process.
    pub process: Process,
    /// Where it listens, ending in its peer id.
    pub address: String,
    /// Its data dir's name.
    pub data_dir: String,
}

/// A fetch under way.
pub struct Fetch {
    /// Its process.
    pub process: Process,
    began: Instant,
    data_dir: String,
}

/// A fetch that went well.
#[derive(Debug)]
pub struct Fetched {
    /// Seconds from the command's start to the line that says that all files are in their places.
    pub took_s: f64,
    /// The moment of that line.
    pub done: Instant,
    /// Bytes of the files.
    pub bytes: u64,
    /// Bytes that came over the network.
    pub fetched: u64,
    /// What the command used.
    pub spent: Spent,
}

impl Lab {
    /// A lab in this folder.
    pub fn new(folder: &Path, rounds: usize, scale: Scale) -> Self {
        Self { folder: folder.to_owned(), rounds, scale }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The one of these that fits the scale.
    pub fn scaled<T>(&self, full: T, quick: T, smoke: T) -> T {
        match self.scale {
            Scale::Full => full,
            Scale::Quick => quick,
            Scale::Smoke => smoke,
        }
    }

    /// Bytes of the file that the transfers move: 2 GiB.
    pub fn file_bytes(&self) -> u64 {
        self.scaled(2048, 256, 8) * MIB
    }

    /// Goes round once unmeasured, which touches memory and fills caches, and then as often as is wanted.
    pub fn rounds<T>(&self, mut one: impl FnMut() -> Outcome<T>) -> Outcome<Vec<T>> {
        one()?;
        (0..self.rounds).map(|_| one()).collect()
    }

    /// Lets the disk come to rest: nobody pays for what was written before.
    pub fn settle(&self) -> Outcome {
        rustix::fs::syncfs(File::open(&self.folder)?)?;
        Ok(())
    }

    /// A file of bytes that do not compress, the same each time; made once.
    pub fn random_file(&self, name: &str, bytes: u64) -> Outcome<PathBuf> {
        let path = self.path(name);
        if fs::metadata(&path).is_ok_and(|found| found.len() == bytes) {
            return Ok(path);
        }
        let mut noise = blake3::Hasher::new().update(name.as_bytes()).finalize_xof();
        let (mut file, mut buffer) = (File::create(&path)?, vec![0; MIB as usize]);
        let mut left = bytes;
        while left > 0 {
            let count = left.min(MIB);
            noise.fill(&mut buffer[..count as usize]);
            file.write_all(&buffer[..count as usize])?;
            left -= count;
        }
        file.sync_all()?;
        Ok(path)
    }

    /// The file that most benches move, in the page cache.
    pub fn model(&self) -> Outcome<PathBuf> {
        self.random_file("model.bin", self.file_bytes())
    }

    /// The program over a data dir, in an environment of its own.
    pub fn program(&self, data_dir: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_p2pweights"));
        command.env_clear().env("HOME", &self.folder).current_dir(&self.folder);
        command.env("P2PWEIGHTS_LISTEN", LISTEN).env("P2PWEIGHTS_MDNS", "false").env("P2PWEIGHTS_NETWORK", "bench");
        // What is measured is the transfer.
        command.env("P2PWEIGHTS_STORAGE_SCRUB_PERIOD", "off").env("P2PWEIGHTS_GATEWAY_LISTEN", "off");
        command.arg("--data-dir").arg(self.path(data_dir)).arg("--json");
        command
    }

    /// Starts a command of the program.
    pub fn start(&self, data_dir: &str, arguments: &[&str]) -> Outcome<Process> {
        let what = format!("{} over {data_dir}", arguments.first().unwrap_or(&"the program"));
        Process::start(&what, self.program(data_dir).args(arguments), &self.path(&format!("{data_dir}.log")))
    }

    /// Starts this very program in another role.
    pub fn role(&self, arguments: &[&str]) -> Outcome<Process> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(crate::ROLE).args(arguments);
        Process::start(arguments.first().unwrap_or(&"a role"), &mut command, &self.path("roles.log"))
    }

    /// Publishes a path into a data dir.
    pub fn publish(&self, data_dir: &str, path: &Path, more: &[&str]) -> Outcome<Published> {
        let began = Instant::now();
        let mut process = self.start(data_dir, &[&["publish", text(path)?], more].concat())?;
        let (_, hash) =
            process.until(|line| json(line).filter(|last| last["link"].is_string())?["hash"].as_str().map(str::to_owned))?;
        let spent = process.end()?;
        Ok(Published { hash, took_s: (spent.ended - began).as_secs_f64(), spent })
    }

    /// A node over a data dir.
    pub fn node(&self, data_dir: &str, more: &[&str]) -> Outcome<Node> {
        let mut process = self.start(data_dir, &[&["node", "--stop-with-stdin"], more].concat())?;
        let (_, address) = process.until(|line| json(line)?["listen"][0].as_str().map(str::to_owned))?;
        Ok(Node { process, address, data_dir: data_dir.to_owned() })
    }

    /// Publishes a path and serves it.
    pub fn source(&self, data_dir: &str, path: &Path) -> Outcome<(Node, String)> {
        let hash = self.publish(data_dir, path, &[])?.hash;
        Ok((self.node(data_dir, &[])?, hash))
    }

    /// Several that serve the same file; its hash.
    pub fn sources(&self, count: usize, path: &Path) -> Outcome<(Vec<Node>, String)> {
        let (mut sources, mut hash) = (Vec::new(), String::new());
        for index in 0..count {
            let (source, published) = self.source(&format!("source-{index}"), path)?;
            sources.push(source);
            hash = published;
        }
        Ok((sources, hash))
    }

    /// Ends nodes and removes their data dirs.
    pub fn dismiss(&self, nodes: Vec<Node>) -> Outcome {
        for node in nodes {
            node.process.kill()?;
            self.forget(&node.data_dir)?;
        }
        Ok(())
    }

    /// Begins to fetch a hash into a new data dir, from these addresses.
    pub fn start_fetch(&self, data_dir: &str, hash: &str, sources: &[&str]) -> Outcome<Fetch> {
        let out = self.path(&format!("{data_dir}.out"));
        let mut arguments = vec!["fetch", hash, "-o", text(&out)?];
        sources.iter().for_each(|source| arguments.extend(["--peer", source]));
        let began = Instant::now();
        Ok(Fetch { process: self.start(data_dir, &arguments)?, began, data_dir: data_dir.to_owned() })
    }

    /// Fetches and forgets what was fetched.
    pub fn fetch(&self, data_dir: &str, hash: &str, sources: &[&str]) -> Outcome<Fetched> {
        let fetched = self.start_fetch(data_dir, hash, sources)?.end()?;
        self.forget_fetch(data_dir)?;
        if fetched.fetched < fetched.bytes {
            return Err(format!("only {} bytes of {} were fetched", fetched.fetched, fetched.bytes).into());
        }
        Ok(fetched)
    }

    /// Removes what a fetch has left.
    pub fn forget_fetch(&self, data_dir: &str) -> Outcome {
        self.forget(data_dir)?;
        self.forget(&format!("{data_dir}.out"))
    }

    /// Removes a folder, if it is there.
    pub fn forget(&self, name: &str) -> Outcome {
        match fs::remove_dir_all(self.path(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// What a node says of its state.
    pub fn status(&self, node: &Node) -> Outcome<Value> {
        let mut asked = self.start(&node.data_dir, &["status"])?;
        let (_, status) = asked.until(json)?;
        asked.end()?;
        Ok(status)
    }
}

impl Fetch {
    /// Waits until at least so many bytes are verified; returns how many.
    pub fn until_bytes(&mut self, least: u64) -> Outcome<u64> {
        let (_, bytes) = self.process.until(|line| {
            let event = json(line)?;
            let bytes = event["bytes"].as_u64()?;
            (event["event"] == "progress" && bytes >= least).then_some(bytes)
        })?;
        Ok(bytes)
    }

    /// Waits for its good end.
    pub fn end(mut self) -> Outcome<Fetched> {
        let (done, event) =
            self.process.until(|line| json(line).filter(|event| event["event"] == "done" || event["event"] == "failed"))?;
        let number = |name: &str| event[name].as_u64().ok_or_else(|| format!("{} has not worked: {event}", self.data_dir));
        let (bytes, fetched) = (number("bytes")?, number("fetched")?);
        let spent = self.process.end()?;
        Ok(Fetched { took_s: (done - self.began).as_secs_f64(), done, bytes, fetched, spent })
    }

    /// When it was started.
    pub fn began(&self) -> Instant {
        self.began
    }
}

/// A line of JSON, if it is one.
pub fn json(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}

/// A path as text.
pub fn text(path: &Path) -> Outcome<&str> {
    path.to_str().ok_or_else(|| format!("{} is no text", path.display()).into())
}
