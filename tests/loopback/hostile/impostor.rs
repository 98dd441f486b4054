//! Answers what nobody asked.

use std::io;

use p2pweights_node::net::BulkStream;
use p2pweights_protocol::ids::RequestId;
use p2pweights_protocol::wire::BulkRequest;
use tokio::io::AsyncWriteExt;

use super::{Goods, Vice, data_header};

/// Sends good payload under the name of a request that was never made.
pub struct Impostor;

impl Vice for Impostor {
    async fn answer(&self, goods: &Goods, request: BulkRequest, stream: &mut BulkStream) -> io::Result<()> {
        let invented = BulkRequest { request: RequestId(u64::MAX - request.request.0), ..request };
        stream.write_all(&data_header(&invented)).await?;
        stream.write_all(&goods.encoding(request.blob, request.span)).await
    }
}
