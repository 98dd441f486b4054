//! From data and outboard to the encoding of one span, proving every group before it leaves.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};

use bao_tree::io::EncodeError as BaoError;
use bao_tree::io::outboard::PostOrderOutboard;
use bao_tree::io::sync::{ReadAt, encode_ranges_validated};
use thiserror::Error;

use super::{group_of, ranges, span_below, tree};
use crate::geometry::{GROUP_BYTES, Geometry, Span};
use crate::ids::BlobHash;

/// Why a span could not be encoded. What was written before is the correct beginning of the encoding.
#[derive(Debug, Error)]
pub enum EncodeError {
    /// Our copy is wrong: these groups cannot be proved from the data and outboard at hand.
    #[error("groups {span:?} do not match their hashes")]
    Damaged {
        /// One group when the data is wrong; all groups below a parent when the outboard is.
        span: Span,
    },
    /// The data or the outboard could not be read.
    #[error("the data could not be read")]
    Read(#[source] io::Error),
    /// The output did not take the encoding.
    #[error("the encoding could not be written")]
    Write(#[source] io::Error),
}

/// Writes the encoding of `span`, which must lie within the blob. `outboard` is in post-order; a part of it that is missing counts as
/// damage, and so does data that ends early.
///
/// Writes are as small as 64 bytes: give it something buffered.
pub fn encode_span(
    data: impl ReadAt,
    outboard: impl ReadAt,
    hash: BlobHash,
    geometry: Geometry,
    span: Span,
    out: &mut impl Write,
) -> Result<(), EncodeError> {
    assert!(geometry.contains(span), "{span:?} is not within a blob of {} groups", geometry.groups());
    let data = Noted { inner: data, last_offset: Cell::new(0), error: RefCell::new(None) };
    let pairs = Noted { inner: outboard, last_offset: Cell::new(0), error: RefCell::new(None) };
    let mut out = NotedWrite { inner: out, error: None };
    let outboard = PostOrderOutboard { root: blake3::Hash::from_bytes(hash.0), tree: tree(geometry), data: &pairs };
    let Err(error) = encode_ranges_validated(&data, outboard, &ranges(span), &mut out) else { return Ok(()) };
    if let Some(error) = out.error {
        return Err(EncodeError::Write(error));
    }
    Err(match error {
        BaoError::LeafHashMismatch(chunk) => EncodeError::Damaged { span: one_group(group_of(chunk)) },
        BaoError::ParentHashMismatch(node) => EncodeError::Damaged { span: span_below(node, geometry) },
        other => match data.error.take().or(pairs.error.take()) {
            Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                EncodeError::Damaged { span: one_group(data.last_offset.get() / GROUP_BYTES) }
            }
            Some(error) => EncodeError::Read(error),
            None => EncodeError::Read(other.into()),
        },
    })
}

fn one_group(group: u64) -> Span {
    Span::new(group, group + 1).expect("one group is not nothing")
}

/// Remembers where it was read last and what went wrong: bao-tree reports reading and writing errors alike.
struct Noted<R> {
    inner: R,
    last_offset: Cell<u64>,
    error: RefCell<Option<io::Error>>,
}

// Only `read_at`: positioned-io's `impl ReadAt for &R` does not forward `read_exact_at`.
impl<R: ReadAt> ReadAt for Noted<R> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.last_offset.set(offset);
        let result = self.inner.read_at(offset, buffer);
        let error = match &result {
            Ok(0) if !buffer.is_empty() => io::ErrorKind::UnexpectedEof.into(),
            Err(error) if error.kind() != io::ErrorKind::Interrupted => copy_of(error),
            _ => return result,
        };
        self.error.replace(Some(error));
        result
    }
}

fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}

struct NotedWrite<'a, W> {
    inner: &'a mut W,
    error: Option<io::Error>,
}

impl<W: Write> Write for NotedWrite<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_all(bytes).map_err(|error| {
            let kind = error.kind();
            self.error = Some(error);
            kind.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{Blob, SIZES};
    use super::*;

    fn encode(blob: &Blob, data: &[u8], outboard: &[u8], span: Span) -> Result<(), EncodeError> {
        encode_span(data, outboard, blob.hash, blob.geometry, span, &mut io::sink())
    }

    fn damaged(result: Result<(), EncodeError>) -> Option<Span> {
        match result {
            Ok(()) => None,
            Err(EncodeError::Damaged { span }) => Some(span),
            Err(other) => panic!("{other:?}"),
        }
    }

    /// Reading and writing fail with a kind of our choice.
    struct Broken(io::ErrorKind);

    impl ReadAt for Broken {
        fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
    }

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_encoding_holds_the_span_and_the_parents_above_it_and_nothing_else() {
        for size in SIZES {
            let blob = Blob::of_size(size);
            for span in blob.spans() {
                let encoded = blob.encode(span).len() as u64;
                let parents = encoded - blob.geometry.bytes_in(span);
                assert_eq!(parents % 64, 0, "size {size} span {span:?}");
                assert!(parents / 64 < span.groups() + 8, "size {size} span {span:?}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_in_the_data_is_found_exactly_where_it_is() {
        for size in SIZES {
            let blob = Blob::of_size(size);
            for span in blob.spans() {
                let range = blob.geometry.byte_range(span);
                for at in [range.start, (range.start + range.end) / 2, range.end - 1] {
                    let mut data = blob.bytes.clone();
                    data[at as usize] ^= 0x10;
                    let found = damaged(encode(&blob, &data, &blob.outboard, span));
                    assert_eq!(found, Some(one_group(at / GROUP_BYTES)), "size {size} span {span:?} byte {at}");
                }
                // A flip elsewhere is none of this span's business.
                if range.start > 0 {
                    let mut data = blob.bytes.clone();
                    data[range.start as usize - 1] ^= 1;
                    assert_eq!(damaged(encode(&blob, &data, &blob.outboard, span)), None);
                }
            }
        }
    }

    #[test]
    fn a_flipped_bit_in_the_outboard_is_found_and_blamed_on_the_groups_below() {
        for size in SIZES {
            let blob = Blob::of_size(size);
            let Some(whole) = blob.geometry.whole() else { continue };
            for at in 0..blob.outboard.len() {
                let mut outboard = blob.outboard.clone();
                outboard[at] ^= 1;
                let span = damaged(encode(&blob, &blob.bytes, &outboard, whole)).expect("found");
                assert!(span.groups() >= 2 && blob.geometry.contains(span), "size {size} byte {at}: {span:?}");
            }
        }
    }

    #[test]
    fn missing_data_and_missing_outboard_are_damage() {
        let blob = Blob::of_size(5 * GROUP_BYTES);
        let whole = blob.geometry.whole().expect("not empty");
        let short = &blob.bytes[..3 * GROUP_BYTES as usize + 9];
        assert_eq!(damaged(encode(&blob, short, &blob.outboard, whole)), Span::new(3, 4));
        assert_eq!(damaged(encode(&blob, &blob.bytes, &[], whole)), Some(whole));
    }

    #[test]
    fn the_fault_is_told_apart_reading_or_writing() {
        let blob = Blob::of_size(5 * GROUP_BYTES);
        let whole = blob.geometry.whole().expect("not empty");
        let (data, outboard) = (&blob.bytes[..], &blob.outboard[..]);
        for kind in
            [io::ErrorKind::Other, io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof, io::ErrorKind::BrokenPipe]
        {
            let result = encode_span(data, outboard, blob.hash, blob.geometry, whole, &mut Broken(kind));
            assert!(matches!(&result, Err(EncodeError::Write(error)) if error.kind() == kind), "{kind:?}: {result:?}");
        }
        for kind in [io::ErrorKind::Other, io::ErrorKind::ConnectionReset] {
            let result = encode_span(Broken(kind), outboard, blob.hash, blob.geometry, whole, &mut io::sink());
            assert!(matches!(&result, Err(EncodeError::Read(error)) if error.kind() == kind), "{kind:?}: {result:?}");
            let result = encode_span(data, Broken(kind), blob.hash, blob.geometry, whole, &mut io::sink());
            assert!(matches!(&result, Err(EncodeError::Read(error)) if error.kind() == kind), "{kind:?}: {result:?}");
        }
    }
}
