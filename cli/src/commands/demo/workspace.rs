//! The demo's folder: what lies where, what of it stays.

use std::fs;
use std::path::{Path, PathBuf};

use p2pweights_node::report::FailureKind;

use crate::failure::CommandError;

/// Name of the one folder that stays.
const FETCHED: &str = "fetched";
/// Where the nodes' logs go.
const LOGS: &str = "logs";

/// A folder of the demo's own; removed when dropped, except for what is to stay.
#[derive(Debug)]
pub struct Workspace {
    root: PathBuf,
    network: String,
}

impl Workspace {
    /// A fresh one.
    pub fn create() -> Result<Self, CommandError> {
        let name = format!("p2pweights-demo-{}", std::process::id());
        let root = std::env::temp_dir().join(&name);
        let create = || {
            // Left by a process with our id, long gone: ours alone if we may create it.
            if root.exists() {
                fs::remove_dir_all(&root)?;
            }
            fs::create_dir_all(&root)?;
            fs::create_dir(root.join(LOGS))?;
            fs::write(root.join("config.toml"), "# The demo's nodes read this, so that your own settings are not in force.\n")
        };
        create().map_err(|error| CommandError::disk(&format!("create {}", root.display()), &error))?;
        // Its own network: nothing else that runs on this machine can meet it.
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let network = format!("demo-{:x}-{:x}", std::process::id(), since_epoch.as_micros());
        Ok(Self { root, network })
    }

    /// The network that this demo's nodes join.
    pub fn network(&self) -> &str {
        &self.network
    }

    /// A folder of that name, not created.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where the fetched model goes.
    pub fn fetched(&self) -> PathBuf {
        self.folder(FETCHED)
    }

    /// A config file without any setting.
    pub fn config(&self) -> PathBuf {
        self.folder("config.toml")
    }

    /// The log of that process.
    pub fn log(&self, label: &str) -> PathBuf {
        self.folder(LOGS).join(format!("{label}.log"))
    }

    /// Removes everything but the fetched model.
    pub fn keep_fetched(&self) {
        self.remove_all_but(&[FETCHED]);
    }

    /// Removes everything, and after an error of some other kind than the user's wish keeps the logs and says where they are.
    pub fn discard(&self, error: CommandError) -> CommandError {
        if error.kind().is_none_or(|kind| kind == FailureKind::Interrupted) {
            self.remove_all_but(&[]);
            return error;
        }
        self.remove_all_but(&[LOGS]);
        error.or_hint(format!("the logs of the demo's processes are in {}", self.folder(LOGS).display()))
    }

    fn remove_all_but(&self, kept: &[&str]) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if !kept.iter().any(|name| entry.file_name() == *name) {
                remove(&entry.path());
            }
        }
        // Fails if something was kept, as it should.
        let _ = fs::remove_dir(&self.root);
    }
}

fn remove(path: &Path) {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "could not be removed");
    }
}
