//! From the encoding of one span to proved groups, as they arrive. A lie costs at most one group and is found at once.

use std::io::{self, Read};

use bao_tree::io::sync::DecodeResponseIter;
use bao_tree::io::{BaoContentItem, DecodeError as BaoError};
use thiserror::Error;

use super::{PAIR_BYTES, group_of, ranges, span_below, tree};
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

/// Takes what has been proved.
pub trait SpanSink {
    /// A parent of the tree and its place in the post-order outboard, in bytes. Parents come before the leaves below them.
    fn parent(&mut self, outboard_offset: u64, pair: &[u8; PAIR_BYTES as usize]) -> io::Result<()>;

    /// The bytes of one group and their place in the blob. Groups come in order.
    fn leaf(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

/// Reads the encoding of `span`, which must lie within the blob, and hands everything proved to the sink. Returns how many groups the
/// sink has taken, always a prefix of the span, and whether that is all of it. Reads exactly the encoding and not a byte more.
///
/// Reads are as small as 64 bytes: give it something buffered. One buffer of a group is allocated, however long the span is.
pub fn decode_span(
    hash: BlobHash,
    geometry: Geometry,
    span: Span,
    read: impl Read,
    sink: &mut impl SpanSink,
) -> (u64, Result<(), DecodeError>) {
    assert!(geometry.contains(span), "{span:?} is not within a blob of {} groups", geometry.groups());
    let (tree, ranges) = (tree(geometry), ranges(span));
    let mut verified = 0;
    for item in DecodeResponseIter::new(blake3::Hash::from_bytes(hash.0), tree, read, &ranges) {
        let kept = match item {
            Ok(BaoContentItem::Parent(parent)) => {
                let offset = tree.post_order_offset(parent.node).expect("a parent of whole groups is stored").value();
                let mut pair = [0; PAIR_BYTES as usize];
                pair[..32].copy_from_slice(parent.pair.0.as_bytes());
                pair[32..].copy_from_slice(parent.pair.1.as_bytes());
                sink.parent(offset * PAIR_BYTES, &pair)
            }
            Ok(BaoContentItem::Leaf(leaf)) => sink.leaf(leaf.offset, &leaf.data).map(|()| verified += 1),
            Err(error) => return (verified, Err(sort(error, geometry, span.start() + verified))),
        };
        if let Err(error) = kept {
            return (verified, Err(DecodeError::Sink(error)));
        }
    }
    (verified, Ok(()))
}

fn sort(error: BaoError, geometry: Geometry, next: u64) -> DecodeError {
    match error {
        BaoError::LeafHashMismatch(chunk) => DecodeError::BadBytes { group: group_of(chunk) },
        BaoError::ParentHashMismatch(node) => DecodeError::BadBytes { group: span_below(node, geometry).start().max(next) },
        BaoError::ParentNotFound(_) | BaoError::LeafNotFound(_) => DecodeError::Ended,
        BaoError::Io(error) => DecodeError::Read(error),
    }
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
    fn spans_received_one_by_one_add_up_to_the_blob_and_its_outboard() {
        for size in SIZES {
            let blob = Blob::of_size(size);
            let mut memory = Memory::for_blob(&blob);
            for group in (0..blob.geometry.groups()).rev() {
                let span = Span::new(group, group + 1).expect("not empty");
                let (verified, result) = decode_span(blob.hash, blob.geometry, span, &blob.encode(span)[..], &mut memory);
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
                let (verified, result) = decode_span(blob.hash, blob.geometry, span, &lie[..], &mut memory);
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
            let (verified, result) = decode_span(blob.hash, blob.geometry, span, &encoded[..cut], &mut Memory::for_blob(&blob));
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
            let (verified, result) = decode_span(blob.hash, geometry, whole, &encoded[..], &mut memory);
            assert!(verified < whole.groups() && result.is_err(), "size {size}");
        }
    }

    #[test]
    fn a_full_sink_and_a_broken_stream_are_told_apart() {
        struct Reset;
        impl Read for Reset {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let blob = Blob::of_size(4 * GROUP_BYTES);
        let whole = blob.geometry.whole().expect("not empty");
        let mut memory = Memory { full_at: 2, ..Memory::for_blob(&blob) };
        let (verified, result) = decode_span(blob.hash, blob.geometry, whole, &blob.encode(whole)[..], &mut memory);
        assert!(verified == 2 && matches!(result, Err(DecodeError::Sink(_))), "{result:?}");
        let (verified, result) = decode_span(blob.hash, blob.geometry, whole, Reset, &mut Memory::for_blob(&blob));
        assert!(verified == 0 && matches!(result, Err(DecodeError::Read(_))), "{result:?}");
    }
}
