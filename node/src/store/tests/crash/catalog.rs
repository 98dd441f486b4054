//! An index in memory, which remembers all it ever was: a crash may leave any of that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use p2pweights_protocol::ids::BlobHash;

use crate::store::index::{Catalog, CatalogEntry, CatalogError};
use crate::store::locked;

pub(in crate::store) type Table = Arc<BTreeMap<BlobHash, CatalogEntry>>;

#[derive(Debug, Clone, Default)]
pub(in crate::store) struct MemoryCatalog {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Default)]
struct State {
    table: Table,
    /// What it was after each change, and whether that was made durable.
    past: Vec<(Table, bool)>,
    broken: bool,
}

impl MemoryCatalog {
    pub(in crate::store) fn with(table: Table) -> Self {
        Self { state: Arc::new(Mutex::new(State { table, ..State::default() })) }
    }

    /// One that cannot be read.
    pub(in crate::store) fn broken() -> Self {
        Self { state: Arc::new(Mutex::new(State { broken: true, ..State::default() })) }
    }

    /// Changes so far.
    pub(in crate::store) fn changes(&self) -> usize {
        locked(&self.state).past.len()
    }

    /// What may be left of it after so many changes: what was durable, or anything later.
    pub(in crate::store) fn leftovers(&self, changes: usize) -> Vec<Table> {
        let state = locked(&self.state);
        let past = &state.past[..changes];
        let durable = past.iter().rposition(|(_, durable)| *durable);
        let later = past[durable.unwrap_or(0)..].iter().map(|(table, _)| Arc::clone(table));
        durable.is_none().then(Table::default).into_iter().chain(later).collect()
    }

    /// Forgets whatever is done to it meanwhile.
    pub(in crate::store) fn unmoved_by(&self, act: impl FnOnce()) {
        let before = locked(&self.state).clone();
        act();
        *locked(&self.state) = before;
    }

    fn change(&self, durable: bool, change: impl FnOnce(&mut BTreeMap<BlobHash, CatalogEntry>)) {
        let mut state = locked(&self.state);
        change(Arc::make_mut(&mut state.table));
        let table = Arc::clone(&state.table);
        state.past.push((table, durable));
    }
}

impl Catalog for MemoryCatalog {
    fn entries(&self) -> Result<Vec<CatalogEntry>, CatalogError> {
        let mut state = locked(&self.state);
        if state.broken {
            // The next one is new.
            state.broken = false;
            return Err(CatalogError("broken".to_owned()));
        }
        Ok(state.table.values().cloned().collect())
    }

    fn put(&mut self, entry: &CatalogEntry) -> Result<(), CatalogError> {
        self.change(false, |table| _ = table.insert(entry.hash, entry.clone()));
        Ok(())
    }

    fn remove(&mut self, hash: BlobHash) -> Result<(), CatalogError> {
        self.change(false, |table| _ = table.remove(&hash));
        Ok(())
    }

    fn clear(&mut self) -> Result<(), CatalogError> {
        self.change(false, BTreeMap::clear);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CatalogError> {
        self.change(true, |_| ());
        Ok(())
    }
}
