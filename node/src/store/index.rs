//! The index: which blobs there are, so that opening need not look at every file. Disposable: each entry can be made again from files.
//! Knows when the index may be believed; the database behind it is in `sled_catalog`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use p2pweights_protocol::ids::BlobHash;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::warn;

use super::disk::Disk;
use super::error::{AtPath, StoreError};
use super::layout::Layout;
use super::published::PublishedRecord;
use super::sled_catalog::SledCatalog;

/// Damaged indexes kept for the curious; older ones are deleted.
const DAMAGED_KEPT: usize = 2;
/// Raise it when [`CatalogEntry`] changes, or what an entry promises (no outboards of small blobs): an index with another number is
/// rebuilt.
const SCHEMA: u32 = 3;

/// What the index knows about a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CatalogEntry {
    pub(super) hash: BlobHash,
    pub(super) size: u64,
    /// Whether all of it is held; if not, its progress file says more.
    pub(super) complete: bool,
    pub(super) published: Option<PublishedRecord>,
}

/// Why the database failed. Whatever it says, the answer is to rebuild.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct CatalogError(pub(super) String);

/// A table of entries. Its failures never lose anything.
pub(super) trait Catalog: Send {
    /// Every entry.
    fn entries(&self) -> Result<Vec<CatalogEntry>, CatalogError>;
    /// Adds or replaces an entry.
    fn put(&mut self, entry: &CatalogEntry) -> Result<(), CatalogError>;
    /// Takes an entry out.
    fn remove(&mut self, hash: BlobHash) -> Result<(), CatalogError>;
    /// Takes all entries out.
    fn clear(&mut self) -> Result<(), CatalogError>;
    /// Makes everything durable.
    fn flush(&mut self) -> Result<(), CatalogError>;
}

/// The catalog, and whether it may be believed. When the database fails, the store goes on without one and rebuilds it at the next start.
pub(super) struct Index {
    catalog: Option<Box<dyn Catalog>>,
    disk: Disk,
    marker: PathBuf,
    /// The marker file is there.
    clean: bool,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("open", &self.catalog.is_some()).field("clean", &self.clean).finish()
    }
}

impl Index {
    /// Opens the index. The entries are returned only if it was closed properly and reads back whole; otherwise the caller looks at the
    /// files and calls [`Index::replace`].
    pub(super) fn open(layout: &Layout, cache_bytes: u64) -> Result<(Self, Option<Vec<CatalogEntry>>), StoreError> {
        let marker = layout.index_clean();
        let promised = fs::read_to_string(&marker).ok();
        let closed = |catalog| Self { catalog, disk: layout.disk().clone(), marker: marker.clone(), clean: false };
        let folder = layout.index();
        let known = match open_catalog(layout, cache_bytes) {
            Ok(catalog) => match catalog.entries() {
                Ok(entries) => Some((catalog, entries)),
                Err(error) => {
                    warn!(%error, "index unreadable");
                    None
                }
            },
            Err(error) => {
                warn!(%error, "index not opened");
                None
            }
        };
        // For good: one that came back would vouch for an index that was not changed since, beside files that were.
        layout.remove_durably(&marker)?;
        if let Some((catalog, entries)) = known {
            // sled may lose its tail, or a page in the middle, without a word.
            let whole = promised.is_some_and(|promised| promised == promise(&entries));
            return Ok((closed(Some(catalog)), whole.then_some(entries)));
        }
        move_aside(layout.disk(), &folder)?;
        match open_catalog(layout, cache_bytes) {
            Ok(catalog) => Ok((closed(Some(catalog)), None)),
            Err(error) => {
                warn!(%error, "no index; every start looks at all files");
                Ok((closed(None), None))
            }
        }
    }

    /// Makes these all the entries.
    pub(super) fn replace(&mut self, entries: &[CatalogEntry]) {
        self.change(|catalog| {
            catalog.clear()?;
            entries.iter().try_for_each(|entry| catalog.put(entry))
        });
    }

    /// Adds or replaces an entry.
    pub(super) fn put(&mut self, entry: &CatalogEntry) {
        self.change(|catalog| catalog.put(entry));
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, hash: BlobHash) {
        self.change(|catalog| catalog.remove(hash));
    }

    fn change(&mut self, change: impl FnOnce(&mut dyn Catalog) -> Result<(), CatalogError>) {
        if self.clean {
            self.clean = false;
            let folder = self.marker.parent().expect("the marker lies in the store");
            if let Err(error) = self.disk.remove_file(&self.marker).and_then(|()| self.disk.sync_folder(folder)) {
                warn!(%error, "the index's marker could not be removed");
            }
        }
        let Some(catalog) = &mut self.catalog else { return };
        if let Err(error) = change(catalog.as_mut()) {
            warn!(%error, "index failed; it is rebuilt at the next start");
            self.catalog = None;
        }
    }

    /// Makes the catalog say exactly this, writes everything out and vouches for it. Any change after this takes the promise back.
    pub(super) fn close(&mut self, layout: &Layout, entries: &[CatalogEntry]) -> Result<(), StoreError> {
        let Some(catalog) = &mut self.catalog else { return Ok(()) };
        match reconcile(catalog.as_mut(), entries) {
            Ok(()) => {
                layout.write_whole(&self.marker, promise(entries).as_bytes())?;
                self.clean = true;
            }
            Err(error) => warn!(%error, "index not flushed; it is rebuilt at the next start"),
        }
        Ok(())
    }
}

fn open_catalog(layout: &Layout, cache_bytes: u64) -> Result<Box<dyn Catalog>, CatalogError> {
    #[cfg(test)]
    if let Some(catalog) = layout.disk().stage().catalog() {
        return Ok(Box::new(catalog));
    }
    Ok(Box::new(SledCatalog::open(&layout.index(), cache_bytes)?))
}

/// Two threads may have noted one blob in the wrong order: what is vouched for is compared first.
fn reconcile(catalog: &mut dyn Catalog, entries: &[CatalogEntry]) -> Result<(), CatalogError> {
    let mut stale: BTreeMap<BlobHash, CatalogEntry> = catalog.entries()?.into_iter().map(|entry| (entry.hash, entry)).collect();
    for entry in entries {
        if stale.remove(&entry.hash).as_ref() != Some(entry) {
            catalog.put(entry)?;
        }
    }
    stale.into_keys().try_for_each(|hash| catalog.remove(hash))?;
    catalog.flush()
}

/// What the marker says of these entries, which come in the order of their hashes.
fn promise(entries: &[CatalogEntry]) -> String {
    let mut hasher = blake3::Hasher::new();
    for entry in entries {
        hasher.update(&postcard::to_stdvec(entry).expect("an entry read from JSON or postcard can be written"));
    }
    format!("{SCHEMA} {} {}\n", entries.len(), hasher.finalize().to_hex())
}

/// Deletes indexes that were moved aside, or only says how much they take.
pub(super) fn damaged(layout: &Layout, delete: bool) -> Result<u64, StoreError> {
    let name =
        |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("index.damaged-"));
    let mut bytes = 0;
    for old in super::layout::list(layout.root())?.into_iter().filter(name) {
        bytes += super::usage::below(&old);
        if delete {
            let disk = layout.disk();
            let removed = if old.is_dir() { disk.remove_folder(&old) } else { disk.remove_file(&old) };
            removed.at(&old)?;
        }
    }
    Ok(bytes)
}

/// Moves an index to `index.damaged-N` and forgets all but the newest of those.
fn move_aside(disk: &Disk, folder: &Path) -> Result<(), StoreError> {
    if !folder.try_exists().at(folder)? {
        return Ok(());
    }
    let numbered = |number: u64| folder.with_file_name(format!("index.damaged-{number}"));
    let mut numbers: Vec<u64> = super::layout::list(folder.parent().expect("the index lies in the store"))?
        .iter()
        .filter_map(|path| path.file_name()?.to_str()?.strip_prefix("index.damaged-")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let next = numbers.last().map_or(1, |last| last + 1);
    for number in numbers.iter().rev().skip(DAMAGED_KEPT - 1) {
        let old = numbered(*number);
        let removed = if old.is_dir() { disk.remove_folder(&old) } else { disk.remove_file(&old) };
        removed.at(&old)?;
    }
    disk.rename(folder, &numbered(next)).at(folder)
}
