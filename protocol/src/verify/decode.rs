//! From the encoding of one span to proved groups, as they arrive. A lie costs at most one group and is found at once.

use std::io;

use thiserror::Error;

use super::PAIR_BYTES;
use super::walk::{Mismatch, Step, Walk};
use crate::geometry::{Geometry, Span};
use crate::ids::BlobHash;

/// Why decoding stopped before the end of the span.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// The peer's fault: what it sent does not match the hash.
    #[error("the bytes of group {group} do not match the hash")]
    BadBytes {
        /// The first group which is not proved.
        group: u64,
    },
    /// The stream ended early.
    #[error("the stream ended early")]
    Ended,
    /// The stream could not be read.
    #[error("the stream could not be read")]
    Read(#[source] io::Error),
    /// Our fault: the sink refused what was proved.
    #[error("what was proved could not be kept")]
    Sink(#[source] io::Error),
}

/// Gives the bytes of an encoding, in order.
pub trait Feed {
    /// Whether so many bytes are there, or will be in a moment.
    fn has(&mut self, bytes: usize) -> bool;

    /// The next so many bytes, waiting for them as long as it takes; an error of kind [`io::ErrorKind::UnexpectedEof`] if they never come.
    fn take(&mut self, bytes: usize) -> io::Result<&[u8]>;
}

impl Feed for &[u8] {
    fn has(&mut self, _bytes: usize) -> bool {
        true
    }

    fn take(&mut self, bytes: usize) -> io::Result<&[u8]> {
        self.split_off(..bytes).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// Takes what has been proved.
pub trait SpanSink {
    /// A parent of the tree and its place in the post-order outboard, in bytes. Parents come before the leaves below them.
    fn parent(&mut self, outboard_offset: u64, pair: &[u8; PAIR_BYTES as usize]) -> io::Result<()>;

    /// The bytes of one group and their place in the blob. Groups come in order.
    fn leaf(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Nothing will come for a while: what has been collected is better let go of.
    fn pause(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes the encoding of `span`, which must lie within the blob, from `feed` and hands everything proved to the sink. Returns how many
/// groups the sink has taken, always a prefix of the span, and whether that is all of it. Takes exactly the encoding and not a byte more,
/// and copies nothing.
pub fn decode_span(
    hash: BlobHash,
    geometry: Geometry,
    span: Span,
    feed: &mut impl Feed,
    sink: &mut impl SpanSink,
) -> (u64, Result<(), DecodeError>) {
    let mut walk = Walk::new(hash, geometry, span);
    let mut verified = 0;
    while let Some(step) = walk.step() {
        if !feed.has(step.bytes())
            && let Err(error) = sink.pause()
        {
            return (verified, Err(DecodeError::Sink(error)));
        }
        let bytes = match feed.take(step.bytes()) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return (verified, Err(DecodeError::Ended)),
            Err(error) => return (verified, Err(DecodeError::Read(error))),
        };
        if let Err(Mismatch(blamed)) = walk.check(bytes) {
            let group = blamed.start().max(span.start() + verified);
            return (verified, Err(DecodeError::BadBytes { group }));
        }
        let kept = match step {
            Step::Parent { outboard_offset, .. } => {
                sink.parent(outboard_offset, bytes.try_into().expect("a pair is as long as a pair"))
            }
            Step::Leaf { offset, .. } => sink.leaf(offset, bytes).map(|()| verified += 1),
        };
        if let Err(error) = kept {
            return (verified, Err(DecodeError::Sink(error)));
        }
    }
    (verified, Ok(()))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{Blob, SIZES};
    use super::*;
    use crate::geometry::GROUP_BYTES;

    /// A blob and outboard being filled; refuses the leaf numbered `full_at`.
    struct Memory {
        data: Vec<u8>,
        outboard: Vec<u8>,
        leaves: u64,
        full_at: u64,
    }

    impl Memory {
        fn for_blob(blob: &Blob) -> Self {
            Self { data: vec![0; blob.bytes.len()], outboard: vec![0; blob.outboard.len()], leaves: 0, full_at: u64::MAX }
        }
    }

    impl SpanSink for Memory {
        fn parent(&mut self, offset: u64, pair: &[u8; 64]) -> io::Result<()> {
            self.outboard[offset as usize..][..64].copy_from_slice(pair);
            Ok(())
        }

        fn leaf(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            if self.leaves == self.full_at {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.leaves += 1;
            self.data[offset as usize..][..bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
    }

    #[test]
    fn any_span_reads_back_and_not_a_byte_more_is_taken() {
        for size in SIZES {
            let blob = Blob::of_size(size);
            for span in blob.spans() {
                let mut memory = Memory::for_blob(&blob);
                let mut stream = blob.encode(span);
                stream.extend_from_slice(b"next answer");
                let mut rest = &stream[..];
                let (verified, result) = decode_span(blob.hash, blob.geometry, span, &mut rest, &mut memory);
                assert!(result.is_ok(), "size {size} span {span:?}: {result:?}");
                assert_eq!((verified, rest), (span.groups(), &b"next answer"[..]));
                let range = blob.geometry.byte_range(span);
                let range = range.start as usize..range.end as usize;
                assert_eq!(memory.data[range.clone()], blob.bytes[range]);
            }
        }
    }

    #[test]
    fn what_was_collected_is_let_go_of_when_nothing_comes() {
        /// Has nothing at hand before these steps.
        struct Halting<'a>(&'a [u8], Vec<u64>, u64);
        impl Feed for Halting<'_> {
            fn has(&mut self, _: usize) -> bool {
                self.2 += 1;
                !self.1.contains(&(self.2 - 1))
            }

            fn take(&mut self, bytes: usize) -> io::Result<&[u8]> {
                self.0.take(bytes)
            }
        }
        struct Notes(Vec<&'static str>);
        impl SpanSink for Notes {
            fn parent(&mut self, _: u64, _: &[u8; 64]) -> io::Result<()> {
                self.0.push("parent");
                Ok(())
            }

            fn leaf(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
                self.0.push("leaf");
                Ok(())
            }

            fn pause(&mut self) -> io::Result<()> {
                self.0.push("pause");
                Ok(())
            }
        }
        let blob = Blob::of_size(2 * GROUP_BYTES);
        let whole = blob.geometry.whole().expect("not empty");
        let encoded = blob.encode(whole);
        let mut notes = Notes(Vec::new());
        let (verified, result) = decode_span(blob.hash, blob.geometry, whole, &mut Halting(&encoded, vec![0, 2], 0), &mut notes);
        assert!(verified == 2 && result.is_ok());
        assert_eq!(notes.0, ["pause", "parent", "leaf", "pause", "leaf"]);
    }

    #[test]
    fn spans_received_one_by_one_add_up_to_the_blob_and_its_outboard() {
        for size in SIZES {
            let blob = Blob::of_size(size);
            let mut memory = Memory::for_blob(&blob);
            for group in (0..blob.geometry.groups()).rev() {
                let span = Span::new(group, group + 1).expect("not empty");
                let (verified, result) = decode_span(blob.hash, blob.geometry, span, &mut &blob.encode(span)[..], &mut memory);
                assert!(verified == 1 && result.is_ok());
            }
            assert_eq!(memory.data, blob.bytes);
            assert_eq!(memory.outboard, blob.outboard, "size {size}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_in_the_stream_is_found_and_nothing_after_it_counts() {
        let blob = Blob::of_size(5 * GROUP_BYTES + 17);
        for span in blob.spans() {
            let encoded = blob.encode(span);
            for at in (0..encoded.len()).step_by(499) {
                let mut lie = encoded.clone();
                lie[at] ^= 0x80;
                let mut memory = Memory::for_blob(&blob);
                let (verified, result) = decode_span(blob.hash, blob.geometry, span, &mut &lie[..], &mut memory);
                let Err(DecodeError::BadBytes { group }) = result else { panic!("{span:?} byte {at}: {result:?}") };
                assert_eq!(group, span.start() + verified, "{span:?} byte {at}");
                for group in 0..blob.geometry.groups() {
                    let range = blob.geometry.byte_range(Span::new(group, group + 1).expect("not empty"));
                    let range = range.start as usize..range.end as usize;
                    if (span.start()..span.start() + verified).contains(&group) {
                        assert_eq!(memory.data[range.clone()], blob.bytes[range]);
                    } else {
                        assert!(memory.data[range].iter().all(|&byte| byte == 0), "an unproved byte was kept");
                    }
                }
            }
        }
    }

    #[test]
    fn a_stream_cut_anywhere_keeps_its_proved_prefix() {
        let blob = Blob::of_size(5 * GROUP_BYTES + 17);
        let span = Span::new(1, 6).expect("not empty");
        let encoded = blob.encode(span);
        let mut last = 0;
        for cut in (0..encoded.len()).step_by(61).chain([encoded.len() - 1]) {
            let (verified, result) =
                decode_span(blob.hash, blob.geometry, span, &mut &encoded[..cut], &mut Memory::for_blob(&blob));
            assert!(matches!(result, Err(DecodeError::Ended)), "cut {cut}: {result:?}");
            assert!(verified >= last && verified <= cut as u64 / GROUP_BYTES);
            last = verified;
        }
        assert_eq!(last, 4);
    }

    #[test]
    fn a_wrong_size_never_proves_the_last_group() {
        let blob = Blob::of_size(5 * GROUP_BYTES + 17);
        let encoded = blob.encode(blob.geometry.whole().expect("not empty"));
        for size in [1, 4 * GROUP_BYTES, 5 * GROUP_BYTES + 16, 5 * GROUP_BYTES + 18, 6 * GROUP_BYTES, 100 * GROUP_BYTES] {
            let geometry = Geometry::of(size);
            let whole = geometry.whole().expect("not empty");
            let mut memory = Memory { data: vec![0; size as usize], outboard: vec![0; 64 * 200], leaves: 0, full_at: u64::MAX };
            let (verified, result) = decode_span(blob.hash, geometry, whole, &mut &encoded[..], &mut memory);
            assert!(verified < whole.groups() && result.is_err(), "size {size}");
        }
    }

    #[test]
    fn a_full_sink_and_a_broken_stream_are_told_apart() {
        struct Reset;
        impl Feed for Reset {
            fn has(&mut self, _: usize) -> bool {
                true
            }

            fn take(&mut self, _: usize) -> io::Result<&[u8]> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let blob = Blob::of_size(4 * GROUP_BYTES);
        let whole = blob.geometry.whole().expect("not empty");
        let mut memory = Memory { full_at: 2, ..Memory::for_blob(&blob) };
        let (verified, result) = decode_span(blob.hash, blob.geometry, whole, &mut &blob.encode(whole)[..], &mut memory);
        assert!(verified == 2 && matches!(result, Err(DecodeError::Sink(_))), "{result:?}");
        let (verified, result) = decode_span(blob.hash, blob.geometry, whole, &mut Reset, &mut Memory::for_blob(&blob));
        assert!(verified == 0 && matches!(result, Err(DecodeError::Read(_))), "{result:?}");
    }
}
