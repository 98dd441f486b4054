//! A host before the world begins: how it is attached, what it holds and wants, how long it stays.

use std::time::Duration;

use p2pweights_protocol::engine::Order;
use p2pweights_protocol::geometry::{Geometry, Piece, Span};
use p2pweights_protocol::ids::Prefix;

use super::site::SiteId;
use crate::hostile::Vice;
use crate::link::Link;

/// What a host holds when it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holding {
    /// Everything.
    All,
    /// The pieces drawn as `#`, the drawing stretched over each blob.
    Drawn(String),
    /// Nothing.
    Nothing,
}

impl Holding {
    /// The spans held of a blob.
    pub fn of(&self, geometry: Geometry) -> Vec<Span> {
        match self {
            Self::All => geometry.whole().into_iter().collect(),
            Self::Nothing => Vec::new(),
            Self::Drawn(drawing) => (0..geometry.pieces())
                .filter(|piece| {
                    let place = u64::from(*piece) * drawing.len() as u64 / u64::from(geometry.pieces());
                    drawing.as_bytes().get(place as usize) == Some(&b'#')
                })
                .filter_map(|piece| geometry.piece_span(Piece(piece)))
                .collect(),
        }
    }
}

/// Who can connect to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nat {
    /// Anybody.
    #[default]
    Open,
    /// Whoever it dials; others by a hole punched with the help of a relay, which works for most pairs ([`Scenario::punch_permille`]).
    ///
    /// [`Scenario::punch_permille`]: super::Scenario::punch_permille
    Cone,
}

/// A disk. Writes queue up and are synced in batches, as in a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Disk {
    /// How fast it writes; `None`: faster than any link.
    pub bytes_per_s: Option<u64>,
    /// How much fits on it, in bytes; `None`: enough.
    pub capacity: Option<u64>,
}

/// When a host goes for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stay {
    /// Never.
    #[default]
    Forever,
    /// Once it has sent so many thousandths of all it holds, whatever happens then.
    Sent(u64),
    /// Once its engine says that everything it holds is held by others too.
    LeaveSafe,
    /// Once it has finished and has sent so many whole pieces after that.
    ExtraPieces(u64),
    /// So long after it has finished.
    After(Duration),
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPlan {
    /// The kind of host, by its place among the names in [`Scenario::groups`](super::Scenario::groups): what reports tell apart.
    pub group: usize,
    /// How it is attached, to its site if it has one, otherwise to the middle of the network.
    pub link: Link,
    /// The local network that it is in.
    pub site: Option<SiteId>,
    /// Who can connect to it.
    pub nat: Nat,
    /// The network that its address is in.
    pub prefix: Prefix,
    /// Its disk.
    pub disk: Disk,
    /// What it holds.
    pub holding: Holding,
    /// Whether it fetches what it lacks.
    pub fetches: bool,
    /// In which order.
    pub order: Order,
    /// What is wrong with it.
    pub vice: Option<Vice>,
    /// When it begins.
    pub starts_at: Duration,
    /// When it goes.
    pub stay: Stay,
    /// Whether it knows the sizes of the blobs it wants, as from a manifest.
    pub knows_sizes: bool,
    /// The swarms it is part of, by their place in the scenario.
    pub swarms: Vec<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_stretches_over_a_blob() {
        let geometry = Geometry::of(8 * 256 * 1024);
        let spans = Holding::Drawn("#.#.".into()).of(geometry);
        assert_eq!(spans.iter().map(|span| span.start() / 16).collect::<Vec<_>>(), [0, 1, 4, 5]);
    }
}
