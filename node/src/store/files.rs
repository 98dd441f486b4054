//! A blob's bytes and outboard, open for reading; and proving groups in them. Knows files and stamps, not what is held.

use std::fs::File;
use std::io::{self, Write};

use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::span_set::SpanSet;
use p2pweights_protocol::verify::{EncodeError, ReadAt, encode_span, outboard_bytes};

use super::error::{AtPath, StoreError};
use super::layout::Layout;

/// The outboard's file; a blob of one group has none.
#[derive(Debug)]
struct Pairs(Option<File>);

impl ReadAt for Pairs {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.as_ref().map_or(Ok(0), |file| file.read_at(offset, buffer))
    }
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
            0 => None,
            _ => Some(File::open(&path).at(&path)?),
        };
        Ok(Self { hash, geometry, data, pairs: Pairs(pairs) })
    }

    /// Opens a blob in the store.
    pub(super) fn stored(layout: &Layout, hash: BlobHash, geometry: Geometry) -> Result<Self, StoreError> {
        let path = layout.data(hash);
        Self::with_data(layout, hash, geometry, File::open(&path).at(&path)?)
    }

    /// Writes the encoding of a span, each group proved first.
    pub(super) fn encode_span(&self, span: Span, out: &mut impl Write) -> Result<(), EncodeError> {
        encode_span(&self.data, &self.pairs, self.hash, self.geometry, span, out)
    }

    /// Which groups of `span` can be proved. An error means that the disk could not be read, not that it holds the wrong bytes.
    pub(super) fn prove(&self, span: Span) -> io::Result<SpanSet> {
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
            rest = Span::new(bad.end(), span.end());
        }
        Ok(proved)
    }
}
