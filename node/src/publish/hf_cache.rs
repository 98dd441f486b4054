//! The download cache of Hugging Face's client: a model's folder there is not the model itself, but its snapshots are. Layout:
//! `models--ORG--NAME/refs/REVISION` holds a commit id, `models--ORG--NAME/snapshots/COMMIT/` links to the files of that commit.

use std::fs;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::report::{Failure, FailureKind};
use crate::store::FileId;

/// How the names of models' folders begin.
const PREFIX: &str = "models--";
/// Longest text that is taken for a commit id, in bytes; SHA-256 has 64 digits.
const COMMIT_BYTES: u64 = 256;

/// One revision of a model in the cache.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Where its files are.
    pub folder: PathBuf,
    /// `ORG/NAME`, or `NAME` alone.
    pub name: String,
    /// The commit id.
    pub revision: String,
    /// A branch or tag that is at this commit: the one asked for, else `main`, else any.
    pub branch: Option<String>,
}

/// The snapshot that this folder of a cache means: itself, or the one asked for by branch, tag or commit (`main` if not), or the only one.
/// `None` if the folder belongs to no cache.
pub fn snapshot(path: &Path, asked: Option<&str>) -> Result<Option<Snapshot>, Failure> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if let Some(name) = model_name(&path)
        && path.join("snapshots").is_dir()
    {
        let revision = revision_of(&path, asked)?;
        let branch = branch_at(&path, &revision, asked);
        return Ok(Some(Snapshot { folder: path.join("snapshots").join(&revision), name, revision, branch }));
    }
    let above = |levels: usize| path.ancestors().nth(levels);
    if above(1).and_then(Path::file_name).is_some_and(|name| name == "snapshots")
        && let Some(name) = above(2).and_then(model_name)
        && let Some(revision) = file_name(&path)
    {
        let branch = above(2).and_then(|model| branch_at(model, &revision, asked));
        return Ok(Some(Snapshot { folder: path.clone(), name, revision, branch }));
    }
    let models = names_in(&path).into_iter().filter(|name| name.starts_with(PREFIX)).collect::<Vec<_>>();
    match models.first() {
        None => Ok(None),
        Some(first) => {
            let message = format!(
                "{} is a cache of {} models; publish one of them, such as {}",
                path.display(),
                models.len(),
                path.join(first).display()
            );
            Err(Failure::new(FailureKind::Usage, message))
        }
    }
}

fn revision_of(model: &Path, asked: Option<&str>) -> Result<String, Failure> {
    let snapshots = names_in(&model.join("snapshots"));
    let wanted = asked.unwrap_or("main");
    let named = Some(model.join("refs").join(wanted)).filter(|_| plain(wanted)).and_then(|path| commit_in(&path));
    let commit = named.unwrap_or_else(|| wanted.to_owned());
    if snapshots.contains(&commit) {
        return Ok(commit);
    }
    match (&snapshots[..], asked) {
        ([], _) => Err(refused(format!("{} holds no snapshot; its download never ended", model.display()))),
        ([only], None) => Ok(only.clone()),
        (several, _) => Err(refused(format!(
            "{} holds no revision {wanted:?}; choose one with --revision: {}",
            model.display(),
            several.join(", ")
        ))),
    }
}

/// What is at a commit.
fn branch_at(model: &Path, commit: &str, asked: Option<&str>) -> Option<String> {
    let refs = model.join("refs");
    let is_there = |name: &str| commit_in(&refs.join(name)).as_deref() == Some(commit);
    let named = [asked, Some("main")].into_iter().flatten().find(|name| plain(name) && is_there(name)).map(str::to_owned);
    let files =
        || WalkDir::new(&refs).sort_by_file_name().into_iter().filter_map(Result::ok).filter(|entry| entry.file_type().is_file());
    let names = || files().filter_map(|entry| Some(entry.path().strip_prefix(&refs).ok()?.to_str()?.to_owned()));
    named.or_else(|| names().find(|name| is_there(name)))
}

/// A branch may have slashes in its name, but it never leads out.
fn plain(name: &str) -> bool {
    name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

impl Snapshot {
    /// What the hub calls a file of the snapshot: the name of the blob that it links to. `None` where the cache has no links.
    pub fn id(&self, path: &Path) -> Option<FileId> {
        let target = fs::read_link(path).ok()?;
        let name = target.file_name()?.to_str()?;
        name.parse().map(FileId::Sha256).or_else(|_| name.parse().map(FileId::Git)).ok()
    }
}

fn commit_in(path: &Path) -> Option<String> {
    let size = fs::metadata(path).ok()?.len();
    let text = if size <= COMMIT_BYTES { fs::read_to_string(path).ok()? } else { return None };
    Some(text.trim().to_owned())
}

/// `ORG/NAME` of a model's folder in a cache.
fn model_name(folder: &Path) -> Option<String> {
    let name = file_name(folder)?;
    Some(name.strip_prefix(PREFIX)?.replace("--", "/"))
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

/// The names in a folder, sorted; none if it cannot be read.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn refused(message: String) -> Failure {
    Failure::new(FailureKind::Refused, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "0123456789012345678901234567890123456789";
    const NEW: &str = "9876543210987654321098765432109876543210";

    /// A cache with one model of two revisions.
    fn cache() -> (tempfile::TempDir, PathBuf) {
        let cache = tempfile::tempdir().unwrap();
        let model = cache.path().join("models--org--tiny");
        for commit in [OLD, NEW] {
            fs::create_dir_all(model.join("snapshots").join(commit)).unwrap();
        }
        fs::create_dir_all(model.join("refs")).unwrap();
        fs::write(model.join("refs").join("main"), NEW).unwrap();
        fs::write(model.join("refs").join("v1"), format!("{OLD}\n")).unwrap();
        let model = model.canonicalize().unwrap();
        (cache, model)
    }

    #[test]
    fn a_model_in_the_cache_is_its_main_revision_or_the_one_asked_for() {
        let (cache, model) = cache();
        for (asked, commit) in [(None, NEW), (Some("main"), NEW), (Some("v1"), OLD), (Some(OLD), OLD)] {
            let found = snapshot(&model, asked).unwrap().unwrap();
            let folder = model.join("snapshots").join(commit);
            let branch = Some(if commit == NEW { "main" } else { "v1" }.to_owned());
            let expected = Snapshot { folder, name: "org/tiny".to_owned(), revision: commit.to_owned(), branch };
            assert_eq!(found, expected, "{asked:?}");
        }
        let itself = model.join("snapshots").join(OLD);
        let found = snapshot(&itself, None).unwrap().unwrap();
        assert_eq!((found.folder, found.revision.as_str()), (itself, OLD));
        for asked in ["v2", "../refs/main", "", "/etc/passwd"] {
            let failure = snapshot(&model, Some(asked)).unwrap_err();
            assert!(failure.message.contains(OLD) && failure.message.contains("--revision"), "{failure:?}");
        }
        assert!(snapshot(cache.path(), None).unwrap_err().message.contains("models--org--tiny"));
    }

    #[test]
    fn without_a_branch_the_only_snapshot_is_meant() {
        let (_cache, model) = cache();
        fs::remove_file(model.join("refs").join("main")).unwrap();
        assert!(snapshot(&model, None).is_err());
        fs::remove_dir(model.join("snapshots").join(NEW)).unwrap();
        assert_eq!(snapshot(&model, None).unwrap().unwrap().revision, OLD);
        fs::remove_dir(model.join("snapshots").join(OLD)).unwrap();
        assert!(snapshot(&model, None).unwrap_err().message.contains("never ended"));
    }

    #[test]
    fn other_folders_are_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(snapshot(folder.path(), None).unwrap(), None);
        fs::create_dir(folder.path().join("snapshots")).unwrap();
        assert_eq!(snapshot(folder.path(), None).unwrap(), None);
    }
}
