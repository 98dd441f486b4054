//! How long a control message is on the wire, without writing it down: the same as the length of its frame, which a test asks for.

use p2pweights_protocol::wire::{Contact, HavePieces, Message};

/// Length prefix, version and kind of message.
const HEAD: u64 = 6;
const HASH: u64 = 32;

/// Bytes of the frame that carries this message.
pub fn frame_length(message: &Message) -> u64 {
    HEAD + match message {
        Message::Hello { agent } => text(agent.len()),
        Message::Interest { blobs } | Message::NoInterest { blobs } | Message::HaveNot { blobs } => {
            varint(blobs.len() as u64) + HASH * blobs.len() as u64
        }
        Message::Have { blob: _, size, pieces } => {
            let pieces = match pieces {
                HavePieces::All => 0,
                HavePieces::Map(bytes) => text(bytes.len()),
            };
            HASH + varint(*size) + 1 + pieces
        }
        Message::HaveMore { blob: _, runs } => {
            let runs_length: u64 = runs.iter().map(|run| varint(run.first.0.into()) + varint(run.count.into())).sum();
            HASH + varint(runs.len() as u64) + runs_length
        }
        Message::Load { held, limit } => varint((*held).into()) + varint((*limit).into()),
        Message::Grant { credits, block_bytes, hint } => {
            let hint = hint.map_or(0, |(_, piece)| HASH + varint(piece.0.into()));
            varint((*credits).into()) + varint((*block_bytes).into()) + 1 + hint
        }
        Message::Return { credits } => varint((*credits).into()),
        Message::Cancel { request } => varint(request.0),
        Message::Decline { blob: _, piece } => HASH + varint(piece.0.into()),
        Message::Peers { blob: _, contacts } => {
            let addresses = |contact: &Contact| contact.addresses.iter().map(|address| text(address.len())).sum::<u64>();
            let length = |contact: &Contact| HASH + varint(contact.addresses.len() as u64) + addresses(contact);
            HASH + varint(contacts.len() as u64) + contacts.iter().map(length).sum::<u64>()
        }
    }
}

/// Bytes of a number, seven bits a byte.
fn varint(number: u64) -> u64 {
    u64::from((number | 1).ilog2()) / 7 + 1
}

/// Bytes of some bytes and their number.
fn text(length: usize) -> u64 {
    varint(length as u64) + length as u64
}

#[cfg(test)]
mod tests {
    use p2pweights_protocol::geometry::Piece;
    use p2pweights_protocol::ids::{BlobHash, PeerId, RequestId};
    use p2pweights_protocol::wire::{PieceRun, encode_frame};
    use proptest::prelude::*;

    use super::*;

    fn blob() -> impl Strategy<Value = BlobHash> {
        any::<[u8; 32]>().prop_map(BlobHash)
    }

    /// Numbers of every length.
    fn number() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..64u32).prop_map(|(number, shift)| number >> shift)
    }

    fn message() -> impl Strategy<Value = Message> {
        let piece = || number().prop_map(|number| Piece(number as u32));
        let blobs = || prop::collection::vec(blob(), 1..200);
        let run = (piece(), number()).prop_map(|(first, count)| PieceRun { first, count: count as u32 });
        let addresses = || prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=128), 1..=4);
        let contact = (any::<[u8; 32]>(), addresses()).prop_map(|(peer, addresses)| Contact { peer: PeerId(peer), addresses });
        let size = || number().prop_map(|size| size >> 20);
        prop_oneof![
            "[a-z/.0-9]{0,64}".prop_map(|agent| Message::Hello { agent }),
            blobs().prop_map(|blobs| Message::Interest { blobs }),
            blobs().prop_map(|blobs| Message::NoInterest { blobs }),
            blobs().prop_map(|blobs| Message::HaveNot { blobs }),
            (blob(), size()).prop_map(|(blob, size)| Message::Have { blob, size, pieces: HavePieces::All }),
            (blob(), size(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(blob, size, map)| Message::Have {
                blob,
                size,
                pieces: HavePieces::Map(map)
            }),
            (blob(), prop::collection::vec(run, 1..300)).prop_map(|(blob, runs)| Message::HaveMore { blob, runs }),
            (number(), number()).prop_map(|(held, limit)| Message::Load { held: held as u16, limit: limit as u16 }),
            (1..=64u16, 18..=22u32, prop::option::of((blob(), piece()))).prop_map(|(credits, log, hint)| Message::Grant {
                credits,
                block_bytes: 1 << log,
                hint
            }),
            (1..=64u16).prop_map(|credits| Message::Return { credits }),
            number().prop_map(|request| Message::Cancel { request: RequestId(request) }),
            (blob(), piece()).prop_map(|(blob, piece)| Message::Decline { blob, piece }),
            (blob(), prop::collection::vec(contact, 1..=16)).prop_map(|(blob, contacts)| Message::Peers { blob, contacts }),
        ]
    }

    proptest! {
        #[test]
        fn is_the_length_of_the_frame(message in message()) {
            prop_assert_eq!(frame_length(&message), encode_frame(&message).len() as u64);
        }
    }
}
