//! The store of Ollama: `manifests/HOST/ORG/MODEL/TAG` lists layers by SHA-256, `blobs/sha256-…` holds them. A model there is a manifest's
//! path.

use std::fs;
use std::path::{Path, PathBuf};

use p2pweights_protocol::ids::Sha256;
use p2pweights_protocol::manifest::ShardPath;
use serde::Deserialize;

use super::File;
use crate::report::{Failure, FailureKind};
use crate::store::FileId;

/// Longest manifest that is looked at; they have some kilobytes.
const MANIFEST_BYTES: u64 = 1 << 20;
/// Most layers.
const LAYERS: usize = 256;

/// A model in the store.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Model {
    /// `ORG/MODEL`.
    pub(super) name: String,
    pub(super) tag: String,
    pub(super) layers: Vec<Layer>,
}

/// A file of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) blob: PathBuf,
    pub(super) path: ShardPath,
    pub(super) sha256: Sha256,
    pub(super) size: u64,
}

impl Model {
    /// Its files, where they lie.
    pub(super) fn files(&self) -> Vec<(File, ShardPath)> {
        let file = |layer: &Layer| File { path: layer.blob.clone(), shown: layer.path.as_str().to_owned(), bytes: layer.size };
        self.layers.iter().map(|layer| (file(layer), layer.path.clone())).collect()
    }

    /// What the store calls a file.
    pub(super) fn id(&self, path: &Path) -> Option<FileId> {
        self.layers.iter().find(|layer| layer.blob == path).map(|layer| FileId::Sha256(layer.sha256))
    }
}

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Entry>,
    config: Entry,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "mediaType", default)]
    kind: String,
    digest: String,
    size: u64,
}

/// The model that this file lists; `None` if it is no manifest in such a store.
pub(super) fn model(path: &Path) -> Result<Option<Model>, Failure> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let above = |levels: usize| path.ancestors().nth(levels);
    let name = |levels: usize| above(levels)?.file_name()?.to_str().map(str::to_owned);
    let (Some(tag), Some(model), Some(org), Some(store)) = (name(0), name(1), name(2), above(5)) else { return Ok(None) };
    let is_store = name(4).as_deref() == Some("manifests") && store.join("blobs").is_dir();
    let short = fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() <= MANIFEST_BYTES);
    if !is_store || !short {
        return Ok(None);
    }
    let refused = |why: String| Failure::new(FailureKind::Refused, format!("{}: {why}", path.display()));
    let text = fs::read(&path).map_err(|error| refused(error.to_string()))?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| refused(format!("it is no manifest: {error}")))?;
    let (mut layers, mut kinds): (Vec<Layer>, Vec<&str>) = (Vec::new(), Vec::new());
    if manifest.layers.len() > LAYERS {
        return Err(refused(format!("more than {LAYERS} layers")));
    }
    for entry in manifest.layers.iter().chain([&manifest.config]) {
        let kind = entry.kind.rsplit('.').next().unwrap_or_default();
        let (stem, ending) = match kind {
            "model" => ("model", ".gguf"),
            "projector" => ("mmproj", ".gguf"),
            "adapter" => ("adapter", ".gguf"),
            "license" => ("LICENSE", ""),
            "template" => ("template", ".txt"),
            "system" => ("system", ".txt"),
            "params" => ("params", ".json"),
            "messages" => ("messages", ".json"),
            _ if std::ptr::eq(entry, &manifest.config) => ("config", ".json"),
            other => return Err(refused(format!("a layer of an unknown kind, {other:?}"))),
        };
        let number = kinds.iter().filter(|before| **before == stem).count();
        kinds.push(stem);
        let number = if number > 0 { format!("-{}", number + 1) } else { String::new() };
        let sha256 = entry.digest.strip_prefix("sha256:").and_then(|hex| hex.parse::<Sha256>().ok());
        let sha256 = sha256.ok_or_else(|| refused(format!("{:?} is no digest", entry.digest)))?;
        let path = ShardPath::parse(&format!("{stem}{number}{ending}")).expect("a name written here");
        layers.push(Layer { blob: store.join("blobs").join(format!("sha256-{sha256}")), path, sha256, size: entry.size });
    }
    Ok(Some(Model { name: format!("{org}/{model}"), tag, layers }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_model_of_its_layers() {
        let store = tempfile::tempdir().unwrap();
        let folder = store.path().join("manifests/registry.ollama.ai/library/tiny");
        fs::create_dir_all(&folder).unwrap();
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let layer = |kind: &str, digit| serde_json::json!({"mediaType": format!("application/vnd.ollama.image.{kind}"), "digest": digest(digit), "size": 3});
        let manifest = |layers: Vec<serde_json::Value>| {
            let config = serde_json::json!({"mediaType": "application/vnd.docker.container.image.v1+json", "digest": digest("f"), "size": 2});
            serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string()
        };
        let tag = folder.join("1b");
        fs::write(&tag, manifest(vec![layer("model", "a"), layer("license", "b"), layer("license", "c"), layer("params", "d")]))
            .unwrap();
        assert_eq!(model(&tag).unwrap(), None, "there is no store around it");
        fs::create_dir(store.path().join("blobs")).unwrap();
        let found = model(&tag).unwrap().unwrap();
        assert_eq!((found.name.as_str(), found.tag.as_str()), ("library/tiny", "1b"));
        let names: Vec<&str> = found.layers.iter().map(|layer| layer.path.as_str()).collect();
        assert_eq!(names, ["model.gguf", "LICENSE", "LICENSE-2", "params.json", "config.json"]);
        assert!(found.layers[0].blob.ends_with(format!("blobs/sha256-{}", "a".repeat(64))));
        for bad in
            [manifest(vec![layer("surprise", "a")]), manifest(vec![layer("model", "../x")]), "[]".to_owned(), "{".to_owned()]
        {
            fs::write(&tag, bad).unwrap();
            assert!(model(&tag).is_err());
        }
        assert_eq!(model(&folder).unwrap(), None);
    }
}
