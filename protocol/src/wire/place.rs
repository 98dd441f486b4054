//! Which span of which blob: what the headers of requests have in common. Fixed size, big-endian.

use thiserror::Error;

use crate::geometry::{Geometry, Span};
use crate::ids::BlobHash;
use crate::limits;

/// Bytes of it: hash 32, size 8, first group 8, groups 4.
pub(super) const PLACE_BYTES: usize = 52;

/// Why a header is refused. Always the sender's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeaderError {
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

/// One span of a blob of this size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub blob: BlobHash,
    pub size: u64,
    pub span: Span,
}

impl Place {
    pub(super) fn encode(&self) -> [u8; PLACE_BYTES] {
        let mut bytes = [0; PLACE_BYTES];
        bytes[..32].copy_from_slice(self.blob.as_bytes());
        bytes[32..40].copy_from_slice(&self.size.to_be_bytes());
        bytes[40..48].copy_from_slice(&self.span.start().to_be_bytes());
        let groups = u32::try_from(self.span.groups()).expect("no request is for so many");
        bytes[48..].copy_from_slice(&groups.to_be_bytes());
        bytes
    }

    /// Reads it and checks every bound that needs no knowledge of the blob; how long the span may be is the request's to say.
    pub(super) fn decode(bytes: &[u8; PLACE_BYTES]) -> Result<Self, HeaderError> {
        let u64_at = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let size = u64_at(32);
        if size > limits::BLOB_BYTES {
            return Err(HeaderError::Size(size));
        }
        let groups = u32::from_be_bytes(bytes[48..].try_into().expect("four bytes"));
        let span = Span::try_from((u64_at(40), u64::from(groups))).map_err(|_| HeaderError::Span)?;
        if !Geometry::of(size).contains(span) {
            return Err(HeaderError::Span);
        }
        Ok(Self { blob: BlobHash(bytes[..32].try_into().expect("32 bytes")), size, span })
    }
}
