//! The provider records that this node keeps for the DHT: its own and, apart from them, those of others. Bounded in number and size,
//! so that neither kind can crowd out the other (libp2p's `MemoryStore` has one small cap for both, and never drops the expired).

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map;
use std::iter;
use std::time::Instant;

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};
use p2pweights_protocol::ids::BlobHash;

use super::addresses::clip;

/// How a BLAKE3 hash of 32 bytes begins as a multihash: code 0x1e, length 0x20.
const BLAKE3_PREFIX: [u8; 2] = [0x1e, 0x20];

/// Keys this node announces: twice the largest manifest.
const LOCAL_KEYS: usize = 128 * 1024;
/// Records of others. With eight clipped addresses each at most 64 MiB, honest ones a quarter of that.
const FOREIGN_RECORDS: usize = 64 * 1024;
/// Records of others under one key: as many as the DHT ever hands out.
const PROVIDERS_PER_KEY: usize = 20;
/// Records of one provider: more than this and it takes the place of others. Identities are free, so this only slows a flooder down.
const RECORDS_PER_PROVIDER: usize = 16 * 1024;

/// The DHT key of a blob.
pub fn key_of(blob: BlobHash) -> RecordKey {
    RecordKey::from([&BLAKE3_PREFIX[..], blob.as_bytes()].concat())
}

/// The blob of a DHT key; `None` for a key that is none of ours.
pub fn blob_of(key: &RecordKey) -> Option<BlobHash> {
    Some(BlobHash(key.as_ref().strip_prefix(&BLAKE3_PREFIX)?.try_into().ok()?))
}

/// Provider records in memory. Lost at restart: everybody announces again within hours.
#[derive(Debug)]
pub struct ProviderStore {
    us: PeerId,
    local: HashMap<RecordKey, ProviderRecord>,
    foreign: HashMap<RecordKey, Vec<ProviderRecord>>,
    /// Number of foreign records of each provider; their sum is the number of foreign records.
    by_provider: HashMap<PeerId, usize>,
    foreign_records: usize,
}

impl ProviderStore {
    /// An empty store of this peer.
    pub fn new(us: PeerId) -> Self {
        Self { us, local: HashMap::new(), foreign: HashMap::new(), by_provider: HashMap::new(), foreign_records: 0 }
    }

    /// Takes a record that another peer sent, if its key is a blob's and there is room. Loopback addresses are kept only when that
    /// peer is on this machine.
    pub fn accept(&mut self, mut record: ProviderRecord, loopback_allowed: bool) -> Result<()> {
        if blob_of(&record.key).is_none() || super::peer_ids::from_libp2p(&record.provider).is_none() {
            return Err(Error::ValueTooLarge);
        }
        record.addresses = clip(&record.addresses, record.provider, loopback_allowed);
        self.add_provider(record)
    }

    /// Drops what has expired.
    pub fn sweep(&mut self, now: Instant) {
        let by_provider = &mut self.by_provider;
        let mut dropped = 0;
        self.foreign.retain(|_, records| {
            records.retain(|record| {
                let live = !record.is_expired(now);
                if !live {
                    dropped += 1;
                    forget_one(by_provider, &record.provider);
                }
                live
            });
            !records.is_empty()
        });
        self.foreign_records -= dropped;
    }

    fn add_foreign(&mut self, record: ProviderRecord) -> Result<()> {
        if let Some(known) =
            self.foreign.get_mut(&record.key).and_then(|records| records.iter_mut().find(|known| **known == record))
        {
            *known = record;
            return Ok(());
        }
        let under_key = self.foreign.get(&record.key).map_or(0, Vec::len);
        let of_provider = self.by_provider.get(&record.provider).copied().unwrap_or(0);
        // First come, first kept: otherwise whoever mints most identities last owns every key.
        if self.foreign_records >= FOREIGN_RECORDS || under_key >= PROVIDERS_PER_KEY || of_provider >= RECORDS_PER_PROVIDER {
            return Err(Error::MaxProvidedKeys);
        }
        self.foreign_records += 1;
        *self.by_provider.entry(record.provider).or_default() += 1;
        self.foreign.entry(record.key.clone()).or_default().push(record);
        Ok(())
    }
}

fn forget_one(by_provider: &mut HashMap<PeerId, usize>, provider: &PeerId) {
    if let hash_map::Entry::Occupied(mut count) = by_provider.entry(*provider) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

impl RecordStore for ProviderStore {
    type RecordsIter<'a> = iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> =
        iter::Map<hash_map::Values<'a, RecordKey, ProviderRecord>, fn(&'a ProviderRecord) -> Cow<'a, ProviderRecord>>;

    // Nobody's values are kept: the DHT here only says who holds what.
    fn get(&self, _: &RecordKey) -> Option<Cow<'_, Record>> {
        None
    }

    fn put(&mut self, _: Record) -> Result<()> {
        Err(Error::MaxRecords)
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        iter::empty()
    }

    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        if record.provider != self.us {
            return self.add_foreign(record);
        }
        if self.local.len() >= LOCAL_KEYS && !self.local.contains_key(&record.key) {
            return Err(Error::MaxProvidedKeys);
        }
        self.local.insert(record.key.clone(), record);
        Ok(())
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let foreign = self.foreign.get(key).into_iter().flatten();
        self.local.get(key).into_iter().chain(foreign).cloned().collect()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        self.local.values().map(Cow::Borrowed)
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        if *provider == self.us {
            self.local.remove(key);
            return;
        }
        if let hash_map::Entry::Occupied(mut records) = self.foreign.entry(key.clone()) {
            let before = records.get().len();
            records.get_mut().retain(|record| record.provider != *provider);
            if records.get().len() < before {
                self.foreign_records -= 1;
                forget_one(&mut self.by_provider, provider);
            }
            if records.get().is_empty() {
                records.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use p2pweights_protocol::ids;
    use proptest::prelude::*;

    use super::super::addresses::ADDRESSES_PER_PEER;
    use super::super::peer_ids::to_libp2p;
    use super::*;

    fn peer(number: u64) -> PeerId {
        to_libp2p(ids::PeerId(*blake3::hash(&number.to_le_bytes()).as_bytes()))
    }

    fn blob(number: u64) -> BlobHash {
        BlobHash::of(&number.to_le_bytes())
    }

    fn record(key: u64, provider: u64, expires: Option<Instant>) -> ProviderRecord {
        ProviderRecord { expires, ..ProviderRecord::new(key_of(blob(key)), peer(provider), vec![]) }
    }

    #[test]
    fn keys_are_blake3_multihashes() {
        assert_eq!(key_of(BlobHash([7; 32])).to_vec(), [&[0x1e, 0x20][..], &[7; 32]].concat());
        assert_eq!(blob_of(&key_of(blob(1))), Some(blob(1)));
        assert_eq!(blob_of(&RecordKey::from(vec![0x12; 34])), None);
        assert_eq!(blob_of(&RecordKey::from(vec![0x1e, 0x20, 1])), None);
    }

    #[test]
    fn foreign_records_never_crowd_out_our_own() {
        let mut store = ProviderStore::new(peer(0));
        for number in 0..FOREIGN_RECORDS as u64 {
            assert_eq!(store.accept(record(number, 1 + number % 5, None), false).ok(), Some(()));
        }
        assert!(store.accept(record(u64::MAX, 1, None), false).is_err());
        assert!(store.accept(record(3, 4, None), false).is_ok(), "a known record is renewed");
        store.add_provider(record(1, 0, None)).expect("our own has its own room");
        assert_eq!(store.provided().count(), 1);
        assert_eq!(store.providers(&key_of(blob(1))).len(), 2);
    }

    #[test]
    fn one_provider_and_one_key_have_their_share_only() {
        let mut store = ProviderStore::new(peer(0));
        let taken = (0..2 * RECORDS_PER_PROVIDER as u64).filter(|key| store.accept(record(*key, 1, None), false).is_ok()).count();
        assert_eq!(taken, RECORDS_PER_PROVIDER);
        let taken = (2..100).filter(|provider| store.accept(record(u64::MAX, *provider, None), false).is_ok()).count();
        assert_eq!(taken, PROVIDERS_PER_KEY);
    }

    #[test]
    fn strange_keys_are_refused_and_addresses_clipped() {
        let mut store = ProviderStore::new(peer(0));
        let mut odd = record(1, 1, None);
        odd.key = RecordKey::from(b"anything".to_vec());
        assert!(store.accept(odd, false).is_err());
        assert!(store.accept(ProviderRecord { provider: PeerId::random(), ..record(1, 1, None) }, false).is_err());
        let addresses = (1..200).map(|port| format!("/ip4/1.2.3.4/tcp/{port}").parse().expect("a multiaddr")).collect();
        store.accept(ProviderRecord { addresses, ..record(1, 1, None) }, false).expect("taken");
        assert_eq!(store.providers(&key_of(blob(1)))[0].addresses.len(), ADDRESSES_PER_PEER);
        assert!(store.put(Record::new(key_of(blob(1)), vec![1])).is_err());
    }

    proptest! {
        #[test]
        fn counts_always_match_and_the_expired_go(steps in prop::collection::vec((0u8..4, 0u64..6, 0u64..30, 0u64..100), 1..200)) {
            let start = Instant::now();
            let mut store = ProviderStore::new(peer(0));
            for (step, key, provider, seconds) in steps {
                let expires = start + Duration::from_secs(seconds);
                match step {
                    0 | 1 => drop(store.add_provider(record(key, provider, Some(expires)))),
                    2 => store.remove_provider(&key_of(blob(key)), &peer(provider)),
                    _ => {
                        store.sweep(expires);
                        prop_assert!(store.foreign.values().flatten().all(|record| !record.is_expired(expires)));
                    }
                }
                prop_assert_eq!(store.foreign_records, store.foreign.values().map(Vec::len).sum::<usize>());
                prop_assert_eq!(store.foreign_records, store.by_provider.values().sum::<usize>());
                prop_assert!(store.foreign.values().all(|records| (1..=PROVIDERS_PER_KEY).contains(&records.len())));
                prop_assert!(store.by_provider.values().all(|count| *count > 0));
            }
        }
    }
}
