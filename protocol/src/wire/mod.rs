//! What peers say to one another, to the byte; drawn in `docs/wire.md`. Knows names and limits, not what is done about a message.

pub mod bulk;
pub mod codec;
pub mod message;
pub mod parents;
mod place;

pub use bulk::{BULK_REQUEST_BYTES, BULK_RESPONSE_BYTES, BulkRequest, BulkResponse, BulkStatus};
pub use codec::{FrameError, decode_frame, encode_frame, frame_length};
pub use message::{Contact, HavePieces, Message, PieceRun};
pub use parents::{PARENTS_REQUEST_BYTES, ParentsRequest, ParentsStatus};
pub use place::HeaderError;

/// Version of the control, bulk and parents protocols; the last part of their names.
pub const VERSION: u8 = 1;

/// The name of one of this network's protocols, as multistream-select sees it: `/p2pweights/<network>/<protocol>/1`.
pub fn protocol_name(network: &str, protocol: &str) -> String {
    format!("/p2pweights/{network}/{protocol}/{VERSION}")
}
