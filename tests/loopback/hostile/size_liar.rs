//! Says that a blob is larger than it is.

use std::io;

use p2pweights_node::net::BulkStream;
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::wire::{BulkRequest, BulkResponse, BulkStatus, HavePieces, Message};
use tokio::io::AsyncWriteExt;

use super::{Goods, Vice, data_header};

/// How it backs its claim up when asked for a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It admits that it cannot.
    None,
    /// With bytes that prove nothing.
    Forged,
}

/// Claims this size for every blob.
pub struct SizeLiar {
    pub claimed: u64,
    pub proof: Proof,
}

impl Vice for SizeLiar {
    fn claim(&self, _goods: &Goods, blob: BlobHash) -> Message {
        Message::Have { blob, size: self.claimed, pieces: HavePieces::All }
    }

    async fn answer(&self, _goods: &Goods, request: BulkRequest, stream: &mut BulkStream) -> io::Result<()> {
        match self.proof {
            Proof::None => {
                stream.write_all(&BulkResponse { request: request.request, status: BulkStatus::NotHeld }.encode()).await
            }
            Proof::Forged => {
                stream.write_all(&data_header(&request)).await?;
                stream.write_all(&[0; 32 * 1024]).await
            }
        }
    }
}
