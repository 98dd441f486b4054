//! From data and outboard to the encoding of one span, proving every group before it leaves.

use std::io::{self, Write};
use std::ops::Range;

use bao_tree::io::sync::ReadAt;
use thiserror::Error;

use super::PAIR_BYTES;
use super::walk::{Mismatch, Step, Walk};
use crate::geometry::{Geometry, Span};
use crate::ids::BlobHash;

/// Data is read this much at a time: it stays in the processor's cache from reading to encrypting.
const DATA_WINDOW: usize = 128 * 1024;
/// Levels of the tree whose pairs are read together: 255 pairs side by side, as many as a block of 4 MiB has.
const PAIR_LEVELS: u32 = 8;

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
/// Each write is one parent of 64 bytes or one group: give it something that collects the small ones. Takes 144 KiB for its windows.
pub fn encode_span(
    data: impl ReadAt,
    outboard: impl ReadAt,
    hash: BlobHash,
    geometry: Geometry,
    span: Span,
    out: &mut impl Write,
) -> Result<(), EncodeError> {
    let mut walk = Walk::new(hash, geometry, span);
    let end = geometry.byte_range(span).end;
    let (mut data, mut pairs) = (Window::of(data), Window::of(outboard));
    while let Some(step) = walk.step() {
        let bytes = match step {
            Step::Parent { outboard_offset, levels } => pairs.pair(outboard_offset, levels).map_err(EncodeError::Read)?,
            Step::Leaf { offset, bytes } => {
                let leaf = offset..offset + bytes as u64;
                let ahead = offset..leaf.end.max(end.min(offset + DATA_WINDOW as u64));
                // Where a disk is bad only the bad groups are lost.
                match data.read(leaf.clone(), ahead) {
                    Err(_) => data.read(leaf.clone(), leaf).map_err(EncodeError::Read)?,
                    Ok(bytes) => bytes,
                }
            }
        };
        if bytes.len() < step.bytes() {
            return Err(EncodeError::Damaged { span: walk.blame() });
        }
        walk.check(bytes).map_err(|Mismatch(span)| EncodeError::Damaged { span })?;
        out.write_all(bytes).map_err(EncodeError::Write)?;
    }
    Ok(())
}

/// The part of a file that was read last.
pub(super) struct Window<R> {
    file: R,
    start: u64,
    bytes: Vec<u8>,
}

impl<R: ReadAt> Window<R> {
    pub(super) fn of(file: R) -> Self {
        Self { file, start: 0, bytes: Vec::new() }
    }

    /// The pair of hashes at this place of an outboard, above so many levels of others; less if the file ends before.
    pub(super) fn pair(&mut self, outboard_offset: u64, levels: u32) -> io::Result<&[u8]> {
        // Everything below a parent lies just before it, so one read gets it all; higher up it is far apart.
        let below = if levels < PAIR_LEVELS { (1u64 << levels) * 2 - 2 } else { 0 };
        let start = outboard_offset.saturating_sub(below * PAIR_BYTES);
        let after = outboard_offset + PAIR_BYTES;
        self.read(outboard_offset..after, start..after)
    }

    /// The bytes of `wanted`, fewer if the file ends before; reads `ahead`, of which it is a part, unless it is there already.
    fn read(&mut self, wanted: Range<u64>, ahead: Range<u64>) -> io::Result<&[u8]> {
        if wanted.start < self.start || wanted.end > self.start + self.bytes.len() as u64 {
            self.load(ahead)?;
        }
        let bytes = wanted.start.saturating_sub(self.start) as usize..wanted.end.saturating_sub(self.start) as usize;
        Ok(self.bytes.get(bytes.start..bytes.end.min(self.bytes.len())).unwrap_or_default())
    }

    fn load(&mut self, range: Range<u64>) -> io::Result<()> {
        self.start = range.start;
        self.bytes.resize((range.end - range.start) as usize, 0);
        let mut filled = 0;
        while filled < self.bytes.len() {
            match self.file.read_at(range.start + filled as u64, &mut self.bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.bytes.clear();
                    return Err(error);
                }
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bao_tree::io::outboard::PostOrderOutboard;
    use bao_tree::io::sync::encode_ranges_validated;

    use super::super::fixtures::{Blob, SIZES};
    use super::*;
    use crate::geometry::GROUP_BYTES;

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
                    assert_eq!(found, Span::new(at / GROUP_BYTES, at / GROUP_BYTES + 1), "size {size} span {span:?} byte {at}");
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
    fn what_a_bad_sector_hides_is_one_group_and_what_lies_before_it_is_sent() {
        /// Fails wherever the bad byte is asked for.
        struct BadSector<'a>(&'a [u8], u64);
        impl ReadAt for BadSector<'_> {
            fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
                if (offset..offset + buffer.len() as u64).contains(&self.1) {
                    return Err(io::ErrorKind::Other.into());
                }
                self.0.read_at(offset, buffer)
            }
        }
        let blob = Blob::of_size(13 * GROUP_BYTES + 5);
        let whole = blob.geometry.whole().expect("not empty");
        let mut sent = Vec::new();
        let data = BadSector(&blob.bytes, 6 * GROUP_BYTES + 77);
        let result = encode_span(data, &blob.outboard[..], blob.hash, blob.geometry, whole, &mut sent);
        assert!(matches!(result, Err(EncodeError::Read(_))), "{result:?}");
        assert!(sent.len() as u64 > 6 * GROUP_BYTES && blob.encode(whole).starts_with(&sent));
    }

    #[test]
    fn an_encoding_does_not_depend_on_how_much_is_read_at_a_time() {
        /// Gives a byte or a few thousand, whatever is asked for.
        struct Stingy<'a>(&'a [u8]);
        impl ReadAt for Stingy<'_> {
            fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
                let most = buffer.len().min(1 + (offset % 5000) as usize);
                self.0.read_at(offset, &mut buffer[..most])
            }
        }
        // More than one window of data, and more levels than are read together.
        let blob = Blob::of_size(300 * GROUP_BYTES + 1);
        for (start, end) in [(0, 301), (3, 290), (255, 258), (300, 301)] {
            let span = Span::new(start, end).expect("not empty");
            let mut sent = Vec::new();
            let (data, outboard) = (Stingy(&blob.bytes), Stingy(&blob.outboard));
            encode_span(data, outboard, blob.hash, blob.geometry, span, &mut sent).expect("whole");
            let mut expected = Vec::new();
            let tree = super::super::tree(blob.geometry);
            let oracle = PostOrderOutboard { root: blake3::Hash::from_bytes(blob.hash.0), tree, data: &blob.outboard[..] };
            let ranges = super::super::ranges(blob.geometry, span);
            encode_ranges_validated(&blob.bytes[..], oracle, &ranges, &mut expected).expect("whole");
            assert!(sent == expected, "{span:?}");
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
