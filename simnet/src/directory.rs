//! The DHT as far as an engine sees it: who said when that it provides a hash. Announcements take a while to show, answers name at
//! most twenty, and records of the dead stay.

use std::collections::BTreeMap;

use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::random::Random;

use crate::network::HostId;

/// Providers in one answer: what a Kademlia look-up returns at most for one key.
const ANSWER: usize = 20;

/// Provider records.
#[derive(Debug, Default)]
pub struct Directory {
    /// Each list in order, nobody twice.
    records: BTreeMap<BlobHash, Vec<HostId>>,
}

impl Directory {
    /// A record arrives.
    pub fn add(&mut self, blob: BlobHash, host: HostId) {
        let hosts = self.records.entry(blob).or_default();
        if let Err(index) = hosts.binary_search(&host) {
            hosts.insert(index, host);
        }
    }

    /// A record is withdrawn.
    pub fn remove(&mut self, blob: BlobHash, host: HostId) {
        if let Some(hosts) = self.records.get_mut(&blob)
            && let Ok(index) = hosts.binary_search(&host)
        {
            hosts.remove(index);
        }
    }

    /// Some of the providers, the asker left out: the beginning of a shuffled list, of which no more is shuffled than is looked at.
    pub fn find(&self, blob: BlobHash, asker: HostId, random: &mut Random) -> Vec<HostId> {
        let hosts = self.records.get(&blob).map_or(&[][..], Vec::as_slice);
        let left_out = hosts.binary_search(&asker).unwrap_or(hosts.len());
        let others = hosts.len() - usize::from(left_out < hosts.len());
        // Places whose host is no longer the one that belongs there: at most one for each that was drawn.
        let mut moved: Vec<(usize, usize)> = Vec::new();
        let mut found = Vec::with_capacity(others.min(ANSWER));
        for index in 0..others.min(ANSWER) {
            let drawn = index + random.below((others - index) as u64) as usize;
            let here = |place: usize| moved.iter().rev().find(|(other, _)| *other == place).map_or(place, |(_, host)| *host);
            let (host, first) = (here(drawn), here(index));
            moved.push((drawn, first));
            found.push(hosts[host + usize::from(host >= left_out)]);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_names_some_others() {
        let (blob, mut directory) = (BlobHash([1; 32]), Directory::default());
        (0..30).for_each(|index| directory.add(blob, HostId(index)));
        directory.remove(blob, HostId(29));
        let found = directory.find(blob, HostId(3), &mut Random::new(1));
        let distinct: BTreeSet<_> = found.iter().collect();
        assert_eq!((found.len(), distinct.len()), (ANSWER, ANSWER));
        assert!(!found.contains(&HostId(3)) && !found.contains(&HostId(29)));
        assert_eq!(directory.find(BlobHash([2; 32]), HostId(3), &mut Random::new(1)), []);
    }

    proptest! {
        /// The slow oracle: collect everybody, shuffle, cut off.
        #[test]
        fn agrees_with_shuffling_everybody(hosts in prop::collection::btree_set(0..60usize, 0..60), asker in 0..60usize, seed: u64) {
            let (blob, mut directory) = (BlobHash([1; 32]), Directory::default());
            hosts.iter().rev().for_each(|host| directory.add(blob, HostId(*host)));
            let mut expected: Vec<HostId> = hosts.into_iter().filter(|host| *host != asker).map(HostId).collect();
            let mut random = Random::new(seed);
            for index in 0..expected.len().min(ANSWER) {
                let other = index + random.below((expected.len() - index) as u64) as usize;
                expected.swap(index, other);
            }
            expected.truncate(ANSWER);
            prop_assert_eq!(directory.find(blob, HostId(asker), &mut Random::new(seed)), expected);
        }
    }
}
