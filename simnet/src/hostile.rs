//! Hostile peers: characters with one vice each, who speak the real wire. Most are an honest engine whose driver does one thing wrong
//! when it comes to serving; three never serve and follow a script instead.

use p2pweights_protocol::geometry::{Geometry, Piece, Span};
use p2pweights_protocol::ids::{BlobHash, RequestId};
use p2pweights_protocol::limits;
use p2pweights_protocol::random::Random;
use p2pweights_protocol::wire::{HavePieces, Message, PieceRun};

use crate::network::HostId;

/// What is wrong with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vice {
    /// Sends bytes that do not prove.
    Liar,
    /// Says it holds everything, then that it does not.
    FalseClaimer,
    /// Claims another size, and sends whatever it is asked for as if.
    SizeLiar,
    /// Accepts requests and stays silent.
    Mute,
    /// Sends a kilobyte a second.
    Drip,
    /// Grants credits, then says there was none.
    Refuser,
    /// Takes all the credits it can get and uses none.
    Hoarder,
    /// Sends messages and requests at random, and what is none of our messages.
    Flooder,
    /// Serves well at first, then sends bytes that do not prove now and then.
    Poisoner,
    /// Takes all it can get, and never grants anything.
    Leech,
    /// One of many names of somebody who hoards: all are in one network.
    Sybil,
}

/// Blocks that a poisoner serves well before it begins: enough to look like a good source.
const POISON_AFTER: u64 = 8;
/// Of so many blocks thereafter, one is bad.
const POISON_EVERY: u64 = 8;

impl Vice {
    /// Every vice.
    pub const ALL: [Self; 11] = [
        Self::Liar,
        Self::FalseClaimer,
        Self::SizeLiar,
        Self::Mute,
        Self::Drip,
        Self::Refuser,
        Self::Hoarder,
        Self::Flooder,
        Self::Poisoner,
        Self::Leech,
        Self::Sybil,
    ];

    /// Whether it has no engine and follows a script.
    pub fn is_scripted(self) -> bool {
        matches!(self, Self::Hoarder | Self::Flooder | Self::Sybil)
    }

    /// Whether others get what it holds in the end, for all its vice.
    pub fn gives(self) -> bool {
        matches!(self, Self::Drip | Self::Poisoner)
    }

    /// Whether it keeps this message to itself.
    pub fn withholds(self, message: &Message) -> bool {
        self == Self::Leech && matches!(message, Message::Grant { .. })
    }
}

/// What becomes of a span that a host's engine wants served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// It goes out.
    Honest,
    /// It goes out up to a group that does not prove.
    Bad,
    /// It goes out at so many bytes a second.
    Slow(u64),
    /// It is answered with a refusal.
    Refused {
        /// For want of a credit, or of the span.
        no_credit: bool,
    },
    /// It is never answered.
    Never,
}

/// How a host with this vice, or none, serves, after so many blocks.
pub fn serving(vice: Option<Vice>, served: u64, random: &mut Random) -> Serving {
    match vice {
        None | Some(Vice::Hoarder | Vice::Flooder | Vice::Sybil) => Serving::Honest,
        Some(Vice::Poisoner) if served < POISON_AFTER || random.below(POISON_EVERY) > 0 => Serving::Honest,
        Some(Vice::Poisoner) => Serving::Bad,
        Some(Vice::Liar | Vice::SizeLiar) => Serving::Bad,
        Some(Vice::FalseClaimer) => Serving::Refused { no_credit: false },
        Some(Vice::Refuser) => Serving::Refused { no_credit: true },
        Some(Vice::Mute | Vice::Leech) => Serving::Never,
        Some(Vice::Drip) => Serving::Slow(1000),
    }
}

/// One step of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Connect.
    Dial(HostId),
    /// Say something.
    Say(HostId, Message),
    /// Say what is no message.
    Babble(HostId),
    /// Ask for a span over the bulk stream.
    Ask(HostId, RequestId, BlobHash, u64, Span),
}

/// What a scripted host does at each beat: to every host it may know, given those it is connected to and the blobs around.
pub fn beat(vice: Vice, known: &[HostId], connected: &[HostId], blobs: &[(BlobHash, u64)], random: &mut Random) -> Vec<Deed> {
    let strangers = known.iter().filter(|host| !connected.contains(host));
    let mut deeds: Vec<Deed> = strangers.map(|host| Deed::Dial(*host)).collect();
    for &host in connected {
        match vice {
            Vice::Hoarder | Vice::Sybil => {
                deeds.push(Deed::Say(host, Message::Interest { blobs: blobs.iter().map(|(blob, _)| *blob).take(64).collect() }));
                deeds.push(Deed::Say(host, Message::Load { held: 0, limit: u16::MAX }));
            }
            _ => deeds.push(nonsense(host, blobs, random)),
        }
    }
    deeds
}

fn nonsense(host: HostId, blobs: &[(BlobHash, u64)], random: &mut Random) -> Deed {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&random.any().to_le_bytes());
    let (known, size) = blobs[random.below(blobs.len() as u64) as usize];
    let blob = if random.below(2) == 0 { known } else { BlobHash(hash) };
    let size = if random.below(2) == 0 { size } else { random.below(limits::BLOB_BYTES) };
    let piece = Piece(random.below_u32(Geometry::of(size).pieces().max(1)));
    let small = random.below_u32(limits::CREDITS_PER_PEER.into()) as u16 + 1;
    let message = match random.below(11) {
        0 => Message::Interest { blobs: vec![blob] },
        1 => Message::NoInterest { blobs: vec![blob] },
        2 => Message::Have { blob, size, pieces: HavePieces::All },
        3 => Message::Have { blob, size, pieces: HavePieces::Map(vec![random.any() as u8; random.below(40) as usize]) },
        4 => Message::HaveMore { blob, runs: vec![PieceRun { first: piece, count: random.below_u32(9) }] },
        5 => Message::HaveNot { blobs: vec![blob] },
        6 => Message::Load { held: small, limit: small * 4 },
        7 => Message::Grant { credits: small, block_bytes: limits::BLOCK_MIN_BYTES, hint: Some((blob, piece)) },
        8 => Message::Return { credits: small },
        9 => Message::Cancel { request: RequestId(random.below(1000)) },
        _ if random.below(20) == 0 => return Deed::Babble(host),
        _ => {
            let start = random.below(Geometry::of(size).groups() * 2);
            let span = Span::new(start, start + 1 + random.below(300)).expect("not empty");
            return Deed::Ask(host, RequestId(random.below(1000)), blob, size, span);
        }
    };
    Deed::Say(host, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leech_grants_nothing_and_a_poisoner_begins_well() {
        let grant = Message::Grant { credits: 1, block_bytes: limits::BLOCK_MIN_BYTES, hint: None };
        let withheld: Vec<Vice> = Vice::ALL.into_iter().filter(|vice| vice.withholds(&grant)).collect();
        assert_eq!(withheld, [Vice::Leech]);
        assert!(!Vice::Leech.withholds(&Message::Load { held: 0, limit: 1 }), "but it asks");
        let mut random = Random::new(1);
        let first = (0..800).filter(|n| serving(Some(Vice::Poisoner), n % 8, &mut random) == Serving::Bad).count();
        assert_eq!(first, 0, "the first eight");
        let later = (0..800).filter(|n| serving(Some(Vice::Poisoner), 8 + n, &mut random) == Serving::Bad).count();
        assert!((60..140).contains(&later), "{later} of 800");
    }
}
