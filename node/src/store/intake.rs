//! Files on their way in from an origin, which knows them by other hashes than ours. Each lies in `imports/` under its origin's id until its
//! last byte has come and the id has been found right, so a process that was stopped or killed goes on where it was; then it is hashed for
//! BLAKE3, too, and becomes a blob by a rename. Knows no network and no model.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use hyper::body::Bytes;
use p2pweights_protocol::geometry::Geometry;
use p2pweights_protocol::ids::{BlobHash, GitOid, Sha256};
use p2pweights_protocol::verify::outboard_bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::digests::Digests;
use super::disk::{DiskFile, file_bytes, open_file};
use super::early_sync::EarlySync;
use super::error::{AtPath, StoreError};
use super::layout::Layout;
use super::quota::Claim;
use super::reader::FromStart;
use super::slot::locked;
use super::small::is_small;
use super::{Shared, Store};

/// Bytes read at a time of what was here before.
const READ_BYTES: usize = 1 << 20;
/// What a file takes beside its bytes and its outboard: its record and its names.
const BESIDE_BYTES: u64 = 8 << 10;

/// What an origin calls a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileId {
    /// Its SHA-256, as LFS does.
    Sha256(Sha256),
    /// Git's id.
    Git(GitOid),
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(hash) => write!(f, "sha256-{hash}"),
            Self::Git(oid) => write!(f, "git-{oid}"),
        }
    }
}

/// A file that is here, whole and right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Its blob.
    pub hash: BlobHash,
    /// Its SHA-256.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub size: u64,
}

/// Why a file was not taken in.
#[derive(Debug, Error)]
pub enum IntakeError {
    /// Somebody else brings it in at this moment.
    #[error("another import is fetching it at this moment; run this one again when that has ended")]
    Busy,
    /// More bytes came than it has.
    #[error("more than the {size} bytes came that the listing says it has")]
    TooLong {
        /// Its size.
        size: u64,
    },
    /// Fewer bytes came than it has.
    #[error("only {found} of {size} bytes came")]
    TooShort {
        /// How many came.
        found: u64,
        /// Its size.
        size: u64,
    },
    /// The bytes are not those of the id.
    #[error("its content is {found}, the listing says {expected}")]
    Wrong {
        /// What the origin calls it.
        expected: FileId,
        /// What it is.
        found: FileId,
    },
    /// The store's trouble.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Files of one import: room for all of them, and nobody else brings them in meanwhile.
#[derive(Debug)]
pub struct Intakes {
    shared: Arc<Shared>,
    sizes: BTreeMap<FileId, u64>,
    /// Dropped when the files count as blobs, or as nobody's.
    _claims: Vec<Claim>,
}

impl Drop for Intakes {
    fn drop(&mut self) {
        let mut busy = locked(&self.shared.intakes);
        self.sizes.keys().for_each(|id| _ = busy.remove(id));
    }
}

/// One file of an import, as it is found.
pub enum Begun {
    /// All of it is here.
    Taken(Taken),
    /// Some of it is missing.
    Open(Box<Intake>),
}

impl Store {
    /// Begins, or goes on, to bring in files of these ids and sizes; all of them find room, or none does.
    pub fn intakes(&self, files: &BTreeMap<FileId, u64>) -> Result<Intakes, IntakeError> {
        let shared = Arc::clone(&self.shared);
        {
            let mut busy = locked(&shared.intakes);
            if files.keys().any(|id| busy.contains(id)) {
                return Err(IntakeError::Busy);
            }
            busy.extend(files.keys().copied());
        }
        // From here on the ids are given back whatever happens.
        let mut intakes = Intakes { shared, sizes: files.clone(), _claims: Vec::new() };
        let folder = self.shared.layout.imports();
        self.shared.layout.disk().make_folders(&folder).at(&folder)?;
        for (id, size) in files {
            let bytes = size.saturating_add(outboard_bytes(Geometry::of(*size))).saturating_add(BESIDE_BYTES);
            let claim = self.shared.claim(bytes, &Paths::of(&self.shared.layout, *id).all())?;
            intakes._claims.push(claim);
        }
        Ok(intakes)
    }

    /// Reads a complete blob, and says what it is to an origin, if it is what an id says.
    pub fn identify(&self, hash: BlobHash, id: FileId) -> Result<Option<Taken>, StoreError> {
        let reader = self.reader(hash)?;
        let (path, size) = (self.shared.layout.data(hash), reader.geometry().size());
        let mut digests = Digests::new(id, size, None);
        let mut source = FromStart::of(reader.data());
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = source.read(&mut buffer).at(&path)?;
            if count == 0 {
                break;
            }
            digests.update(Bytes::copy_from_slice(&buffer[..count])).at(&path)?;
        }
        let found = digests.finish().at(&path)?;
        let right = found.blake3 == hash && found.id == id && reader.check_stamp().is_ok();
        Ok(right.then_some(Taken { hash, sha256: found.sha256, size }))
    }

    /// Removes what is left of imports that nobody goes on with, if nobody wrote to it since then (nanoseconds since 1970); says what that
    /// takes. Removes nothing unless told to.
    pub fn abandoned_imports(&self, before_ns: i64, delete: bool) -> Result<u64, StoreError> {
        let shared = &self.shared;
        // Held all the while: no import begins with a file that is about to go.
        let busy = locked(&shared.intakes);
        let ours: BTreeSet<PathBuf> = busy.iter().flat_map(|id| Paths::of(&shared.layout, *id).all()).collect();
        shared.abandoned(&ours, before_ns, delete)
    }
}

impl Intakes {
    /// Opens a file where it was left: what is here of it is read again, which takes a fraction of the time to fetch it.
    pub fn open(&self, id: FileId) -> Result<Begun, IntakeError> {
        let layout = &self.shared.layout;
        let (paths, size) = (Paths::of(layout, id), self.sizes[&id]);
        if let Some(taken) = self.recorded(&paths, size)? {
            return Ok(Begun::Taken(taken));
        }
        let data = Arc::new(layout.disk().open_or_create(&paths.data).at(&paths.data)?);
        if data.len().at(&paths.data)? > size {
            data.set_len(0).at(&paths.data)?;
        }
        let outboard = match is_small(Geometry::of(size)) {
            true => None,
            false => {
                let outboard = layout.disk().open_or_create(&paths.outboard).at(&paths.outboard)?;
                outboard.set_len(0).at(&paths.outboard)?;
                Some(outboard)
            }
        };
        let digests = Digests::new(id, size, outboard);
        let early = EarlySync::new(Arc::clone(&data));
        let mut intake = Intake { shared: Arc::clone(&self.shared), id, size, paths, data, early, digests, bytes: 0 };
        intake.read_again()?;
        Ok(Begun::Open(Box::new(intake)))
    }

    /// What the record of a file says that was finished before, if that is still there.
    fn recorded(&self, paths: &Paths, size: u64) -> Result<Option<Taken>, StoreError> {
        let layout = &self.shared.layout;
        let Ok(text) = std::fs::read(&paths.record) else { return Ok(None) };
        let Some(taken) = serde_json::from_slice::<Taken>(&text).ok().filter(|taken| taken.size == size) else { return Ok(None) };
        let here = file_bytes(&paths.data).at(&paths.data)? == Some(size);
        let parents = outboard_bytes(Geometry::of(size));
        let outboard = file_bytes(&paths.outboard).at(&paths.outboard)? == Some(parents);
        // Or it had become a blob when the process was killed.
        let blob = self.shared.slot(taken.hash).is_some_and(|slot| slot.state().is_complete());
        if blob || here && outboard {
            return Ok(Some(taken));
        }
        layout.remove_durably(&paths.record)?;
        Ok(None)
    }

    /// Bytes that are here of all files, whether or not they turn out right.
    pub fn here(&self) -> u64 {
        let here = |id: &FileId| file_bytes(&Paths::of(&self.shared.layout, *id).data).ok().flatten().unwrap_or(0);
        self.sizes.iter().map(|(id, size)| here(id).min(*size)).sum()
    }

    /// The bytes of a small file that was taken and is no blob yet; `None` if it is one.
    pub fn read(&self, id: FileId) -> Result<Option<Vec<u8>>, StoreError> {
        let path = Paths::of(&self.shared.layout, id).data;
        match open_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => {
                let mut bytes = Vec::new();
                file.and_then(|mut file| file.read_to_end(&mut bytes)).at(&path)?;
                Ok(Some(bytes))
            }
        }
    }

    /// Forgets what is here of a file: it was not right.
    pub fn discard(&self, id: FileId) -> Result<(), StoreError> {
        let paths = Paths::of(&self.shared.layout, id);
        for path in [&paths.record, &paths.outboard, &paths.data] {
            self.shared.layout.remove_durably(path)?;
        }
        Ok(())
    }

    /// Makes blobs of these files, all of which were taken. Whatever says why they are kept must have been written before: blobs without
    /// that are anybody's.
    pub fn adopt(&self, taken: &BTreeMap<FileId, Taken>) -> Result<(), StoreError> {
        let (shared, layout) = (&self.shared, &self.shared.layout);
        let store = Store { shared: Arc::clone(shared) };
        let paths: Vec<(Paths, Taken)> = taken.iter().map(|(id, taken)| (Paths::of(layout, *id), *taken)).collect();
        let fresh: Vec<&(Paths, Taken)> = paths.iter().filter(|(paths, _)| paths.data.exists()).collect();
        // Larger ones were synced when they were finished.
        let small = fresh.iter().filter(|(_, taken)| is_small(Geometry::of(taken.size)));
        shared.sync_files(&small.map(|(paths, _)| paths.data.as_path()).collect::<Vec<_>>())?;
        let mut folders = BTreeSet::from([layout.imports(), layout.blobs()]);
        let mut named = Vec::new();
        for (paths, taken) in fresh {
            let turns = &shared.installs;
            let _turn = locked(&turns[usize::from(taken.hash.as_bytes()[0]) % turns.len()]);
            if store.is_complete(taken.hash) {
                layout.remove_if_there(&paths.data)?;
                layout.remove_if_there(&paths.outboard)?;
                continue;
            }
            let (data, outboard) = (layout.data(taken.hash), layout.outboard(taken.hash));
            let folder = data.parent().expect("a blob's file lies in a folder").to_owned();
            shared.make_folder(&folder)?;
            if !is_small(Geometry::of(taken.size)) {
                layout.disk().rename(&paths.outboard, &outboard).at(&outboard)?;
            } else {
                // One of a fetch that did not come to its end would be believed.
                layout.remove_if_there(&outboard)?;
            }
            layout.disk().rename(&paths.data, &data).at(&data)?;
            folders.insert(folder);
            named.push(*taken);
        }
        shared.sync_folders(&folders)?;
        for taken in named {
            store.take_over(taken.hash, Geometry::of(taken.size), None)?;
        }
        paths.iter().try_for_each(|(paths, _)| layout.remove_if_there(&paths.record).map(drop))
    }
}

/// A file of which some bytes are missing.
pub struct Intake {
    shared: Arc<Shared>,
    id: FileId,
    size: u64,
    paths: Paths,
    data: Arc<DiskFile>,
    early: EarlySync,
    digests: Digests,
    bytes: u64,
}

impl Intake {
    /// Bytes that are here.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next bytes.
    pub fn write(&mut self, bytes: Bytes) -> Result<(), IntakeError> {
        let end = self.bytes + bytes.len() as u64;
        if end > self.size {
            return Err(IntakeError::TooLong { size: self.size });
        }
        self.shared.take_room(bytes.len() as u64)?;
        self.data.write_all_at(&bytes, self.bytes).at(&self.paths.data)?;
        self.bytes = end;
        self.early.wrote(bytes.len() as u64).at(&self.paths.data)?;
        self.digests.update(bytes).at(&self.paths.outboard)?;
        Ok(())
    }

    /// All bytes have come: looks whether they are right, and makes them durable.
    pub fn finish(self) -> Result<Taken, IntakeError> {
        let Self { shared, id, size, paths, data: _, early, digests, bytes } = self;
        if bytes < size {
            return Err(IntakeError::TooShort { found: bytes, size });
        }
        let found = digests.finish().at(&paths.outboard)?;
        if found.id != id {
            return Err(IntakeError::Wrong { expected: id, found: found.id });
        }
        let taken = Taken { hash: found.blake3, sha256: found.sha256, size };
        if let Some(outboard) = found.outboard {
            early.finish().at(&paths.data)?;
            outboard.sync().at(&paths.outboard)?;
            let record = serde_json::to_vec_pretty(&taken).expect("a record has only text keys");
            shared.layout.write_whole(&paths.record, &record)?;
        }
        Ok(taken)
    }

    /// Hashes what came before.
    fn read_again(&mut self) -> Result<(), IntakeError> {
        let path = &self.paths.data;
        let mut file = open_file(path).at(path)?;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = file.read(&mut buffer).at(path)?;
            if count == 0 {
                return Ok(());
            }
            self.bytes += count as u64;
            self.digests.update(Bytes::copy_from_slice(&buffer[..count])).at(&self.paths.outboard)?;
        }
    }
}

/// Where the parts of a file are until it is a blob.
#[derive(Debug)]
struct Paths {
    data: PathBuf,
    outboard: PathBuf,
    /// What it was found to be; only there once all of it is durable.
    record: PathBuf,
}

impl Paths {
    fn of(layout: &Layout, id: FileId) -> Self {
        let path = |part: &str| layout.imports().join(format!("{id}.{part}"));
        Self { data: path("data"), outboard: path("outboard"), record: path("json") }
    }

    fn all(&self) -> [PathBuf; 3] {
        [self.data.clone(), self.outboard.clone(), self.record.clone()]
    }
}

impl Shared {
    fn abandoned(&self, ours: &BTreeSet<PathBuf>, before_ns: i64, delete: bool) -> Result<u64, StoreError> {
        use std::os::unix::fs::MetadataExt;
        let folder = self.layout.imports();
        if !folder.exists() {
            return Ok(0);
        }
        let mut bytes = 0;
        for path in super::layout::list(&folder)?.into_iter().filter(|path| !ours.contains(path)) {
            let metadata = std::fs::symlink_metadata(&path).at(&path)?;
            let modified = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
            if modified > before_ns || !metadata.is_file() {
                continue;
            }
            let size = super::usage::of_file(&path);
            bytes += size;
            if delete {
                self.layout.remove_if_there(&path)?;
                self.strays_gone(size);
            }
        }
        Ok(bytes)
    }
}
