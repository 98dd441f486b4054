//! Tests only: what a test may do to the disk under a store. It is slow, fails, is full, or is dead; and all that is done to it can be
//! put on tape.

mod brake;
mod tape;

use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::io::Errno;

use super::{DiskFile, Verb};
use crate::store::locked;
use crate::store::tests::crash::catalog::MemoryCatalog;
pub(crate) use brake::Brake;
pub(in crate::store) use tape::{FileId, Node, Step, Tape};

/// How verbs fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Trouble {
    /// Whatever takes room is refused; a write may get half of it.
    Full,
    /// Nothing works.
    Broken,
}

/// From which verb on, and whether the disk gets well again at once.
#[derive(Debug, Clone, Copy)]
struct Fault {
    verb: u64,
    trouble: Trouble,
    lasting: bool,
}

/// A disk that does what a test wants.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    /// How fast payload is written.
    pub(crate) brake: Brake,
    /// Nothing can be made durable.
    pub(crate) fail_syncs: AtomicBool,
    /// Changes so far.
    verbs: AtomicU64,
    fault: Mutex<Option<Fault>>,
    /// The process that owned the store is gone: whatever else its code does is not done.
    dead: AtomicBool,
    /// The change before which that happens; 0 for none.
    dies_at: AtomicU64,
    tape: Mutex<Option<Tape>>,
    /// Instead of the one of sled, which is no matter of ours and slow to open.
    catalog: Mutex<Option<MemoryCatalog>>,
}

impl Stage {
    /// Without sled, which takes most of the time to open a small store.
    pub(in crate::store) fn with_catalog(catalog: MemoryCatalog) -> Self {
        Self { catalog: Mutex::new(Some(catalog)), ..Self::default() }
    }

    pub(in crate::store) fn catalog(&self) -> Option<MemoryCatalog> {
        locked(&self.catalog).clone()
    }

    /// From now on, everything below this folder is put on tape.
    pub(in crate::store) fn record(&self, root: &Path) {
        *locked(&self.tape) = Some(Tape::of(root, self.catalog().unwrap_or_default()));
    }

    /// What is on the tape.
    pub(in crate::store) fn tape(&self) -> impl std::ops::DerefMut<Target = Option<Tape>> {
        locked(&self.tape)
    }

    /// Changes so far.
    pub(in crate::store) fn verbs(&self) -> u64 {
        self.verbs.load(Ordering::Relaxed)
    }

    /// The change with this number fails, and if it lasts all that come after it.
    pub(in crate::store) fn fail(&self, verb: u64, trouble: Trouble, lasting: bool) {
        *locked(&self.fault) = Some(Fault { verb, trouble, lasting });
    }

    /// The disk is well again.
    pub(in crate::store) fn mend(&self) {
        *locked(&self.fault) = None;
    }

    /// Nothing that is done from now on is done to the disk.
    pub(in crate::store) fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    /// That happens at the change with this number.
    pub(in crate::store) fn die_at(&self, verb: u64) {
        self.dies_at.store(verb, Ordering::Relaxed);
    }

    pub(in crate::store) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Another process begins.
    pub(in crate::store) fn revive(&self) {
        self.dead.store(false, Ordering::Relaxed);
    }

    pub(super) fn id_of(&self, path: &Path) -> FileId {
        locked(&self.tape).as_ref().map_or(0, |tape| tape.id_of(path))
    }

    pub(super) fn act<T>(&self, verb: &Verb<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.is_dead() {
            return Err(Errno::IO.into());
        }
        let number = self.verbs.fetch_add(1, Ordering::Relaxed) + 1;
        if number == self.dies_at.load(Ordering::Relaxed) {
            self.die();
            return Err(Errno::IO.into());
        }
        let fault = locked(&self.fault).filter(|fault| number == fault.verb || (fault.lasting && number > fault.verb));
        match fault.map(|fault| fault.trouble) {
            Some(Trouble::Full) => self.refuse_room(verb)?,
            Some(Trouble::Broken) => {
                self.tell(|tape| tape.failed(verb));
                return Err(Errno::IO.into());
            }
            None => {}
        }
        match verb {
            Verb::Write { file, bytes, .. } if file.path.extension().is_some_and(|part| part == "data") => {
                self.brake.pass(bytes.len() as u64);
            }
            Verb::Sync { .. } | Verb::SyncPath { .. } | Verb::SyncFileSystem if self.fail_syncs.load(Ordering::Relaxed) => {
                self.tell(|tape| tape.failed(verb));
                return Err(Errno::IO.into());
            }
            _ => {}
        }
        let mut tape = locked(&self.tape);
        if tape.is_none() {
            // Writers do not wait for one another.
            drop(tape);
            return act();
        }
        let before = tape.as_ref().map(|tape| tape.look(verb));
        let done = act()?;
        if let (Some(tape), Some(before)) = (tape.as_mut(), before) {
            tape.done(verb, before);
        }
        Ok(done)
    }

    fn tell(&self, tell: impl FnOnce(&mut Tape)) {
        if let Some(tape) = locked(&self.tape).as_mut() {
            tell(tape);
        }
    }

    /// There is no more room: of a write, half.
    fn refuse_room(&self, verb: &Verb<'_>) -> io::Result<()> {
        match verb {
            Verb::Write { file, bytes, offset } => {
                let half = &bytes[..bytes.len() / 2];
                std::os::unix::fs::FileExt::write_all_at(&file.file, half, *offset)?;
                self.tell(|tape| tape.written(file, half, *offset));
            }
            Verb::Open { path } if path.exists() => return Ok(()),
            Verb::Create { .. } | Verb::Open { .. } | Verb::Copy { .. } | Verb::Link { .. } => {}
            Verb::Rename { .. } | Verb::MakeFolder { .. } => {}
            _ => return Ok(()),
        }
        Err(Errno::NOSPC.into())
    }
}

impl DiskFile {
    fn id(&self) -> FileId {
        self.id
    }
}
