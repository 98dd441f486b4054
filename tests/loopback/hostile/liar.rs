//! Sends a good header, good groups, and one byte that is wrong.

use std::io;

use p2pweights_node::net::BulkStream;
use p2pweights_protocol::geometry::Span;
use p2pweights_protocol::wire::BulkRequest;
use tokio::io::AsyncWriteExt;

use super::{Goods, Vice, data_header};

/// Flips the last byte of this group of each span, counted from its start.
pub struct Liar {
    pub group: u64,
}

impl Vice for Liar {
    async fn answer(&self, goods: &Goods, request: BulkRequest, stream: &mut BulkStream) -> io::Result<()> {
        let mut encoding = goods.encoding(request.blob, request.span);
        // The encoding is in pre-order: that of the first groups alone is how it begins.
        let start = request.span.start();
        let until_lie = Span::new(start, request.span.end().min(start + self.group + 1)).expect("not empty");
        let last = goods.encoding(request.blob, until_lie).len() - 1;
        encoding[last] ^= 1;
        stream.write_all(&data_header(&request)).await?;
        stream.write_all(&encoding).await
    }
}
