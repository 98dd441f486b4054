//! The disk as the store changes it. Every verb that makes, writes, names, removes or syncs a file of the store goes through here, so that
//! tests can play a disk that is slow, fails, fills up, or forgets what was not synced. Reading goes past it, and so does sled in its own
//! folder. Knows no blob.

#[cfg(test)]
pub(crate) mod stage;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use tracing::warn;

use super::locked;

/// One change, as a test sees it before and after it is made.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "only a stage looks into them"))]
pub(super) enum Verb<'a> {
    /// A file that was not there.
    Create {
        path: &'a Path,
    },
    /// A file opened for writing, made if it was not there.
    Open {
        path: &'a Path,
    },
    Write {
        file: &'a DiskFile,
        bytes: &'a [u8],
        offset: u64,
    },
    SetLen {
        file: &'a DiskFile,
        bytes: u64,
    },
    Sync {
        file: &'a DiskFile,
    },
    SyncPath {
        path: &'a Path,
    },
    /// A file of the same contents under another name, which nothing has.
    Copy {
        to: &'a Path,
    },
    Link {
        from: &'a Path,
        to: &'a Path,
    },
    Rename {
        from: &'a Path,
        to: &'a Path,
    },
    Remove {
        path: &'a Path,
    },
    MakeFolder {
        path: &'a Path,
    },
    RemoveFolder {
        path: &'a Path,
    },
    SyncFolder {
        path: &'a Path,
    },
    SyncFileSystem,
}

/// Whoever may write to the directory must not lead us elsewhere: a link where a file should be is an error.
const NOT_THROUGH_LINKS: i32 = OFlags::NOFOLLOW.bits().cast_signed();

/// Opens a file of the store for reading. A link, a folder or a pipe in its place is an error.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(Errno::ISDIR.into()) }
}

/// How long a file of the store is; `None` if there is none, also if there is something else in its place.
pub(super) fn file_bytes(path: &Path) -> io::Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
        Ok(_) => {
            warn!(path = %path.display(), "this is no file: move it away");
            Ok(None)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A handle to the disk. In tests all that is done through one handle and its clones plays on one stage; else it is nothing at all.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    stage: std::sync::Arc<stage::Stage>,
}

impl Disk {
    #[cfg(test)]
    pub(super) fn on(stage: std::sync::Arc<stage::Stage>) -> Self {
        Self { stage }
    }

    #[cfg(test)]
    pub(super) fn stage(&self) -> &std::sync::Arc<stage::Stage> {
        &self.stage
    }

    #[cfg(test)]
    fn act<T>(&self, verb: Verb<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.stage.act(&verb, act)
    }

    #[cfg(not(test))]
    #[inline]
    fn act<T>(&self, _: Verb<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        act()
    }

    fn file(&self, path: &Path, file: File) -> DiskFile {
        let _ = path;
        DiskFile {
            file,
            position: 0,
            writing: Mutex::default(),
            disk: self.clone(),
            #[cfg(test)]
            path: path.to_owned(),
            #[cfg(test)]
            id: self.stage.id_of(path),
        }
    }

    /// Makes a file that is not there.
    pub(super) fn create_new(&self, path: &Path) -> io::Result<DiskFile> {
        let file = self.act(Verb::Create { path }, || OpenOptions::new().read(true).write(true).create_new(true).open(path))?;
        Ok(self.file(path, file))
    }

    /// Opens a file for reading and writing; makes it if it is not there.
    pub(super) fn open_or_create(&self, path: &Path) -> io::Result<DiskFile> {
        let options =
            || OpenOptions::new().read(true).write(true).create(true).truncate(false).custom_flags(NOT_THROUGH_LINKS).open(path);
        let file = self.act(Verb::Open { path }, options)?;
        Ok(self.file(path, file))
    }

    /// Opens a file for writing that is there.
    pub(super) fn open_existing(&self, path: &Path) -> io::Result<DiskFile> {
        Ok(self.file(path, OpenOptions::new().read(true).write(true).custom_flags(NOT_THROUGH_LINKS).open(path)?))
    }

    /// Makes a file with these contents. What is left of it after an error is removed, as far as that goes.
    pub(super) fn write_new(&self, path: &Path, contents: &[u8]) -> io::Result<DiskFile> {
        let mut file = self.create_new(path)?;
        match file.write_all(contents) {
            Ok(()) => Ok(file),
            Err(error) => {
                let _ = self.remove_file(path);
                Err(error)
            }
        }
    }

    /// Copies a file to a name that is free; the file system may let both share their blocks.
    pub(super) fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.act(Verb::Copy { to }, || fs::copy(from, to).map(drop))
    }

    /// Makes a file's bytes durable.
    pub(super) fn sync_path(&self, path: &Path) -> io::Result<()> {
        self.act(Verb::SyncPath { path }, || File::open(path)?.sync_all())
    }

    /// Gives a file another name, in place of what has it.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.act(Verb::Rename { from, to }, || fs::rename(from, to))
    }

    /// Removes a file's name.
    pub(super) fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.act(Verb::Remove { path }, || fs::remove_file(path))
    }

    /// Makes a folder that is not there.
    pub(super) fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.act(Verb::MakeFolder { path }, || fs::create_dir(path))
    }

    /// Makes a folder and those above it, durably, unless they are there.
    pub(super) fn make_folders(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let above = path.parent().filter(|above| !above.as_os_str().is_empty());
        above.map_or(Ok(()), |above| self.make_folders(above))?;
        match self.make_folder(path) {
            // A link to a folder is one, too.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => return Err(error),
            _ => {}
        }
        self.sync_folder(above.unwrap_or(Path::new(".")))
    }

    /// Removes a folder and everything in it, links not followed.
    pub(super) fn remove_folder(&self, path: &Path) -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() { self.remove_folder(&entry.path())? } else { self.remove_file(&entry.path())? }
        }
        self.act(Verb::RemoveFolder { path }, || fs::remove_dir(path))
    }

    /// Makes the names in a folder durable.
    pub(super) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.act(Verb::SyncFolder { path }, || File::open(path)?.sync_all())
    }

    /// Makes everything durable that was done on the file system of this folder; `false` where there is no such call.
    pub(super) fn sync_file_system(&self, folder: &Path) -> io::Result<bool> {
        #[cfg(target_os = "linux")]
        {
            // Opened before it is needed, so that an error since the last call is told, too.
            let file = File::open(folder)?;
            self.act(Verb::SyncFileSystem, || Ok(rustix::fs::syncfs(&file)?))?;
            Ok(true)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = folder;
            Ok(false)
        }
    }

    /// Opens a folder.
    pub(super) fn open_folder(&self, path: &Path) -> io::Result<DiskFolder> {
        let handle = rustix::fs::open(path, FOLDER, Mode::empty())?;
        Ok(DiskFolder { handle, path: path.to_owned(), disk: self.clone() })
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A file open for writing.
#[derive(Debug)]
pub(super) struct DiskFile {
    file: File,
    /// Where [`Write`] goes on.
    position: u64,
    /// Held while something is written. The system lets in one at a time, too, but whoever waits for it there keeps a processor busy.
    writing: Mutex<()>,
    disk: Disk,
    #[cfg(test)]
    path: PathBuf,
    /// Tells files apart that had one name after the other.
    #[cfg(test)]
    id: stage::FileId,
}

impl DiskFile {
    /// The file, for reading.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Its length, in bytes.
    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub(super) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let write = || {
            let _one_at_a_time = locked(&self.writing);
            self.file.write_all_at(bytes, offset)
        };
        self.disk.act(Verb::Write { file: self, bytes, offset }, write)
    }

    pub(super) fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.disk.act(Verb::SetLen { file: self, bytes }, || self.file.set_len(bytes))
    }

    /// Makes its bytes and its length durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.disk.act(Verb::Sync { file: self }, || self.file.sync_data())
    }
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all_at(bytes, self.position)?;
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A folder held open: names in it are found even if somebody puts a link where it was.
#[derive(Debug)]
pub(super) struct DiskFolder {
    handle: OwnedFd,
    /// For messages, and for tests; never to open anything.
    path: PathBuf,
    disk: Disk,
}

impl DiskFolder {
    /// The folder, for looking into it.
    pub(super) fn handle(&self) -> &OwnedFd {
        &self.handle
    }

    /// Makes a folder in it; says whether it is new.
    pub(super) fn make_folder(&self, name: &str) -> io::Result<bool> {
        let path = self.path.join(name);
        let make = || match rustix::fs::mkdirat(&self.handle, name, Mode::from_raw_mode(0o777)) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        };
        self.disk.act(Verb::MakeFolder { path: &path }, make)
    }

    /// Opens a folder in it; not through a link.
    pub(super) fn open_folder(&self, name: &str) -> io::Result<Self> {
        let handle = rustix::fs::openat(&self.handle, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        Ok(Self { handle, path: self.path.join(name), disk: self.disk.clone() })
    }

    /// Makes a file that is not there.
    pub(super) fn create_new(&self, name: &str) -> io::Result<DiskFile> {
        let path = self.path.join(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || Ok(File::from(rustix::fs::openat(&self.handle, name, flags, Mode::from_raw_mode(0o666))?));
        let file = self.disk.act(Verb::Create { path: &path }, create)?;
        Ok(self.disk.file(&path, file))
    }

    /// Gives a file a second name here, if nothing has it.
    pub(super) fn link(&self, from: &Path, name: &str) -> io::Result<()> {
        let to = self.path.join(name);
        let link = || Ok(rustix::fs::linkat(rustix::fs::CWD, from, &self.handle, name, AtFlags::empty())?);
        self.disk.act(Verb::Link { from, to: &to }, link)
    }

    /// Makes a symbolic link, if nothing has the name.
    pub(super) fn symlink(&self, target: &str, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        let link = || Ok(rustix::fs::symlinkat(target, &self.handle, name)?);
        self.disk.act(Verb::Create { path: &path }, link)
    }

    /// Makes a file that has another one's blocks, shared until either is written to (a reflink), durably, if nothing has the name and the
    /// file system can do that.
    pub(super) fn share(&self, from: &Path, name: &str) -> io::Result<()> {
        let to = self.path.join(name);
        let share = || {
            let source = File::open(from)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::openat(&self.handle, name, flags, Mode::from_raw_mode(0o666))?);
            let shared = share_blocks(&source, &file).and_then(|()| file.sync_all());
            if shared.is_err() {
                rustix::fs::unlinkat(&self.handle, name, AtFlags::empty())?;
            }
            shared
        };
        self.disk.act(Verb::Copy { to: &to }, share)
    }

    /// Gives a file here another name, in place of what has it.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename_with(from, to, RenameFlags::empty())
    }

    /// The same if nothing has it; not every file system can promise that.
    pub(super) fn rename_to_free(&self, from: &str, to: &str) -> io::Result<()> {
        self.rename_with(from, to, RenameFlags::NOREPLACE)
    }

    fn rename_with(&self, from: &str, to: &str, flags: RenameFlags) -> io::Result<()> {
        let (old, new) = (self.path.join(from), self.path.join(to));
        let rename = || match flags.is_empty() {
            true => Ok(rustix::fs::renameat(&self.handle, from, &self.handle, to)?),
            false => Ok(rustix::fs::renameat_with(&self.handle, from, &self.handle, to, flags)?),
        };
        self.disk.act(Verb::Rename { from: &old, to: &new }, rename)
    }

    /// Removes a name here.
    pub(super) fn remove_file(&self, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        let remove = || Ok(rustix::fs::unlinkat(&self.handle, name, AtFlags::empty())?);
        self.disk.act(Verb::Remove { path: &path }, remove)
    }

    /// Makes the names in it durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.disk.act(Verb::SyncFolder { path: &self.path }, || Ok(rustix::fs::fsync(&self.handle)?))
    }
}

#[cfg(target_os = "linux")]
fn share_blocks(from: &File, to: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(to, from)?)
}

#[cfg(not(target_os = "linux"))]
fn share_blocks(_: &File, _: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
