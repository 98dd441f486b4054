//! Which manifest a model's name means: `ORG/MODEL` and a revision, as the gateway's clients write them. Mappings that somebody wrote down
//! come first, then the manifests that are kept here. Pure: knows no store and no network.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::link::{Link, LinkError};
use thiserror::Error;

/// The branch that is meant where none is named.
pub const MAIN: &str = "main";
/// Longest part of a name: what Hugging Face allows.
const PART_BYTES: usize = 96;
/// Longest name of a branch: what git's own files allow.
const BRANCH_BYTES: usize = 250;
/// What separates a name from a branch where both are written together.
const BRANCH_SEPARATOR: char = '@';
/// How a branch is written in full.
const BRANCH_PREFIX: &str = "refs/heads/";

/// Why a text names no model.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Not of the form of a name.
    #[error("{0:?} is no model's name such as `org/model` or `org/model@branch`")]
    Malformed(String),
    /// Nothing that can be fetched.
    #[error("{name:?} leads to {target:?}, which is neither a hash nor a link")]
    Target {
        /// The name.
        name: String,
        /// What stands beside it.
        target: String,
        /// Why.
        source: LinkError,
    },
    /// Mapped twice.
    #[error("{0:?} is mapped twice")]
    Twice(String),
}

/// `ORG/MODEL`, or one name alone as the oldest models have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelId(String);

impl ModelId {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ModelId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let part = |part: &str| {
            (1..=PART_BYTES).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
                && !part.contains("--")
                && !part.contains("..")
                && !part.starts_with(['.', '-'])
                && !part.ends_with(['.', '-'])
        };
        let well_formed = match text.split_once('/') {
            Some((org, model)) => part(org) && part(model),
            None => part(text),
        };
        if !well_formed || text.ends_with(".git") {
            return Err(NameError::Malformed(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Names that somebody wrote down, and where they lead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mappings(BTreeMap<ModelId, BTreeMap<String, Link>>);

impl Mappings {
    /// Reads pairs of a name, `org/model` or `org/model@branch`, and a hash or link.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, NameError> {
        let mut mappings = Self::default();
        for (name, target) in pairs {
            let (id, branch) = name.split_once(BRANCH_SEPARATOR).unwrap_or((name, MAIN));
            let id: ModelId = id.parse().map_err(|_| NameError::Malformed(name.to_owned()))?;
            // `=` and `,` would not be read back from where a table is written in one line.
            let unfit = |c: char| c.is_control() || matches!(c, '=' | ',');
            if branch.is_empty() || branch.len() > BRANCH_BYTES || branch.chars().any(unfit) {
                return Err(NameError::Malformed(name.to_owned()));
            }
            let link = Link::parse_target(target);
            let link = link.map_err(|source| NameError::Target { name: name.to_owned(), target: target.to_owned(), source })?;
            if mappings.0.entry(id).or_default().insert(branch.to_owned(), link).is_some() {
                return Err(NameError::Twice(name.to_owned()));
            }
        }
        Ok(mappings)
    }

    /// Only those of one model.
    pub fn of(&self, id: &ModelId) -> Self {
        Self(self.0.get_key_value(id).map(|(id, branches)| (id.clone(), branches.clone())).into_iter().collect())
    }

    /// The manifests to which a model's names lead.
    pub fn hashes(&self, id: &ModelId) -> impl Iterator<Item = BlobHash> + '_ {
        self.0.get(id).into_iter().flat_map(|branches| branches.values().map(Link::hash))
    }

    /// Every pair, as it can be written down.
    pub fn pairs(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.0.iter().flat_map(|(id, branches)| {
            branches.iter().map(move |(branch, link)| {
                let name = if branch == MAIN { id.to_string() } else { format!("{id}{BRANCH_SEPARATOR}{branch}") };
                (name, link.to_string())
            })
        })
    }
}

/// A manifest that is kept here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The model's name.
    pub id: ModelId,
    /// Its branch.
    pub branch: String,
    /// Its commit; `None` if the manifest is not here, or not to be read.
    pub commit: Option<String>,
    /// The manifest.
    pub hash: BlobHash,
    /// Greater is newer.
    pub order: u64,
}

/// What a branch leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The branch.
    pub branch: String,
    /// The manifest, and who may have it.
    pub link: Link,
    /// The commit; `None` if the manifest is not here.
    pub commit: Option<String>,
}

/// What a revision of a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meant {
    /// This manifest.
    Manifest(Link),
    /// A commit, which may be that of one of these manifests: they are not here.
    OneOf(Vec<Link>),
    /// The model has no such revision.
    NoRevision,
    /// There is no model of that name.
    NoModel,
}

/// All names that a node knows.
#[derive(Debug, Clone, Default)]
pub struct Names {
    mapped: Mappings,
    kept: Vec<Kept>,
    /// Commits of mapped manifests that are here under whatever name.
    commits: BTreeMap<BlobHash, String>,
}

impl Names {
    /// These mappings, and these manifests.
    pub fn new(mapped: Mappings, mut kept: Vec<Kept>) -> Self {
        kept.sort_by_key(|kept| std::cmp::Reverse(kept.order));
        Self { mapped, kept, commits: BTreeMap::new() }
    }

    /// With the commits of manifests that are mapped, as far as they are known.
    pub fn with_commits(mut self, known: &BTreeMap<BlobHash, String>) -> Self {
        let mapped = self.mapped.0.values().flat_map(|branches| branches.values().map(Link::hash));
        self.commits = mapped.filter_map(|hash| Some((hash, known.get(&hash)?.clone()))).collect();
        self
    }

    /// Every model's name.
    pub fn ids(&self) -> Vec<&ModelId> {
        let mut ids: Vec<&ModelId> = self.mapped.0.keys().chain(self.kept.iter().map(|kept| &kept.id)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The branches of a model by name. One that has a single branch, by whatever name, has it as `main`, too.
    pub fn heads(&self, id: &ModelId) -> Vec<Head> {
        let mut heads: BTreeMap<&str, Head> = BTreeMap::new();
        for (branch, link) in self.mapped.0.get(id).into_iter().flatten() {
            let kept = || self.kept.iter().find(|kept| kept.hash == link.hash()).and_then(|kept| kept.commit.clone());
            let commit = self.commits.get(&link.hash()).cloned().or_else(kept);
            heads.insert(branch, Head { branch: branch.clone(), link: link.clone(), commit });
        }
        for kept in self.of(id) {
            heads.entry(&kept.branch).or_insert_with(|| Head {
                branch: kept.branch.clone(),
                link: Link::new(kept.hash),
                commit: kept.commit.clone(),
            });
        }
        let mut heads: Vec<Head> = heads.into_values().collect();
        if let [only] = &heads[..]
            && only.branch != MAIN
        {
            heads.insert(0, Head { branch: MAIN.to_owned(), ..only.clone() });
        }
        heads
    }

    /// What a revision of a model is: a branch, `HEAD`, or a commit of whatever age.
    pub fn find(&self, id: &ModelId, revision: &str) -> Meant {
        let heads = self.heads(id);
        if heads.is_empty() {
            return Meant::NoModel;
        }
        let branch = match revision {
            "HEAD" => MAIN,
            other => other.strip_prefix(BRANCH_PREFIX).unwrap_or(other),
        };
        if let Some(head) = heads.iter().find(|head| head.branch == branch) {
            return Meant::Manifest(head.link.clone());
        }
        if let Some(head) = heads.iter().find(|head| head.commit.as_deref() == Some(revision)) {
            return Meant::Manifest(head.link.clone());
        }
        if let Some(kept) = self.of(id).find(|kept| kept.commit.as_deref() == Some(revision)) {
            return Meant::Manifest(Link::new(kept.hash));
        }
        let absent: Vec<Link> = heads.into_iter().filter(|head| head.commit.is_none()).map(|head| head.link).collect();
        if is_commit(revision) && !absent.is_empty() { Meant::OneOf(absent) } else { Meant::NoRevision }
    }

    /// Manifests of that name, the newest first.
    fn of<'a>(&'a self, id: &'a ModelId) -> impl Iterator<Item = &'a Kept> {
        self.kept.iter().filter(move |kept| kept.id == *id)
    }
}

/// Whether a revision has the form of a commit.
pub fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(byte: u8) -> BlobHash {
        BlobHash([byte; 32])
    }

    fn kept(id: &str, branch: &str, byte: u8, order: u64) -> Kept {
        let commit = Some(format!("{byte:02x}").repeat(20));
        Kept { id: id.parse().unwrap(), branch: branch.to_owned(), commit, hash: hash(byte), order }
    }

    fn names(mapped: &[(&str, u8)], kept: Vec<Kept>) -> Names {
        let targets: Vec<_> = mapped.iter().map(|(name, byte)| (*name, hash(*byte).to_string())).collect();
        Names::new(Mappings::parse(targets.iter().map(|(name, target)| (*name, target.as_str()))).unwrap(), kept)
    }

    fn found(names: &Names, id: &str, revision: &str) -> Result<u8, Meant> {
        match names.find(&id.parse().unwrap(), revision) {
            Meant::Manifest(link) => Ok(link.hash().0[0]),
            other => Err(other),
        }
    }

    #[test]
    fn names_are_checked() {
        for good in ["gpt2", "org/model", "a/b.c_d-e", "o/Llama-3.1-8B"] {
            assert!(good.parse::<ModelId>().is_ok(), "{good}");
        }
        for bad in ["", "/", "a/", "/b", "a/b/c", "a/..", "..", "a/b--c", "a/b.git", "a b", "a/ü", "a/b\0", "a/-b", "a%2Fb"] {
            assert!(bad.parse::<ModelId>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(96).parse::<ModelId>().is_ok() && "a".repeat(97).parse::<ModelId>().is_err());
    }

    #[test]
    fn a_mapping_comes_before_what_is_kept_under_that_name() {
        let names = names(&[("o/m", 1), ("o/m@dev", 2)], vec![kept("o/m", "main", 3, 1), kept("o/m", "step1", 4, 2)]);
        assert_eq!(found(&names, "o/m", "main"), Ok(1));
        assert_eq!(found(&names, "o/m", "HEAD"), Ok(1));
        assert_eq!(found(&names, "o/m", "refs/heads/dev"), Ok(2));
        assert_eq!(found(&names, "o/m", "step1"), Ok(4));
        assert_eq!(found(&names, "o/m", &"03".repeat(20)), Ok(3), "an older commit is still there");
        assert_eq!(found(&names, "o/m", "nope"), Err(Meant::NoRevision));
        assert_eq!(found(&names, "o/n", "main"), Err(Meant::NoModel));
        let unknown = names.find(&"o/m".parse().unwrap(), &"0".repeat(40));
        assert_eq!(unknown, Meant::OneOf(vec![Link::new(hash(2)), Link::new(hash(1))]), "theirs are not known yet");
    }

    #[test]
    fn the_newest_of_a_branch_counts_and_older_commits_stay() {
        let names = names(&[], vec![kept("o/m", "main", 1, 1), kept("o/m", "main", 2, 5), kept("o/m", "main", 3, 3)]);
        assert_eq!(found(&names, "o/m", "main"), Ok(2));
        assert_eq!(found(&names, "o/m", &"01".repeat(20)), Ok(1));
        assert_eq!(names.heads(&"o/m".parse().unwrap()).len(), 1);
    }

    #[test]
    fn a_manifest_that_is_not_to_be_read_keeps_its_name() {
        let names = names(&[], vec![Kept { commit: None, ..kept("o/m", "main", 1, 1) }]);
        assert_eq!(found(&names, "o/m", "main"), Ok(1));
        assert_eq!(names.find(&"o/m".parse().unwrap(), &"0".repeat(40)), Meant::OneOf(vec![Link::new(hash(1))]));
    }

    #[test]
    fn a_single_branch_is_main_whatever_its_name() {
        let one = names(&[], vec![kept("o/m", "v1.0", 1, 1)]);
        assert_eq!((found(&one, "o/m", "main"), found(&one, "o/m", "v1.0")), (Ok(1), Ok(1)));
        let two = names(&[], vec![kept("o/m", "v1.0", 1, 1), kept("o/m", "v2.0", 2, 2)]);
        assert_eq!(found(&two, "o/m", "main"), Err(Meant::NoRevision), "nobody can tell which");
    }

    #[test]
    fn mappings_are_read_and_written() {
        let text = hash(7).to_string();
        let mappings = Mappings::parse([("o/m@step/1", text.as_str()), ("o/m", text.as_str())]).unwrap();
        let again: Vec<_> = mappings.pairs().collect();
        assert_eq!(again.len(), 2);
        assert_eq!(Mappings::parse(again.iter().map(|(a, b)| (a.as_str(), b.as_str()))), Ok(mappings));
        assert!(matches!(Mappings::parse([("o/m", "nonsense")]), Err(NameError::Target { .. })));
        assert!(matches!(Mappings::parse([("o/m@", text.as_str())]), Err(NameError::Malformed(_))));
        assert!(matches!(Mappings::parse([("o/m", text.as_str()), ("o/m@main", text.as_str())]), Err(NameError::Twice(_))));
    }
}
