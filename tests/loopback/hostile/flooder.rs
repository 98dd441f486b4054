//! Answers well, and goes on sending.

use std::io;

use p2pweights_node::net::BulkStream;
use p2pweights_protocol::wire::BulkRequest;
use p2pweights_tests::content::KIB;
use tokio::io::AsyncWriteExt;

use super::{Goods, Vice, data_header};

/// After the first true answer there is no end to what it sends.
pub struct Flooder;

impl Vice for Flooder {
    async fn answer(&self, goods: &Goods, request: BulkRequest, stream: &mut BulkStream) -> io::Result<()> {
        stream.write_all(&data_header(&request)).await?;
        stream.write_all(&goods.encoding(request.blob, request.span)).await?;
        loop {
            stream.write_all(&[0xa5; 64 * KIB]).await?;
        }
    }
}
