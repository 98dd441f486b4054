//! Parents that come from somewhere else than the bytes below them: checked by themselves, down from the blob's hash, and then braided
//! with plain bytes into the encoding that a peer would send. So plain bytes are proved group by group, and whoever lied is known.

use std::io;
use std::ops::Range;

use thiserror::Error;

use super::PAIR_BYTES;
use super::decode::Feed;
use super::walk::{Mismatch, Step, Walk, steps};
use crate::geometry::{Geometry, Span};
use crate::ids::BlobHash;

/// The parents do not hash to the blob's name, or some are missing; the blame falls on these groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the parents of groups {0:?} do not match the hash")]
pub struct WrongParents(pub Span);

/// Where in a blob's outboard the parents lie that lead to a span: ranges of bytes, in order, none touching the next. Of an aligned run of
/// groups most lie side by side; those above it lie apart.
pub fn outboard_parts(geometry: Geometry, span: Span) -> Vec<Range<u64>> {
    let offsets = steps(geometry, span).filter_map(|step| match step {
        Step::Parent { outboard_offset, .. } => Some(outboard_offset),
        Step::Leaf { .. } => None,
    });
    let mut offsets: Vec<u64> = offsets.collect();
    offsets.sort_unstable();
    let mut parts: Vec<Range<u64>> = Vec::new();
    for offset in offsets {
        match parts.last_mut() {
            Some(part) if part.end == offset => part.end += PAIR_BYTES,
            _ => parts.push(offset..offset + PAIR_BYTES),
        }
    }
    parts
}

/// The parents that lead to a span, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parents {
    geometry: Geometry,
    span: Span,
    /// Parts of the outboard by where they begin, in order.
    parts: Vec<(u64, Vec<u8>)>,
}

impl Parents {
    /// Checks parts of an outboard, in order and each with the place where it begins: they must hold what [`outboard_parts`] names, and may
    /// hold more, which counts for nothing.
    pub fn check(hash: BlobHash, geometry: Geometry, span: Span, parts: Vec<(u64, Vec<u8>)>) -> Result<Self, WrongParents> {
        let parents = Self { geometry, span, parts };
        let mut walk = Walk::new(hash, geometry, span);
        while let Some(step) = walk.step() {
            match step {
                Step::Leaf { .. } => walk.skip_leaf(),
                Step::Parent { outboard_offset, .. } => {
                    let pair = parents.pair(outboard_offset).ok_or_else(|| WrongParents(walk.blame()))?;
                    walk.check(pair).map_err(|Mismatch(span)| WrongParents(span))?;
                }
            }
        }
        Ok(parents)
    }

    /// The groups that they lead to.
    pub fn span(&self) -> Span {
        self.span
    }

    /// The parts of the outboard, each with the place where it begins.
    pub fn parts(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.parts.iter().map(|(start, bytes)| (*start, bytes.as_slice()))
    }

    fn pair(&self, offset: u64) -> Option<&[u8]> {
        let after = self.parts.partition_point(|(start, _)| *start <= offset);
        let (start, bytes) = self.parts.get(after.checked_sub(1)?)?;
        let at = usize::try_from(offset - start).ok()?;
        bytes.get(at..at.checked_add(PAIR_BYTES as usize)?)
    }

    /// The encoding of a span within theirs, its groups' bytes taken from `leaves`.
    ///
    /// # Panics
    /// If the span is not within theirs.
    pub fn braid<'a, F: Feed>(&'a self, span: Span, leaves: F) -> Braid<'a, F> {
        assert!(self.span.intersection(span) == Some(span), "{span:?} is not within {:?}", self.span);
        Braid { parents: self, steps: Box::new(steps(self.geometry, span)), next: None, leaves }
    }
}

/// An encoding, put together as it is taken. It must be taken step by step, as [`decode_span`](super::decode_span) does.
pub struct Braid<'a, F> {
    parents: &'a Parents,
    steps: Box<dyn Iterator<Item = Step> + 'a>,
    next: Option<Step>,
    leaves: F,
}

impl<F> Braid<'_, F> {
    fn peek(&mut self) -> Option<Step> {
        if self.next.is_none() {
            self.next = self.steps.next();
        }
        self.next
    }
}

impl<F: Feed> Feed for Braid<'_, F> {
    fn has(&mut self, bytes: usize) -> bool {
        match self.peek() {
            Some(Step::Leaf { .. }) => self.leaves.has(bytes),
            Some(Step::Parent { .. }) | None => true,
        }
    }

    fn take(&mut self, bytes: usize) -> io::Result<&[u8]> {
        self.peek();
        match self.next.take() {
            Some(Step::Leaf { bytes: leaf, .. }) if leaf == bytes => self.leaves.take(bytes),
            Some(Step::Parent { outboard_offset, .. }) if bytes as u64 == PAIR_BYTES => {
                self.parents.pair(outboard_offset).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{Blob, SIZES};
    use super::super::{DecodeError, SpanSink, decode_span, outboard_bytes};
    use super::*;
    use crate::geometry::GROUP_BYTES;

    /// Keeps what is proved, in order.
    #[derive(Default)]
    struct Proved(Vec<u8>);

    impl SpanSink for Proved {
        fn parent(&mut self, _: u64, _: &[u8; 64]) -> io::Result<()> {
            Ok(())
        }

        fn leaf(&mut self, _: u64, bytes: &[u8]) -> io::Result<()> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }
    }

    fn parts_of(outboard: &[u8], geometry: Geometry, span: Span) -> Vec<(u64, Vec<u8>)> {
        let part = |part: Range<u64>| (part.start, outboard[part.start as usize..part.end as usize].to_vec());
        outboard_parts(geometry, span).into_iter().map(part).collect()
    }

    fn bytes_of(blob: &Blob, span: Span) -> &[u8] {
        let range = blob.geometry.byte_range(span);
        &blob.bytes[range.start as usize..range.end as usize]
    }

    #[test]
    fn plain_bytes_and_parents_are_what_a_peer_would_send() {
        for size in SIZES {
            let blob = Blob::of_size(size);
            for wide in blob.spans() {
                let parents = Parents::check(blob.hash, blob.geometry, wide, parts_of(&blob.outboard, blob.geometry, wide));
                let parents = parents.unwrap_or_else(|error| panic!("size {size}: {error}"));
                for span in [wide, wide.prefix(1), Span::new(wide.end() - 1, wide.end()).expect("a group")] {
                    let mut proved = Proved::default();
                    let mut braid = parents.braid(span, bytes_of(&blob, span));
                    let (groups, result) = decode_span(blob.hash, blob.geometry, span, &mut braid, &mut proved);
                    assert!(result.is_ok() && groups == span.groups(), "size {size} {span:?} of {wide:?}: {result:?}");
                    assert!(proved.0 == bytes_of(&blob, span));
                }
            }
        }
    }

    #[test]
    fn parents_of_an_aligned_run_lie_side_by_side_but_for_those_above() {
        let geometry = Geometry::of(64 * GROUP_BYTES);
        let parts = outboard_parts(geometry, Span::new(16, 32).expect("a span"));
        let lengths: Vec<u64> = parts.iter().map(|part| (part.end - part.start) / PAIR_BYTES).collect();
        // Fifteen within, with the one above both halves of 32 right behind, and the root.
        assert_eq!(lengths, [16, 1]);
        let all = outboard_parts(geometry, geometry.whole().expect("all"));
        assert_eq!((all.len(), all[0].clone()), (1, 0..outboard_bytes(geometry)));
        assert_eq!(outboard_parts(Geometry::of(1), Span::new(0, 1).expect("a group")), []);
    }

    #[test]
    fn a_flipped_bit_in_the_parents_is_found_before_any_byte_is_asked_for() {
        let blob = Blob::of_size(13 * GROUP_BYTES + 5);
        let span = Span::new(2, 7).expect("a span");
        let parts = parts_of(&blob.outboard, blob.geometry, span);
        for part in 0..parts.len() {
            for at in (0..parts[part].1.len()).step_by(7) {
                let mut lie = parts.clone();
                lie[part].1[at] ^= 4;
                let WrongParents(blamed) = Parents::check(blob.hash, blob.geometry, span, lie).expect_err("found");
                assert!(blamed.groups() >= 2, "{blamed:?}");
            }
        }
        for missing in 0..parts.len() {
            let mut few = parts.clone();
            few.remove(missing);
            assert!(Parents::check(blob.hash, blob.geometry, span, few).is_err());
        }
        let mut short = parts;
        short[0].1.pop();
        assert!(Parents::check(blob.hash, blob.geometry, span, short).is_err());
    }

    #[test]
    fn with_good_parents_the_blame_falls_on_the_bytes_and_on_their_group() {
        let blob = Blob::of_size(13 * GROUP_BYTES + 5);
        let whole = blob.geometry.whole().expect("not empty");
        let parents = Parents::check(blob.hash, blob.geometry, whole, vec![(0, blob.outboard.clone())]).expect("right");
        for at in (0..blob.bytes.len()).step_by(5001) {
            let mut lie = blob.bytes.clone();
            lie[at] ^= 1;
            let mut proved = Proved::default();
            let (groups, result) = decode_span(blob.hash, blob.geometry, whole, &mut parents.braid(whole, &lie[..]), &mut proved);
            let bad = at as u64 / GROUP_BYTES;
            assert!(
                matches!(result, Err(DecodeError::BadBytes { group }) if group == bad && groups == bad),
                "byte {at}: {result:?}"
            );
        }
    }

    #[test]
    fn bytes_that_end_early_are_no_lie() {
        let blob = Blob::of_size(3 * GROUP_BYTES);
        let whole = blob.geometry.whole().expect("not empty");
        let parents = Parents::check(blob.hash, blob.geometry, whole, vec![(0, blob.outboard.clone())]).expect("right");
        let mut braid = parents.braid(whole, &blob.bytes[..40_000]);
        let (groups, result) = decode_span(blob.hash, blob.geometry, whole, &mut braid, &mut Proved::default());
        assert!(groups == 2 && matches!(result, Err(DecodeError::Ended)), "{groups} {result:?}");
    }
}
