//! Begins each answer and breaks the stream off.

use std::io;

use p2pweights_node::net::BulkStream;
use p2pweights_protocol::wire::BulkRequest;
use tokio::io::AsyncWriteExt;

use super::{Goods, Vice, data_header};

/// Bytes of the encoding that it sends: less than a group, so that nothing of it proves.
const BEGINNING: usize = 1000;

/// Closes the stream within the first group of a span.
pub struct Resetter;

impl Vice for Resetter {
    async fn answer(&self, goods: &Goods, request: BulkRequest, stream: &mut BulkStream) -> io::Result<()> {
        stream.write_all(&data_header(&request)).await?;
        let encoding = goods.encoding(request.blob, request.span);
        stream.write_all(&encoding[..BEGINNING.min(encoding.len() / 2)]).await?;
        stream.flush().await?;
        Err(io::ErrorKind::ConnectionReset.into())
    }
}
