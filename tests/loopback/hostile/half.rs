//! Not hostile: holds the first half of each blob, says so, and serves it well. With it as the only source a fetch comes exactly half way.

use std::io;

use p2pweights_node::net::BulkStream;
use p2pweights_protocol::geometry::{Geometry, Piece};
use p2pweights_protocol::have_map::HaveMap;
use p2pweights_protocol::ids::{BlobHash, PeerId};
use p2pweights_protocol::wire::{BulkRequest, HavePieces, Message};
use tokio::io::AsyncWriteExt;

use super::{Goods, Vice, data_header};

/// Holds half, for everybody or for one peer only.
pub struct Half {
    pub patron: Option<PeerId>,
}

impl Half {
    /// Bytes that it holds of a blob of so many.
    pub fn bytes_of(size: u64) -> u64 {
        let geometry = Geometry::of(size);
        let spans = (0..geometry.pieces() / 2).filter_map(|piece| geometry.piece_span(Piece(piece)));
        spans.map(|span| geometry.bytes_in(span)).sum()
    }
}

impl Vice for Half {
    fn knows(&self, peer: PeerId) -> bool {
        self.patron.is_none_or(|patron| patron == peer)
    }

    fn claim(&self, goods: &Goods, blob: BlobHash) -> Message {
        let size = goods.size(blob);
        let pieces = Geometry::of(size).pieces();
        let mut map = HaveMap::empty(pieces);
        (0..pieces / 2).for_each(|piece| assert!(map.insert(Piece(piece))));
        Message::Have { blob, size, pieces: HavePieces::of(&map) }
    }

    async fn answer(&self, goods: &Goods, request: BulkRequest, stream: &mut BulkStream) -> io::Result<()> {
        stream.write_all(&data_header(&request)).await?;
        stream.write_all(&goods.encoding(request.blob, request.span)).await
    }
}
