//! How the models divide what a scenario's hosts deal with: blocks of one size, so few that a run is cheap, numbered across all blobs.
//!
//! The block is the unit of everything: what is asked for, announced and passed on. In a swarm of N peers and M blocks the last peer is
//! late by about log2(N)/M of the bound because of the division alone, about one per cent here; that holds for every model alike.

use p2pweights_protocol::geometry::{GROUP_BYTES, Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::span_set::SpanSet;

use super::bits::Bits;
use crate::network::HostId;
use crate::scenario::{Scenario, wire_bytes};

/// Blocks aimed at, at most: with blocks of a power of two, a scenario has between half as many and as many. The uncoordinated case that
/// the models are checked against (1,000 peers, M = 1,000) has as many.
pub const BLOCKS: u64 = 1024;

/// The blocks of a scenario.
#[derive(Debug)]
pub struct Blocks {
    size: u64,
    payload: Vec<u64>,
    blobs: Vec<(BlobHash, u64, u32)>,
}

impl Blocks {
    /// Divides what is in a scenario into at most about so many blocks.
    pub fn of(scenario: &Scenario, aim: u64) -> Self {
        let mut known = Vec::new();
        for blob in scenario.swarms.iter().flatten() {
            if !known.contains(blob) {
                known.push(*blob);
            }
        }
        let largest = known.iter().map(|(_, size)| *size).max().unwrap_or(0);
        let mut size = GROUP_BYTES;
        while size < largest && known.iter().map(|(_, bytes)| bytes.div_ceil(size)).sum::<u64>() > aim {
            size *= 2;
        }
        let (mut payload, mut blobs) = (Vec::new(), Vec::new());
        for (blob, bytes) in known {
            blobs.push((blob, bytes, payload.len() as u32));
            payload.extend((0..bytes.div_ceil(size)).map(|block| size.min(bytes - block * size)));
        }
        Self { size, payload, blobs }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.payload.len()
    }

    /// The size of a whole one.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Payload bytes of one.
    pub fn payload(&self, block: u32) -> u64 {
        self.payload[block as usize]
    }

    /// Bytes of one on the wire: as many as ours, so that the same bound holds.
    pub fn wire(&self, block: u32) -> u64 {
        wire_bytes(self.payload(block))
    }

    /// What a host deals with, and what of that it holds when it begins. A block held in part counts as held at a host that only serves
    /// and as lacking at one that fetches.
    pub fn at(&self, scenario: &Scenario, host: HostId) -> (Bits, Bits) {
        let (mut all, mut held) = (Bits::none(self.count()), Bits::none(self.count()));
        let plan = &scenario.hosts[host.0];
        for (blob, size) in scenario.blobs_of(host) {
            let Some((_, _, first)) = self.blobs.iter().find(|(name, _, _)| *name == blob) else { continue };
            let spans: SpanSet = plan.holding.of(Geometry::of(size)).into_iter().collect();
            let groups = self.size / GROUP_BYTES;
            for place in 0..size.div_ceil(self.size) {
                let block = first + place as u32;
                all.add(block);
                let end = ((place + 1) * groups).min(size.div_ceil(GROUP_BYTES));
                let Some(span) = Span::new(place * groups, end) else { continue };
                if spans.covers(span) || !plan.fetches && spans.overlaps(span).next().is_some() {
                    held.add(block);
                }
            }
        }
        (all, held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Link, MIB};

    #[test]
    fn blocks_are_as_few_as_aimed_at_and_add_up() {
        let sizes = [3 * MIB + 1, 1 << 30];
        let scenario = Scenario::new(1).manifest(&sizes).fetchers(1, Link::mbit(1, 1, 1));
        let blocks = Blocks::of(&scenario, BLOCKS);
        assert_eq!((blocks.size(), blocks.count()), (2 * MIB, 514));
        assert_eq!((0..514).map(|block| blocks.payload(block)).sum::<u64>(), sizes.iter().sum::<u64>());
        let many = Scenario::new(1).manifest(&[MIB; 5000]);
        assert_eq!(Blocks::of(&many, BLOCKS).size(), MIB, "a block is within a blob");
    }

    #[test]
    fn a_block_held_in_part_is_served_but_not_kept() {
        let link = Link::mbit(1, 1, 1);
        let scenario = Scenario::new(1).blob(2 * MIB).partial("#...#...", link).fetchers(1, link).holding("#...#...");
        let blocks = Blocks::of(&scenario, 4);
        let held = |host| blocks.at(&scenario, HostId(host)).1.iter().collect::<Vec<_>>();
        assert_eq!(blocks.count(), 4);
        assert_eq!((held(0), held(1)), (vec![0, 2], vec![]));
    }
}
