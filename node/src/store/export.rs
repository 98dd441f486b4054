//! Putting a complete blob under its final name, outside of the store. The destination's folders are walked by handle, one component at
//! a time: a symbolic link below the output root, planted or accidental, never leads the file elsewhere.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use p2pweights_protocol::ids::BlobHash;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use thiserror::Error;
use tracing::debug;

use super::Store;
use super::error::StoreError;
use super::reader::{BlobReader, FromStart};

/// Bytes copied at a time.
const COPY_BYTES: usize = 256 * 1024;

/// How a blob got to its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Export {
    /// A second name for the store's file: no bytes were copied, and writing to either writes to both.
    Linked,
    /// A copy, hashed on the way.
    Copied,
    /// The blob is served from this very file.
    InPlace,
    /// The same bytes were there already.
    AlreadyThere,
}

/// Why a blob was not exported.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The name would lead out of the output folder, or is none.
    #[error("{0:?} is not a plain relative path")]
    BadName(String),
    /// A symbolic link, or something else that is no folder, stands where a folder should be.
    #[error("{} is a symbolic link or not a folder; nothing is written through it", .0.display())]
    NotAFolder(PathBuf),
    /// Something else has this name.
    #[error("{} exists with other contents; move it away or overwrite it by force", .0.display())]
    Exists(PathBuf),
    /// The destination could not be used.
    #[error("{} could not be written", path.display())]
    Io {
        /// The destination.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store's trouble.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Puts a blob of which every group is proved at `root/relative`; the last groups need not be synced yet. Makes the folders on the
    /// way. What is there already is kept unless it is the same or `force` is set; a folder is never replaced.
    pub fn export(&self, hash: BlobHash, root: &Path, relative: &str, force: bool) -> Result<Export, ExportError> {
        let reader = self.reader(hash)?;
        if !self.shared.slot(hash).is_some_and(|slot| slot.state().is_whole()) {
            return Err(StoreError::Missing(hash).into());
        }
        let destination = Destination::open(root, relative)?;
        match destination.existing()? {
            None => {}
            Some(stat) if same_file(&stat, reader.data()) => {
                // Two names of one file: whoever wrote to the one has written to the other.
                let size = reader.geometry().size();
                if !destination.holds(hash, size)? {
                    let span = reader.geometry().whole().ok_or(StoreError::Missing(hash))?;
                    self.quarantine(hash, span)?;
                    return Err(StoreError::Damaged { hash, span }.into());
                }
                return Ok(if reader.is_reference() { Export::InPlace } else { Export::AlreadyThere });
            }
            Some(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile if destination.holds(hash, reader.geometry().size())? => return Ok(Export::AlreadyThere),
                FileType::Directory => return Err(ExportError::Exists(destination.path)),
                _ if !force => return Err(ExportError::Exists(destination.path)),
                _ => {}
            },
        }
        let temp = format!(".p2pweights-{}.part", hash.short());
        destination.remove_leftover(&temp)?;
        let result = destination.fill(self, &reader, &temp).and_then(|export| destination.rename(&temp, force).map(|()| export));
        // Renaming one of two names of a file onto the other leaves both, and after an error there may be half a file.
        destination.remove_leftover(&temp)?;
        let export = result?;
        destination.sync_folder()?;
        debug!(hash = %hash.short(), path = %destination.path.display(), ?export, "exported");
        Ok(export)
    }
}

fn same_file(stat: &rustix::fs::Stat, file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (stat.st_dev, stat.st_ino))
}

/// A name in a folder that is held open.
struct Destination {
    folder: OwnedFd,
    name: String,
    /// For messages only.
    path: PathBuf,
}

impl Destination {
    fn open(root: &Path, relative: &str) -> Result<Self, ExportError> {
        let bad = || ExportError::BadName(relative.to_owned());
        let components: Vec<&str> = relative.split('/').collect();
        if components.iter().any(|name| matches!(*name, "" | "." | "..") || name.contains(['\0', '\\'])) {
            return Err(bad());
        }
        let (name, folders) = components.split_last().ok_or_else(bad)?;
        fs::create_dir_all(root).map_err(|source| ExportError::Io { path: root.to_owned(), source })?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let io_error = |path: &Path, error: Errno| ExportError::Io { path: path.to_owned(), source: error.into() };
        // The root is the user's choice: it may well be a link.
        let mut folder = rustix::fs::open(root, flags, Mode::empty()).map_err(|error| io_error(root, error))?;
        let mut path = root.to_owned();
        for component in folders {
            path.push(component);
            match rustix::fs::mkdirat(&folder, *component, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(io_error(&path, error)),
            }
            folder = match rustix::fs::openat(&folder, *component, flags | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(folder) => folder,
                Err(Errno::LOOP | Errno::NOTDIR) => return Err(ExportError::NotAFolder(path)),
                Err(error) => return Err(io_error(&path, error)),
            };
        }
        path.push(name);
        Ok(Self { folder, name: (*name).to_owned(), path })
    }

    fn error(&self, source: impl Into<io::Error>) -> ExportError {
        let source = source.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::io(&self.path, source).into(),
            _ => ExportError::Io { path: self.path.clone(), source },
        }
    }

    /// What has the name now, links not followed.
    fn existing(&self) -> Result<Option<rustix::fs::Stat>, ExportError> {
        match rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.error(error)),
        }
    }

    /// Whether the file there is this blob.
    fn holds(&self, hash: BlobHash, size: u64) -> Result<bool, ExportError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty()).map_err(|error| self.error(error))?;
        let file = File::from(file);
        if file.metadata().map_err(|error| self.error(error))?.len() != size {
            return Ok(false);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&file).map_err(|error| self.error(error))?;
        Ok(BlobHash(*hasher.finalize().as_bytes()) == hash)
    }

    /// Makes the blob appear under a temporary name: as a link if the store's file can have one, else as a copy.
    fn fill(&self, store: &Store, reader: &BlobReader, temp: &str) -> Result<Export, ExportError> {
        if !reader.is_reference() {
            let source = store.shared.layout.data(reader.hash());
            match rustix::fs::linkat(rustix::fs::CWD, &source, &self.folder, temp, AtFlags::empty()) {
                Ok(()) => return Ok(Export::Linked),
                // Another file system, or one without links, or too many of them.
                Err(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(error) => return Err(self.error(error)),
            }
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(&self.folder, temp, flags, Mode::from_raw_mode(0o666)).map_err(|error| self.error(error))?;
        self.copy(store, reader, File::from(file))?;
        Ok(Export::Copied)
    }

    /// Copies and hashes: what is not the blob never gets its name.
    fn copy(&self, store: &Store, reader: &BlobReader, mut file: File) -> Result<(), ExportError> {
        let source_path = store.shared.layout.data(reader.hash());
        let mut source = FromStart::of(reader.data());
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let count = source.read(&mut buffer).map_err(|error| StoreError::io(&source_path, error))?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(|error| self.error(error))?;
        }
        reader.check_stamp().map_err(|error| error.of_store(reader.hash(), &source_path))?;
        if hasher.finalize().as_bytes() != reader.hash().as_bytes() {
            let whole = reader.geometry().whole().ok_or(StoreError::Missing(reader.hash()))?;
            return Err(StoreError::Damaged { hash: reader.hash(), span: whole }.into());
        }
        file.sync_all().map_err(|error| self.error(error))
    }

    fn rename(&self, temp: &str, force: bool) -> Result<(), ExportError> {
        let (folder, name) = (&self.folder, self.name.as_str());
        if force {
            return rustix::fs::renameat(folder, temp, folder, name).map_err(|error| self.error(error));
        }
        match rustix::fs::renameat_with(folder, temp, folder, name, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(ExportError::Exists(self.path.clone())),
            // A file system that cannot promise it: look first, the next best.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match self.existing()? {
                Some(_) => Err(ExportError::Exists(self.path.clone())),
                None => rustix::fs::renameat(folder, temp, folder, name).map_err(|error| self.error(error)),
            },
            Err(error) => Err(self.error(error)),
        }
    }

    fn remove_leftover(&self, temp: &str) -> Result<(), ExportError> {
        match rustix::fs::unlinkat(&self.folder, temp, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.error(error)),
        }
    }

    fn sync_folder(&self) -> Result<(), ExportError> {
        rustix::fs::fsync(&self.folder).map_err(|error| self.error(error))
    }
}
