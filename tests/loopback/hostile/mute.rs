//! Grants, takes every request, and never says a word.

use std::io;

use p2pweights_node::net::BulkStream;
use p2pweights_protocol::wire::BulkRequest;

use super::{Goods, Vice};

/// Answers nothing.
pub struct Mute;

impl Vice for Mute {
    async fn answer(&self, _goods: &Goods, _request: BulkRequest, _stream: &mut BulkStream) -> io::Result<()> {
        Ok(())
    }
}
