//! A peer's two names: the 32 bytes that the core knows, and libp2p's multihash of the same key. Knows nothing of connections.

use libp2p::multihash::Multihash;
use p2pweights_protocol::ids::PeerId;

/// How an Ed25519 public key begins in libp2p's protobuf encoding: key type 1, then 32 bytes.
const ED25519_PREFIX: [u8; 4] = [0x08, 0x01, 0x12, 0x20];
/// The multihash code of "no hash, the bytes themselves": small enough keys are written into the peer id.
const IDENTITY_CODE: u64 = 0;

/// The peer id as libp2p writes it. Cheap: no curve arithmetic; a key that is no point on the curve authenticates nobody.
pub fn to_libp2p(peer: PeerId) -> libp2p::PeerId {
    let mut key = [0; 36];
    key[..4].copy_from_slice(&ED25519_PREFIX);
    key[4..].copy_from_slice(peer.as_bytes());
    let multihash = Multihash::wrap(IDENTITY_CODE, &key).expect("36 bytes fit a multihash of 64");
    libp2p::PeerId::from_multihash(multihash).expect("an identity multihash of 36 bytes is a peer id")
}

/// The peer's public key; `None` for a key of another kind, whose owner we do not talk to.
pub fn from_libp2p(peer: &libp2p::PeerId) -> Option<PeerId> {
    let multihash: &Multihash<64> = peer.as_ref();
    if multihash.code() != IDENTITY_CODE {
        return None;
    }
    let key = multihash.digest().strip_prefix(&ED25519_PREFIX)?;
    Some(PeerId(key.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;

    #[test]
    fn both_names_of_a_real_key_agree() {
        let keypair = Keypair::generate_ed25519();
        let key = keypair.public().try_into_ed25519().expect("an Ed25519 key").to_bytes();
        let peer = keypair.public().to_peer_id();
        assert_eq!(from_libp2p(&peer), Some(PeerId(key)));
        assert_eq!(to_libp2p(PeerId(key)), peer);
    }

    #[test]
    fn keys_of_other_kinds_are_refused() {
        let hashed = Multihash::wrap(0x12, &[7; 32]).expect("fits");
        assert_eq!(from_libp2p(&libp2p::PeerId::from_multihash(hashed).expect("a peer id")), None);
        let short = Multihash::wrap(IDENTITY_CODE, &[0x08, 0x01, 0x12, 0x20, 1]).expect("fits");
        assert_eq!(from_libp2p(&libp2p::PeerId::from_multihash(short).expect("a peer id")), None);
        assert_eq!(from_libp2p(&libp2p::PeerId::random()), None);
    }
}
