//! Publishing a file or a folder: each file hashed once where it lies, then a manifest that names them all.

mod hf_cache;
mod meter;
mod ollama;
mod origin;
mod sidecar;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::link::Link;
use p2pweights_protocol::manifest::{License, Manifest, Metadata, MirrorUrl, ModelName, Shard, ShardPath, Term, Text};
use tokio::sync::mpsc;
use unicode_normalization::UnicodeNormalization;
use walkdir::WalkDir;

use crate::failure::phrase;
use crate::fetch::chosen;
use crate::report::{Failure, FailureKind, PublishEvent, PublishRequest, Published};
use crate::store::{self, Need, PinRecord, PublishError, PublishMode, Publisher, Store, locked};
use meter::Meter;
use origin::Origin;

/// Folders that hold a tool's own state, not the model: git's, the download cache of Hugging Face's client, and the sidecar.
const SKIPPED_FOLDERS: [&str; 3] = [".git", ".cache", crate::mirrors::SIDECAR];
/// Files that an operating system leaves behind.
const SKIPPED_FILES: [&str; 2] = [".DS_Store", "Thumbs.db"];
/// Endings of files that hold weights.
const WEIGHTS: [&str; 7] = ["safetensors", "gguf", "bin", "pt", "pth", "onnx", "h5"];

/// A file to publish.
struct File {
    path: PathBuf,
    /// What it is called when it is told of.
    shown: String,
    bytes: u64,
}

/// What a publish brought: its result, and the blobs that can be served now.
#[derive(Debug)]
pub struct Outcome {
    /// For the asker.
    pub published: Published,
    /// Everything to offer, the manifest last.
    pub blobs: Vec<BlobHash>,
}

/// Publishes; for a blocking thread. Progress goes to `events`; when nobody listens any more, it stops.
pub fn publish(store: &Store, request: &PublishRequest, events: &mpsc::Sender<PublishEvent>) -> Result<Outcome, Failure> {
    let usage = |message: String| Failure::new(FailureKind::Usage, message);
    let metadata =
        std::fs::metadata(&request.path).map_err(|error| usage(format!("{} cannot be read: {error}", request.path.display())))?;
    let cached = if metadata.is_dir() { hf_cache::snapshot(&request.path, request.revision.as_deref())? } else { None };
    let ollama = if metadata.is_file() && request.origin.is_some() { ollama::model(&request.path)? } else { None };
    let name = request.name.as_deref().map(ModelName::parse).transpose();
    let name = name.map_err(|error| usage(format!("--name: {}", phrase(&error))))?;
    // One from before there were organisations has no place in a manifest.
    let known = cached.as_ref().map(|cached| &cached.name).or(ollama.as_ref().map(|model| &model.name));
    let name = name.or_else(|| ModelName::parse(known?).ok());
    let revision = cached.as_ref().map(|cached| cached.revision.as_str()).or(request.revision.as_deref());
    let revision = revision.map(Text::parse).transpose();
    let revision = revision.map_err(|error| usage(format!("--revision: {}", phrase(&error))))?;
    let license = request.license.as_deref().map(License::parse).transpose();
    let license = license.map_err(|error| usage(format!("--license: {}", phrase(&error))))?;
    let mirrors = request.mirrors.iter().map(|mirror| MirrorUrl::parse(mirror)).collect::<Result<Vec<_>, _>>();
    let mirrors = mirrors.map_err(|error| usage(format!("--mirror: {}", phrase(&error))))?;
    if metadata.is_file() && (request.sidecar || !mirrors.is_empty()) {
        return Err(usage("--mirror and --sidecar are for a model's folder".to_owned()));
    }
    if cached.is_some() && request.sidecar {
        return Err(usage("--sidecar writes into the folder, and a client's cache is not ours to write to".to_owned()));
    }
    let mode = if request.copy { PublishMode::Copy } else { PublishMode::Reference };

    if metadata.is_file() && ollama.is_none() {
        let file_name = request.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let file = File { path: request.path.clone(), shown: file_name.to_owned(), bytes: metadata.len() };
        let publisher = store.publisher(mode, 1, !request.no_sha256);
        let published = publish_one(&publisher, 0, &file, &Meter::new(events, file.bytes))?;
        publisher.finish()?;
        let link = Link::new(published.hash);
        let link = link.clone().with_name(file_name).unwrap_or(link);
        let (hash, bytes) = (published.hash, published.size);
        let published = Published { hash: hash.to_string(), link: link.to_string(), files: 1, bytes };
        return Ok(Outcome { published, blobs: vec![hash] });
    }

    let root = cached.as_ref().map_or(request.path.as_path(), |cached| &cached.folder);
    let chosen = chosen(&request.include, &request.exclude)?;
    let files = ollama.as_ref().map_or_else(|| files_in(root), |model| Ok(model.files()))?;
    let files: Vec<_> = files.into_iter().filter(|(file, _)| chosen.wants(&file.shown)).collect();
    if files.is_empty() {
        return Err(usage(format!("{} holds no file to publish", root.display())));
    }
    let (files, paths): (Vec<File>, Vec<ShardPath>) = files.into_iter().unzip();
    let meter = Meter::new(events, files.iter().map(|file| file.bytes).sum());
    let publisher = store.publisher(mode, files.len(), !request.no_sha256);
    let published = publish_all(&publisher, &files, &meter)?;
    publisher.finish()?;
    let snapshot = |hub| cached.as_ref().map(|cached| Origin::Hub { hub, cached });
    let origin = request.origin.as_deref().and_then(|hub| snapshot(hub).or(ollama.as_ref().map(Origin::Ollama)));
    let git_oids = match &origin {
        Some(origin) => origin.check(store, &files, &published)?,
        None => vec![None; files.len()],
    };
    let shards = paths.iter().zip(published).zip(git_oids);
    let shards =
        shards.map(|((path, file), oid)| Ok(Shard::new(path.clone(), file.size, file.hash, file.sha256)?.with_git_oid(oid)));
    let shards = shards.collect::<Result<Vec<_>, Failure>>()?;
    let blobs: Vec<BlobHash> = shards.iter().map(Shard::blake3).collect();
    let mut metadata = Metadata {
        name,
        revision,
        license,
        license_file: license_file(&paths),
        openness: openness(&paths),
        mirrors,
        ..Metadata::default()
    };
    if let Some(origin) = &origin {
        origin.describe(&mut metadata, &files, &paths)?;
    }
    let manifest = Manifest::new(metadata, shards)?;
    if request.sidecar {
        sidecar::write(store, root, &manifest)?;
    }
    let encoded = manifest.encode();
    // Until its record is written, nothing else says that it is kept.
    let _room = store.promise(&[Need::of(BlobHash::of(&encoded), encoded.len() as u64)]).map_err(Failure::from)?;
    let hash = store.put_bytes(&encoded)?;
    let folder = root.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let pinned = pin(hash, &manifest, folder.as_deref());
    let link = Link::new(hash);
    let link = link.clone().with_name(&pinned.name).unwrap_or(link);
    let published =
        Published { hash: hash.to_string(), link: link.to_string(), files: files.len(), bytes: manifest.total_bytes() };
    store.add_newest_manifest(pinned)?;
    Ok(Outcome { published, blobs: blobs.into_iter().chain([hash]).collect() })
}

/// The record by which the store keeps a manifest. Without a name of its own it goes by `fallback`, or by its hash.
pub fn pin(hash: BlobHash, manifest: &Manifest, fallback: Option<&str>) -> PinRecord {
    let metadata = manifest.metadata();
    let name = metadata.name.as_ref().map(|name| name.as_str().to_owned());
    PinRecord {
        manifest: hash,
        name: name.or_else(|| fallback.map(str::to_owned)).unwrap_or_else(|| hash.short()),
        revision: metadata.revision.as_ref().map(|revision| revision.as_str().to_owned()),
        shards: manifest.shards().iter().map(Shard::blake3).collect(),
        bytes: manifest.total_bytes(),
        pinned: false,
        imported: None,
        order: 0,
        other: serde_json::Map::new(),
    }
}

/// Publishes files, several at a time, the largest first so that none is left to a single core at the end. Returns what each became.
fn publish_all(publisher: &Publisher, files: &[File], meter: &Meter<'_>) -> Result<Vec<store::Published>, Failure> {
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by_key(|index| Reverse(files[*index].bytes));
    let (turn, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..publisher.files_at_once() {
            scope.spawn(|| {
                while let Some(&index) = order.get(turn.fetch_add(1, Ordering::Relaxed)) {
                    if meter.is_stopped() {
                        return;
                    }
                    let result = publish_one(publisher, index, &files[index], meter);
                    if result.is_err() {
                        meter.stop();
                    }
                    locked(&results).insert(index, result);
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    // The one that stopped the others says why, not those that it stopped.
    let why = |error: &PublishError| matches!(error, PublishError::Cancelled);
    let failed = results.iter().filter_map(|(index, result)| Some((why(result.as_ref().err()?), *index))).min();
    if let Some(Err(error)) = failed.and_then(|(_, index)| results.remove(&index)) {
        return Err(error.into());
    }
    if results.len() < files.len() {
        return Err(PublishError::Cancelled.into());
    }
    Ok(results.into_values().flatten().collect())
}

fn publish_one(publisher: &Publisher, index: usize, file: &File, meter: &Meter<'_>) -> Result<store::Published, PublishError> {
    meter.begin(index, &file.shown, file.bytes);
    let published = publisher.publish(&file.path, &mut |bytes| meter.read(index, bytes))?;
    meter.end(index, &published);
    Ok(published)
}

/// The regular files of a folder, by the path each has in the manifest. Links to files are followed, links to folders refused.
fn files_in(root: &Path) -> Result<Vec<(File, ShardPath)>, Failure> {
    let refused = |message: String| Failure::new(FailureKind::Refused, message);
    let mut files = Vec::new();
    let walk = WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(|entry| {
        let name = entry.file_name().to_string_lossy();
        let skipped = if entry.file_type().is_dir() {
            SKIPPED_FOLDERS.contains(&&*name)
        } else {
            SKIPPED_FILES.contains(&&*name) || (name.starts_with(".p2pweights-") && name.ends_with(".part"))
        };
        entry.depth() == 0 || !skipped
    });
    for entry in walk {
        let entry = entry.map_err(|error| Failure::new(FailureKind::Disk, error.to_string()))?;
        let metadata = std::fs::metadata(entry.path())
            .map_err(|error| Failure::new(FailureKind::Disk, format!("{} cannot be read: {error}", entry.path().display())))?;
        if metadata.is_dir() && entry.path_is_symlink() && entry.depth() > 0 {
            return Err(refused(format!(
                "{} is a link to a folder; publish a folder without such links",
                entry.path().display()
            )));
        }
        if metadata.is_dir() {
            continue;
        }
        let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let text = relative.to_str().ok_or_else(|| refused(format!("{} is not valid UTF-8; rename it", relative.display())))?;
        // Old file systems keep names decomposed; the manifest has one spelling for all.
        let path = ShardPath::parse(&text.nfc().collect::<String>())
            .map_err(|error| refused(format!("{}; rename it before publishing", phrase(&error))))?;
        let shown = path.as_str().to_owned();
        files.push((File { path: entry.into_path(), shown, bytes: metadata.len() }, path));
    }
    Ok(files)
}

/// The shard that holds the licence's text, by its name.
pub fn license_file(paths: &[ShardPath]) -> Option<ShardPath> {
    let names = ["LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING"];
    names.iter().find_map(|name| paths.iter().find(|path| path.as_str() == *name).cloned())
}

/// The components (Model Openness Framework) which file names show beyond doubt.
pub fn openness(paths: &[ShardPath]) -> std::collections::BTreeSet<Term> {
    let ending = |path: &ShardPath| path.as_str().rsplit_once('.').map_or("", |(_, ending)| ending).to_owned();
    let weights = paths.iter().any(|path| WEIGHTS.contains(&ending(path).as_str()));
    let card = paths.iter().any(|path| path.as_str() == "README.md");
    let found = [(weights, "weights"), (card, "model_card")];
    found.into_iter().filter(|(present, _)| *present).filter_map(|(_, term)| Term::parse(term).ok()).collect()
}
