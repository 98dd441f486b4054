//! Reading a blob out, as spans that prove themselves. Nothing leaves that is not held, or that does not match the hash.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::verify::EncodeError;

use super::error::{AtPath, ReadError, StoreError};
use super::files::{BlobFiles, Proof};
use super::layout::Layout;
use super::published::{FileStamp, PublishedRecord};
use super::slot::Slot;
use super::uses::Uses;

/// A blob open for reading, shareable between threads: it has two file handles and no position.
#[derive(Debug)]
pub struct BlobReader {
    slot: Arc<Slot>,
    files: BlobFiles,
    /// The published file this reads from, and what it must look like.
    reference: Option<PublishedRecord>,
    uses: Arc<Uses>,
}

/// While it is there, a blob is being read for a peer.
struct Reading<'a>(&'a Slot);

impl<'a> Reading<'a> {
    fn begin(slot: &'a Slot) -> Self {
        slot.reading.fetch_add(1, Ordering::AcqRel);
        Self(slot)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.reading.fetch_sub(1, Ordering::AcqRel);
    }
}

impl BlobReader {
    pub(super) fn open(layout: &Layout, slot: Arc<Slot>, uses: &Arc<Uses>) -> Result<Self, StoreError> {
        let uses = Arc::clone(uses);
        let hash = slot.hash;
        let (geometry, arrived, reference) = {
            let state = slot.state();
            if state.removed {
                return Err(StoreError::Missing(hash));
            }
            match (state.reference(), &state.withdrawn) {
                (Some(record), Some(_)) => return Err(StoreError::Changed { path: record.path.clone() }),
                (record, _) => (state.geometry, state.arrived.clone(), record.cloned()),
            }
        };
        let Some(record) = &reference else {
            let files = BlobFiles::stored(layout, hash, geometry, arrived)?;
            return Ok(Self { slot, files, reference, uses });
        };
        let data = match File::open(&record.path) {
            Ok(data) => data,
            Err(error) => {
                slot.state().withdraw(hash, format!("the file cannot be opened: {error}"));
                return Err(StoreError::Changed { path: record.path.clone() });
            }
        };
        if FileStamp::of_file(&data).at(&record.path)? != record.stamp {
            slot.state().withdraw(hash, "the file changed".to_owned());
            return Err(StoreError::Changed { path: record.path.clone() });
        }
        let files = BlobFiles::with_data(layout, hash, geometry, data)?;
        Ok(Self { slot, files, reference, uses })
    }

    /// The blob.
    pub fn hash(&self) -> BlobHash {
        self.files.hash
    }

    /// The blob's division.
    pub fn geometry(&self) -> Geometry {
        self.files.geometry
    }

    /// Writes the encoding of a span; what was written before an error is its correct beginning. Writes are as small as 64 bytes: give it
    /// something buffered.
    pub fn encode_span(&self, span: Span, out: &mut impl Write) -> Result<(), ReadError> {
        let _reading = Reading::begin(&self.slot);
        self.check(span)?;
        match self.files.encode_span(span, out) {
            Ok(()) => {
                self.touch();
                Ok(())
            }
            Err(EncodeError::Write(error)) => Err(ReadError::Write(error)),
            Err(EncodeError::Read(error)) => Err(ReadError::Io(error)),
            Err(EncodeError::Damaged { span: damaged }) => {
                // The owner's edit must not look like a rotten disk.
                self.check(span)?;
                Err(ReadError::Damaged { span: damaged })
            }
        }
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// It is of use now.
    pub(super) fn touch(&self) {
        self.uses.touch(&self.slot);
    }

    pub(super) fn is_reference(&self) -> bool {
        self.reference.is_some()
    }

    /// Reads bytes without proving them, for whoever hashes them anyway.
    pub(super) fn data(&self) -> &File {
        &self.files.data
    }

    /// Which groups of a span can be proved from the disk now.
    pub(super) fn proof(&self, span: Span) -> Result<Proof, ReadError> {
        self.check(span)?;
        let proof = self.files.proof(span).map_err(ReadError::Io)?;
        self.check_stamp()?;
        Ok(proof)
    }

    pub(super) fn files(&self) -> &BlobFiles {
        &self.files
    }

    fn check(&self, span: Span) -> Result<(), ReadError> {
        self.check_stamp()?;
        let state = self.slot.state();
        // A removed blob is read to the end by whoever has it open: its files are there until then.
        if !state.held.covers(span) {
            return Err(ReadError::NotHeld { span });
        }
        Ok(())
    }

    pub(super) fn check_stamp(&self) -> Result<(), ReadError> {
        let Some(record) = &self.reference else { return Ok(()) };
        let stamp = FileStamp::of_file(&self.files.data).map_err(ReadError::Io)?;
        let mut state = self.slot.state();
        if stamp != record.stamp && state.reference() == Some(record) {
            state.withdraw(self.slot.hash, "the file changed".to_owned());
        }
        if stamp != record.stamp || state.withdrawn.is_some() {
            return Err(ReadError::Changed { path: record.path.clone() });
        }
        Ok(())
    }
}

impl From<EncodeError> for ReadError {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::Damaged { span } => Self::Damaged { span },
            EncodeError::Read(error) => Self::Io(error),
            EncodeError::Write(error) => Self::Write(error),
        }
    }
}

impl ReadError {
    /// The same as an error of the store, for callers that have no peer to blame.
    pub(super) fn of_store(self, hash: BlobHash, path: &std::path::Path) -> StoreError {
        match self {
            Self::Damaged { span } => StoreError::Damaged { hash, span },
            Self::Changed { path } => StoreError::Changed { path },
            Self::NotHeld { .. } => StoreError::Missing(hash),
            Self::Io(error) | Self::Write(error) => StoreError::io(path, error),
        }
    }
}

/// Reads from an offset on without moving a shared file's position.
pub(super) struct FromStart<'a> {
    file: &'a File,
    offset: u64,
}

impl<'a> FromStart<'a> {
    pub(super) fn of(file: &'a File) -> Self {
        Self { file, offset: 0 }
    }
}

impl io::Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = std::os::unix::fs::FileExt::read_at(self.file, buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
