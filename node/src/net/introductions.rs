//! Peers told of one another by whoever both are connected to: what is said of where they are, and what is believed. Does not know why
//! anybody is introduced.

use std::time::Duration;

use libp2p::Multiaddr;
use p2pweights_protocol::ids::{BlobHash, PeerId};
use p2pweights_protocol::limits;
use p2pweights_protocol::wire::{Contact, Message};

use super::addresses::{class_of, clip, is_loopback, is_meant_for, is_plain};
use super::connections::Peer;
use super::host::Host;
use super::{NetEvent, PeerClass, peer_ids};

/// Shortest time between two introductions by one peer that are heeded. An honest one makes one for each swarm that we ask it about; at
/// sixteen names each, more would let a single peer turn over the address book within minutes, and choose whom we dial.
pub(super) const INTRODUCTION_PAUSE: Duration = Duration::from_secs(1);

/// How near a peer is, as far as it matters for what addresses mean to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Nearness {
    class: PeerClass,
    /// On this machine.
    is_local: bool,
}

impl Nearness {
    fn of(peer: &Peer) -> Self {
        Self { class: peer.class(), is_local: peer.is_local() }
    }
}

impl Host {
    /// Tells a peer where others are. Those of whom nothing is known that it could use are left out.
    pub(super) fn introduce(&self, peer: PeerId, blob: BlobHash, others: &[PeerId]) {
        let Some(hearer) = self.peers.get(&peer_ids::to_libp2p(peer)).filter(|hearer| hearer.stays()) else { return };
        let hearer = Nearness::of(hearer);
        let contacts = others.iter().filter_map(|other| self.contact(*other, hearer));
        let contacts: Vec<Contact> = contacts.take(limits::CONTACTS_PER_MESSAGE).collect();
        if contacts.is_empty() {
            return;
        }
        if let Err(error) = self.outboxes.send(&peer, &Message::Peers { blob, contacts }) {
            tracing::debug!(%peer, %error, "not introduced");
        }
    }

    fn contact(&self, peer: PeerId, hearer: Nearness) -> Option<Contact> {
        let id = peer_ids::to_libp2p(peer);
        let subject = Nearness::of(self.peers.get(&id).filter(|known| known.stays())?);
        let addresses: Vec<Vec<u8>> =
            told(self.book.addresses(&id), subject, hearer).iter().map(|address| address.to_vec()).collect();
        (!addresses.is_empty()).then_some(Contact { peer, addresses })
    }

    /// Keeps where others are said to be, and says who of them may be dialed.
    pub(super) fn learn(&mut self, from: PeerId, blob: BlobHash, contacts: Vec<Contact>) {
        let Some(teller) = self.peers.get(&peer_ids::to_libp2p(from)).filter(|teller| teller.stays()) else { return };
        let teller = Nearness::of(teller);
        let us = *self.swarm.local_peer_id();
        let mut providers = Vec::new();
        for Contact { peer, addresses } in contacts.into_iter().take(limits::CONTACTS_PER_MESSAGE) {
            let id = peer_ids::to_libp2p(peer);
            if id == us || self.is_banned(&id) {
                continue;
            }
            // Who is connected has said itself where it listens; others must not displace that.
            if !self.peers.contains_key(&id) {
                let addresses = believed(&addresses, id, teller);
                if addresses.is_empty() {
                    continue;
                }
                self.learn_addresses(id, teller.class, addresses, false);
            }
            providers.push(peer);
        }
        tracing::debug!(%from, %blob, providers = providers.len(), "introduced");
        if !providers.is_empty() {
            self.emit(NetEvent::ProvidersFound { blob, providers, finished: false });
        }
    }
}

/// What of a peer's addresses is told to another: what means the same to both as to us, the nearest first.
fn told(mut addresses: Vec<Multiaddr>, subject: Nearness, hearer: Nearness) -> Vec<Multiaddr> {
    let loopback_allowed = subject.is_local && hearer.is_local;
    addresses.retain(|address| {
        is_plain(address)
            && is_meant_for(subject.class, address)
            && is_meant_for(hearer.class, address)
            && (loopback_allowed || !is_loopback(address))
    });
    addresses.sort_by_key(class_of);
    addresses.truncate(limits::ADDRESSES_PER_CONTACT);
    addresses
}

/// What is believed of the addresses that a peer gives for another: what it can know, and we can use.
fn believed(addresses: &[Vec<u8>], subject: libp2p::PeerId, teller: Nearness) -> Vec<Multiaddr> {
    // What is no address to us may be one to those who know more transports.
    let parsed = addresses.iter().take(limits::ADDRESSES_PER_CONTACT).filter_map(|bytes| Multiaddr::try_from(bytes.clone()).ok());
    let meant: Vec<Multiaddr> = parsed.filter(|address| is_meant_for(teller.class, address)).collect();
    clip(&meant, subject, teller.is_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Nearness = Nearness { class: PeerClass::Lan, is_local: true };
    const NEAR: Nearness = Nearness { class: PeerClass::Lan, is_local: false };
    const FAR: Nearness = Nearness { class: PeerClass::Wan, is_local: false };
    const RELAYED: Nearness = Nearness { class: PeerClass::Relay, is_local: false };

    const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/1";
    const PRIVATE: &str = "/ip4/192.168.7.1/udp/1/quic-v1";
    const PUBLIC: &str = "/ip4/8.8.8.8/tcp/1";

    fn multiaddrs(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().expect("a multiaddr")).collect()
    }

    #[test]
    fn addresses_are_told_only_where_they_mean_the_same() {
        let told = |subject, hearer| told(multiaddrs(&[PUBLIC, PRIVATE, LOOPBACK, "/dns4/example.org/tcp/1"]), subject, hearer);
        for (subject, hearer, expected) in [
            (HERE, HERE, &[PRIVATE, LOOPBACK, PUBLIC][..]),
            (HERE, NEAR, &[PRIVATE, PUBLIC]),
            (NEAR, HERE, &[PRIVATE, PUBLIC]),
            (NEAR, NEAR, &[PRIVATE, PUBLIC]),
            (NEAR, FAR, &[PUBLIC]),
            (FAR, NEAR, &[PUBLIC]),
            (FAR, FAR, &[PUBLIC]),
            (RELAYED, NEAR, &[PUBLIC]),
            (HERE, RELAYED, &[PUBLIC]),
        ] {
            assert_eq!(told(subject, hearer), multiaddrs(expected), "{subject:?} to {hearer:?}");
        }
        let many: Vec<Multiaddr> = (1..9).map(|port| format!("/ip4/8.8.8.8/tcp/{port}").parse().expect("a multiaddr")).collect();
        assert_eq!(super::told(many, FAR, FAR).len(), limits::ADDRESSES_PER_CONTACT);
    }

    #[test]
    fn addresses_are_believed_only_from_those_who_can_know_them() {
        let peer = libp2p::PeerId::random();
        let bytes: Vec<Vec<u8>> = multiaddrs(&[LOOPBACK, PRIVATE, PUBLIC]).iter().map(Multiaddr::to_vec).collect();
        for (teller, expected) in
            [(HERE, &[LOOPBACK, PRIVATE, PUBLIC][..]), (NEAR, &[PRIVATE, PUBLIC]), (FAR, &[PUBLIC]), (RELAYED, &[PUBLIC])]
        {
            assert_eq!(believed(&bytes, peer, teller), multiaddrs(expected), "from {teller:?}");
        }
        let odd = [vec![0xff; 5], Vec::new(), multiaddrs(&["/dns4/example.org/tcp/1"])[0].to_vec(), bytes[2].clone()];
        assert_eq!(believed(&odd, peer, HERE), multiaddrs(&[PUBLIC]), "the rest is no plain address");
    }
}
