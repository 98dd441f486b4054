//! Why bytes are not a manifest, or parts do not make one. All of it is the publisher's doing; nothing here can be a peer's lie,
//! because a manifest's bytes are proved by its hash before they are parsed.

use thiserror::Error;

use super::path::{PathError, ShardPath};
use super::text::TextError;
use crate::ids::{BlobHash, ParseHashError};
use crate::limits;

/// Why something is not a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// Longer than any manifest may be.
    #[error("a manifest has at most {} bytes, this one has {bytes}", limits::MANIFEST_BYTES)]
    TooLarge {
        /// Its length.
        bytes: u64,
    },
    /// Does not begin with the format marker: some other blob.
    #[error("this is not a manifest: it does not begin with the key \"!format\"")]
    NotAManifest,
    /// A format of another version.
    #[error("the format {0:?} is not known to this version; a newer p2pweights may read it")]
    UnsupportedVersion(String),
    /// Not JSON.
    #[error("line {line} is not JSON: {problem}")]
    NotJson {
        /// Where, counted from 1.
        line: usize,
        /// What is wrong there.
        problem: &'static str,
    },
    /// JSON, but written in another way than the one allowed.
    #[error("line {line} is not canonical: {problem}")]
    NotCanonical {
        /// Where, counted from 1.
        line: usize,
        /// What is wrong there.
        problem: &'static str,
    },
    /// A key twice in one object.
    #[error("line {line} repeats the key {key:?}")]
    DuplicateKey {
        /// Where, counted from 1.
        line: usize,
        /// The key, shortened if very long.
        key: String,
    },
    /// An integer above 2^53.
    #[error("line {line} has a number above 2^53")]
    NumberTooLarge {
        /// Where, counted from 1.
        line: usize,
    },
    /// Objects and arrays within one another beyond the limit.
    #[error("values are nested more than {} deep", super::DEPTH)]
    TooDeep,
    /// More JSON values than a manifest may have.
    #[error("a manifest has at most {} JSON values", super::VALUES)]
    TooManyValues,
    /// Something follows the manifest's end.
    #[error("line {line}: bytes follow the end of the manifest")]
    TrailingBytes {
        /// Where, counted from 1.
        line: usize,
    },
    /// A required field is absent.
    #[error("the object at line {line} lacks the field {field:?}")]
    MissingField {
        /// Line on which the object begins, counted from 1.
        line: usize,
        /// The field.
        field: &'static str,
    },
    /// A known field holds the wrong kind of value.
    #[error("the field {field:?} of the object at line {line} must be {expected}, not {found}")]
    WrongType {
        /// Line on which the object begins, counted from 1.
        line: usize,
        /// The field.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A field's text breaks its rules.
    #[error("the field {field:?} is malformed")]
    Text {
        /// The field.
        field: &'static str,
        /// The rule.
        source: TextError,
    },
    /// A field is not a hash.
    #[error("the field {field:?} is not a hash")]
    Hash {
        /// The field.
        field: &'static str,
        /// Why.
        source: ParseHashError,
    },
    /// A path that could not be put on every disk safely.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A list beyond its limit.
    #[error("the field {field:?} has at most {limit} entries")]
    TooManyEntries {
        /// The field.
        field: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The same entry twice in a list.
    #[error("the field {field:?} lists {entry:?} twice")]
    DuplicateEntry {
        /// The field.
        field: &'static str,
        /// The entry.
        entry: String,
    },
    /// An unknown field with a name that no field may have.
    #[error("{0:?} cannot name a field: use 1 to 64 lower-case letters, digits, '_', '-', '.', a letter first")]
    FieldName(String),
    /// An extra field with the name of a known one.
    #[error("{0:?} is a field of its own and cannot be an extra one")]
    ReservedField(String),
    /// No shard at all.
    #[error("a manifest has at least one shard")]
    NoShards,
    /// More shards than allowed.
    #[error("a manifest has at most {} shards", limits::MANIFEST_FILES)]
    TooManyShards,
    /// Two shards with one path.
    #[error("two shards have the path {:?}", .0.as_str())]
    DuplicatePath(ShardPath),
    /// Two names which some disks take for the same.
    #[error("{:?} and {:?} differ only in case: many disks take them for the same name", a.as_str(), b.as_str())]
    CaseFoldTwins {
        /// The path of one.
        a: ShardPath,
        /// The path of the other.
        b: ShardPath,
    },
    /// A path that is a file and a folder at once.
    #[error("{:?} is a file, so {:?} cannot lie within it", file.as_str(), within.as_str())]
    FileIsAlsoFolder {
        /// The file.
        file: ShardPath,
        /// The path which needs a folder of that name.
        within: ShardPath,
    },
    /// A shard larger than a blob may be.
    #[error("{:?} has {size} bytes; a blob has at most {}", path.as_str(), limits::BLOB_BYTES)]
    ShardTooLarge {
        /// The shard.
        path: ShardPath,
        /// Its size.
        size: u64,
    },
    /// The sizes add up to too much.
    #[error("the shards add up to more than {} bytes", limits::MANIFEST_TOTAL_BYTES)]
    SizeOverflow,
    /// An empty shard without the hash of nothing, or that hash on a shard which is not empty.
    #[error("the size of {:?} contradicts its hash: only the empty blob has size 0", .0.as_str())]
    EmptyBlob(ShardPath),
    /// One blob with two sizes.
    #[error("blob {hash} is listed with {a} bytes and with {b}")]
    TwoSizes {
        /// The blob.
        hash: BlobHash,
        /// One size.
        a: u64,
        /// The other.
        b: u64,
    },
    /// One blob with two values of another hash.
    #[error("blob {hash} is listed with two different values of {field}")]
    TwoHashes {
        /// The blob.
        hash: BlobHash,
        /// The field.
        field: &'static str,
    },
    /// The licence file is not among the shards.
    #[error("the licence file {:?} is not among the shards", .0.as_str())]
    LicenseFileMissing(ShardPath),
}
