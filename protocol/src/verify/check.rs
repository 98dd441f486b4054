//! Proving bytes that lie in memory already, for whoever hands them out as they are: the walk of an encoding, without writing one.

use super::encode::Window;
use super::walk::{Mismatch, Step, Walk};
use super::{EncodeError, ReadAt};
use crate::geometry::{Geometry, Span};
use crate::ids::BlobHash;

/// Proves that `bytes` are those of `span`, which must lie within the blob. `outboard` is in post-order; a part of it that is missing counts
/// as damage, and so do bytes that end early. What is blamed is as for [`encode_span`](super::encode_span).
pub fn check_span(
    bytes: &[u8],
    outboard: impl ReadAt,
    hash: BlobHash,
    geometry: Geometry,
    span: Span,
) -> Result<(), EncodeError> {
    let mut walk = Walk::new(hash, geometry, span);
    let start = geometry.byte_range(span).start;
    let mut pairs = Window::of(outboard);
    while let Some(step) = walk.step() {
        let found = match step {
            Step::Parent { outboard_offset, levels } => pairs.pair(outboard_offset, levels).map_err(EncodeError::Read)?,
            Step::Leaf { offset, bytes: count } => {
                let at = usize::try_from(offset - start).unwrap_or(usize::MAX);
                bytes.get(at..).map_or(&[][..], |rest| &rest[..count.min(rest.len())])
            }
        };
        if found.len() < step.bytes() {
            return Err(EncodeError::Damaged { span: walk.blame() });
        }
        walk.check(found).map_err(|Mismatch(span)| EncodeError::Damaged { span })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{Blob, SIZES};
    use super::*;
    use crate::geometry::GROUP_BYTES;

    fn check(blob: &Blob, bytes: &[u8], outboard: &[u8], span: Span) -> Option<Span> {
        match check_span(bytes, outboard, blob.hash, blob.geometry, span) {
            Ok(()) => None,
            Err(EncodeError::Damaged { span }) => Some(span),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_span_of_every_size_proves_and_no_other_bytes_do() {
        for size in SIZES {
            let blob = Blob::of_size(size);
            for span in blob.spans() {
                let range = blob.geometry.byte_range(span);
                let bytes = &blob.bytes[range.start as usize..range.end as usize];
                assert_eq!(check(&blob, bytes, &blob.outboard, span), None, "size {size} span {span:?}");
                for at in [0, bytes.len() / 2, bytes.len() - 1] {
                    let mut wrong = bytes.to_vec();
                    wrong[at] ^= 0x10;
                    let group = (range.start + at as u64) / GROUP_BYTES;
                    assert_eq!(check(&blob, &wrong, &blob.outboard, span), Span::new(group, group + 1), "size {size} byte {at}");
                }
                let last = Span::new(span.end() - 1, span.end());
                assert_eq!(check(&blob, &bytes[..bytes.len() - 1], &blob.outboard, span), last, "cut short");
                if size > GROUP_BYTES {
                    assert!(check(&blob, bytes, &[], span).is_some(), "without an outboard nothing proves");
                }
            }
        }
    }
}
