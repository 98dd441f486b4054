//! A blob's bytes and outboard, open for reading; and proving groups in them. Knows files and stamps, not what is held.

use std::fs::File;
use std::io::{self, Write};
#[cfg(target_os = "linux")]
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::span_set::SpanSet;
use p2pweights_protocol::verify::{
    EncodeError, OutboardBuilder, Remade, check_span, encode_span, outboard_bytes, remake_parents,
};

use super::disk::open_file;
use super::error::{AtPath, StoreError};
use super::layout::Layout;
use super::small::is_small;

/// What can be proved of a span.
#[derive(Debug, Default)]
pub(super) struct Proof {
    pub(super) proved: SpanSet,
    /// The groups below each parent that is wrong.
    pub(super) bad_parents: Vec<Span>,
}

/// Where a blob's parents are.
#[derive(Debug)]
enum Pairs {
    /// In the outboard's file; a blob of one group has none.
    Filed(Option<File>),
    /// Nowhere, for the blob is small: it is read whole, and its parents are made from it.
    Made { data: Vec<u8>, outboard: Vec<u8> },
}

impl Pairs {
    fn make(data: &File, geometry: Geometry) -> io::Result<Self> {
        let mut bytes = vec![0; geometry.size() as usize];
        // One that was cut short is damaged, which proving it shows.
        let count = read_full_at(data, &mut bytes)?;
        bytes.truncate(count);
        let mut builder = OutboardBuilder::new(Vec::new());
        builder.update(&bytes)?;
        let (_, outboard) = builder.finish()?;
        Ok(Self::Made { data: bytes, outboard })
    }
}

/// Fills the buffer from the file's beginning unless the file ends.
fn read_full_at(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match FileExt::read_at(file, &mut buffer[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Both files of a blob.
#[derive(Debug)]
pub(super) struct BlobFiles {
    pub(super) hash: BlobHash,
    pub(super) geometry: Geometry,
    pub(super) data: File,
    pairs: Pairs,
}

impl BlobFiles {
    /// Opens a blob whose data is this file.
    pub(super) fn with_data(layout: &Layout, hash: BlobHash, geometry: Geometry, data: File) -> Result<Self, StoreError> {
        let path = layout.outboard(hash);
        let pairs = match outboard_bytes(geometry) {
            0 => Pairs::Filed(None),
            _ => match open_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && is_small(geometry) => {
                    Pairs::make(&data, geometry).at(&layout.data(hash))?
                }
                file => Pairs::Filed(Some(file.at(&path)?)),
            },
        };
        Ok(Self { hash, geometry, data, pairs })
    }

    /// Opens a blob in the store; `arrived`: where its data is if it has no final name yet.
    pub(super) fn stored(
        layout: &Layout,
        hash: BlobHash,
        geometry: Geometry,
        arrived: Option<PathBuf>,
    ) -> Result<Self, StoreError> {
        let path = arrived.unwrap_or_else(|| layout.data(hash));
        Self::with_data(layout, hash, geometry, open_file(&path).at(&path)?)
    }

    /// Writes the encoding of a span, each group proved first.
    pub(super) fn encode_span(&self, span: Span, out: &mut impl Write) -> Result<(), EncodeError> {
        let (hash, geometry) = (self.hash, self.geometry);
        match &self.pairs {
            Pairs::Filed(Some(outboard)) => encode_span(&self.data, outboard, hash, geometry, span, out),
            Pairs::Filed(None) => encode_span(&self.data, &[][..], hash, geometry, span, out),
            Pairs::Made { data, outboard } => encode_span(&data[..], &outboard[..], hash, geometry, span, out),
        }
    }

    /// Proves bytes that were read already.
    pub(super) fn check_span(&self, span: Span, bytes: &[u8]) -> Result<(), EncodeError> {
        let (hash, geometry) = (self.hash, self.geometry);
        match &self.pairs {
            Pairs::Filed(Some(outboard)) => check_span(bytes, outboard, hash, geometry, span),
            Pairs::Filed(None) => check_span(bytes, &[][..], hash, geometry, span),
            Pairs::Made { outboard, .. } => check_span(bytes, &outboard[..], hash, geometry, span),
        }
    }

    /// Which groups of `span` can be proved. An error means that the disk could not be read, not that it holds the wrong bytes.
    pub(super) fn prove(&self, span: Span) -> io::Result<SpanSet> {
        self.proof(span).map(|proof| proof.proved)
    }

    /// The same, and where the outboard is to blame.
    pub(super) fn proof(&self, span: Span) -> io::Result<Proof> {
        let mut bad_parents = Vec::new();
        let mut proved = SpanSet::new();
        let mut rest = Some(span);
        while let Some(span) = rest {
            let bad = match self.encode_span(span, &mut io::sink()) {
                Ok(()) => {
                    proved.insert(span);
                    break;
                }
                Err(EncodeError::Damaged { span }) => span,
                Err(EncodeError::Read(error) | EncodeError::Write(error)) => return Err(error),
            };
            if let Some(good) = Span::new(span.start(), bad.start()) {
                proved.insert(good);
            }
            // A wrong group is blamed alone: the parent above it was right.
            if bad.groups() > 1 && matches!(self.pairs, Pairs::Filed(Some(_))) {
                bad_parents.push(bad);
            }
            rest = Span::new(bad.end(), span.end());
        }
        Ok(Proof { proved, bad_parents })
    }

    /// Looks for the first parent that does not prove above the groups of a span, and makes it and those below it again.
    pub(super) fn remake_parents(&self, span: Span) -> io::Result<Remade> {
        match &self.pairs {
            Pairs::Filed(Some(outboard)) => remake_parents(&self.data, outboard, self.hash, self.geometry, span),
            _ => Ok(Remade::Sound),
        }
    }

    /// Has the next reading come from the disk: what the system remembers of a file does not rot with it.
    pub(super) fn forget_cached(&self, span: Span) {
        let range = self.geometry.byte_range(span);
        let files = [Some((&self.data, range.start, range.end - range.start)), self.outboard().map(|file| (file, 0, 0))];
        for (file, offset, length) in files.into_iter().flatten() {
            // Advice: where it is not taken, memory is read, and the disk another time.
            #[cfg(target_os = "linux")]
            let _ = rustix::fs::fadvise(file, offset, NonZeroU64::new(length), rustix::fs::Advice::DontNeed);
            #[cfg(not(target_os = "linux"))]
            let _ = (file, offset, length);
        }
    }

    fn outboard(&self) -> Option<&File> {
        match &self.pairs {
            Pairs::Filed(file) => file.as_ref(),
            Pairs::Made { .. } => None,
        }
    }
}
