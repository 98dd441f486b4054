//! The peers that this node joins the DHT through: when to dial which, and what came of it. Pure: time is an argument.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use super::NetError;
use super::addresses::{ADDRESSES_PER_PEER, split_peer};
use super::jitter::spread;

/// First pause after a dial that failed; doubled each time.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest pause: an entry point that comes back is noticed within a minute.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Peers on the list. A handful is usual; fetches through the local API may bring their own.
const ENTRIES: usize = 256;

/// What is known of one bootstrap peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapStatus {
    /// The peer, as libp2p writes it.
    pub peer: PeerId,
    /// The addresses given for it.
    pub addresses: Vec<Multiaddr>,
    /// Whether it was reached since this node started.
    pub reached: bool,
    /// Why the last dial came to nothing.
    pub problem: Option<String>,
}

/// The list, and each entry's next dial.
#[derive(Debug)]
pub struct Bootstrap {
    us: PeerId,
    seed: u64,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    status: BootstrapStatus,
    attempts: u32,
    dialing: bool,
    next: Instant,
}

impl Bootstrap {
    /// Reads the addresses; each must end in the id of its peer, otherwise anybody at that address would do.
    pub fn parse(addresses: &[Multiaddr], us: PeerId, seed: u64, now: Instant) -> Result<Self, NetError> {
        let mut bootstrap = Self { us, seed, entries: Vec::new() };
        for address in addresses {
            let (bare, peer) = split_peer(address).ok_or_else(|| NetError::PeerAddress { address: address.clone() })?;
            bootstrap.add(peer, bare, now);
        }
        Ok(bootstrap)
    }

    /// One more address, dialed at once. Only the owner of this node adds any, and few: a list full of them ignores more.
    pub fn add(&mut self, peer: PeerId, bare: Multiaddr, now: Instant) {
        // One list for a whole fleet names everybody, ourselves included.
        if peer == self.us {
            return;
        }
        let full = self.entries.len() >= ENTRIES;
        match self.entries.iter_mut().find(|entry| entry.status.peer == peer) {
            Some(entry) if entry.status.addresses.contains(&bare) => {}
            Some(entry) => {
                entry.status.addresses.push(bare);
                entry.status.addresses.truncate(ADDRESSES_PER_PEER);
            }
            None if full => tracing::warn!(%peer, "bootstrap list full: peer ignored"),
            None => {
                let status = BootstrapStatus { peer, addresses: vec![bare], reached: false, problem: None };
                self.entries.push(Entry { status, attempts: 0, dialing: false, next: now });
            }
        }
    }

    /// The peers to dial now. One that was reached once is in the routing table, and dialed again only when nobody is connected.
    pub fn take_due(&mut self, now: Instant, connected: usize) -> Vec<PeerId> {
        let due = self.entries.iter_mut().filter(|entry| {
            let wanted = connected == 0 || !entry.status.reached;
            wanted && !entry.dialing && entry.next <= now
        });
        due.map(|entry| {
            entry.dialing = true;
            entry.status.peer
        })
        .collect()
    }

    /// The addresses given for a peer; none if it is not on the list.
    pub fn addresses(&self, peer: &PeerId) -> &[Multiaddr] {
        self.entries.iter().find(|entry| entry.status.peer == *peer).map_or(&[], |entry| &entry.status.addresses)
    }

    /// A peer is connected and speaks our protocols. `true` if it is on the list.
    pub fn reached(&mut self, peer: &PeerId, now: Instant) -> bool {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.status.peer == *peer) else { return false };
        entry.status.reached = true;
        entry.status.problem = None;
        entry.dialing = false;
        entry.attempts = 0;
        entry.next = now + PAUSE_MIN;
        true
    }

    /// A peer could not be reached, or is none of ours; or its connection ended. `true` if it is on the list.
    pub fn failed(&mut self, peer: &PeerId, problem: String, now: Instant) -> bool {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.status.peer == *peer) else { return false };
        let pause = PAUSE_MAX.min(PAUSE_MIN * (1 << entry.attempts.min(6)));
        entry.attempts += 1;
        entry.dialing = false;
        entry.next = now + spread(pause, self.seed, &[peer.to_bytes(), entry.attempts.to_le_bytes().to_vec()].concat());
        entry.status.problem = Some(problem);
        true
    }

    /// How each entry fares.
    pub fn status(&self) -> Vec<BootstrapStatus> {
        self.entries.iter().map(|entry| entry.status.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_peer_is_named() {
        let address: Multiaddr = "/ip4/1.2.3.4/tcp/5".parse().expect("a multiaddr");
        let error = Bootstrap::parse(&[address], PeerId::random(), 0, Instant::now()).expect_err("no peer");
        assert!(error.to_string().contains("/ip4/1.2.3.4/tcp/5"), "{error}");
    }

    #[test]
    fn dials_back_off_and_stop_once_reached_unless_alone() {
        let start = Instant::now();
        let peer = super::super::peer_ids::to_libp2p(p2pweights_protocol::ids::PeerId([7; 32]));
        let addresses =
            [4, 6].map(|port| format!("/ip4/1.2.3.4/tcp/{port}/p2p/{peer}").parse::<Multiaddr>().expect("a multiaddr"));
        let mut bootstrap = Bootstrap::parse(&addresses, PeerId::random(), 0, start).expect("good addresses");
        assert!(Bootstrap::parse(&addresses, peer, 0, start).expect("good addresses").status().is_empty(), "ourselves");
        assert_eq!(bootstrap.addresses(&peer).len(), 2);
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..9 {
            assert_eq!(bootstrap.take_due(now, 0), [peer]);
            assert!(bootstrap.take_due(now, 0).is_empty(), "one dial at a time");
            assert!(bootstrap.failed(&peer, "refused".into(), now));
            let before = now;
            now = bootstrap.entries[0].next;
            waits.push((now - before).as_secs_f64());
        }
        for (wait, pause) in waits.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]) {
            assert!((0.9 * pause..=1.1 * pause).contains(wait), "{waits:?}");
        }
        assert_eq!(bootstrap.status()[0].problem.as_deref(), Some("refused"));
        bootstrap.take_due(now, 0);
        assert!(bootstrap.reached(&peer, now));
        let later = now + Duration::from_secs(600);
        assert!(bootstrap.take_due(later, 3).is_empty());
        assert_eq!(bootstrap.take_due(later, 0), [peer]);
        assert!(!bootstrap.reached(&PeerId::random(), now));
    }
}
