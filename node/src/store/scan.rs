//! From files to what is held: at the first start after a crash for every blob, at others for the partial ones only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::ops::ControlFlow;

use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::span_set::SpanSet;
use p2pweights_protocol::verify::{outboard_bytes, write_outboard};
use tracing::{info, warn};

use super::disk::{file_bytes, open_file};
use super::error::{AtPath, StoreError};
use super::files::BlobFiles;
use super::index::CatalogEntry;
use super::layout::{Layout, list, parse_name};
use super::progress::{Progress, write_progress};
use super::published::{FileStamp, PublishMode, PublishedRecord};
use super::slot::Slot;
use super::small::is_small;

/// Looks at every file of the store.
pub(super) fn scan(layout: &Layout) -> Result<Vec<Slot>, StoreError> {
    scan_unless(layout, |_| false)
}

/// Takes the index's word for what is complete, and looks at the rest.
pub(super) fn load_all(layout: &Layout, entries: Vec<CatalogEntry>) -> Result<Vec<Slot>, StoreError> {
    let mut slots = Vec::with_capacity(entries.len());
    for CatalogEntry { hash, size, complete, published } in entries {
        match published {
            Some(record) if record.mode == PublishMode::Reference => slots.extend(load_reference(layout, record)),
            published if complete => slots.push(Slot::complete(hash, Geometry::of(size), published)),
            published => slots.extend(load(layout, hash, published)?),
        }
    }
    Ok(slots)
}

/// Looks at every file, save those of blobs which are being written to.
pub(super) fn scan_unless(layout: &Layout, busy: impl Fn(BlobHash) -> bool) -> Result<Vec<Slot>, StoreError> {
    let mut published = read_published(layout)?;
    let mut hashes: BTreeSet<BlobHash> = published.keys().copied().collect();
    for folder in list(&layout.blobs())? {
        if folder.is_dir() {
            let files = list(&folder)?;
            hashes.extend(
                files.iter().filter_map(|path| parse_name(path)).filter(|(_, part)| *part != "outboard").map(|(hash, _)| hash),
            );
        }
    }
    let mut slots = Vec::new();
    for hash in hashes.into_iter().filter(|&hash| !busy(hash)) {
        slots.extend(load(layout, hash, published.remove(&hash))?);
    }
    Ok(slots)
}

fn read_published(layout: &Layout) -> Result<BTreeMap<BlobHash, PublishedRecord>, StoreError> {
    let mut records = BTreeMap::new();
    for path in list(&layout.published_folder())? {
        let text = fs::read(&path).at(&path)?;
        match serde_json::from_slice::<PublishedRecord>(&text) {
            Ok(record) if layout.published(record.hash) == path => {
                records.insert(record.hash, record);
            }
            Ok(_) => warn!(path = %path.display(), "published record passed over: its name is not its hash"),
            Err(error) => warn!(path = %path.display(), %error, "published record passed over: publish the file again"),
        }
    }
    Ok(records)
}

/// Works out what there is of one blob; `None` if nothing.
pub(super) fn load(layout: &Layout, hash: BlobHash, published: Option<PublishedRecord>) -> Result<Option<Slot>, StoreError> {
    let progress = read_if_there(layout, hash)?;
    let data_bytes = file_bytes(&layout.data(hash)).at(&layout.data(hash))?;
    match (published, progress, data_bytes) {
        (Some(record), None, None) if record.mode == PublishMode::Reference => Ok(load_reference(layout, record)),
        (Some(record), progress, data_bytes) if record.mode == PublishMode::Reference => {
            let reference = load_reference(layout, record).filter(|slot| slot.state().withdrawn.is_none());
            if reference.is_none() {
                // Fetched because the file had changed.
                layout.remove_durably(&layout.published(hash))?;
                return load_stored(layout, hash, None, progress, data_bytes);
            }
            // Published while it was being fetched.
            layout.remove_durably(&layout.data(hash))?;
            layout.remove_durably(&layout.progress(hash))?;
            Ok(reference)
        }
        (published, progress, data_bytes) => load_stored(layout, hash, published, progress, data_bytes),
    }
}

fn load_stored(
    layout: &Layout,
    hash: BlobHash,
    published: Option<PublishedRecord>,
    progress: Option<Vec<u8>>,
    data_bytes: Option<u64>,
) -> Result<Option<Slot>, StoreError> {
    match (published, progress, data_bytes) {
        (published, Some(progress), data_bytes) => {
            load_partial(layout, hash, published, &progress, data_bytes.unwrap_or(0)).map(Some)
        }
        (published, None, Some(size)) => load_complete(layout, hash, published, size).map(Some),
        (_, None, None) => Ok(None),
    }
}

/// A published file: whether it is what it was is seen by its stamp, and proved whenever it is read.
pub(super) fn load_reference(layout: &Layout, record: PublishedRecord) -> Option<Slot> {
    let (hash, geometry) = (record.hash, Geometry::of(record.stamp.size));
    let outboard_found = fs::metadata(layout.outboard(hash)).map_or(0, |metadata| metadata.len());
    if !outboard_fits(geometry, outboard_found) {
        warn!(hash = %hash.short(), path = %record.path.display(), "outboard missing: publish the file again");
        return None;
    }
    let changed = match FileStamp::of_path(&record.path) {
        Ok(stamp) if stamp == record.stamp => None,
        Ok(_) => Some("the file changed".to_owned()),
        Err(error) => Some(format!("the file cannot be found: {error}")),
    };
    let slot = Slot::complete(hash, geometry, Some(record));
    if let Some(reason) = changed {
        slot.state().withdraw(hash, reason);
    }
    Some(slot)
}

/// Whether an outboard with so many bytes, or none, will do for a complete blob.
fn outboard_fits(geometry: Geometry, found: u64) -> bool {
    found == outboard_bytes(geometry) || (found == 0 && is_small(geometry))
}

fn load_complete(layout: &Layout, hash: BlobHash, published: Option<PublishedRecord>, size: u64) -> Result<Slot, StoreError> {
    let geometry = Geometry::of(size);
    let found = fs::metadata(layout.outboard(hash)).map_or(0, |metadata| metadata.len());
    if outboard_fits(geometry, found) || mend_outboard(layout, hash, geometry, &mut |_| ControlFlow::Continue(()))? {
        return Ok(Slot::complete(hash, geometry, published));
    }
    warn!(hash = %hash.short(), "the data is not that of the blob; nothing of it is held");
    let damaged = geometry.whole().map(SpanSet::from).unwrap_or_default();
    write_progress(layout, hash, size, &SpanSet::new(), &damaged)?;
    let slot = Slot::new(hash, geometry, SpanSet::new(), None);
    slot.state().damaged = damaged;
    Ok(slot)
}

/// Makes the outboard of a stored blob again from its data; false if the data is not that of the blob.
/// `go_on` is told how much has been read each time, and asked whether to read more.
pub(super) fn mend_outboard(
    layout: &Layout,
    hash: BlobHash,
    geometry: Geometry,
    go_on: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<bool, StoreError> {
    let path = layout.data(hash);
    let data = open_file(&path).at(&path)?;
    let Some(temp) = make_outboard(layout, hash, geometry, Watched { file: &data, go_on })? else { return Ok(false) };
    layout.move_into_place(&temp, &layout.outboard(hash))?;
    info!(hash = %hash.short(), "outboard made again from the data");
    Ok(true)
}

/// A file that is read as long as it may be.
struct Watched<'a> {
    file: &'a File,
    go_on: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        // Any error will do, as long as it is not one after which a reader tries again.
        if (self.go_on)(count as u64).is_break() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(count) }
    }
}

fn make_outboard(
    layout: &Layout,
    hash: BlobHash,
    geometry: Geometry,
    data: Watched<'_>,
) -> Result<Option<std::path::PathBuf>, StoreError> {
    let temp = layout.temp();
    let mut out = BufWriter::new(layout.disk().create_new(&temp).at(&temp)?);
    match write_outboard(data, Some(geometry.size()), &mut out) {
        Ok((found, _)) if found == hash => {
            out.flush().and_then(|()| out.get_ref().sync()).at(&temp)?;
            Ok(Some(temp))
        }
        _ => {
            layout.remove_if_there(&temp)?;
            Ok(None)
        }
    }
}

/// Trusts what was durable, proves what was only written, and writes the result down. Complete blobs lose their progress file.
fn load_partial(
    layout: &Layout,
    hash: BlobHash,
    published: Option<PublishedRecord>,
    progress: &[u8],
    data_bytes: u64,
) -> Result<Slot, StoreError> {
    let everything = |size| Geometry::of(size).whole().map(SpanSet::from).unwrap_or_default();
    let known = match Progress::parse(hash, progress) {
        // Cut short by something else than us: believe nothing.
        Some(mut known) if data_bytes != known.size => {
            known.durable.runs().for_each(|run| _ = known.damaged.insert(run));
            Progress { durable: SpanSet::new(), written: everything(known.size.min(data_bytes)), ..known }
        }
        // What the record said of is not lost for that.
        Some(mut known) if known.rotten => {
            warn!(hash = %hash.short(), "progress file damaged: proving again what it says nothing of");
            for run in everything(known.size).runs() {
                let silent: SpanSet = known.durable.gaps(run).into_iter().collect();
                silent.runs().for_each(|run| _ = known.written.insert(run));
            }
            known
        }
        Some(known) => known,
        None => {
            warn!(hash = %hash.short(), "progress file unreadable: proving the whole blob again");
            Progress {
                size: data_bytes,
                durable: SpanSet::new(),
                written: everything(data_bytes),
                damaged: SpanSet::new(),
                rotten: false,
            }
        }
    };
    let geometry = Geometry::of(known.size);
    let (mut held, mut damaged) = (known.durable, known.damaged);
    let within = geometry.whole();
    let doubtful: Vec<Span> = known.written.runs().filter_map(|run| run.intersection(within?)).collect();
    if !doubtful.is_empty() && layout.outboard(hash).exists() | (outboard_bytes(geometry) == 0) {
        let files = BlobFiles::stored(layout, hash, geometry, None)?;
        let mut proved = SpanSet::new();
        for span in &doubtful {
            files.prove(*span).at(&layout.data(hash))?.runs().for_each(|run| {
                proved.insert(run);
            });
        }
        if !proved.is_empty() {
            sync_parts(layout, hash, geometry)?;
            for run in proved.runs() {
                held.insert(run);
                damaged.remove(run);
            }
        }
        info!(hash = %hash.short(), doubtful = known.written.groups(), proved = proved.groups(), "proved what was in flight");
    }
    if held.groups() == geometry.groups() && data_bytes == geometry.size() {
        layout.remove_durably(&layout.progress(hash))?;
    } else {
        write_progress(layout, hash, geometry.size(), &held, &damaged)?;
    }
    let slot = Slot::new(hash, geometry, held, published);
    slot.state().damaged = damaged;
    Ok(slot)
}

/// Makes data and outboard durable.
fn sync_parts(layout: &Layout, hash: BlobHash, geometry: Geometry) -> Result<(), StoreError> {
    let mut paths = vec![layout.data(hash)];
    if outboard_bytes(geometry) > 0 {
        paths.push(layout.outboard(hash));
    }
    paths.iter().try_for_each(|path| layout.disk().sync_path(path).at(path))
}

fn read_if_there(layout: &Layout, hash: BlobHash) -> Result<Option<Vec<u8>>, StoreError> {
    let path = layout.progress(hash);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io(&path, error)),
    }
}
