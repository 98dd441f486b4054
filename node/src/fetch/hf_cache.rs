//! The download cache of Hugging Face's client as a place for a model: files lie under `blobs/` by their ETags, snapshots link to them by their
//! paths, and branches name commits. Clients then load the model without any network. Layout: `docs/import.md`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use p2pweights_protocol::ids::GitOid;
use p2pweights_protocol::manifest::{Manifest, Shard};
use serde_json::{Map, Value, json};

use crate::git_ids::{git_id, lfs_pointer};
use crate::report::{Failure, FailureKind};
use crate::store::{ExportError, Exports};

/// Says to backup programs that what lies here can be had again: <https://bford.info/cachedir/>.
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This folder is a cache of model files; what lies here can be fetched again.\n";
/// Version of the listings in `trees/`.
const TREE_FORMAT: u32 = 1;

/// Where a model's files lie in a cache.
#[derive(Debug, Clone)]
pub(super) struct CachePlaces {
    /// `models--ORG--NAME`.
    folder: String,
    commit: String,
    /// The branch that is at this commit.
    branch: Option<String>,
    manifest: Manifest,
}

impl CachePlaces {
    /// For a model, which must have a name, and hashes by which the cache knows its files.
    pub(super) fn of(manifest: &Manifest) -> Result<Self, Failure> {
        let refused = |message: &str| Failure::new(FailureKind::Refused, message);
        let name =
            name(manifest).ok_or_else(|| refused("the model has no name, so it has no place in Hugging Face's cache; use -o"))?;
        if manifest.shards().iter().any(|shard| shard.etag().is_none()) {
            return Err(refused("the model was published without SHA-256, by which Hugging Face's cache names files; use -o"));
        }
        let commit = manifest.commit();
        let revision = manifest.metadata().revision.as_ref().map_or("main", |revision| revision.as_str());
        // It becomes a path below `refs/`, and a stranger wrote it. A commit needs no name.
        let plain = revision.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']));
        let branch = (plain && revision.parse::<GitOid>().is_err()).then(|| revision.to_owned());
        Ok(Self { folder: format!("models--{}", name.replace('/', "--")), commit, branch, manifest: manifest.clone() })
    }

    /// Where a file's bytes lie, from the cache's root.
    pub(super) fn blob(&self, shard: &Shard) -> String {
        format!("{}/blobs/{}", self.folder, shard.etag().unwrap_or_default())
    }

    /// Where programs find the model.
    pub(super) fn snapshot(&self, cache: &Path) -> PathBuf {
        cache.join(&self.folder).join("snapshots").join(&self.commit)
    }

    /// Makes the names by which clients find these files, once all of them lie there.
    pub(super) fn link(&self, exports: &mut Exports, files: &BTreeSet<String>) -> Result<(), ExportError> {
        let Self { folder, commit, branch, .. } = self;
        for shard in self.manifest.shards().iter().filter(|shard| files.contains(shard.path().as_str())) {
            let path = shard.path().as_str();
            let up = "../".repeat(2 + path.matches('/').count());
            let target = format!("{up}blobs/{}", shard.etag().unwrap_or_default());
            exports.symlink(shard.blake3(), shard.size(), &format!("{folder}/snapshots/{commit}/{path}"), &target)?;
        }
        let tree = serde_json::to_vec(&self.tree()).expect("a listing has only text keys");
        exports.write_whole(&format!("{folder}/trees/{commit}.json"), &tree)?;
        exports.write_new("CACHEDIR.TAG", TAG.as_bytes())?;
        // Last: whoever finds the branch finds all of it.
        match branch {
            Some(branch) => exports.write_whole(&format!("{folder}/refs/{branch}"), commit.as_bytes()),
            None => Ok(()),
        }
    }

    /// The listing that clients keep of a commit.
    fn tree(&self) -> Value {
        let file = |shard: &Shard| match (shard.git_oid(), shard.sha256()) {
            (None, Some(sha256)) => {
                let oid = git_id("blob", lfs_pointer(sha256, shard.size()).as_bytes());
                json!({"size": shard.size(), "blob_id": oid, "lfs_sha256": sha256, "lfs_size": shard.size()})
            }
            (oid, _) => json!({"size": shard.size(), "blob_id": oid}),
        };
        let files: Map<String, Value> =
            self.manifest.shards().iter().map(|shard| (shard.path().as_str().to_owned(), file(shard))).collect();
        json!({"format_version": TREE_FORMAT, "files": files})
    }
}

/// `ORG/NAME`; or the last part of where it came from, for a model from before there were organisations.
fn name(manifest: &Manifest) -> Option<String> {
    let metadata = manifest.metadata();
    if let Some(name) = &metadata.name {
        return Some(name.as_str().to_owned());
    }
    let last = metadata.source.as_ref()?.repo.as_str().rsplit('/').next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (!last.is_empty() && !last.starts_with('.') && last.chars().all(plain) && !last.contains("--")).then(|| last.to_owned())
}

#[cfg(test)]
mod tests {
    use p2pweights_protocol::ids::BlobHash;
    use p2pweights_protocol::manifest::{Fields, Metadata, Source};

    use super::*;

    fn manifest(name: Option<&str>, revision: Option<&str>, repo: Option<&str>) -> Manifest {
        let shard = Shard::new("a".parse().unwrap(), 6, BlobHash::of(b"hello\n"), None).unwrap();
        let shard = shard.with_git_oid(Some("ce013625030ba8dba906f756967f9e9ca394464a".parse().unwrap()));
        let source =
            |repo: &str| Source { repo: repo.parse().unwrap(), revision: "0".repeat(40).parse().unwrap(), extra: Fields::new() };
        let metadata = Metadata {
            name: name.map(|name| name.parse().unwrap()),
            revision: revision.map(|revision| revision.parse().unwrap()),
            source: repo.map(source),
            ..Metadata::default()
        };
        Manifest::new(metadata, vec![shard]).unwrap()
    }

    #[test]
    fn a_model_lies_where_clients_look() {
        let places = CachePlaces::of(&manifest(Some("Org/Tiny"), None, None)).unwrap();
        assert_eq!((places.folder.as_str(), places.branch.as_deref()), ("models--Org--Tiny", Some("main")));
        let old = CachePlaces::of(&manifest(None, Some("step/1000"), Some("https://hub.example/gpt2"))).unwrap();
        assert_eq!((old.folder.as_str(), old.branch.as_deref()), ("models--gpt2", Some("step/1000")));
        assert_eq!(old.snapshot(Path::new("/c")), Path::new("/c/models--gpt2/snapshots").join("0".repeat(40)));
        for (revision, _) in [("../../x", ()), ("a/../b", ()), ("/x", ()), (&"0".repeat(40), ())] {
            assert_eq!(CachePlaces::of(&manifest(Some("o/m"), Some(revision), None)).unwrap().branch, None, "{revision}");
        }
        assert!(CachePlaces::of(&manifest(None, None, Some("https://hub.example/.."))).is_err());
        assert!(CachePlaces::of(&manifest(None, None, None)).is_err());
    }

    /// What git says of the pointer of a file with these bytes.
    #[test]
    fn a_listing_gives_the_ids_that_the_hub_gives() {
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let shard = Shard::new("a".parse().unwrap(), 6, BlobHash::of(b"hello\n"), Some(sha256.parse().unwrap())).unwrap();
        let metadata = Metadata { name: Some("o/m".parse().unwrap()), ..Metadata::default() };
        let places = CachePlaces::of(&Manifest::new(metadata, vec![shard]).unwrap()).unwrap();
        let expected =
            json!({"size": 6, "blob_id": "fa61e1ef71c9908c0926776a4aa3504b3a27f159", "lfs_sha256": sha256, "lfs_size": 6});
        assert_eq!(places.tree()["files"]["a"], expected);
    }
}
