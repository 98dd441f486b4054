//! A model as a Hub would list it: git's ids for its files and folders, and the entity tags that follow. Pure: a manifest goes in.
//!
//! A file that its origin keeps in git itself goes by its git id; any other is listed as large (git LFS), and goes by its SHA-256, from which
//! the id of the pointer that git would keep in its place follows.

use std::collections::BTreeMap;

use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::manifest::{Manifest, Shard, ShardPath};
use serde_json::{Value, json};

use crate::git_ids::{git_id, lfs_pointer};

/// When everything happened, for clients that want a date: a manifest has none.
const DATE: &str = "1970-01-01T00:00:00.000Z";
/// What every commit is called.
const COMMIT_TITLE: &str = "import";

/// A shard with neither a git id nor a SHA-256: no client could name it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{path} has no SHA-256 in the manifest, so it has no name that clients know; publish the model again without --no-sha256"
)]
pub struct Nameless {
    /// Its path.
    path: ShardPath,
}

/// A model whose files all have names.
#[derive(Debug)]
pub struct Model {
    hash: BlobHash,
    commit: String,
    manifest: Manifest,
    /// What git's tree says of each shard.
    files: Vec<FileId>,
    /// The id of each folder's tree.
    folders: BTreeMap<String, String>,
}

/// The names of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileId {
    /// In git's tree: of the file, or of the pointer to it.
    oid: String,
    /// Of a large file: its SHA-256, and how long the pointer is.
    large: Option<(String, usize)>,
}

impl FileId {
    fn of(shard: &Shard) -> Result<Self, Nameless> {
        if let Some(oid) = shard.git_oid() {
            return Ok(Self { oid: oid.to_string(), large: None });
        }
        let sha256 = shard.sha256().ok_or_else(|| Nameless { path: shard.path().clone() })?;
        let pointer = lfs_pointer(sha256, shard.size());
        let oid = git_id("blob", pointer.as_bytes()).to_string();
        Ok(Self { oid, large: Some((sha256.to_string(), pointer.len())) })
    }
}

impl Model {
    /// The model of a manifest.
    pub fn new(manifest: Manifest) -> Result<Self, Nameless> {
        let files: Vec<FileId> = manifest.shards().iter().map(FileId::of).collect::<Result<_, _>>()?;
        let entries = manifest.shards().iter().zip(&files).map(|(shard, file)| (shard.path().as_str(), file.oid.as_str()));
        let folders = folders(entries.collect());
        Ok(Self { hash: manifest.id(), commit: manifest.commit(), manifest, files, folders })
    }

    /// Its manifest's hash.
    pub fn hash(&self) -> BlobHash {
        self.hash
    }

    /// The commit that it goes by, the same on every node.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The file at a path, however that was written.
    pub fn file(&self, path: &str) -> Option<&Shard> {
        self.manifest.shard(&ShardPath::parse(path).ok()?)
    }

    /// The model itself, by a name.
    pub fn info(&self, id: &str) -> Value {
        let siblings = self.entries().map(|(shard, file)| {
            let mut sibling = json!({ "rfilename": shard.path().as_str(), "size": shard.size(), "blobId": file.oid });
            if let Some((sha256, pointer)) = &file.large {
                sibling["lfs"] = json!({ "size": shard.size(), "sha256": sha256, "pointerSize": pointer });
            }
            sibling
        });
        let metadata = self.manifest.metadata();
        let tags: Vec<String> =
            metadata.license.iter().map(|license| format!("license:{}", license.as_str().to_lowercase())).collect();
        json!({
            "_id": &self.commit[..24], "id": id, "modelId": id, "author": id.split_once('/').map(|(org, _)| org), "sha": self.commit,
            "private": false, "gated": false, "disabled": false, "downloads": 0, "likes": 0, "tags": tags,
            "createdAt": DATE, "lastModified": DATE, "usedStorage": self.manifest.total_bytes(), "siblings": siblings.collect::<Vec<_>>(),
        })
    }

    /// The files and folders in a folder (empty: the root), by path; `None` if there is nothing of that name.
    pub fn tree(&self, folder: &str, recursive: bool, expand: bool) -> Option<Value> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        if !folder.is_empty() && !self.folders.contains_key(folder) && self.file(folder).is_none() {
            return None;
        }
        let within = |path: &str| path.strip_prefix(&prefix).is_some_and(|rest| recursive || !rest.contains('/'));
        let folders =
            self.folders.keys().filter(|path| within(path)).map(|path| (path.as_str(), self.folder_entry(path, expand)));
        let files = self.entries().filter(|(shard, _)| within(shard.path().as_str()));
        let files = files.map(|(shard, file)| (shard.path().as_str(), self.file_entry(shard, file, expand)));
        let entries: BTreeMap<&str, Value> = folders.chain(files).collect();
        Some(entries.into_values().collect())
    }

    /// What lies at each of these paths; those at which nothing lies are left out.
    pub fn paths(&self, paths: &[String], expand: bool) -> Value {
        let entry = |path: &String| {
            let path = path.trim_matches('/');
            if self.folders.contains_key(path) {
                return Some(self.folder_entry(path, expand));
            }
            let path = ShardPath::parse(path).ok()?;
            let index = self.manifest.shards().binary_search_by(|shard| shard.path().cmp(&path)).ok()?;
            Some(self.file_entry(&self.manifest.shards()[index], &self.files[index], expand))
        };
        paths.iter().filter_map(entry).collect()
    }

    /// Its history: one commit.
    pub fn commits(&self) -> Value {
        json!([{ "id": self.commit, "title": COMMIT_TITLE, "message": "", "authors": [{ "user": "gateway" }], "date": DATE }])
    }

    fn entries(&self) -> impl Iterator<Item = (&Shard, &FileId)> {
        self.manifest.shards().iter().zip(&self.files)
    }

    fn folder_entry(&self, path: &str, expand: bool) -> Value {
        self.expanded(json!({ "type": "directory", "oid": self.folders.get(path), "size": 0, "path": path }), expand)
    }

    fn file_entry(&self, shard: &Shard, file: &FileId, expand: bool) -> Value {
        let mut entry = json!({ "type": "file", "oid": file.oid, "size": shard.size(), "path": shard.path().as_str() });
        if let Some((sha256, pointer)) = &file.large {
            entry["lfs"] = json!({ "oid": sha256, "size": shard.size(), "pointerSize": pointer });
        }
        self.expanded(entry, expand)
    }

    fn expanded(&self, mut entry: Value, expand: bool) -> Value {
        if expand {
            entry["lastCommit"] = json!({ "id": self.commit, "title": COMMIT_TITLE, "date": DATE });
        }
        entry
    }
}

/// The id of each folder's tree, as git computes it from the ids of the files, given by path.
fn folders(files: Vec<(&str, &str)>) -> BTreeMap<String, String> {
    // What lies in each folder: its name as git sorts it (a folder's with a slash), and its id.
    let mut contents: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (path, oid) in files {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        contents.entry(folder.to_owned()).or_default().insert(name.to_owned(), oid.to_owned());
        let mut folder = folder;
        while let Some((parent, _)) = folder.rsplit_once('/') {
            contents.entry(parent.to_owned()).or_default();
            folder = parent;
        }
    }
    let mut ids = BTreeMap::new();
    // The deepest first, so that all that lies in a folder has its id.
    let mut order: Vec<String> = contents.keys().filter(|folder| !folder.is_empty()).cloned().collect();
    order.sort_by_key(|folder| std::cmp::Reverse(folder.matches('/').count()));
    for folder in order {
        let tree: Vec<u8> = contents.get(&folder).into_iter().flatten().flat_map(|(name, oid)| tree_row(name, oid)).collect();
        let id = git_id("tree", &tree).to_string();
        let (parent, name) = folder.rsplit_once('/').unwrap_or(("", &folder));
        contents.entry(parent.to_owned()).or_default().insert(format!("{name}/"), id.clone());
        ids.insert(folder, id);
    }
    ids
}

fn tree_row(name: &str, oid: &str) -> Vec<u8> {
    let (mode, name) = name.strip_suffix('/').map_or(("100644", name), |folder| ("40000", folder));
    let mut row = format!("{mode} {name}\0").into_bytes();
    row.extend(hex::decode(oid).unwrap_or_default());
    row
}

#[cfg(test)]
mod tests {
    use p2pweights_protocol::ids::Sha256;
    use p2pweights_protocol::manifest::Metadata;

    use sha2::Digest;

    use super::*;

    fn shard(path: &str, content: &[u8]) -> Shard {
        let sha256 = Sha256(sha2::Sha256::digest(content).into());
        Shard::new(path.parse().unwrap(), content.len() as u64, BlobHash::of(content), Some(sha256)).unwrap()
    }

    fn model() -> Model {
        let paths = ["config.json", "onnx/model.onnx", "onnx/sub dir/x.txt", "onnx.txt", "a/b/c/d"];
        let shards = paths.map(|path| shard(path, path.as_bytes())).to_vec();
        Model::new(Manifest::new(Metadata::default(), shards).unwrap()).unwrap()
    }

    fn names(tree: &Value) -> Vec<String> {
        let name =
            |entry: &Value| format!("{}{}", entry["path"].as_str().unwrap(), if entry["type"] == "directory" { "/" } else { "" });
        tree.as_array().unwrap().iter().map(name).collect()
    }

    #[test]
    fn ids_are_those_that_git_computes() {
        let file = git_id("blob", b"hello\n").to_string();
        // `git mktree` of the file as `f/a`, `f.txt` and `f/b/c`: a folder sorts as if its name ended in a slash.
        let found = folders(vec![("f/a", &file), ("f.txt", &file), ("f/b/c", &file)]);
        assert_eq!(found["f/b"], git_id("tree", &tree_row("c", &file)).to_string());
        let rows = [tree_row("a", &file), tree_row("b/", &found["f/b"])].concat();
        assert_eq!(found["f"], git_id("tree", &rows).to_string());
    }

    #[test]
    fn trees_list_files_and_folders() {
        let model = model();
        assert_eq!(names(&model.tree("", false, false).unwrap()), ["a/", "config.json", "onnx/", "onnx.txt"]);
        let all = names(&model.tree("", true, false).unwrap());
        assert_eq!(all.len(), 10, "{all:?}");
        assert_eq!(names(&model.tree("onnx", false, false).unwrap()), ["onnx/model.onnx", "onnx/sub dir/"]);
        assert_eq!(names(&model.tree("a", true, false).unwrap()), ["a/b/", "a/b/c/", "a/b/c/d"]);
        assert!(model.tree("on", false, false).is_none() && model.tree("..", true, false).is_none());
        assert_eq!(model.tree("", false, true).unwrap()[1]["lastCommit"]["id"], model.commit());
    }

    #[test]
    fn large_files_have_all_that_clients_index() {
        let model = model();
        let tree = model.tree("", true, false).unwrap();
        for entry in tree.as_array().unwrap() {
            assert_eq!(entry["oid"].as_str().map(str::len), Some(40), "{entry}");
            if entry["type"] == "file" {
                assert_eq!(entry["lfs"]["oid"].as_str().map(str::len), Some(64), "{entry}");
                assert_eq!(entry["lfs"]["size"], entry["size"]);
                assert!(entry["lfs"]["pointerSize"].as_u64() > Some(120), "{entry}");
            }
        }
        let info = model.info("o/m");
        assert_eq!(info["siblings"].as_array().map(Vec::len), Some(5));
        assert_eq!((info["sha"].as_str(), info["author"].as_str()), (Some(model.commit()), Some("o")));
        assert!(!info.to_string().contains("xet") && !tree.to_string().contains("xet"));
    }

    #[test]
    fn paths_that_are_not_there_are_left_out() {
        let found = model().paths(&["config.json", "nope", "onnx", "../x", "a/b/"].map(str::to_owned), false);
        assert_eq!(names(&found), ["config.json", "onnx/", "a/b/"]);
    }

    #[test]
    fn a_file_without_any_name_is_an_error_that_says_which() {
        let nameless = Shard::new("x.bin".parse().unwrap(), 1, BlobHash::of(b"x"), None).unwrap();
        let manifest = Manifest::new(Metadata::default(), vec![shard("a", b"a"), nameless]).unwrap();
        assert!(Model::new(manifest).unwrap_err().to_string().contains("x.bin"));
    }
}
