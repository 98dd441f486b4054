//! Child processes of the demo: this very program, started again. No child outlives the demo: it is stopped in order on every way out,
//! killed when its handle is dropped, and ends by itself when the demo's end of its standard input closes.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use p2pweights_node::report::{Failure, FailureKind};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::workspace::Workspace;
use crate::commands::node::Ready;
use crate::failure::CommandError;

/// A node that is not ready by then will not be: it opens a store and binds two sockets.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// How long a child may take to stop in order; its own shutdown is bounded by less.
const STOP_DEADLINE: Duration = Duration::from_secs(12);
/// Everything on loopback, on free ports.
const LISTEN: [&str; 2] = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"];
/// Settings of the user's that the demo's processes must not inherit begin so.
const VARIABLE_PREFIX: &str = "P2PWEIGHTS_";

/// This program, and what all of its children share.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    config: PathBuf,
    network: String,
    logs: PathBuf,
    fetcher_data_dir: PathBuf,
}

impl Program {
    /// The program that runs now.
    pub fn new(workspace: &Workspace) -> Result<Self, CommandError> {
        let path = std::env::current_exe()
            .map_err(|error| CommandError::internal(format!("cannot find this program's file: {error}")))?;
        let logs = workspace.log("x").parent().map(Path::to_owned).unwrap_or_default();
        Ok(Self {
            path,
            config: workspace.config(),
            network: workspace.network().to_owned(),
            logs,
            fetcher_data_dir: workspace.folder("fetcher"),
        })
    }

    /// The data dir of the process that fetches.
    pub fn fetcher_data_dir(&self) -> PathBuf {
        self.fetcher_data_dir.clone()
    }

    fn spawn(&self, label: &str, data_dir: &Path, arguments: &[OsString]) -> Result<Child, CommandError> {
        let mut command = Command::new(&self.path);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(VARIABLE_PREFIX)) {
            command.env_remove(name);
        }
        command
            .env("P2PWEIGHTS_NETWORK", &self.network)
            .env("P2PWEIGHTS_LISTEN", LISTEN.join(","))
            .env("P2PWEIGHTS_MDNS", "false")
            .arg("--data-dir")
            .arg(data_dir)
            .arg("--config")
            .arg(&self.config)
            .arg("--json")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(self.log(label)?)
            .kill_on_drop(true);
        // A group of its own: Ctrl-C in the terminal reaches the demo alone, which then stops everything in order.
        #[cfg(unix)]
        command.process_group(0);
        command.spawn().map_err(|error| CommandError::internal(format!("cannot start {}: {error}", self.path.display())))
    }

    fn log(&self, label: &str) -> Result<File, CommandError> {
        let path = self.logs.join(format!("{label}.log"));
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| CommandError::disk(&format!("write {}", path.display()), &error))
    }

    /// Runs a verb to its end and hands over each line it prints; its failure becomes ours.
    pub async fn follow(
        &self,
        label: &str,
        data_dir: &Path,
        arguments: &[OsString],
        mut each: impl FnMut(&str) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let mut child = self.spawn(label, data_dir, arguments)?;
        let stdin = child.stdin.take();
        let mut lines = lines_of(&mut child)?;
        let mut failed = None;
        while let Some(line) =
            lines.next_line().await.map_err(|error| CommandError::internal(format!("reading from {label}: {error}")))?
        {
            match failure_in(&line) {
                Some(failure) => failed = Some(failure),
                None => each(&line)?,
            }
        }
        let status = child.wait().await.map_err(|error| CommandError::internal(format!("waiting for {label}: {error}")))?;
        drop(stdin);
        match failed {
            None if status.success() => Ok(()),
            Some(failure) => Err(Failure { kind: failure.kind, message: format!("{label}: {}", failure.message) }.into()),
            None => Err(CommandError::internal(format!("{label} ended with {status}"))),
        }
    }
}

/// The arguments of a fetch that knows a hash and one address.
pub fn fetch_arguments(hash: &str, bootstrap: &str, output: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["fetch", hash, "--bootstrap", bootstrap, "--no-mdns", "-o"].map(OsString::from).to_vec();
    arguments.push(output.into());
    arguments
}

#[derive(Deserialize)]
struct EventName {
    event: String,
}

fn failure_in(line: &str) -> Option<Failure> {
    let name: EventName = serde_json::from_str(line).ok()?;
    (name.event == "failed").then(|| serde_json::from_str(line).ok()).flatten()
}

fn lines_of(child: &mut Child) -> Result<Lines<BufReader<ChildStdout>>, CommandError> {
    let stdout = child.stdout.take().ok_or_else(|| CommandError::internal("a child without standard output"))?;
    Ok(BufReader::new(stdout).lines())
}

/// A node that runs as a child.
#[derive(Debug)]
pub struct NodeProcess {
    /// What it is called in the demo.
    pub label: String,
    /// What it said when it was ready; empty before.
    pub ready: Ready,
    child: Child,
    /// The node stops when this closes.
    stdin: Option<ChildStdin>,
    /// Kept open: a node that prints into a closed pipe would end.
    lines: Lines<BufReader<ChildStdout>>,
}

impl NodeProcess {
    /// Starts it.
    pub fn spawn(program: &Program, workspace: &Workspace, label: &str, bootstrap: Option<&str>) -> Result<Self, CommandError> {
        let mut arguments: Vec<OsString> =
            ["node", "--no-mdns", "--stop-with-stdin", "--gateway", "off"].map(OsString::from).to_vec();
        for address in LISTEN {
            arguments.extend(["--listen".into(), address.into()]);
        }
        if let Some(address) = bootstrap {
            arguments.extend(["--bootstrap".into(), address.into()]);
        }
        let mut child = program.spawn(label, &workspace.folder(label), &arguments)?;
        let lines = lines_of(&mut child)?;
        let ready = Ready { peer_id: String::new(), listen: Vec::new(), api: None, gateway: None, metrics: None };
        Ok(Self { label: label.to_owned(), ready, stdin: child.stdin.take(), child, lines })
    }

    /// Waits for the line by which it says that it serves.
    pub async fn wait_ready(&mut self) -> Result<(), CommandError> {
        let label = &self.label;
        let line = tokio::time::timeout(READY_DEADLINE, self.lines.next_line())
            .await
            .map_err(|_| {
                CommandError::new(FailureKind::Network, format!("node {label} was not ready within {READY_DEADLINE:?}"))
            })?
            .map_err(|error| CommandError::internal(format!("reading from {label}: {error}")))?
            .ok_or_else(|| CommandError::internal(format!("node {label} ended at once")))?;
        if let Some(failure) = failure_in(&line) {
            return Err(Failure { kind: failure.kind, message: format!("node {label}: {}", failure.message) }.into());
        }
        self.ready = serde_json::from_str(&line).map_err(|error| {
            CommandError::internal(format!("node {label} said something else than that it is ready: {error}"))
        })?;
        Ok(())
    }

    fn ask_to_stop(&mut self) {
        self.stdin = None;
        #[cfg(unix)]
        if let Some(pid) = self.child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) {
            // An error means that it has ended already.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    async fn stopped(mut self) {
        if tokio::time::timeout(STOP_DEADLINE, self.child.wait()).await.is_err() {
            tracing::warn!(node = self.label, "did not stop in time and is killed");
            // An error means that it has ended already.
            let _ = self.child.kill().await;
        }
    }
}

/// Stops all of them, at the same time.
pub async fn stop_all(mut nodes: Vec<NodeProcess>) {
    nodes.iter_mut().for_each(NodeProcess::ask_to_stop);
    for node in nodes {
        node.stopped().await;
    }
}
