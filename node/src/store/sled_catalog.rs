//! The catalog kept in sled 0.34: the only file that knows it. sled may panic on a damaged directory, so every call is caught; a caught
//! panic is an error like any other, and the caller rebuilds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use p2pweights_protocol::ids::BlobHash;

use super::index::{Catalog, CatalogEntry, CatalogError};

/// sled lets go of its lock some time after it is dropped: a store reopened at once waits this often, this long.
const OPEN_TRIES: u32 = 100;
const OPEN_PAUSE: Duration = Duration::from_millis(20);

pub(super) struct SledCatalog {
    // An option so that dropping can be caught too.
    open: Option<(sled::Db, sled::Tree)>,
}

impl SledCatalog {
    pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<Self, CatalogError> {
        let mut tries = 0;
        loop {
            let opened = caught(|| {
                // No flush by the clock: an index that was not closed is rebuilt anyway.
                let config = sled::Config::new().path(folder).cache_capacity(cache_bytes).flush_every_ms(None);
                let db = config.open()?;
                let blobs = db.open_tree("blobs")?;
                Ok((db, blobs))
            });
            match opened {
                Ok(open) => return Ok(Self { open: Some(open) }),
                Err(error) if tries < OPEN_TRIES && error.0.contains("could not acquire lock") => {
                    tries += 1;
                    std::thread::sleep(OPEN_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn db(&self) -> &(sled::Db, sled::Tree) {
        self.open.as_ref().expect("open until dropped")
    }
}

impl Catalog for SledCatalog {
    fn entries(&self) -> Result<Vec<CatalogEntry>, CatalogError> {
        let pairs = caught(|| self.db().1.iter().collect::<sled::Result<Vec<_>>>())?;
        let entries = pairs.iter().map(|(key, value)| match postcard::from_bytes::<CatalogEntry>(value) {
            Ok(entry) if key.as_ref() == entry.hash.as_bytes() => Ok(entry),
            Ok(_) => Err(CatalogError("an entry lies under another's key".to_owned())),
            Err(error) => Err(CatalogError(error.to_string())),
        });
        entries.collect()
    }

    fn put(&mut self, entry: &CatalogEntry) -> Result<(), CatalogError> {
        let value = postcard::to_stdvec(entry).map_err(|error| CatalogError(error.to_string()))?;
        caught(|| self.db().1.insert(entry.hash.as_bytes(), value)).map(drop)
    }

    fn remove(&mut self, hash: BlobHash) -> Result<(), CatalogError> {
        caught(|| self.db().1.remove(hash.as_bytes())).map(drop)
    }

    fn clear(&mut self) -> Result<(), CatalogError> {
        caught(|| self.db().1.clear())
    }

    fn flush(&mut self) -> Result<(), CatalogError> {
        caught(|| self.db().0.flush()).map(drop)
    }
}

impl Drop for SledCatalog {
    fn drop(&mut self) {
        let open = self.open.take();
        // Nothing can be done about a panic here, and nothing needs to be.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(open)));
    }
}

/// Runs a call into sled; after a caught panic the database is dropped by the caller, so broken invariants inside it do not matter.
fn caught<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, CatalogError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| CatalogError(error.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(CatalogError(format!("sled panicked: {}", text.as_deref().unwrap_or("no message"))))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn entry(number: u32) -> CatalogEntry {
        CatalogEntry { hash: BlobHash::of(&number.to_le_bytes()), size: number.into(), complete: true, published: None }
    }

    #[test]
    fn entries_read_back() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut catalog = SledCatalog::open(dir.path(), 1 << 24).unwrap();
        (0..10).for_each(|number| catalog.put(&entry(number)).unwrap());
        catalog.put(&CatalogEntry { complete: false, ..entry(3) }).unwrap();
        catalog.remove(entry(4).hash).unwrap();
        catalog.flush().unwrap();
        drop(catalog);
        // At once: sled may not have let go of its lock yet.
        let mut catalog = SledCatalog::open(dir.path(), 1 << 24).unwrap();
        let entries = catalog.entries().unwrap();
        assert_eq!(entries.len(), 9);
        assert!(entries.contains(&CatalogEntry { complete: false, ..entry(3) }) && !entries.contains(&entry(4)));
        catalog.clear().unwrap();
        assert_eq!(catalog.entries().unwrap(), []);
    }

    #[test]
    fn a_panic_in_sled_is_an_error() {
        let error = caught::<()>(|| panic!("segment {} is gone", 7)).unwrap_err();
        assert_eq!(error.to_string(), "sled panicked: segment 7 is gone");
        let error = caught::<()>(|| panic!("gone")).unwrap_err();
        assert_eq!(error.to_string(), "sled panicked: gone");
    }

    /// Large enough for several segments: some of these can make sled 0.34.7 panic (which ones hangs on how its threads laid out the log),
    /// others lose entries without a word (which the index's marker tells).
    #[test]
    fn no_damage_gets_out() {
        let dir = tempfile::TempDir::new().unwrap();
        let whole = dir.path().join("whole");
        let mut catalog = SledCatalog::open(&whole, 1 << 24).unwrap();
        (0..12_000).for_each(|number| catalog.put(&entry(number)).unwrap());
        catalog.flush().unwrap();
        drop(catalog);
        let database = fs::read(whole.join("db")).unwrap();
        let mut outcomes = Vec::new();
        for part in 0..12 {
            let at = database.len() * part / 12;
            let mut zeroed = database.clone();
            let end = (at + 4096).min(zeroed.len());
            zeroed[at..end].fill(0);
            let mut rotten = database.clone();
            rotten[at + 20] ^= 4;
            for damaged in [database[..at].to_vec(), zeroed, rotten] {
                let copy = dir.path().join("copy");
                fs::remove_dir_all(&copy).ok();
                fs::create_dir_all(&copy).unwrap();
                for file in fs::read_dir(&whole).unwrap() {
                    let file = file.unwrap();
                    if file.file_type().unwrap().is_file() {
                        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
                    }
                }
                fs::write(copy.join("db"), &damaged).unwrap();
                let outcome = SledCatalog::open(&copy, 1 << 24).and_then(|catalog| catalog.entries());
                outcomes.push(outcome.map(|entries| entries.len()).map_err(|error| error.0));
            }
        }
        assert!(outcomes.iter().any(|outcome| !matches!(outcome, Ok(12_000))), "nothing was damaged: {outcomes:?}");
    }
}
