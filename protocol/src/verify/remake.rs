//! Making damaged parents again from the data below them: a rotten outboard costs nobody a byte of payload as long as the data is right.

use std::io;

use bao_tree::io::sync::ReadAt;

use super::PAIR_BYTES;
use super::outboard::{Spine, group_hasher};
use super::walk::{Step, Walk};
use crate::geometry::{GROUP_BYTES, Geometry, Span};
use crate::ids::BlobHash;

/// Groups below a parent up to which it is made again: 1 GiB of data is hashed in a second or two, and its parents take 4 MiB of memory.
/// Of a blob's parents not one in sixty thousand has more below it.
pub const REMAKE_GROUPS: u64 = 1 << 16;

/// What became of the first parent of a span that does not prove.
#[derive(Debug, PartialEq, Eq)]
pub enum Remade {
    /// Every parent proves that is needed for the span, up to the first group which does not, if one does not.
    Sound,
    /// The parents of these groups, as they must be: to be written there.
    Parents {
        /// The groups below them.
        span: Span,
        /// Where the first byte goes in the outboard.
        offset: u64,
        /// The parents, side by side.
        pairs: Vec<u8>,
    },
    /// The data below is not right either, or there is more of it than [`REMAKE_GROUPS`].
    Lost {
        /// The groups below.
        span: Span,
    },
}

/// Looks for the first parent that does not prove, on the way to the groups of `span`, and makes it and all below it again. What cannot be
/// read counts as wrong.
pub fn remake_parents(
    data: impl ReadAt,
    outboard: impl ReadAt,
    hash: BlobHash,
    geometry: Geometry,
    span: Span,
) -> io::Result<Remade> {
    let mut walk = Walk::new(hash, geometry, span);
    let mut buffer = vec![0; GROUP_BYTES as usize];
    while let Some(step) = walk.step() {
        let (from, offset) = match step {
            Step::Parent { outboard_offset, .. } => (None, outboard_offset),
            Step::Leaf { offset, .. } => (Some(offset), offset),
        };
        let bytes = &mut buffer[..step.bytes()];
        let read = if from.is_some() { read_full(&data, offset, bytes)? } else { read_full(&outboard, offset, bytes)? };
        let below = walk.blame();
        let expected = walk.expected();
        if read && walk.check(bytes).is_ok() {
            continue;
        }
        if from.is_some() {
            return Ok(Remade::Sound);
        }
        if below.groups() > REMAKE_GROUPS {
            return Ok(Remade::Lost { span: below });
        }
        let is_root = geometry.whole() == Some(below);
        let Some((found, pairs)) = parents_of(&data, geometry, below, is_root)? else {
            return Ok(Remade::Lost { span: below });
        };
        if expected != Some(found) {
            return Ok(Remade::Lost { span: below });
        }
        // Everything below a parent lies just before it.
        let offset = offset + PAIR_BYTES - pairs.len() as u64;
        return Ok(Remade::Parents { span: below, offset, pairs });
    }
    Ok(Remade::Sound)
}

/// The hash of a subtree and its parents in post-order, from the data; `None` if that ends early.
fn parents_of(data: &impl ReadAt, geometry: Geometry, below: Span, is_root: bool) -> io::Result<Option<(blake3::Hash, Vec<u8>)>> {
    let mut spine = Spine::default();
    let mut pairs = Vec::with_capacity(((below.groups() - 1) * PAIR_BYTES) as usize);
    let mut buffer = vec![0; GROUP_BYTES as usize];
    for group in below.start()..below.end() {
        let one = Span::new(group, group + 1).expect("one group is not nothing");
        let bytes = &mut buffer[..geometry.bytes_in(one) as usize];
        if !read_full(data, group * GROUP_BYTES, bytes)? {
            return Ok(None);
        }
        let mut hasher = group_hasher(group);
        hasher.update(bytes);
        let leaf = blake3::hazmat::HasherExt::finalize_non_root(&hasher);
        if group + 1 < below.end() {
            spine.push(leaf, &mut pairs)?;
        } else if is_root {
            return Ok(Some((spine.finish_root(leaf, &mut pairs)?, pairs)));
        } else {
            return Ok(Some((spine.finish_part(leaf, &mut pairs)?.into(), pairs)));
        }
    }
    Ok(None)
}

/// Fills the buffer; `false` if the file ends before.
fn read_full(file: &impl ReadAt, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(offset + filled as u64, &mut buffer[filled..]) {
            Ok(0) => return Ok(false),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{Blob, SIZES};
    use super::*;

    fn remake(blob: &Blob, data: &[u8], outboard: &[u8], span: Span) -> Remade {
        remake_parents(data, outboard, blob.hash, blob.geometry, span).expect("memory can be read")
    }

    #[test]
    fn every_flipped_bit_of_an_outboard_is_put_right() {
        for size in SIZES {
            let blob = Blob::of_size(size);
            let Some(whole) = blob.geometry.whole() else { continue };
            assert_eq!(remake(&blob, &blob.bytes, &blob.outboard, whole), Remade::Sound);
            for at in 0..blob.outboard.len() {
                let mut outboard = blob.outboard.clone();
                outboard[at] ^= 4;
                let Remade::Parents { offset, pairs, .. } = remake(&blob, &blob.bytes, &outboard, whole) else {
                    panic!("size {size} byte {at}")
                };
                outboard[offset as usize..][..pairs.len()].copy_from_slice(&pairs);
                assert!(outboard == blob.outboard, "size {size} byte {at}");
            }
        }
    }

    #[test]
    fn an_outboard_that_is_gone_is_made_again_whole() {
        let blob = Blob::of_size(13 * GROUP_BYTES + 5);
        let whole = blob.geometry.whole().expect("not empty");
        let expected = Remade::Parents { span: whole, offset: 0, pairs: blob.outboard.clone() };
        assert_eq!(remake(&blob, &blob.bytes, &[], whole), expected);
        assert_eq!(remake(&blob, &blob.bytes, &vec![0; blob.outboard.len()], whole), expected);
    }

    #[test]
    fn parents_are_never_made_of_wrong_data() {
        let blob = Blob::of_size(13 * GROUP_BYTES + 5);
        let whole = blob.geometry.whole().expect("not empty");
        for group in 0..blob.geometry.groups() {
            let mut data = blob.bytes.clone();
            data[(group * GROUP_BYTES) as usize] ^= 1;
            assert_eq!(remake(&blob, &data, &blob.outboard, whole), Remade::Sound, "the parents are right");
            for pair in 0..blob.outboard.len() / PAIR_BYTES as usize {
                let mut outboard = blob.outboard.clone();
                outboard[pair * PAIR_BYTES as usize] ^= 1;
                match remake(&blob, &data, &outboard, whole) {
                    Remade::Parents { span, offset, pairs } => {
                        assert!(!(span.start()..span.end()).contains(&group), "made of a wrong group");
                        assert!(blob.outboard[offset as usize..].starts_with(&pairs));
                    }
                    Remade::Lost { span } => assert!((span.start()..span.end()).contains(&group)),
                    // The wrong group comes first.
                    Remade::Sound => (),
                }
            }
        }
    }
}
