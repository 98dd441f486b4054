//! Tests draw pieces as strings, one character a piece: `#` held, `~` in flight, `.` missing; digits count providers.

use crate::geometry::{GROUP_BYTES, Geometry, Piece};
use crate::have_map::HaveMap;
use crate::ids::BlobHash;
use crate::swarm::availability::Availability;
use crate::swarm::download::Download;

/// A blob of as many smallest pieces (256 KiB) as the drawing has characters.
pub fn geometry(drawing: &str) -> Geometry {
    Geometry::of(drawing.len() as u64 * 16 * GROUP_BYTES)
}

/// A download in the state drawn.
pub fn download(drawing: &str) -> Download {
    let mut download = Download::new(BlobHash([7; 32]), 0);
    download.set_geometry(geometry(drawing), &Default::default());
    for (index, character) in drawing.chars().enumerate() {
        let span = download.geometry().and_then(|g| g.piece_span(Piece(index as u32))).expect("drawn piece");
        match character {
            '#' => _ = download.verified_span(span),
            '~' => download.claim(span),
            '.' => (),
            other => panic!("{other:?} in a drawing"),
        }
    }
    download
}

/// A have-map as drawn.
pub fn have_map(drawing: &str) -> HaveMap {
    let mut map = HaveMap::empty(drawing.len() as u32);
    for (index, _) in drawing.chars().enumerate().filter(|(_, character)| *character == '#') {
        map.insert(Piece(index as u32));
    }
    map
}

/// Availability as drawn, a digit a piece.
pub fn availability(drawing: &str) -> Availability {
    let mut availability = Availability::new(drawing.len() as u32);
    for (index, character) in drawing.chars().enumerate() {
        for _ in 0..character.to_digit(10).expect("a digit a piece") {
            availability.add_piece(Piece(index as u32));
        }
    }
    availability
}

/// Draws a download.
pub fn draw(download: &Download) -> String {
    let geometry = download.geometry().expect("sized");
    (0..geometry.pieces())
        .map(|piece| {
            let span = geometry.piece_span(Piece(piece)).expect("piece");
            match (download.verified().covers(span), download.claimed().groups_within(span) > 0) {
                (true, _) => '#',
                (false, true) => '~',
                (false, false) => '.',
            }
        })
        .collect()
}
