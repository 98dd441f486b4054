//! Putting a complete blob under its final name, outside of the store. The destination's folders are walked by handle, one component at
//! a time: a symbolic link below the output root, planted or accidental, never leads the file elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use p2pweights_protocol::geometry::Geometry;
use p2pweights_protocol::ids::BlobHash;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;
use tracing::debug;

use super::Store;
use super::check::last_group;
use super::disk::{Disk, DiskFile, DiskFolder, file_bytes};
use super::error::StoreError;
use super::reader::{BlobReader, FromStart};
use super::small::{FEW, is_small};

/// Bytes copied at a time.
const COPY_BYTES: usize = 256 * 1024;

/// Folders kept open for more files: most models have fewer, and a process may have a thousand files open.
const FOLDERS_OPEN: usize = 64;

/// How a blob got to its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Export {
    /// A second name for the store's file: no bytes were copied, and writing to either writes to both.
    Linked,
    /// A file of its own whose blocks are the store's until either is written to (a reflink): no bytes were copied.
    Shared,
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

impl ExportError {
    /// A full disk is its own kind of trouble.
    fn io(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::io(path, source).into(),
            _ => Self::Io { path: path.to_owned(), source },
        }
    }
}

impl Store {
    /// Puts a blob of which every group is proved at `root/relative`; the last groups need not be synced yet. Makes the folders on the
    /// way. What is there already is kept unless it is the same or `force` is set; a folder is never replaced.
    pub fn export(&self, hash: BlobHash, root: &Path, relative: &str, force: bool) -> Result<Export, ExportError> {
        let mut exports = self.exports(root, force);
        let export = exports.place(hash, relative)?;
        exports.finish()?;
        Ok(export)
    }

    /// The same for many blobs: what is placed is durable after [`Exports::finish`].
    pub fn exports(&self, root: &Path, force: bool) -> Exports {
        Exports {
            store: self.clone(),
            root: root.to_owned(),
            force,
            shares: true,
            open: BTreeMap::new(),
            touched: BTreeSet::new(),
        }
    }

    /// Makes a file that shares the blocks of a stored blob, if nothing has the name; `false` if it takes something else. Small blobs are
    /// not worth it: each would have to be synced by itself. `works` says whether the file system can do it at all.
    fn share(&self, hash: BlobHash, destination: &Destination, works: &mut bool) -> Result<bool, ExportError> {
        let slot = self.shared.slot(hash).ok_or(StoreError::Missing(hash))?;
        let state = slot.state();
        if !state.is_whole() {
            return Err(StoreError::Missing(hash).into());
        }
        if state.reference().is_some() || is_small(state.geometry) || destination.existing()?.is_some() {
            return Ok(false);
        }
        let temp = leftover(hash);
        destination.remove_leftover(&temp)?;
        // With the lock held, so that the file keeps its name meanwhile.
        let source = self.shared.layout.data(hash);
        self.check_length(hash, state.geometry, &source)?;
        if destination.folder.share(&source, &temp).is_err() {
            *works = false;
            return Ok(false);
        }
        let renamed = destination.rename(&temp, false);
        destination.remove_leftover(&temp)?;
        renamed.map(|()| true)
    }

    /// Gives a stored blob the name if nothing has it; `false` if that takes more than a link.
    fn link(&self, hash: BlobHash, destination: &Destination) -> Result<bool, ExportError> {
        let slot = self.shared.slot(hash).ok_or(StoreError::Missing(hash))?;
        let state = slot.state();
        if !state.is_whole() {
            return Err(StoreError::Missing(hash).into());
        }
        if state.reference().is_some() {
            return Ok(false);
        }
        // With the lock held, so that the file keeps its name meanwhile.
        let source = state.arrived.clone().unwrap_or_else(|| self.shared.layout.data(hash));
        self.check_length(hash, state.geometry, &source)?;
        Ok(destination.folder.link(&source, &destination.name).is_ok())
    }

    /// Whether a stored file is as long as its blob: nobody has written beyond its end.
    fn check_length(&self, hash: BlobHash, geometry: Geometry, file: &Path) -> Result<(), ExportError> {
        let found = file_bytes(file).map_err(|source| StoreError::io(file, source))?;
        match last_group(geometry).filter(|_| found != Some(geometry.size())) {
            None => Ok(()),
            Some(span) => Err(StoreError::Damaged { hash, span }.into()),
        }
    }

    fn export_to(&self, hash: BlobHash, destination: &Destination, force: bool) -> Result<Export, ExportError> {
        if self.link(hash, destination)? {
            return Ok(Export::Linked);
        }
        let reader = self.reader(hash)?;
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
                FileType::Directory => return Err(ExportError::Exists(destination.path.clone())),
                _ if !force => return Err(ExportError::Exists(destination.path.clone())),
                _ => {}
            },
        }
        let temp = leftover(hash);
        destination.remove_leftover(&temp)?;
        let result = destination.fill(self, &reader, &temp).and_then(|export| destination.rename(&temp, force).map(|()| export));
        // Renaming one of two names of a file onto the other leaves both, and after an error there may be half a file.
        destination.remove_leftover(&temp)?;
        let export = result?;
        debug!(hash = %hash.short(), path = %destination.path.display(), ?export, "exported");
        Ok(export)
    }
}

/// Blobs being exported below one folder.
#[derive(Debug)]
pub struct Exports {
    store: Store,
    root: PathBuf,
    force: bool,
    /// The file system may be one that shares blocks: not if it once did not.
    shares: bool,
    /// Folders that are open, by their names below the root: files become complete in any order.
    open: BTreeMap<String, Arc<DiskFolder>>,
    /// Folders in which names are not durable yet.
    touched: BTreeSet<String>,
}

impl Exports {
    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Like [`Store::export`], but not durable until the end.
    pub fn place(&mut self, hash: BlobHash, relative: &str) -> Result<Export, ExportError> {
        let destination = self.destination(relative)?;
        let shared = self.shares && self.store.share(hash, &destination, &mut self.shares)?;
        if shared { Ok(Export::Shared) } else { self.store.export_to(hash, &destination, self.force) }
    }

    /// Makes a symbolic link at a name, in place of another link or of a file that is not the blob; a file that is stays.
    pub fn symlink(&mut self, hash: BlobHash, size: u64, relative: &str, target: &str) -> Result<(), ExportError> {
        let destination = self.destination(relative)?;
        match destination.existing()?.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Some(FileType::Symlink) if destination.links_to(target)? => return Ok(()),
            Some(FileType::RegularFile) if destination.holds(hash, size)? => return Ok(()),
            Some(FileType::Directory) => return Err(ExportError::Exists(destination.path.clone())),
            _ => {}
        }
        let temp = leftover(hash);
        destination.remove_leftover(&temp)?;
        destination.folder.symlink(target, &temp).map_err(|error| destination.error(error))?;
        destination.rename(&temp, true)
    }

    /// Makes a file with these contents, in place of what has the name; whoever reads it meanwhile sees the old ones or the new ones.
    pub fn write_whole(&mut self, relative: &str, contents: &[u8]) -> Result<(), ExportError> {
        let destination = self.destination(relative)?;
        let temp = leftover(BlobHash::of(contents));
        destination.remove_leftover(&temp)?;
        let mut file = destination.folder.create_new(&temp).map_err(|error| destination.error(error))?;
        file.write_all(contents).and_then(|()| file.sync()).map_err(|error| destination.error(error))?;
        destination.rename(&temp, true)
    }

    /// The same if nothing has the name.
    pub fn write_new(&mut self, relative: &str, contents: &[u8]) -> Result<(), ExportError> {
        match self.destination(relative)?.existing()? {
            Some(_) => Ok(()),
            None => self.write_whole(relative, contents),
        }
    }

    /// Opens the folder of a name, and remembers that names in it are to be made durable.
    fn destination(&mut self, relative: &str) -> Result<Destination, ExportError> {
        let folder = relative.rsplit_once('/').map_or("", |(folder, _)| folder);
        let destination = Destination::open(self.disk(), &self.root, relative, self.open.get(folder).cloned())?;
        if !self.open.contains_key(folder) {
            if self.open.len() >= FOLDERS_OPEN {
                self.open.clear();
            }
            self.open.insert(folder.to_owned(), Arc::clone(&destination.folder));
        }
        // Folders above may be new, too.
        let mut above = Some(folder);
        while let Some(folder) = above
            && !self.touched.contains(folder)
        {
            self.touched.insert(folder.to_owned());
            above = (!folder.is_empty()).then(|| folder.rsplit_once('/').map_or("", |(above, _)| above));
        }
        Ok(destination)
    }

    fn disk(&self) -> &Disk {
        self.store.shared.layout.disk()
    }

    /// Makes all names durable.
    pub fn finish(self) -> Result<(), ExportError> {
        let at_root = |source| StoreError::io(&self.root, source);
        if self.touched.len() > FEW && self.disk().sync_file_system(&self.root).map_err(at_root)? {
            return Ok(());
        }
        for folder in &self.touched {
            let components: Vec<&str> = folder.split('/').filter(|name| !name.is_empty()).collect();
            let open = open_folder(self.disk(), &self.root, &components)?;
            open.sync().map_err(|source| ExportError::Io { path: self.root.join(folder), source })?;
        }
        Ok(())
    }
}

/// The name of a blob that is not in its place yet; after a crash, a file of that name is left over.
fn leftover(hash: BlobHash) -> String {
    format!(".p2pweights-{}.part", hash.short())
}

fn same_file(stat: &rustix::fs::Stat, file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (stat.st_dev, stat.st_ino))
}

/// Opens a folder below the root, and makes those on the way. No component may be a link; the root is the user's choice: it may.
fn open_folder(disk: &Disk, root: &Path, components: &[&str]) -> Result<DiskFolder, ExportError> {
    disk.make_folders(root).map_err(|error| ExportError::io(root, error))?;
    let mut folder = disk.open_folder(root).map_err(|error| ExportError::io(root, error))?;
    let mut path = root.to_owned();
    for component in components {
        path.push(component);
        folder.make_folder(component).map_err(|error| ExportError::io(&path, error))?;
        folder = match folder.open_folder(component) {
            Ok(folder) => folder,
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::LOOP | Errno::NOTDIR) => return Err(ExportError::NotAFolder(path)),
                _ => return Err(ExportError::io(&path, error)),
            },
        };
    }
    Ok(folder)
}

/// A name in a folder that is held open.
struct Destination {
    folder: Arc<DiskFolder>,
    name: String,
    /// For messages only.
    path: PathBuf,
}

impl Destination {
    /// `folder`: the folder, if it is open already.
    fn open(disk: &Disk, root: &Path, relative: &str, folder: Option<Arc<DiskFolder>>) -> Result<Self, ExportError> {
        let bad = || ExportError::BadName(relative.to_owned());
        let components: Vec<&str> = relative.split('/').collect();
        if components.iter().any(|name| matches!(*name, "" | "." | "..") || name.contains(['\0', '\\'])) {
            return Err(bad());
        }
        let (name, folders) = components.split_last().ok_or_else(bad)?;
        let folder = match folder {
            Some(folder) => folder,
            None => Arc::new(open_folder(disk, root, folders)?),
        };
        Ok(Self { folder, name: (*name).to_owned(), path: root.join(relative) })
    }

    fn error(&self, source: impl Into<io::Error>) -> ExportError {
        ExportError::io(&self.path, source.into())
    }

    /// What has the name now, links not followed.
    fn existing(&self) -> Result<Option<rustix::fs::Stat>, ExportError> {
        match rustix::fs::statat(self.folder.handle(), &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.error(error)),
        }
    }

    /// Whether the link there leads to this.
    fn links_to(&self, target: &str) -> Result<bool, ExportError> {
        let found = rustix::fs::readlinkat(self.folder.handle(), &self.name, Vec::new()).map_err(|error| self.error(error))?;
        Ok(found.to_bytes() == target.as_bytes())
    }

    /// Whether the file there is this blob.
    fn holds(&self, hash: BlobHash, size: u64) -> Result<bool, ExportError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(self.folder.handle(), &self.name, flags, Mode::empty()).map_err(|error| self.error(error))?;
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
            let slot = store.shared.slot(reader.hash()).ok_or(StoreError::Missing(reader.hash()))?;
            let state = slot.state();
            let source = state.arrived.clone().unwrap_or_else(|| store.shared.layout.data(reader.hash()));
            match self.folder.link(&source, temp) {
                Ok(()) => return Ok(Export::Linked),
                Err(error) => match Errno::from_io_error(&error) {
                    // Another file system, or one without links, or too many of them.
                    Some(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP | Errno::NOSYS) => {}
                    _ => return Err(self.error(error)),
                },
            }
        }
        let file = self.folder.create_new(temp).map_err(|error| self.error(error))?;
        self.copy(store, reader, file)?;
        Ok(Export::Copied)
    }

    /// Copies and hashes: what is not the blob never gets its name.
    fn copy(&self, store: &Store, reader: &BlobReader, mut file: DiskFile) -> Result<(), ExportError> {
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
        file.sync().map_err(|error| self.error(error))
    }

    fn rename(&self, temp: &str, force: bool) -> Result<(), ExportError> {
        let (folder, name) = (&self.folder, self.name.as_str());
        if force {
            return folder.rename(temp, name).map_err(|error| self.error(error));
        }
        let Err(error) = folder.rename_to_free(temp, name) else { return Ok(()) };
        match Errno::from_io_error(&error) {
            Some(Errno::EXIST) => Err(ExportError::Exists(self.path.clone())),
            // A file system that cannot promise it: look first, the next best.
            Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match self.existing()? {
                Some(_) => Err(ExportError::Exists(self.path.clone())),
                None => folder.rename(temp, name).map_err(|error| self.error(error)),
            },
            _ => Err(self.error(error)),
        }
    }

    fn remove_leftover(&self, temp: &str) -> Result<(), ExportError> {
        match self.folder.remove_file(temp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error(error)),
            _ => Ok(()),
        }
    }
}
