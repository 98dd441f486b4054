//! Parents of a partial blob that come without the bytes below them: kept where they will be needed, in its outboard. They count for
//! nothing: what is read there is checked like anything else.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::verify::{Parents, outboard_parts};

use super::Store;
use super::disk::open_file;
use super::error::{AtPath, StoreError};
use super::writer::BlobWriter;

impl Store {
    /// The outboard of a complete blob, to be copied; `None` if it has none of its own.
    pub fn outboard(&self, hash: BlobHash) -> Result<Option<File>, StoreError> {
        let path = self.shared.layout.outboard(hash);
        match open_file(&path) {
            Ok(file) => Ok(Some(file).filter(|_| self.is_complete(hash))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io(&path, error)),
        }
    }
}

impl Store {
    /// The parents that lead to a span of a blob of this size; `None` if they are not all here, or not right.
    pub fn parents(&self, hash: BlobHash, size: u64, span: Span) -> Result<Option<Parents>, StoreError> {
        let (geometry, path) = (Geometry::of(size), self.shared.layout.outboard(hash));
        let outboard = match open_file(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io(&path, error)),
        };
        let mut parts = Vec::new();
        for part in outboard_parts(geometry, span) {
            let mut bytes = vec![0; usize::try_from(part.end - part.start).unwrap_or(0)];
            match outboard.read_exact_at(&mut bytes, part.start) {
                Ok(()) => parts.push((part.start, bytes)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(StoreError::io(&path, error)),
            }
        }
        Ok(Parents::check(hash, geometry, span, parts).ok())
    }
}

impl BlobWriter {
    /// The parents that lead to a span, if all of them are here and right.
    pub fn parents(&self, span: Span) -> Result<Option<Parents>, StoreError> {
        let parts = outboard_parts(self.geometry(), span).into_iter();
        let parts = parts.map(|part| Ok((part.start, self.read_outboard(&part)?))).collect::<Result<_, StoreError>>()?;
        Ok(Parents::check(self.hash(), self.geometry(), span, parts).ok())
    }

    /// What the outboard has there. Where nothing was written yet it has zeros.
    pub fn read_outboard(&self, part: &Range<u64>) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; usize::try_from(part.end.saturating_sub(part.start)).unwrap_or(0)];
        if let Some(outboard) = self.outboard() {
            outboard.file().read_exact_at(&mut bytes, part.start).at(&self.outboard_path())?;
        }
        Ok(bytes)
    }

    /// Keeps parents that were checked.
    pub fn keep_parents(&self, parents: &Parents) -> Result<(), StoreError> {
        let Some(outboard) = self.outboard() else { return Ok(()) };
        self.take_room(parents.parts().map(|(_, bytes)| bytes.len() as u64).sum())?;
        parents.parts().try_for_each(|(start, bytes)| outboard.write_all_at(bytes, start)).at(&self.outboard_path())
    }
}
