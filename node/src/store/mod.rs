//! The store: blobs in files, proved on the way in and on the way out, and nothing a crash can lose but what was in flight.
//!
//! Synchronous and thread-safe: call it from blocking threads. Files are the truth; the index only saves time. Knows no network and no
//! clock. Layout, order of durability and promises: `docs/store.md`.

mod check;
mod damage;
mod digests;
mod disk;
mod early_sync;
mod error;
mod export;
mod files;
mod hashing;
mod headroom;
mod index;
mod intake;
mod layout;
mod local;
mod lock;
mod parents;
mod pins;
mod progress;
mod publish;
mod published;
mod quota;
mod reader;
mod records;
mod scan;
mod sled_catalog;
mod slot;
mod small;
#[cfg(test)]
mod tests;
mod unproved;
mod usage;
mod uses;
mod wanted;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use p2pweights_protocol::geometry::Geometry;
use p2pweights_protocol::ids::{BlobHash, Sha256};
use p2pweights_protocol::limits;
use p2pweights_protocol::span_set::SpanSet;

pub use self::check::{BlobCheck, CheckStep, RebuildReport, VerifyReport};
pub use self::damage::{Loss, Repair};
pub use self::error::{ReadError, ReceiveError, StoreError};
pub use self::export::{Export, ExportError, Exports};
pub use self::intake::{Begun, FileId, Intake, IntakeError, Intakes, Taken};
pub use self::local::BeingRead;
pub use self::pins::{ImportRecord, PinRecord};
pub use self::publish::{PublishError, Published, Publisher};
pub use self::published::{FileStamp, PublishMode, PublishedRecord};
pub use self::quota::{MIN_QUOTA_BYTES, Need, Promise, QuotaUse};
pub use self::reader::BlobReader;
pub(crate) use self::slot::locked;
pub use self::slot::{BlobStatus, Location, Withdrawn};
pub use self::small::SmallSync;
pub use self::unproved::Unproved;
pub use self::usage::{BlobFilesUse, DiskUsage};
pub use self::wanted::WantedRecord;
pub use self::writer::{BlobWriter, Receipt};

use self::disk::Disk;
use self::error::AtPath;
use self::headroom::Headroom;
use self::index::Index;
use self::layout::Layout;
use self::lock::ProcessLock;
use self::quota::Quota;
use self::slot::{Slot, State};
use self::small::Arrivals;
use self::uses::Uses;
use self::writer::ScratchPool;

/// What can be set about a store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Bytes of free disk space which are never used, so that the machine and its logs live on. Default 256 MiB.
    pub reserve_bytes: u64,
    /// Most bytes that the directory takes on its disk, as `du` counts it. Default none.
    pub quota_bytes: Option<u64>,
    /// Largest blob, in bytes. Default [`limits::BLOB_BYTES`].
    pub blob_bytes_max: u64,
    /// Memory for the index's cache, in bytes. Default 16 MiB: the entries of 100,000 blobs.
    pub index_cache_bytes: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { reserve_bytes: 256 << 20, quota_bytes: None, blob_bytes_max: limits::BLOB_BYTES, index_cache_bytes: 16 << 20 }
    }
}

/// An open store. Clones share it; the last one to go closes it.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

/// What the clones, readers and writers share. No lock here is held while payload is read or written.
#[derive(Debug)]
struct Shared {
    layout: Layout,
    config: StoreConfig,
    blobs: RwLock<BTreeMap<BlobHash, Arc<Slot>>>,
    pins: Mutex<BTreeMap<BlobHash, PinRecord>>,
    /// Held by whoever changes a pin, from the look at what it is to the end.
    pin_turn: Mutex<()>,
    wanted: Mutex<BTreeMap<BlobHash, WantedRecord>>,
    uses: Arc<Uses>,
    index: Mutex<Index>,
    scratch: ScratchPool,
    headroom: Headroom,
    /// Who puts a published blob into place holds one of these, by its hash.
    installs: [Mutex<()>; 16],
    arrivals: Arrivals,
    /// What imports bring in at this moment.
    intakes: Mutex<BTreeSet<FileId>>,
    losses: damage::LossListener,
    quota: Quota,
    _lock: ProcessLock,
}

impl Store {
    /// Opens the store in a directory, or makes one there. After a crash, what was in flight is proved again.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(dir, StoreConfig::default())
    }

    /// Opens a store with settings.
    pub fn open_with(dir: &Path, config: StoreConfig) -> Result<Self, StoreError> {
        Self::open_on(Disk::default(), dir, config)
    }

    fn open_on(disk: Disk, dir: &Path, config: StoreConfig) -> Result<Self, StoreError> {
        disk.make_folders(dir).at(dir)?;
        let layout = Layout::new(dir, disk);
        let lock = ProcessLock::take(&layout)?;
        let existed = layout.prepare()?;
        let (mut index, entries) = Index::open(&layout, config.index_cache_bytes)?;
        if existed && entries.is_none() {
            layout.settle()?;
        }
        let recovered = small::recover(&layout)?;
        let slots = match entries.filter(|_| !recovered) {
            Some(entries) => scan::load_all(&layout, entries)?,
            None => {
                let slots = scan::scan(&layout)?;
                index.replace(&slots.iter().map(Slot::entry).collect::<Vec<_>>());
                slots
            }
        };
        let pins = pins::read_all(&layout)?;
        let wanted = wanted::read_all(&layout, &slots, &pins)?;
        let uses = Uses::read(&layout, &slots);
        let quota = Quota::open(&layout, config.quota_bytes)?;
        let shared = Shared {
            blobs: RwLock::new(slots.into_iter().map(|slot| (slot.hash, Arc::new(slot))).collect()),
            pins: Mutex::new(pins),
            pin_turn: Mutex::default(),
            wanted: Mutex::new(wanted),
            uses: Arc::new(uses),
            index: Mutex::new(index),
            scratch: ScratchPool::default(),
            headroom: Headroom::default(),
            installs: Default::default(),
            arrivals: Arrivals::default(),
            intakes: Mutex::default(),
            losses: damage::LossListener::default(),
            quota,
            layout,
            config,
            _lock: lock,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What its disk does.
    #[cfg(test)]
    pub(crate) fn stage(&self) -> &disk::stage::Stage {
        self.shared.layout.disk().stage()
    }

    /// Writes the index out, so that the next start need not look at every file. Dropping the last clone does the same, silently.
    pub fn close(&self) -> Result<(), StoreError> {
        self.shared.close()
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.shared.layout.root()
    }

    /// What is held of a blob; `None` if nothing was ever wanted of it.
    pub fn blob(&self, hash: BlobHash) -> Option<BlobStatus> {
        self.shared.slot(hash).map(|slot| slot.status())
    }

    /// Whether all of a blob is held.
    pub fn is_complete(&self, hash: BlobHash) -> bool {
        self.shared.slot(hash).is_some_and(|slot| slot.state().is_complete())
    }

    /// What is held of every blob.
    pub fn blobs(&self) -> Vec<BlobStatus> {
        self.shared.slots().iter().map(|slot| slot.status()).collect()
    }

    /// The published blobs which are not served any more, and why.
    pub fn withdrawn(&self) -> Vec<Withdrawn> {
        self.shared.slots().iter().filter_map(|slot| slot.withdrawn()).collect()
    }

    /// Whether a blob was published here, whatever became of its file.
    pub fn is_published(&self, hash: BlobHash) -> bool {
        self.shared.slot(hash).is_some_and(|slot| slot.state().published.is_some())
    }

    /// Whether this is the blob without bytes.
    pub fn is_empty(&self, hash: BlobHash) -> bool {
        self.shared.slot(hash).is_some_and(|slot| slot.state().geometry.size() == 0)
    }

    /// The SHA-256 of a published blob.
    pub fn sha256(&self, hash: BlobHash) -> Option<Sha256> {
        self.shared.slot(hash)?.state().published.as_ref()?.sha256
    }

    /// Opens a blob, complete or not, for reading.
    pub fn reader(&self, hash: BlobHash) -> Result<BlobReader, StoreError> {
        let slot = self.shared.slot(hash).ok_or(StoreError::Missing(hash))?;
        BlobReader::open(&self.shared.layout, slot, &self.shared.uses)
    }

    /// Reads a whole blob of at most `max` bytes into memory, proved.
    pub fn read_all(&self, hash: BlobHash, max: u64) -> Result<Vec<u8>, StoreError> {
        let reader = self.reader(hash)?;
        let size = reader.geometry().size();
        if size > max {
            return Err(StoreError::TooLarge { size, limit: max });
        }
        if !self.blob(hash).is_some_and(|status| status.complete) {
            return Err(StoreError::Missing(hash));
        }
        let path = self.shared.layout.data(hash);
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| StoreError::TooLarge { size, limit: max })?];
        let read = std::os::unix::fs::FileExt::read_exact_at(reader.data(), &mut bytes, 0);
        reader.check_stamp().map_err(|error| error.of_store(hash, &path))?;
        match (read, reader.geometry().whole()) {
            (Ok(()), _) if BlobHash::of(&bytes) == hash => Ok(bytes),
            (Err(error), _) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(StoreError::io(&path, error)),
            (_, Some(span)) => Err(StoreError::Damaged { hash, span }),
            (_, None) => Err(StoreError::Missing(hash)),
        }
    }

    /// Opens a blob for writing; makes it, or goes on where it was left. Threads that ask for the same blob share one writer.
    /// [`StoreError::AlreadyComplete`] means success without work, or that it arrived whole and is about to be synced; an empty blob is
    /// made on the spot and reported so.
    pub fn writer(&self, hash: BlobHash, size: u64) -> Result<Arc<BlobWriter>, StoreError> {
        let shared = &self.shared;
        if size > shared.config.blob_bytes_max {
            return Err(StoreError::TooLarge { size, limit: shared.config.blob_bytes_max });
        }
        if size == 0 {
            if hash != BlobHash::of(b"") {
                return Err(StoreError::WrongSize { hash, known: 1, asked: 0 });
            }
            self.put_bytes(b"")?;
            return Err(StoreError::AlreadyComplete(hash));
        }
        let fresh = shared.slot(hash).is_none();
        if fresh {
            shared.check_room(size)?;
        } else if self.is_complete(hash) {
            return Err(StoreError::AlreadyComplete(hash));
        }
        // Dropped after the state, which it needs.
        let mut promise = Some(shared.promise(&[Need::of(hash, size)])?);
        // An exported file is copied first; then there are two for a while.
        let _copy = shared.reserve(writer::bytes_to_copy(&shared.layout, hash))?;
        let slot = shared.slot_or_insert(hash, || Slot::new(hash, Geometry::of(size), SpanSet::new(), None));
        let mut state = slot.state();
        if state.removed {
            // Removed between looking it up and getting hold of it.
            return Err(StoreError::Busy(hash));
        }
        if let Some(writer) = state.writer.upgrade() {
            let fits = state.check_size(hash, size);
            // Dropping the last writer syncs, which needs the state.
            drop(state);
            return fits.map(|()| writer);
        }
        if state.is_complete() || state.arrived.is_some() {
            return Err(StoreError::AlreadyComplete(hash));
        }
        if state.withdrawn.is_some() {
            // The user's file is not the blob any more, so the blob is fetched into the store.
            // For good: a record that came back would have what is fetched deleted.
            shared.layout.remove_durably(&shared.layout.published(hash))?;
            (state.withdrawn, state.published) = (None, None);
        }
        if state.held.is_empty() && state.pending.is_empty() {
            // Nothing proved contradicts the new size.
            if state.geometry.size() != size {
                state.damaged = SpanSet::new();
            }
            state.geometry = Geometry::of(size);
        }
        state.check_size(hash, size)?;
        let opened = BlobWriter::open(shared, &slot, &mut state, &mut promise);
        state.removed = fresh && opened.is_err();
        drop(state);
        if fresh && opened.is_err() {
            shared.forget(hash);
        } else {
            shared.note(&slot);
        }
        opened
    }

    /// Bytes that may still be written before the reserve is touched.
    pub fn room(&self) -> Result<u64, StoreError> {
        self.shared.room()
    }

    /// Deletes a blob, or forgets a referenced one; never touches a user's file. Says whether there was one.
    pub fn remove(&self, hash: BlobHash) -> Result<bool, StoreError> {
        self.remove_if(hash, |_, state| {
            state.held = SpanSet::new();
            true
        })
    }

    /// The same, but [`StoreError::Busy`] for one that is served at this moment, or that a fetch relies on; whoever has it open reads on.
    pub fn remove_idle(&self, hash: BlobHash) -> Result<bool, StoreError> {
        self.remove_if(hash, |slot, _| !slot.is_read() && !self.is_promised(hash))
    }

    fn remove_if(&self, hash: BlobHash, may: impl FnOnce(&Slot, &mut State) -> bool) -> Result<bool, StoreError> {
        let Some(slot) = self.shared.slot(hash) else {
            // An outboard alone is no blob.
            let stray = self.shared.layout.remove_if_there(&self.shared.layout.outboard(hash))?;
            self.shared.settle(hash);
            return Ok(stray);
        };
        let mut state = slot.state();
        if state.writer.strong_count() > 0 || !may(&slot, &mut state) {
            return Err(StoreError::Busy(hash));
        }
        let layout = &self.shared.layout;
        if let Some(path) = state.arrived.take() {
            layout.remove_durably(&path)?;
        }
        // Data before its progress file: the other way round, a crash between would leave data that passes for complete.
        for path in [layout.published(hash), layout.data(hash), layout.progress(hash), layout.outboard(hash)] {
            layout.remove_durably(&path)?;
        }
        state.removed = true;
        drop(state);
        self.shared.forget(hash);
        self.shared.settle(hash);
        Ok(true)
    }
}

impl Shared {
    fn slot(&self, hash: BlobHash) -> Option<Arc<Slot>> {
        self.blobs.read().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned()
    }

    fn slots(&self) -> Vec<Arc<Slot>> {
        self.blobs.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn slot_or_insert(&self, hash: BlobHash, make: impl FnOnce() -> Slot) -> Arc<Slot> {
        let mut blobs = self.blobs.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(blobs.entry(hash).or_insert_with(|| Arc::new(make())))
    }

    /// Puts what is known about a blob into the index.
    fn note(&self, slot: &Slot) {
        let entry = slot.entry();
        locked(&self.index).put(&entry);
    }

    /// The same for many blobs.
    fn note_all(&self, slots: &[Arc<Slot>]) {
        let entries: Vec<_> = slots.iter().map(|slot| slot.entry()).collect();
        let mut index = locked(&self.index);
        entries.iter().for_each(|entry| index.put(entry));
    }

    fn forget(&self, hash: BlobHash) {
        self.blobs.write().unwrap_or_else(PoisonError::into_inner).remove(&hash);
        locked(&self.index).remove(hash);
    }

    fn free_bytes(&self) -> Result<u64, StoreError> {
        let root = self.layout.root();
        let disk = rustix::fs::statvfs(root).map_err(|error| StoreError::io(root, error.into()))?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn room(&self) -> Result<u64, StoreError> {
        Ok(self.free_bytes()?.saturating_sub(self.config.reserve_bytes))
    }

    /// Before so many bytes of payload are written: whether they, their parents and records fit beside the reserve.
    fn take_room(&self, bytes: u64) -> Result<(), StoreError> {
        let with_parents = bytes.saturating_add(bytes / 128).saturating_add(4096);
        let full = |needed| StoreError::DiskFull { needed, path: self.layout.root().to_owned() };
        self.headroom.take(with_parents, || self.room())?.map_err(full)
    }

    /// Whether so many more bytes fit beside the reserve and what the open writers still expect.
    fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        let free = self.free_bytes()?;
        let promised: u64 = self.slots().iter().map(|slot| slot.missing_bytes()).sum();
        let wanted = bytes.saturating_add(promised).saturating_add(self.config.reserve_bytes);
        if wanted > free {
            return Err(StoreError::DiskFull { needed: wanted - free, path: self.layout.root().to_owned() });
        }
        Ok(())
    }

    fn close(&self) -> Result<(), StoreError> {
        self.save_uses();
        if let Some(error) = self.sync_small().error {
            tracing::warn!(%error, "last sync failed");
        }
        let entries: Vec<_> = self.slots().iter().map(|slot| slot.entry()).collect();
        locked(&self.index).close(&self.layout, &entries)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "index not closed; the next start looks at all files");
        }
    }
}
