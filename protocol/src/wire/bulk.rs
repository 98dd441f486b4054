//! Headers of the bulk stream: fixed-size, big-endian. A request is answered by a response header and, if that says so, by the Bao
//! encoding of the span. Answers come in any order; each names its request.

use super::place::{HeaderError, PLACE_BYTES, Place};
use crate::geometry::{Geometry, Span};
use crate::ids::{BlobHash, RequestId};
use crate::limits;

/// Bytes of a request's id.
const ID_BYTES: usize = 8;
/// Bytes of a request: id 8, hash 32, size 8, first group 8, groups 4.
pub const BULK_REQUEST_BYTES: usize = ID_BYTES + PLACE_BYTES;
/// Bytes of a response header: id 8, status 1.
pub const BULK_RESPONSE_BYTES: usize = 9;

/// Asks for one span of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkRequest {
    /// The asker's name for it.
    pub request: RequestId,
    /// The blob.
    pub blob: BlobHash,
    /// Its size as both sides know it: the shape of the proof depends on it.
    pub size: u64,
    /// The groups wanted.
    pub span: Span,
}

impl BulkRequest {
    /// The bytes on the wire.
    pub fn encode(&self) -> [u8; BULK_REQUEST_BYTES] {
        let Self { request, blob, size, span } = *self;
        let mut bytes = [0; BULK_REQUEST_BYTES];
        bytes[..ID_BYTES].copy_from_slice(&request.0.to_be_bytes());
        bytes[ID_BYTES..].copy_from_slice(&Place { blob, size, span }.encode());
        bytes
    }

    /// Reads a request and checks every bound that needs no knowledge of the blob.
    pub fn decode(bytes: &[u8; BULK_REQUEST_BYTES]) -> Result<Self, HeaderError> {
        let (id, place) = bytes.split_at(ID_BYTES);
        let Place { blob, size, span } = Place::decode(place.try_into().expect("what follows the id"))?;
        if Geometry::of(size).bytes_in(span) > u64::from(limits::BLOCK_MAX_BYTES) {
            return Err(HeaderError::Span);
        }
        let request = RequestId(u64::from_be_bytes(id.try_into().expect("eight bytes")));
        Ok(Self { request, blob, size, span })
    }
}

/// What a response header announces. The numbers are the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BulkStatus {
    /// The Bao encoding of the span follows.
    Data = 0,
    /// Nothing follows: asked without a credit.
    NoCredit = 1,
    /// Nothing follows: not held, or held no longer.
    NotHeld = 2,
    /// Nothing follows: cancelled before it began.
    Cancelled = 3,
}

/// The header of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkResponse {
    /// The request it answers.
    pub request: RequestId,
    /// What follows.
    pub status: BulkStatus,
}

impl BulkResponse {
    /// The bytes on the wire.
    pub fn encode(&self) -> [u8; BULK_RESPONSE_BYTES] {
        let mut bytes = [0; BULK_RESPONSE_BYTES];
        bytes[..8].copy_from_slice(&self.request.0.to_be_bytes());
        bytes[8] = self.status as u8;
        bytes
    }

    /// Reads a response header.
    pub fn decode(bytes: &[u8; BULK_RESPONSE_BYTES]) -> Result<Self, HeaderError> {
        let request = RequestId(u64::from_be_bytes(bytes[..8].try_into().expect("eight bytes")));
        let status = match bytes[8] {
            0 => BulkStatus::Data,
            1 => BulkStatus::NoCredit,
            2 => BulkStatus::NotHeld,
            3 => BulkStatus::Cancelled,
            other => return Err(HeaderError::Status(other)),
        };
        Ok(Self { request, status })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_bytes() {
        let span = Span::new(16, 32).expect("not empty");
        let request = BulkRequest { request: RequestId(7), blob: BlobHash([0xaa; 32]), size: 1 << 20, span };
        let golden = format!("0000000000000007{}0000000000100000000000000000001000000010", "aa".repeat(32));
        assert_eq!(hex::encode(request.encode()), golden);
        let response = BulkResponse { request: RequestId(7), status: BulkStatus::NotHeld };
        assert_eq!(hex::encode(response.encode()), "000000000000000702");
    }

    #[test]
    fn spans_that_lie_outside_or_are_too_long_are_refused() {
        let decode = |size: u64, start: u64, groups: u32| {
            let mut bytes = [0; BULK_REQUEST_BYTES];
            bytes[40..48].copy_from_slice(&size.to_be_bytes());
            bytes[48..56].copy_from_slice(&start.to_be_bytes());
            bytes[56..].copy_from_slice(&groups.to_be_bytes());
            BulkRequest::decode(&bytes)
        };
        assert!(decode(1 << 30, 0, 256).is_ok());
        assert_eq!(decode(1 << 30, 0, 257), Err(HeaderError::Span));
        assert_eq!(decode(1 << 30, u64::MAX, 2), Err(HeaderError::Span));
        assert_eq!(decode(16 * 1024, 1, 1), Err(HeaderError::Span));
        assert_eq!(decode(1 << 30, 0, 0), Err(HeaderError::Span));
        assert_eq!(decode(u64::MAX, 0, 1), Err(HeaderError::Size(u64::MAX)));
    }

    proptest! {
        #[test]
        fn random_headers_never_panic(bytes in any::<[u8; 30]>(), more in any::<[u8; 30]>()) {
            let mut request = [0; BULK_REQUEST_BYTES];
            request[..30].copy_from_slice(&bytes);
            request[30..].copy_from_slice(&more);
            if let Ok(decoded) = BulkRequest::decode(&request) {
                prop_assert_eq!(decoded.encode(), request);
            }
            let response: [u8; BULK_RESPONSE_BYTES] = bytes[..9].try_into().expect("nine bytes");
            if let Ok(decoded) = BulkResponse::decode(&response) {
                prop_assert_eq!(decoded.encode(), response);
            }
        }
    }
}
