//! Says that it has everything, and has nothing.

use std::io;

use p2pweights_node::net::BulkStream;
use p2pweights_protocol::wire::{BulkRequest, BulkResponse, BulkStatus};
use tokio::io::AsyncWriteExt;

use super::{Goods, Vice};

/// Answers every request with [`BulkStatus::NotHeld`].
pub struct FalseClaimer;

impl Vice for FalseClaimer {
    async fn answer(&self, _goods: &Goods, request: BulkRequest, stream: &mut BulkStream) -> io::Result<()> {
        stream.write_all(&BulkResponse { request: request.request, status: BulkStatus::NotHeld }.encode()).await
    }
}
