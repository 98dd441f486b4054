//! Headers of the parents stream: asks for the parents that lead to a span, without the bytes below them, for whoever has those from
//! elsewhere. Fixed size, big-endian.

use super::place::{HeaderError, PLACE_BYTES, Place};
use crate::geometry::Span;
use crate::ids::BlobHash;
use crate::limits;

/// Bytes of a request: hash 32, size 8, first group 8, groups 4.
pub const PARENTS_REQUEST_BYTES: usize = PLACE_BYTES;

/// Asks for the parents that lead to one span of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParentsRequest {
    /// The blob.
    pub blob: BlobHash,
    /// Its size as both sides know it: the shape of the tree depends on it.
    pub size: u64,
    /// The groups that they are to lead to.
    pub span: Span,
}

impl ParentsRequest {
    /// The bytes on the wire.
    pub fn encode(&self) -> [u8; PARENTS_REQUEST_BYTES] {
        let Self { blob, size, span } = *self;
        Place { blob, size, span }.encode()
    }

    /// Reads a request and checks every bound that needs no knowledge of the blob.
    pub fn decode(bytes: &[u8; PARENTS_REQUEST_BYTES]) -> Result<Self, HeaderError> {
        let Place { blob, size, span } = Place::decode(bytes)?;
        if span.groups() > limits::PARENTS_GROUPS {
            return Err(HeaderError::Span);
        }
        Ok(Self { blob, size, span })
    }
}

/// What an answer begins with. The numbers are the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ParentsStatus {
    /// The parents follow, as they stand in the outboard, part by part.
    Data = 0,
    /// Nothing follows: not offered with this size, or not all of the span.
    NotHeld = 1,
    /// Nothing follows: asked too often; later, perhaps.
    Busy = 2,
}

impl ParentsStatus {
    /// Reads a status.
    pub fn decode(byte: u8) -> Result<Self, HeaderError> {
        match byte {
            0 => Ok(Self::Data),
            1 => Ok(Self::NotHeld),
            2 => Ok(Self::Busy),
            other => Err(HeaderError::Status(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_bytes() {
        let span = Span::new(65_536, 70_000).expect("not empty");
        let request = ParentsRequest { blob: BlobHash([0xaa; 32]), size: 1 << 31, span };
        let golden = format!("{}0000000080000000000000000001000000001170", "aa".repeat(32));
        assert_eq!(hex::encode(request.encode()), golden);
        assert_eq!(ParentsRequest::decode(&request.encode()), Ok(request));
        assert_eq!([ParentsStatus::Data as u8, ParentsStatus::NotHeld as u8, ParentsStatus::Busy as u8], [0, 1, 2]);
    }

    #[test]
    fn spans_that_lie_outside_or_are_too_long_are_refused() {
        let decode = |size: u64, start: u64, groups: u32| {
            let mut bytes = [0; PARENTS_REQUEST_BYTES];
            bytes[32..40].copy_from_slice(&size.to_be_bytes());
            bytes[40..48].copy_from_slice(&start.to_be_bytes());
            bytes[48..].copy_from_slice(&groups.to_be_bytes());
            ParentsRequest::decode(&bytes)
        };
        assert!(decode(1 << 40, 0, 65_536).is_ok());
        assert_eq!(decode(1 << 40, 0, 65_537), Err(HeaderError::Span));
        assert_eq!(decode(1 << 40, u64::MAX, 2), Err(HeaderError::Span));
        assert_eq!(decode(16 * 1024, 1, 1), Err(HeaderError::Span));
        assert_eq!(decode(1 << 30, 0, 0), Err(HeaderError::Span));
        assert_eq!(decode(u64::MAX, 0, 1), Err(HeaderError::Size(u64::MAX)));
        assert_eq!(ParentsStatus::decode(3), Err(HeaderError::Status(3)));
    }

    proptest! {
        #[test]
        fn random_headers_never_panic(bytes in any::<[u8; 26]>(), more in any::<[u8; 26]>()) {
            let mut request = [0; PARENTS_REQUEST_BYTES];
            request[..26].copy_from_slice(&bytes);
            request[26..].copy_from_slice(&more);
            if let Ok(decoded) = ParentsRequest::decode(&request) {
                prop_assert_eq!(decoded.encode(), request);
            }
        }
    }
}
