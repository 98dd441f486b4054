//! Sends the truth, one byte at a time.

use std::io;
use std::time::Duration;

use p2pweights_node::net::BulkStream;
use p2pweights_protocol::wire::BulkRequest;
use tokio::io::AsyncWriteExt;

use super::{Goods, Vice, data_header};

/// Time between two bytes: so long that even a last group of a few bytes, with its header and its proof, takes longer than the ten seconds
/// that a newcomer is given.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps a stream busy with next to nothing.
pub struct Drip;

impl Vice for Drip {
    async fn answer(&self, goods: &Goods, request: BulkRequest, stream: &mut BulkStream) -> io::Result<()> {
        let encoding = goods.encoding(request.blob, request.span);
        let mut drops = tokio::time::interval(PAUSE);
        for byte in data_header(&request).into_iter().chain(encoding) {
            drops.tick().await;
            stream.write_all(&[byte]).await?;
            stream.flush().await?;
        }
        Ok(())
    }
}
