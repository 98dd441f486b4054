//! Frames of the control stream: a length, a version, a message in postcard. Bounded before anything is allocated.

use thiserror::Error;

use super::VERSION;
use super::message::Message;
use crate::limits;

/// Bytes of the length prefix: a big-endian `u32`, counting what follows it.
pub const PREFIX_BYTES: usize = 4;

/// Why a frame is refused. Always the sender's fault: the stream is closed and the peer gets a strike.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Longer than any honest message.
    #[error("frame of {0} bytes is over the limit of {max}", max = limits::FRAME_BYTES)]
    TooLong(u64),
    /// No room for a version and a message.
    #[error("frame of {0} bytes is too short")]
    TooShort(u64),
    /// A version that this program does not speak.
    #[error("frame of version {0}, this program speaks {VERSION}")]
    Version(u8),
    /// Not a message.
    #[error("frame is not a message")]
    Malformed,
    /// A message followed by something.
    #[error("{0} bytes after the message")]
    Trailing(usize),
    /// A message that breaks a limit.
    #[error("message breaks a limit: {0}")]
    Limit(&'static str),
}

/// Reads the length prefix: how many bytes follow.
pub fn frame_length(prefix: [u8; PREFIX_BYTES]) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(prefix);
    match usize::try_from(length) {
        Ok(length) if (2..=limits::FRAME_BYTES).contains(&length) => Ok(length),
        _ if length < 2 => Err(FrameError::TooShort(length.into())),
        _ => Err(FrameError::TooLong(length.into())),
    }
}

/// A whole frame, length prefix included.
pub fn encode_frame(message: &Message) -> Vec<u8> {
    debug_assert_eq!(message.violation(), None, "we never break our own limits: {message:?}");
    let frame = postcard::to_extend(message, vec![0, 0, 0, 0, VERSION]).expect("a message always encodes");
    let length = u32::try_from(frame.len() - PREFIX_BYTES).expect("limits keep frames short");
    let mut frame = frame;
    frame[..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    frame
}

/// Reads what follows the length prefix.
pub fn decode_frame(body: &[u8]) -> Result<Message, FrameError> {
    let (&version, rest) = body.split_first().ok_or(FrameError::TooShort(0))?;
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    let (message, rest) = postcard::take_from_bytes::<Message>(rest).map_err(|_| FrameError::Malformed)?;
    if !rest.is_empty() {
        return Err(FrameError::Trailing(rest.len()));
    }
    match message.violation() {
        Some(violation) => Err(FrameError::Limit(violation)),
        None => Ok(message),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::geometry::Piece;
    use crate::ids::{BlobHash, PeerId, RequestId};
    use crate::wire::message::{Contact, HavePieces, PieceRun};

    fn samples() -> Vec<(Message, &'static str)> {
        let blob = BlobHash([0xaa; 32]);
        let (aa, bb) = ("aa".repeat(32), "bb".repeat(32));
        let text = |hex: String| -> &'static str { hex.leak() };
        vec![
            (Message::Hello { agent: "p2pweights/0.1".into() }, "00000011 01 00 0e 7032707765696768 74732f302e31"),
            (Message::Interest { blobs: vec![blob] }, text(format!("00000023 01 01 01 {aa}"))),
            (Message::NoInterest { blobs: vec![blob] }, text(format!("00000023 01 02 01 {aa}"))),
            (Message::Have { blob, size: 300, pieces: HavePieces::All }, text(format!("00000025 01 03 {aa} ac02 00"))),
            (Message::Have { blob, size: 1, pieces: HavePieces::Map(vec![1]) }, text(format!("00000026 01 03 {aa} 01 01 01 01"))),
            (
                Message::HaveMore { blob, runs: vec![PieceRun { first: Piece(200), count: 3 }] },
                text(format!("00000026 01 04 {aa} 01 c801 03")),
            ),
            (Message::HaveNot { blobs: vec![blob] }, text(format!("00000023 01 05 01 {aa}"))),
            (Message::Load { held: 2, limit: 32 }, "00000004 01 06 02 20"),
            (Message::Grant { credits: 4, block_bytes: 1 << 20, hint: None }, "00000007 01 07 04 808040 00"),
            (
                Message::Grant { credits: 1, block_bytes: 1 << 18, hint: Some((blob, Piece(5))) },
                text(format!("00000028 01 07 01 808010 01 {aa} 05")),
            ),
            (Message::Return { credits: 3 }, "00000003 01 08 03"),
            (Message::Cancel { request: RequestId(7) }, "00000003 01 09 07"),
            (Message::Decline { blob, piece: Piece(5) }, text(format!("00000023 01 0a {aa} 05"))),
            (
                Message::Peers { blob, contacts: vec![contact(1, 8)] },
                text(format!("0000004d 01 0b {aa} 01 {bb} 01 08 0401020304060fa1")),
            ),
        ]
    }

    /// A peer with so many addresses, each of so many bytes.
    fn contact(addresses: usize, bytes: usize) -> Contact {
        let mut address = hex::decode("0401020304060fa1").expect("hex"); // /ip4/1.2.3.4/tcp/4001
        address.resize(bytes, 0);
        Contact { peer: PeerId([0xbb; 32]), addresses: vec![address; addresses] }
    }

    #[test]
    fn introductions_are_bounded() {
        let peers = |contacts| Message::Peers { blob: BlobHash([0xaa; 32]), contacts };
        let largest = peers(vec![contact(limits::ADDRESSES_PER_CONTACT, limits::ADDRESS_BYTES); limits::CONTACTS_PER_MESSAGE]);
        assert_eq!(decode_frame(&encode_frame(&largest)[PREFIX_BYTES..]), Ok(largest));
        for (contacts, violation) in [
            (vec![], "number of contacts out of bounds"),
            (vec![contact(1, 8); limits::CONTACTS_PER_MESSAGE + 1], "number of contacts out of bounds"),
            (vec![contact(1, 8), contact(0, 8)], "number of addresses out of bounds"),
            (vec![contact(limits::ADDRESSES_PER_CONTACT + 1, 8)], "number of addresses out of bounds"),
            (vec![contact(2, 0)], "length of an address out of bounds"),
            (vec![contact(1, limits::ADDRESS_BYTES + 1)], "length of an address out of bounds"),
        ] {
            let body = postcard::to_extend(&peers(contacts), vec![VERSION]).expect("it encodes");
            assert_eq!(decode_frame(&body), Err(FrameError::Limit(violation)));
        }
    }

    #[test]
    fn golden_bytes() {
        for (message, golden) in samples() {
            let golden = golden.replace(' ', "");
            assert_eq!(hex::encode(encode_frame(&message)), golden, "{message:?}");
            let bytes = hex::decode(golden).expect("hex");
            let length = frame_length(bytes[..4].try_into().expect("four bytes")).expect("length");
            assert_eq!(length, bytes.len() - 4);
            assert_eq!(decode_frame(&bytes[4..]), Ok(message));
        }
    }

    #[test]
    fn huge_lengths_are_refused_before_anything_is_read() {
        assert_eq!(frame_length(u32::MAX.to_be_bytes()), Err(FrameError::TooLong(u32::MAX.into())));
        assert_eq!(frame_length([0, 0, 0, 1]), Err(FrameError::TooShort(1)));
        assert_eq!(frame_length([0, 1, 0, 1]), Err(FrameError::TooLong(65_537)));
    }

    #[test]
    fn limits_trailing_bytes_and_foreign_versions_are_refused() {
        assert_eq!(decode_frame(&[2, 8, 3]), Err(FrameError::Version(2)));
        assert_eq!(decode_frame(&[1, 8, 3, 0]), Err(FrameError::Trailing(1)));
        assert_eq!(decode_frame(&[1, 8, 65]), Err(FrameError::Limit("number of credits out of bounds")));
        assert_eq!(decode_frame(&[1, 99]), Err(FrameError::Malformed));
        // A list that claims 2^32 hashes in a few bytes must not allocate for them.
        assert_eq!(decode_frame(&[1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]), Err(FrameError::Malformed));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic_and_what_decodes_encodes_back(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut body = vec![VERSION];
            body.extend(&bytes);
            if let Ok(message) = decode_frame(&body) {
                let again = encode_frame(&message);
                prop_assert_eq!(decode_frame(&again[4..]), Ok(message));
            }
            let _ = decode_frame(&bytes);
        }
    }
}
