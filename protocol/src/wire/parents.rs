//! Headers of the parents stream: asks for the parents that lead to a span, without the bytes below them, for whoever has those from
//! elsewhere. Fixed size, big-endian.

use thiserror::Error;

use crate::geometry::{Geometry, Span};
use crate::ids::BlobHash;
use crate::limits;

/// Bytes of a request: hash 32, size 8, first group 8, groups 4.
pub const PARENTS_REQUEST_BYTES: usize = 52;

/// Why a request or an answer is refused. Always the sender's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParentsError {
    /// A blob larger than any we handle.
    #[error("blob size {0} is over the limit")]
    Size(u64),
    /// A span outside the blob, empty, or longer than is answered.
    #[error("span is empty, too long or outside the blob")]
    Span,
    /// A status this program does not know.
    #[error("unknown status {0}")]
    Status(u8),
}

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
        let mut bytes = [0; PARENTS_REQUEST_BYTES];
        bytes[..32].copy_from_slice(self.blob.as_bytes());
        bytes[32..40].copy_from_slice(&self.size.to_be_bytes());
        bytes[40..48].copy_from_slice(&self.span.start().to_be_bytes());
        let groups = u32::try_from(self.span.groups()).expect("no more than are answered");
        bytes[48..].copy_from_slice(&groups.to_be_bytes());
        bytes
    }

    /// Reads a request and checks every bound that needs no knowledge of the blob.
    pub fn decode(bytes: &[u8; PARENTS_REQUEST_BYTES]) -> Result<Self, ParentsError> {
        let u64_at = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let size = u64_at(32);
        if size > limits::BLOB_BYTES {
            return Err(ParentsError::Size(size));
        }
        let groups = u32::from_be_bytes(bytes[48..].try_into().expect("four bytes"));
        let span = Span::try_from((u64_at(40), u64::from(groups))).map_err(|_| ParentsError::Span)?;
        if !Geometry::of(size).contains(span) || span.groups() > limits::PARENTS_GROUPS {
            return Err(ParentsError::Span);
        }
        Ok(Self { blob: BlobHash(bytes[..32].try_into().expect("32 bytes")), size, span })
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
    pub fn decode(byte: u8) -> Result<Self, ParentsError> {
        match byte {
            0 => Ok(Self::Data),
            1 => Ok(Self::NotHeld),
            2 => Ok(Self::Busy),
            other => Err(ParentsError::Status(other)),
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
        assert_eq!(decode(1 << 40, 0, 65_537), Err(ParentsError::Span));
        assert_eq!(decode(1 << 40, u64::MAX, 2), Err(ParentsError::Span));
        assert_eq!(decode(16 * 1024, 1, 1), Err(ParentsError::Span));
        assert_eq!(decode(1 << 30, 0, 0), Err(ParentsError::Span));
        assert_eq!(decode(u64::MAX, 0, 1), Err(ParentsError::Size(u64::MAX)));
        assert_eq!(ParentsStatus::decode(3), Err(ParentsError::Status(3)));
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
