//! Where peers were last said to be. Two shelves, so that what strangers say never displaces what the owner said.

use std::collections::{BTreeMap, HashMap};

use libp2p::{Multiaddr, PeerId};

use super::addresses::ADDRESSES_PER_PEER;

/// Peers on each shelf; at eight short addresses each about 2 MiB.
const SHELF_PEERS: usize = 4096;

/// Addresses by peer, bounded; the peers untouched for longest are forgotten first.
#[derive(Debug, Default)]
pub struct AddressBook {
    told: Shelf,
    learned: Shelf,
}

impl AddressBook {
    /// An address that the owner of this node gave.
    pub fn tell(&mut self, peer: PeerId, address: Multiaddr) {
        self.told.put(peer, address);
    }

    /// An address that another peer gave, clipped already.
    pub fn learn(&mut self, peer: PeerId, address: Multiaddr) {
        self.learned.put(peer, address);
    }

    /// Every address known, the owner's first.
    pub fn addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let mut found = self.told.of(peer).to_vec();
        for address in self.learned.of(peer) {
            if !found.contains(address) {
                found.push(address.clone());
            }
        }
        found
    }

    /// Forgets what others said about a peer.
    pub fn unlearn(&mut self, peer: &PeerId) {
        self.learned.remove(peer);
    }
}

#[derive(Debug, Default)]
struct Shelf {
    peers: HashMap<PeerId, (u64, Vec<Multiaddr>)>,
    by_age: BTreeMap<u64, PeerId>,
    clock: u64,
}

impl Shelf {
    /// The newest address comes first; the oldest falls out.
    fn put(&mut self, peer: PeerId, address: Multiaddr) {
        self.clock += 1;
        let (touched, addresses) = self.peers.entry(peer).or_default();
        self.by_age.remove(touched);
        *touched = self.clock;
        self.by_age.insert(self.clock, peer);
        addresses.retain(|known| *known != address);
        addresses.insert(0, address);
        addresses.truncate(ADDRESSES_PER_PEER);
        if self.peers.len() > SHELF_PEERS
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.peers.remove(&oldest);
        }
    }

    fn of(&self, peer: &PeerId) -> &[Multiaddr] {
        self.peers.get(peer).map_or(&[], |(_, addresses)| addresses)
    }

    fn remove(&mut self, peer: &PeerId) {
        if let Some((touched, _)) = self.peers.remove(peer) {
            self.by_age.remove(&touched);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: usize) -> Multiaddr {
        format!("/ip4/1.2.3.4/tcp/{port}").parse().expect("a multiaddr")
    }

    #[test]
    fn strangers_displace_neither_the_owners_addresses_nor_more_than_their_share() {
        let mut book = AddressBook::default();
        let told = PeerId::random();
        book.tell(told, address(1));
        let first = PeerId::random();
        book.learn(first, address(2));
        for _ in 0..SHELF_PEERS {
            book.learn(PeerId::random(), address(3));
        }
        for port in 10..100 {
            book.learn(told, address(port));
        }
        assert_eq!(book.addresses(&first), []);
        assert_eq!(book.addresses(&told)[0], address(1));
        assert_eq!(book.addresses(&told)[1], address(99));
        assert_eq!(book.addresses(&told).len(), 1 + ADDRESSES_PER_PEER);
        assert!(book.learned.peers.len() <= SHELF_PEERS && book.learned.by_age.len() == book.learned.peers.len());
        book.unlearn(&told);
        assert_eq!(book.addresses(&told), [address(1)]);
    }
}
