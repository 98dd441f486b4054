//! Serves well, but breaks its first stream off in the middle of a span: what a connection does whose path goes away.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use p2pweights_node::net::BulkStream;
use p2pweights_protocol::wire::BulkRequest;
use tokio::io::AsyncWriteExt;

use super::{Goods, Vice, data_header};

/// Answers that go well before the break.
const GOOD: u32 = 3;

/// See the module's text.
#[derive(Default)]
pub struct Breaker {
    answers: AtomicU32,
}

impl Vice for Breaker {
    async fn answer(&self, goods: &Goods, request: BulkRequest, stream: &mut BulkStream) -> io::Result<()> {
        let encoding = goods.encoding(request.blob, request.span);
        stream.write_all(&data_header(&request)).await?;
        if self.answers.fetch_add(1, Ordering::Relaxed) == GOOD {
            stream.write_all(&encoding[..encoding.len() / 2]).await?;
            stream.flush().await?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        stream.write_all(&encoding).await
    }
}
