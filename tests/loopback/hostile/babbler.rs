//! Answers requests with noise.

use std::io;

use p2pweights_node::net::BulkStream;
use p2pweights_protocol::wire::BulkRequest;
use p2pweights_tests::content::{KIB, noise};
use tokio::io::AsyncWriteExt;

use super::{Goods, Vice};

/// Sends seeded noise where a header should be.
pub struct Babbler;

impl Vice for Babbler {
    async fn answer(&self, _goods: &Goods, request: BulkRequest, stream: &mut BulkStream) -> io::Result<()> {
        stream.write_all(&noise(request.request.0, 64 * KIB)).await
    }
}
