//! Whose name is whose: from a peer's name to its host. An open-addressing table; names are hashes, so their first bytes say where to
//! look. Nothing goes through it in its order.

use p2pweights_protocol::ids::PeerId;

use crate::network::HostId;

/// Places in the smallest table; a power of two.
const LEAST: usize = 16;

/// Hosts by name.
#[derive(Debug, Default)]
pub struct Names {
    /// In the order in which they were put in.
    entries: Vec<(PeerId, HostId)>,
    /// Where each entry is, counted from 1; 0: nothing. A power of two, at least half of it nothing.
    places: Vec<u32>,
}

impl Names {
    /// Gives a host a name; a name given before goes to the new one.
    pub fn insert(&mut self, peer: PeerId, host: HostId) {
        if (self.entries.len() + 1) * 2 > self.places.len() {
            self.grow();
        }
        let place = self.place(&peer);
        if self.places[place] > 0 {
            self.entries[self.places[place] as usize - 1].1 = host;
        } else {
            self.entries.push((peer, host));
            self.places[place] = u32::try_from(self.entries.len()).expect("fewer than 2^32 names");
        }
    }

    /// The host of that name.
    #[inline]
    pub fn get(&self, peer: &PeerId) -> Option<&HostId> {
        if self.places.is_empty() {
            return None;
        }
        let entry = self.places[self.place(peer)].checked_sub(1)?;
        Some(&self.entries[entry as usize].1)
    }

    /// Where a name is, or where it would be put.
    #[inline]
    fn place(&self, peer: &PeerId) -> usize {
        let first: [u8; 4] = peer.0[..4].try_into().expect("four of 32 bytes");
        let mask = self.places.len() - 1;
        let mut place = u32::from_le_bytes(first) as usize & mask;
        while self.places[place].checked_sub(1).is_some_and(|entry| self.entries[entry as usize].0 != *peer) {
            place = (place + 1) & mask;
        }
        place
    }

    fn grow(&mut self) {
        self.places = vec![0; (self.places.len() * 2).max(LEAST)];
        for index in 0..self.entries.len() {
            let place = self.place(&self.entries[index].0);
            self.places[place] = u32::try_from(index + 1).expect("fewer than 2^32 names");
        }
    }
}

impl FromIterator<(PeerId, HostId)> for Names {
    fn from_iter<I: IntoIterator<Item = (PeerId, HostId)>>(names: I) -> Self {
        let mut all = Self::default();
        names.into_iter().for_each(|(peer, host)| all.insert(peer, host));
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The slow oracle: an ordered map. Few first bytes, so that many names want the same place.
        #[test]
        fn agrees_with_an_ordered_map(named in prop::collection::vec((0..4u8, 0..30u8, 0..100usize), 0..200)) {
            let (mut names, mut oracle) = (Names::default(), BTreeMap::new());
            let name = |first: u8, last: u8| {
                let mut bytes = [first; 32];
                bytes[31] = last;
                PeerId(bytes)
            };
            for (first, last, host) in named {
                names.insert(name(first, last), HostId(host));
                oracle.insert(name(first, last), HostId(host));
                for (first, last) in (0..5).flat_map(|first| (0..30).map(move |last| (first, last))) {
                    prop_assert_eq!(names.get(&name(first, last)), oracle.get(&name(first, last)));
                }
            }
        }
    }
}
