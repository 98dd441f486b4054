//! Records of small published files: written one by one, made durable together. A record that a power cut took with it costs the reading
//! of a small file; one that it left half-written is passed over.

use std::path::PathBuf;
use std::sync::Mutex;

use super::error::{AtPath, StoreError};
use super::layout::Layout;
use super::published::PublishedRecord;
use super::slot::locked;
use super::small::FEW;

/// Records that are not durable yet.
#[derive(Debug, Default)]
pub(super) struct Records(Mutex<Vec<PathBuf>>);

impl Records {
    /// Writes a record down; durable after [`Records::sync`].
    pub(super) fn write(&self, layout: &Layout, record: &PublishedRecord) -> Result<(), StoreError> {
        let (temp, path) = (layout.temp(), layout.published(record.hash));
        layout.disk().write_new(&temp, &record.to_json()).at(&temp)?;
        layout.disk().rename(&temp, &path).at(&path)?;
        locked(&self.0).push(path);
        Ok(())
    }

    /// Makes all of them durable.
    pub(super) fn sync(&self, layout: &Layout) -> Result<(), StoreError> {
        let written = std::mem::take(&mut *locked(&self.0));
        if written.is_empty() || (written.len() > FEW && layout.sync_file_system()?) {
            return Ok(());
        }
        written.iter().try_for_each(|path| layout.disk().sync_path(path).at(path))?;
        layout.sync_folder(&layout.published_folder())
    }
}
