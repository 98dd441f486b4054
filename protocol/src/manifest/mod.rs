//! The manifest: a model as named, ordered shards with metadata, in one canonical encoding, so that the same folder published twice on
//! any machine has the same hash. `docs/manifest.md` draws the format. Knows no file, no peer and no date.

mod canonical;
mod decode;
mod error;
mod path;
mod reader;
mod shard;
#[cfg(test)]
mod tests;
mod text;
mod value;

use std::collections::BTreeSet;

use path::Collision;

pub use error::ManifestError;
pub use path::{PathError, PathProblem, ShardPath};
pub use shard::Shard;
pub(crate) use text::is_invisible;
pub use text::{COMPONENTS, License, MirrorUrl, ModelName, RELATIONS, Term, Text, TextError};
pub use value::{Fields, Integer, Value};

use crate::ids::BlobHash;
use crate::limits;

/// Deepest nesting of objects and arrays, the manifest itself included. Known fields need three; the reader recurses, so this bounds
/// its stack.
pub const DEPTH: usize = 16;
/// Most JSON values in a manifest: 16 for each of `limits::MANIFEST_FILES`. Bounds the memory that dense unknown fields can cost beyond
/// their text, about 60 bytes a value.
pub const VALUES: usize = 1 << 20;
/// Most mirror sources of one model: more than a client would try.
pub const MIRRORS: usize = 32;
/// Most components listed in `openness`; the framework has 17 today.
pub const COMPONENTS_LISTED: usize = 64;

/// Digits of a git commit's id (SHA-1), the only kind that Hugging Face's clients take for one.
const COMMIT_DIGITS: usize = 40;
/// Longest name of a field.
const FIELD_NAME_BYTES: usize = 64;

/// The names of the known fields.
mod field {
    pub const BASE_MODEL: &str = "base_model";
    pub const BLAKE3: &str = "blake3";
    /// Sorts before every name a field may have, so that the first bytes tell what the blob is.
    pub const FORMAT: &str = "!format";
    pub const GATED: &str = "gated";
    pub const GIT_OID: &str = "git_oid";
    pub const LICENSE: &str = "license";
    pub const LICENSE_FILE: &str = "license_file";
    pub const MIRRORS: &str = "mirrors";
    pub const NAME: &str = "name";
    pub const OPENNESS: &str = "openness";
    pub const PATH: &str = "path";
    pub const RELATION: &str = "relation";
    pub const REPO: &str = "repo";
    pub const REVISION: &str = "revision";
    pub const SHA256: &str = "sha256";
    pub const SHARDS: &str = "shards";
    pub const SIZE: &str = "size";
    pub const SOURCE: &str = "source";

    pub const OF_MANIFEST: [&str; 10] =
        [BASE_MODEL, GATED, LICENSE, LICENSE_FILE, MIRRORS, NAME, OPENNESS, REVISION, SHARDS, SOURCE];
    pub const OF_SHARD: [&str; 5] = [BLAKE3, GIT_OID, PATH, SHA256, SIZE];
    pub const OF_SOURCE: [&str; 2] = [REPO, REVISION];
    pub const OF_BASE_MODEL: [&str; 2] = [NAME, RELATION];
}

/// What a manifest says about its model besides the shards. All of it is the publisher's claim; only the shards are proved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The model's name.
    pub name: Option<ModelName>,
    /// The publisher's own name for this state of the model, such as `v1.0`.
    pub revision: Option<Text>,
    /// The licence.
    pub license: Option<License>,
    /// The shard which holds the licence's text.
    pub license_file: Option<ShardPath>,
    /// Whether the origin asks for consent before it gives the files out.
    pub gated: bool,
    /// Where the files came from.
    pub source: Option<Source>,
    /// The model this one is made from.
    pub base_model: Option<BaseModel>,
    /// The components present, usually from [`COMPONENTS`].
    pub openness: BTreeSet<Term>,
    /// Mirror sources, the preferred one first.
    pub mirrors: Vec<MirrorUrl>,
    /// Fields this version does not know.
    pub extra: Fields,
}

/// Where a model's files were taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The repository, such as `https://huggingface.co/ORG/MODEL`.
    pub repo: Text,
    /// The exact revision of it, such as a commit.
    pub revision: Text,
    /// Fields this version does not know.
    pub extra: Fields,
}

/// What a model is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseModel {
    /// The other model.
    pub name: ModelName,
    /// In which way, usually one of [`RELATIONS`].
    pub relation: Term,
    /// Fields this version does not know.
    pub extra: Fields,
}

/// A model: its shards in the order of their paths' bytes, and its metadata. Every value of this type has exactly one encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    metadata: Metadata,
    shards: Vec<Shard>,
    total_bytes: u64,
    id: BlobHash,
}

impl Manifest {
    /// Puts a manifest together; the shards may come in any order.
    pub fn new(metadata: Metadata, shards: Vec<Shard>) -> Result<Self, ManifestError> {
        Self::assemble(metadata, shards).map(|(manifest, _)| manifest)
    }

    /// Reads a manifest; refuses bytes that differ in any way from what [`Self::encode`] gives.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let length = bytes.len() as u64;
        if length > limits::MANIFEST_BYTES {
            return Err(ManifestError::TooLarge { bytes: length });
        }
        let (metadata, shards) = decode::manifest(bytes)?;
        let (manifest, canonical) = Self::assemble(metadata, shards)?;
        canonical::compare(bytes, &canonical)?;
        Ok(manifest)
    }

    /// Whether a blob that begins like this claims to be a manifest, of whichever version. Cheap; 64 bytes are enough to tell.
    pub fn looks_like(bytes: &[u8]) -> bool {
        bytes.starts_with(canonical::MARKER.as_bytes())
    }

    /// The bytes of the manifest, a blob like any other.
    pub fn encode(&self) -> Vec<u8> {
        canonical::encode(&self.metadata, &self.shards).expect("the bounds were checked when it was put together")
    }

    /// The hash of [`Self::encode`]: what names the model.
    pub fn id(&self) -> BlobHash {
        self.id
    }

    /// What it says about the model.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The shards, sorted by the bytes of their paths; at least one.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The shard at a path.
    pub fn shard(&self, path: &ShardPath) -> Option<&Shard> {
        self.shards.binary_search_by(|shard| shard.path().cmp(path)).ok().map(|index| &self.shards[index])
    }

    /// The commit under which a Hugging Face endpoint serves this model: the origin's own if the manifest gives one (40 lower-case hex
    /// digits as the revision of its source), else the first 40 digits of the manifest's hash. The same on every node.
    pub fn commit(&self) -> String {
        let source = self.metadata.source.as_ref().map(|source| source.revision.as_str());
        let is_commit = |text: &&str| text.len() == COMMIT_DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        source.filter(is_commit).map_or_else(|| self.id.to_string()[..COMMIT_DIGITS].to_owned(), str::to_owned)
    }

    /// The sum of the shards' sizes; a blob that two shards share counts twice.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The manifest with its encoding.
    fn assemble(metadata: Metadata, mut shards: Vec<Shard>) -> Result<(Self, Vec<u8>), ManifestError> {
        check_metadata(&metadata)?;
        if shards.is_empty() {
            return Err(ManifestError::NoShards);
        }
        if shards.len() > limits::MANIFEST_FILES {
            return Err(ManifestError::TooManyShards);
        }
        shards.sort_unstable_by(|a, b| a.path().cmp(b.path()));
        let total_bytes = total_bytes(&shards)?;
        check_paths(&shards)?;
        check_blobs(&shards)?;
        if let Some(file) = &metadata.license_file
            && shards.binary_search_by(|shard| shard.path().cmp(file)).is_err()
        {
            return Err(ManifestError::LicenseFileMissing(file.clone()));
        }
        let bytes = canonical::encode(&metadata, &shards)?;
        let id = BlobHash::of(&bytes);
        Ok((Self { metadata, shards, total_bytes, id }, bytes))
    }
}

fn check_metadata(metadata: &Metadata) -> Result<(), ManifestError> {
    check_extra(&metadata.extra, &field::OF_MANIFEST)?;
    if let Some(source) = &metadata.source {
        check_extra(&source.extra, &field::OF_SOURCE)?;
    }
    if let Some(base) = &metadata.base_model {
        check_extra(&base.extra, &field::OF_BASE_MODEL)?;
    }
    for (field, entries, limit) in
        [(field::OPENNESS, metadata.openness.len(), COMPONENTS_LISTED), (field::MIRRORS, metadata.mirrors.len(), MIRRORS)]
    {
        if entries > limit {
            return Err(ManifestError::TooManyEntries { field, limit });
        }
    }
    distinct(field::MIRRORS, &metadata.mirrors)
}

/// Refuses extra fields whose names are malformed or taken.
fn check_extra(extra: &Fields, known: &[&str]) -> Result<(), ManifestError> {
    for (name, _) in extra.iter() {
        let well_formed = name.len() <= FIELD_NAME_BYTES
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.'));
        if !well_formed {
            return Err(ManifestError::FieldName(path::excerpt(name)));
        }
        if known.contains(&name) {
            return Err(ManifestError::ReservedField(name.to_owned()));
        }
    }
    Ok(())
}

fn distinct<T: Ord + Clone + Into<String>>(field: &'static str, entries: &[T]) -> Result<(), ManifestError> {
    let mut seen = BTreeSet::new();
    match entries.iter().find(|entry| !seen.insert(*entry)) {
        Some(twice) => Err(ManifestError::DuplicateEntry { field, entry: twice.clone().into() }),
        None => Ok(()),
    }
}

fn total_bytes(shards: &[Shard]) -> Result<u64, ManifestError> {
    let sum = shards.iter().try_fold(0u64, |sum, shard| sum.checked_add(shard.size()));
    sum.filter(|&sum| sum <= limits::MANIFEST_TOTAL_BYTES).ok_or(ManifestError::SizeOverflow)
}

fn check_paths(shards: &[Shard]) -> Result<(), ManifestError> {
    let paths: Vec<&ShardPath> = shards.iter().map(Shard::path).collect();
    let Some((first, second, collision)) = path::collision(&paths) else { return Ok(()) };
    let (first, second) = (paths[first].clone(), paths[second].clone());
    Err(match collision {
        Collision::Same => ManifestError::DuplicatePath(first),
        Collision::Twins => ManifestError::CaseFoldTwins { a: first, b: second },
        Collision::FileAndFolder => ManifestError::FileIsAlsoFolder { file: first, within: second },
    })
}

/// Refuses a blob whose shards disagree about it.
fn check_blobs(shards: &[Shard]) -> Result<(), ManifestError> {
    let mut blobs: Vec<&Shard> = shards.iter().collect();
    blobs.sort_unstable_by_key(|shard| (shard.blake3(), shard.size()));
    for same in blobs.chunk_by(|a, b| a.blake3() == b.blake3()) {
        let (hash, a, b) = (same[0].blake3(), same[0].size(), same[same.len() - 1].size());
        if a != b {
            return Err(ManifestError::TwoSizes { hash, a, b });
        }
        if differ(same.iter().filter_map(|shard| shard.sha256())) {
            return Err(ManifestError::TwoHashes { hash, field: field::SHA256 });
        }
        if differ(same.iter().filter_map(|shard| shard.git_oid())) {
            return Err(ManifestError::TwoHashes { hash, field: field::GIT_OID });
        }
    }
    Ok(())
}

/// Whether not all are the same.
fn differ<T: PartialEq>(mut values: impl Iterator<Item = T>) -> bool {
    let first = values.next();
    first.is_some_and(|first| values.any(|other| other != first))
}
