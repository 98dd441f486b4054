//! Begins each answer well and stops in the middle of it.

use std::io;

use p2pweights_node::net::BulkStream;
use p2pweights_protocol::wire::BulkRequest;
use tokio::io::AsyncWriteExt;

use super::{Goods, Vice, data_header};

/// Sends the first half of a span's encoding and keeps the stream.
pub struct Staller;

impl Vice for Staller {
    async fn answer(&self, goods: &Goods, request: BulkRequest, stream: &mut BulkStream) -> io::Result<()> {
        let encoding = goods.encoding(request.blob, request.span);
        stream.write_all(&data_header(&request)).await?;
        stream.write_all(&encoding[..encoding.len() / 2]).await?;
        stream.flush().await?;
        std::future::pending().await
    }
}
