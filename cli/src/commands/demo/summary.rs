//! What the demo says at its end: who delivered what, whether every byte is right, and how to go on.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use p2pweights_node::report::{FailureKind, FilePlan, SourceReport};
use serde::Serialize;

use crate::failure::CommandError;
use crate::output::Output;
use crate::progress::source_lines;
use crate::size;

/// What came of the demo's fetch.
#[derive(Debug)]
pub struct Fetched {
    /// The hash fetched by.
    pub hash: String,
    /// How long it took.
    pub seconds: f64,
    /// The files.
    pub files: Vec<FilePlan>,
    /// Who delivered how much.
    pub sources: Vec<SourceReport>,
    /// What the demo calls its peers.
    pub labels: BTreeMap<String, String>,
    /// Where the model lies.
    pub target: PathBuf,
    /// Whether it was the user's own model.
    pub own: bool,
}

/// A JSON line of the demo; those of the fetch stand between them as `fetch --json` prints them.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum DemoLine<'a> {
    /// What happens next.
    Stage {
        /// For a person.
        text: &'a str,
    },
    /// Over, and all is well. The last line.
    Done {
        /// The hash fetched by.
        hash: &'a str,
        /// Bytes fetched.
        bytes: u64,
        /// How long it took.
        seconds: f64,
        /// Who delivered how much.
        sources: Vec<LabelledSource<'a>>,
        /// Files hashed again after the fetch, each with the right hash.
        verified: usize,
        /// Where the model lies.
        output: &'a Path,
    },
}

/// Bytes from one peer, and what the demo calls it.
#[derive(Debug, Serialize)]
pub struct LabelledSource<'a> {
    label: Option<&'a str>,
    peer: &'a str,
    bytes: u64,
}

/// Hashes the files once more, by a way of its own, and prints the summary.
pub async fn print(output: Output, fetched: Fetched) -> Result<(), CommandError> {
    let (files, target) = (fetched.files.clone(), fetched.target.clone());
    let verified = tokio::task::spawn_blocking(move || files.iter().try_for_each(|file| check(&target, file)))
        .await
        .map_err(|error| CommandError::internal(format!("hashing the result: {error}")))?;
    verified?;
    output.value(&line(&fetched), || lines(&fetched))
}

fn check(folder: &Path, file: &FilePlan) -> Result<(), CommandError> {
    let path = folder.join(&file.path);
    let failed = |error| CommandError::disk(&format!("read {}", path.display()), &error);
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(&path).map_err(failed)?).map_err(failed)?;
    let found = hasher.finalize().to_hex();
    if found.as_str() == file.hash {
        return Ok(());
    }
    let message = format!("{} has the hash {found}, and should have {}", path.display(), file.hash);
    Err(CommandError::new(FailureKind::Internal, message))
}

fn line(fetched: &Fetched) -> DemoLine<'_> {
    let label = |source: &SourceReport| fetched.labels.get(&source.peer).map(String::as_str);
    let labelled = |source| LabelledSource { label: label(source), peer: &source.peer, bytes: source.bytes };
    DemoLine::Done {
        hash: &fetched.hash,
        bytes: fetched.files.iter().map(|file| file.bytes).sum(),
        seconds: fetched.seconds,
        sources: fetched.sources.iter().map(labelled).collect(),
        verified: fetched.files.len(),
        output: &fetched.target,
    }
}

fn lines(fetched: &Fetched) -> Vec<String> {
    let bytes = fetched.files.iter().map(|file| file.bytes).sum();
    let rate = size::rate(size::average_rate(bytes, fetched.seconds));
    let mut lines = vec![String::new()];
    let sources = size::count(fetched.sources.len(), "source");
    lines.push(format!("fetched {} in {:.2} s, {rate}, from {sources} found over the DHT", size::bytes(bytes), fetched.seconds));
    lines.extend(source_lines(&fetched.sources, &fetched.labels));
    lines.push(format!(
        "verified all of {}: hashed again on disk, each equal to its BLAKE3 hash",
        size::count(fetched.files.len(), "file")
    ));
    lines.push(format!("it lies in {}; every process of the demo has ended", fetched.target.display()));
    lines.push(String::new());
    if !fetched.own {
        lines.push("With a model of your own:  p2pweights demo --path MODEL_DIR".to_owned());
    }
    lines.push("Publish it for others:     p2pweights publish MODEL_DIR --name ORG/MODEL".to_owned());
    lines.push("Run a mirror:              p2pweights node --bootstrap ADDRESS".to_owned());
    lines.push("Fetch from mirrors:        p2pweights fetch HASH --bootstrap ADDRESS".to_owned());
    lines
}
