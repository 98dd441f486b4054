//! `demo`: the main job on one machine, with real processes of this very program: a bootstrap node, two mirrors that hold a model, one
//! that holds half of it, and a fetch that knows the hash and the bootstrap's address, no more. This file is the script of the play.

mod half;
mod model;
mod processes;
mod summary;
mod workspace;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use p2pweights_node::config::NodeConfig;
use p2pweights_node::report::{FailureKind, FetchEvent, FilePlan, Published, SourceReport};
use p2pweights_node::session::Session;

use crate::args::DemoArguments;
use crate::failure::CommandError;
use crate::interrupts::Interrupts;
use crate::output::Output;
use crate::progress::FetchProgress;
use crate::size;
use processes::{NodeProcess, Program};
use summary::{DemoLine, Fetched};
use workspace::Workspace;

/// Local queries a few milliseconds long; a machine under load still gets there within this.
const ANNOUNCE_DEADLINE: Duration = Duration::from_secs(30);
/// How often a mirror is asked whether it has announced.
const ANNOUNCE_POLL: Duration = Duration::from_millis(100);

pub async fn run(output: Output, arguments: DemoArguments) -> Result<(), CommandError> {
    let mut interrupts = Interrupts::listen()?;
    let path = arguments.path.map(|path| own_model(&path)).transpose()?;
    let workspace = Workspace::create()?;
    let program = Program::new(&workspace)?;
    let mut nodes = Vec::new();
    let played = tokio::select! {
        played = play(output, &workspace, &program, path, &mut nodes) => played,
        () = interrupts.wait() => Err(CommandError::new(FailureKind::Interrupted, "stopped; nothing was left behind")),
    };
    // Whatever came of it: no process stays, and no folder but the one promised.
    processes::stop_all(nodes).await;
    match played {
        Ok(fetched) => {
            workspace.keep_fetched();
            summary::print(output, fetched).await
        }
        Err(error) => Err(workspace.discard(error)),
    }
}

fn own_model(path: &Path) -> Result<PathBuf, CommandError> {
    match std::fs::canonicalize(path) {
        Ok(folder) if folder.is_dir() => Ok(folder),
        Ok(_) => Err(CommandError::usage(format!("--path: {} is not a folder", path.display()))),
        Err(error) => Err(CommandError::usage(format!("--path: {}: {error}", path.display()))),
    }
}

async fn play(
    output: Output,
    workspace: &Workspace,
    program: &Program,
    path: Option<PathBuf>,
    nodes: &mut Vec<NodeProcess>,
) -> Result<Fetched, CommandError> {
    let own = path.is_some();
    let model = match path {
        Some(path) => path,
        None => make_model(output, workspace).await?,
    };

    tell(output, "bootstrap node: the one address that everybody is told")?;
    let bootstrap = start(program, workspace, nodes, "bootstrap", None).await?;
    tell(output, &format!("  {bootstrap}"))?;

    tell(output, "mirrors A and B: each publishes the model where it lies, and serves it")?;
    let published = publish(program, workspace, "mirror-a", &model).await?;
    let mirror_b = publish(program, workspace, "mirror-b", &model).await?;
    if mirror_b.hash != published.hash {
        return Err(CommandError::internal(format!(
            "published twice, one folder gave two hashes: {} and {}",
            published.hash, mirror_b.hash
        )));
    }
    let hash = published.hash.as_str();
    tell(output, &format!("  {hash}, {}, {}", size::count(published.files, "file"), size::bytes(published.bytes)))?;
    start(program, workspace, nodes, "mirror-a", Some(&bootstrap)).await?;
    start(program, workspace, nodes, "mirror-b", Some(&bootstrap)).await?;
    for label in ["mirror-a", "mirror-b"] {
        announced(workspace, label).await?;
    }

    tell(output, "mirror C: fetches about half of it, and serves that")?;
    let half = half::fetch(program, workspace, &bootstrap, hash).await?;
    tell(output, &format!("  holds {} of {}", size::bytes(half), size::bytes(published.bytes)))?;
    start(program, workspace, nodes, "mirror-c", Some(&bootstrap)).await?;
    announced(workspace, "mirror-c").await?;

    let mut labels = BTreeMap::new();
    for node in nodes.iter() {
        labels.insert(node.ready.peer_id.clone(), label_of(&node.label, half, published.bytes));
    }
    tell(output, &format!("a fifth process: p2pweights fetch {hash} --bootstrap {bootstrap} --no-mdns"))?;
    let target = workspace.fetched();
    let (sources, seconds, files) = fetch_whole(output, program, &bootstrap, hash, &target, &labels).await?;
    Ok(Fetched { hash: published.hash, seconds, files, sources, labels, target, own })
}

/// `mirror-c` and half of the bytes become `mirror C (holds 50 %)`.
fn label_of(label: &str, half: u64, whole: u64) -> String {
    match label.strip_prefix("mirror-") {
        Some("c") => format!("mirror C (holds {})", size::percent(half, whole)),
        Some(letter) => format!("mirror {}", letter.to_uppercase()),
        None => label.to_owned(),
    }
}

async fn make_model(output: Output, workspace: &Workspace) -> Result<PathBuf, CommandError> {
    let folder = workspace.folder("model");
    tell(output, "a small model, laid out like a hub repository (one of your own: --path MODEL_DIR)")?;
    let target = folder.clone();
    tokio::task::spawn_blocking(move || model::write(&target))
        .await
        .map_err(|error| CommandError::internal(format!("making the model: {error}")))?
        .map_err(|error| CommandError::disk("write the demo's model", &error))?;
    Ok(folder)
}

/// Starts a node; gives the address at which others reach it.
async fn start(
    program: &Program,
    workspace: &Workspace,
    nodes: &mut Vec<NodeProcess>,
    label: &str,
    bootstrap: Option<&str>,
) -> Result<String, CommandError> {
    let mut node = NodeProcess::spawn(program, workspace, label, bootstrap)?;
    let ready = node.wait_ready().await;
    let address = node.ready.listen.first().cloned();
    // Ours to stop from here on, ready or not.
    nodes.push(node);
    ready?;
    address.ok_or_else(|| CommandError::internal(format!("node {label} listens nowhere")))
}

async fn publish(program: &Program, workspace: &Workspace, label: &str, model: &Path) -> Result<Published, CommandError> {
    let name = model.file_name().and_then(|name| name.to_str()).unwrap_or("model");
    let arguments =
        ["publish".as_ref(), model.as_os_str(), "--name".as_ref(), format!("demo/{name}").as_ref()].map(ToOwned::to_owned);
    let mut published = None;
    program
        .follow(label, &workspace.folder(label), &arguments, |line| {
            published = serde_json::from_str(line).ok().or(published.take());
            Ok(())
        })
        .await?;
    published.ok_or_else(|| CommandError::internal("`publish` printed no result"))
}

/// Waits until a node says that it has told the DHT what it holds.
async fn announced(workspace: &Workspace, label: &str) -> Result<(), CommandError> {
    let deadline = Instant::now() + ANNOUNCE_DEADLINE;
    let session = Session::open_offline(NodeConfig::new(workspace.folder(label))).await?;
    let result = loop {
        match session.status().await {
            Ok(status) if status.announced > 0 && status.connected > 0 => break Ok(()),
            // The fetch itself goes on asking for as long as its timeout lets it; a late announcement is no reason to give up.
            Ok(_) if Instant::now() > deadline => {
                tracing::warn!(node = label, "has announced nothing yet");
                break Ok(());
            }
            Ok(_) => tokio::time::sleep(ANNOUNCE_POLL).await,
            Err(failure) => break Err(CommandError::from(failure)),
        }
    };
    session.close().await;
    result
}

async fn fetch_whole(
    output: Output,
    program: &Program,
    bootstrap: &str,
    hash: &str,
    target: &Path,
    labels: &BTreeMap<String, String>,
) -> Result<(Vec<SourceReport>, f64, Vec<FilePlan>), CommandError> {
    let mut progress = FetchProgress::new(output, false).with_labels(labels.clone());
    let mut plan = Vec::new();
    let mut done = None;
    let data_dir = program.fetcher_data_dir();
    program
        .follow("fetcher", &data_dir, &processes::fetch_arguments(hash, bootstrap, target), |line| {
            let event = serde_json::from_str(line)
                .map_err(|error| CommandError::internal(format!("`fetch` printed a line that is no event: {error}")))?;
            match &event {
                FetchEvent::Plan { files, .. } => plan.clone_from(files),
                FetchEvent::Done { sources, seconds, .. } => {
                    done = Some((sources.clone(), *seconds));
                    // The summary of the demo says it better.
                    return Ok(());
                }
                _ => {}
            }
            progress.event(&event)
        })
        .await?;
    drop(progress);
    let (sources, seconds) = done.ok_or_else(|| CommandError::internal("`fetch` ended without its last line"))?;
    Ok((sources, seconds, plan))
}

fn tell(output: Output, text: &str) -> Result<(), CommandError> {
    output.value(&DemoLine::Stage { text: text.trim_start() }, || vec![text.to_owned()])
}
