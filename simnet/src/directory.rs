//! The DHT as far as an engine sees it: who said when that it provides a hash. Announcements take a while to show, answers name at
//! most twenty, and records of the dead stay.

use std::collections::{BTreeMap, BTreeSet};

use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::random::Random;

use crate::network::HostId;

/// Providers in one answer: what a Kademlia look-up returns at most for one key.
const ANSWER: usize = 20;

/// Provider records.
#[derive(Debug, Default)]
pub struct Directory {
    records: BTreeMap<BlobHash, BTreeSet<HostId>>,
}

impl Directory {
    /// A record arrives.
    pub fn add(&mut self, blob: BlobHash, host: HostId) {
        self.records.entry(blob).or_default().insert(host);
    }

    /// A record is withdrawn.
    pub fn remove(&mut self, blob: BlobHash, host: HostId) {
        if let Some(hosts) = self.records.get_mut(&blob) {
            hosts.remove(&host);
        }
    }

    /// Some of the providers, the asker left out.
    pub fn find(&self, blob: BlobHash, asker: HostId, random: &mut Random) -> Vec<HostId> {
        let hosts = self.records.get(&blob).into_iter().flatten().copied().filter(|host| *host != asker);
        let mut found: Vec<HostId> = hosts.collect();
        for index in 0..found.len().min(ANSWER) {
            let other = index + random.below((found.len() - index) as u64) as usize;
            found.swap(index, other);
        }
        found.truncate(ANSWER);
        found
    }
}

#[cfg(test)]
mod tests {
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
}
