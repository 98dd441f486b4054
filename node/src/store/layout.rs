//! Where things lie in the store's directory, and the two ways of changing it safely: whole files by rename, names by syncing folders.
//! Knows names, not contents. The layout is drawn in `docs/store.md`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use p2pweights_protocol::ids::BlobHash;

use super::disk::Disk;
use super::error::{AtPath, StoreError};

/// The format written here. Raise it when an older program would misread the directory.
const FORMAT: u32 = 1;

/// Paths of one store, and the disk they are on.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    disk: Disk,
    numbers: AtomicU64,
}

impl Layout {
    pub(super) fn new(root: &Path, disk: Disk) -> Self {
        Self { root: root.to_owned(), disk, numbers: AtomicU64::new(0) }
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(super) fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    /// There while the index is complete and nobody changes it.
    pub(super) fn index_clean(&self) -> PathBuf {
        self.root.join("index.clean")
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(super) fn published_folder(&self) -> PathBuf {
        self.root.join("published")
    }

    pub(super) fn pins(&self) -> PathBuf {
        self.root.join("pins")
    }

    /// Records of plain blobs that somebody wanted by themselves.
    pub(super) fn wanted_folder(&self) -> PathBuf {
        self.root.join("wanted")
    }

    /// In which order blobs were last of use.
    pub(super) fn uses(&self) -> PathBuf {
        self.root.join("uses")
    }

    pub(super) fn wanted(&self, hash: BlobHash) -> PathBuf {
        self.wanted_folder().join(format!("{hash}.json"))
    }

    /// Where there is a file `<hash>.json` for a blob.
    pub(super) fn record_folders(&self) -> [PathBuf; 3] {
        [self.published_folder(), self.pins(), self.wanted_folder()]
    }

    pub(super) fn temps(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Files on their way in from origins; not emptied at a start.
    pub(super) fn imports(&self) -> PathBuf {
        self.root.join("imports")
    }

    /// Small blobs that arrived and are not synced.
    pub(super) fn arrived_folder(&self) -> PathBuf {
        self.root.join("arrived")
    }

    /// A name there that nobody uses.
    pub(super) fn arrived(&self, hash: BlobHash) -> PathBuf {
        self.arrived_folder().join(format!("{hash}.{}", self.numbers.fetch_add(1, Ordering::Relaxed)))
    }

    fn blob(&self, hash: BlobHash, part: &str) -> PathBuf {
        let name = hash.to_string();
        self.blobs().join(&name[..2]).join(format!("{name}.{part}"))
    }

    pub(super) fn data(&self, hash: BlobHash) -> PathBuf {
        self.blob(hash, "data")
    }

    pub(super) fn outboard(&self, hash: BlobHash) -> PathBuf {
        self.blob(hash, "outboard")
    }

    pub(super) fn progress(&self, hash: BlobHash) -> PathBuf {
        self.blob(hash, "progress")
    }

    pub(super) fn published(&self, hash: BlobHash) -> PathBuf {
        self.published_folder().join(format!("{hash}.json"))
    }

    pub(super) fn pin(&self, hash: BlobHash) -> PathBuf {
        self.pins().join(format!("{hash}.json"))
    }

    /// Makes everything durable that a process which was killed had written: the system still has it, the disk perhaps not, and a look
    /// at the files does not tell.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        if self.sync_file_system()? {
            return Ok(());
        }
        for folder in
            list(&self.blobs())?.into_iter().chain([self.blobs(), self.published_folder(), self.pins(), self.root.clone()])
        {
            if folder.is_dir() {
                self.sync_folder(&folder)?;
            }
        }
        Ok(())
    }

    /// A name nobody uses, on the same file system as everything else.
    pub(super) fn temp(&self) -> PathBuf {
        self.temps().join(self.numbers.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Makes the folders, refuses a directory that a newer program wrote, and clears what a crash left half-made. Says whether there was
    /// a store before.
    pub(super) fn prepare(&self) -> Result<bool, StoreError> {
        self.check_version()?;
        let temps = self.temps();
        if temps.exists() {
            self.disk.remove_folder(&temps).at(&temps)?;
        }
        for folder in [self.blobs(), self.published_folder(), self.pins(), self.arrived_folder(), temps] {
            match self.disk.make_folder(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(StoreError::io(&folder, error)),
                _ => {}
            }
        }
        let version = self.root.join("version");
        let existed = version.exists();
        if !existed {
            self.write_whole(&version, format!("{FORMAT}\n").as_bytes())?;
        }
        Ok(existed)
    }

    fn check_version(&self) -> Result<(), StoreError> {
        let path = self.root.join("version");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(StoreError::io(&path, error)),
        };
        match text.trim().parse::<u32>() {
            Ok(found) if found <= FORMAT => Ok(()),
            Ok(found) => Err(StoreError::Newer { dir: self.root.clone(), found, known: FORMAT }),
            Err(_) => Err(StoreError::NotAStore { path }),
        }
    }

    /// Makes the folder a blob's files lie in.
    pub(super) fn make_blob_folder(&self, hash: BlobHash) -> Result<(), StoreError> {
        let path = self.data(hash);
        let folder = path.parent().expect("a blob's file lies in a folder");
        match self.disk.make_folder(folder) {
            Ok(()) => self.sync_folder(&self.blobs()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(StoreError::io(folder, error)),
        }
    }

    /// Replaces a file by new contents: after a crash it holds the old ones or the new ones, whole.
    pub(super) fn write_whole(&self, path: &Path, contents: &[u8]) -> Result<(), StoreError> {
        let temp = self.temp();
        if let Err(error) = self.disk.write_new(&temp, contents).and_then(|file| file.sync()) {
            // What is left of it is cleared at the next start at the latest.
            let _ = self.disk.remove_file(&temp);
            return Err(StoreError::io(&temp, error));
        }
        self.move_into_place(&temp, path)
    }

    /// Gives a synced temporary file its name, and makes the name durable.
    pub(super) fn move_into_place(&self, temp: &Path, path: &Path) -> Result<(), StoreError> {
        self.disk.rename(temp, path).at(path)?;
        self.sync_folder_of(path)
    }

    /// Makes the names in a folder durable.
    pub(super) fn sync_folder(&self, folder: &Path) -> Result<(), StoreError> {
        self.disk.sync_folder(folder).at(folder)
    }

    /// Makes the name of a file durable.
    pub(super) fn sync_folder_of(&self, path: &Path) -> Result<(), StoreError> {
        self.sync_folder(path.parent().unwrap_or(Path::new("/")))
    }

    /// Removes a file; says whether there was one.
    pub(super) fn remove_if_there(&self, path: &Path) -> Result<bool, StoreError> {
        match self.disk.remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io(path, error)),
        }
    }

    /// Removes a file for good: what comes after this never meets it again, not even after a power cut. Says whether there was one.
    pub(super) fn remove_durably(&self, path: &Path) -> Result<bool, StoreError> {
        let removed = self.remove_if_there(path)?;
        if removed {
            self.sync_folder_of(path)?;
        }
        Ok(removed)
    }

    /// Makes everything durable that was written to the store's file system; `false` where there is no such call.
    pub(super) fn sync_file_system(&self) -> Result<bool, StoreError> {
        self.disk.sync_file_system(&self.root).at(&self.root)
    }
}

/// The hash in a name like `<hash>.data`, and what follows the dot.
pub(super) fn parse_name(path: &Path) -> Option<(BlobHash, &str)> {
    let (hash, part) = path.file_name()?.to_str()?.split_once('.')?;
    Some((hash.parse().ok()?, part))
}

/// The files of a folder; an unreadable name is an error of that folder.
pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(folder).at(folder)?;
    entries.map(|entry| entry.map(|entry| entry.path()).at(folder)).collect()
}
