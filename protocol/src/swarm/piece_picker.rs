//! The next span to ask a provider for. Pure choice: takes what is known, gives a span, changes nothing.
//!
//! Rarest first after a few random pieces; among equally rare pieces the one that goes on where this provider's last span ended, so
//! that disks read and write in runs; else random. A sample of the candidates is as good as all of them (worth 2.5 % either way).

use crate::geometry::{GROUP_BYTES, Piece, Span, groups_in_block};
use crate::have_map::HaveMap;
use crate::random::Random;
use crate::swarm::download::Download;

/// Candidates looked at for one choice. 24 sampled were as good as a full scan in simulation.
const SAMPLE: usize = 24;
/// Pieces picked at random before rarity decides: a newcomer needs *something* to trade at once, and rare pieces are slow to come by.
const RANDOM_FIRST: u32 = 4;

/// The span to ask for, at most `block_bytes` long, of a provider with this map; `None` if it has nothing that is open.
pub fn pick(download: &Download, has: &HaveMap, block_bytes: u32, last_end: Option<u64>, random: &mut Random) -> Option<Span> {
    let geometry = download.geometry()?;
    let piece = pick_piece(download, has, last_end, random)?;
    let block_groups = groups_in_block(block_bytes.into());
    let piece = block_start(download, has, piece, block_groups)?;
    let span = download.first_open(geometry.piece_span(piece)?)?;
    Some(extend(download, has, span, block_groups))
}

/// The next span in the order of the blob, among the first `window` bytes that are still open: what a reader waits for.
pub fn pick_next(download: &Download, has: &HaveMap, block_bytes: u32, window: u64) -> Option<Span> {
    let geometry = download.geometry()?;
    let first = download.open().first()?;
    let pieces = u32::try_from(window / (geometry.piece_groups() * GROUP_BYTES)).unwrap_or(u32::MAX).max(1);
    let piece = download.open().first_common(has, first).filter(|piece| piece.0 - first.0 < pieces)?;
    let span = download.first_open(geometry.piece_span(piece)?)?;
    Some(extend(download, has, span, groups_in_block(block_bytes.into())))
}

/// The next span from a reader's group on, no further than `window` bytes ahead of it; `None` if the provider has nothing open there.
pub fn pick_ahead(download: &Download, has: &HaveMap, block_bytes: u32, reader: u64, window: u64) -> Option<Span> {
    let geometry = download.geometry()?;
    let end = geometry.groups().min(reader.saturating_add(window / GROUP_BYTES));
    let mut from = reader;
    while from < end {
        let piece = geometry.piece_span(download.open().first_common(has, geometry.piece_of(from))?)?;
        let ahead = Span::new(piece.start().max(from), piece.end().min(end))?;
        if let Some(open) = download.first_open(ahead) {
            return Some(extend(download, has, open, groups_in_block(block_bytes.into())));
        }
        // What is open of the reader's own piece lies behind the reader.
        from = piece.end();
    }
    None
}

/// The span to ask for of a provider that named this piece; `None` if nothing of it is open.
pub fn pick_named(download: &Download, has: &HaveMap, block_bytes: u32, piece: Piece) -> Option<Span> {
    let span = download.first_open(download.geometry()?.piece_span(piece)?)?;
    has.contains(piece).then(|| extend(download, has, span, groups_in_block(block_bytes.into())))
}

fn pick_piece(download: &Download, has: &HaveMap, last_end: Option<u64>, random: &mut Random) -> Option<Piece> {
    let open = download.open();
    let usable = |piece: &Piece| open.contains(*piece) && has.contains(*piece);
    let next = last_end
        .filter(|&end| download.geometry().is_some_and(|geometry| end < geometry.groups()))
        .and_then(|end| download.geometry().map(|geometry| geometry.piece_of(end)))
        .filter(usable);
    let verified = download.missing().pieces() - download.missing().held();
    if verified < RANDOM_FIRST {
        return next.or_else(|| open.sample_common(has, random, 1).pop());
    }
    let availability = download.availability();
    open.sample_common(has, random, SAMPLE)
        .into_iter()
        .chain(next)
        .min_by_key(|&piece| (availability.count(piece), Some(piece) != next, random.any()))
}

/// Lets a span run on into the pieces behind it while they are open and held by the provider, up to a block.
fn extend(download: &Download, has: &HaveMap, span: Span, block_groups: u64) -> Span {
    let Some(geometry) = download.geometry() else { return span };
    let mut span = span;
    while span.groups() < block_groups && span.end() < geometry.groups() {
        let piece = geometry.piece_of(span.end());
        let beginning = geometry.piece_span(piece).is_some_and(|whole| whole.start() == span.end());
        if !beginning || !has.contains(piece) {
            break;
        }
        match geometry.piece_span(piece).and_then(|whole| download.first_open(whole)) {
            Some(open) if open.start() == span.end() => {
                span = Span::new(span.start(), open.end()).expect("longer than before");
            }
            _ => break,
        }
    }
    span.prefix(block_groups)
}

/// The first of the pieces before this one, back to the beginning of its aligned block, that is wholly open and held like all between
/// them. Blocks that begin where others begin stay whole as they travel on; pieces picked one by one would fall apart into requests of
/// a piece each.
fn block_start(download: &Download, has: &HaveMap, piece: Piece, block_groups: u64) -> Option<Piece> {
    let geometry = download.geometry()?;
    let pieces_in_block = u32::try_from(block_groups / geometry.piece_groups()).unwrap_or(1).max(1);
    let first = piece.0 - piece.0 % pieces_in_block;
    let whole = |piece: u32| {
        let span = geometry.piece_span(Piece(piece));
        has.contains(Piece(piece)) && span.is_some_and(|span| download.first_open(span) == Some(span))
    };
    Some(Piece((first..piece.0).rev().take_while(|&before| whole(before)).last().unwrap_or(piece.0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::PeerId;
    use crate::swarm::drawing;
    use crate::wire::HavePieces;

    /// One piece a block.
    const BLOCK: u32 = 256 * 1024;

    /// A download in which each digit counts the providers of a piece.
    fn world(state: &str, counts: &str) -> Download {
        let mut download = drawing::download(state);
        let size = drawing::geometry(state).size();
        for level in 0..9 {
            let map: String =
                counts.chars().map(|count| if count.to_digit(10).expect("digit") > level { '#' } else { '.' }).collect();
            if map.contains('#') {
                let pieces = HavePieces::of(&drawing::have_map(&map));
                download.set_claim(PeerId([100 + level as u8; 32]), size, &pieces);
            }
        }
        assert_eq!(download.availability(), &drawing::availability(counts));
        download
    }

    fn picked(download: &Download, has: &str, block: u32, last_end: Option<u64>, seed: u64) -> Option<(u64, u64)> {
        pick(download, &drawing::have_map(has), block, last_end, &mut Random::new(seed))
            .map(|span| (span.start() / 16, span.end().div_ceil(16)))
    }

    #[test]
    fn the_rarest_open_piece_that_the_provider_has() {
        //                        verified, then in flight, then open
        let download = world("####~~......", "333311322132");
        for seed in 0..20 {
            assert_eq!(picked(&download, "############", BLOCK, None, seed), Some((9, 10)));
            assert_eq!(picked(&download, "#########.##", BLOCK, None, seed).map(|(first, _)| first < 6), Some(false));
        }
        assert_eq!(picked(&download, "######......", BLOCK, None, 1), None, "nothing open there");
    }

    #[test]
    fn the_first_pieces_are_random() {
        let download = world("...#........", "111222222222");
        let picks: std::collections::BTreeSet<_> =
            (0..40).filter_map(|seed| picked(&download, "############", BLOCK, None, seed)).collect();
        assert!(picks.len() > 6, "only {picks:?}");
    }

    #[test]
    fn equally_rare_pieces_go_on_where_the_last_span_ended() {
        let download = world("####........", "222222222222");
        assert_eq!(picked(&download, "############", BLOCK, Some(7 * 16), 3), Some((7, 8)));
        let download = world("####........", "222222232221");
        assert_eq!(picked(&download, "############", BLOCK, Some(7 * 16), 3), Some((11, 12)), "rarity comes first");
    }

    #[test]
    fn a_block_runs_on_over_open_pieces_and_stops_at_a_hole() {
        let download = world("####...~....", "222222222222");
        assert_eq!(picked(&download, "############", 4 * BLOCK, Some(4 * 16), 3), Some((4, 7)));
        assert_eq!(picked(&download, "############", 2 * BLOCK, Some(4 * 16), 3), Some((4, 6)));
        assert_eq!(picked(&download, "#####.######", 4 * BLOCK, Some(4 * 16), 3), Some((4, 5)));
    }

    #[test]
    fn a_reader_gets_what_comes_next() {
        let download = world("###~........", "333311111119");
        let next = |has: &str, window: u64| {
            pick_next(&download, &drawing::have_map(has), BLOCK, window * u64::from(BLOCK)).map(|span| span.start() / 16)
        };
        assert_eq!(next("############", 4), Some(4), "however common the others are");
        assert_eq!(next("######.#####", 4), Some(4));
        assert_eq!(next("......######", 4), Some(6));
        assert_eq!(next("...........#", 4), None, "too far ahead: then the rarest will do");
    }

    #[test]
    fn what_lies_ahead_of_a_reader_comes_first() {
        let download = world("#.#~........", "333311111119");
        let ahead = |has: &str, reader: u64, pieces: u64| {
            let span = pick_ahead(&download, &drawing::have_map(has), BLOCK, reader, pieces.saturating_mul(BLOCK.into()))?;
            Some((span.start() / 16, span.end().div_ceil(16)))
        };
        let all = "############";
        assert_eq!(ahead(all, 0, 12), Some((1, 2)));
        assert_eq!(ahead(all, 2 * 16, 12), Some((4, 5)), "what lies behind it is no concern of this reader");
        assert_eq!(ahead(all, 2 * 16, 2), None, "all within the window is here or on its way");
        assert_eq!(ahead(all, 2 * 16, 3), Some((4, 5)));
        assert_eq!(ahead("#######.....", 7 * 16, 12), None, "the provider has nothing ahead");
        assert_eq!(ahead("####...#...#", 4 * 16, 12), Some((7, 8)));
        assert_eq!(ahead(all, 11 * 16 + 15, 12), Some((11, 12)), "in the middle of a piece");
        assert_eq!(ahead(all, 12 * 16, 12), None, "at the end");
        assert_eq!(ahead(all, u64::MAX, u64::MAX), None);
    }

    #[test]
    fn a_reader_in_a_piece_asks_for_the_rest_of_it() {
        let mut download = world("............", "111111111111");
        let ahead = |download: &Download| {
            pick_ahead(download, &drawing::have_map("############"), BLOCK, 3 * 16 + 5, 1 << 30)
                .map(|span| (span.start(), span.end()))
        };
        assert_eq!(ahead(&download), Some((3 * 16 + 5, 4 * 16 + 5)));
        download.claim(Span::new(3 * 16 + 5, 4 * 16).unwrap());
        assert_eq!(ahead(&download), Some((4 * 16, 5 * 16)), "the piece is open behind the reader only");
    }

    #[test]
    fn a_named_piece_is_asked_for_if_it_is_open() {
        let download = world("####........", "333322222221");
        let has = drawing::have_map("############");
        let pick = |piece| pick_named(&download, &has, BLOCK, Piece(piece)).map(|span| span.start() / 16);
        assert_eq!(pick(6), Some(6));
        assert_eq!(pick(2), None, "that one is verified already");
    }

    proptest! {
        #[test]
        fn a_pick_is_open_held_and_no_longer_than_a_block(
            state in "[#~.]{1,40}", has_bits in any::<u64>(), seed in any::<u64>(), log in 18u32..22,
        ) {
            let download = drawing::download(&state);
            let has: String = (0..state.len()).map(|bit| if has_bits >> bit & 1 == 1 { '#' } else { '.' }).collect();
            let map = drawing::have_map(&has);
            let span = pick(&download, &map, 1 << log, None, &mut Random::new(seed));
            let choices = state.chars().zip(has.chars()).filter(|(state, has)| (*state, *has) == ('.', '#')).count();
            prop_assert_eq!(span.is_some(), choices > 0);
            if let Some(span) = span {
                prop_assert!(span.groups() * 16 * 1024 <= 1 << log);
                for piece in drawing::geometry(&state).pieces_touching(span) {
                    prop_assert_eq!(state.as_bytes()[piece.0 as usize], b'.');
                    prop_assert!(map.contains(piece));
                }
            }
        }
    }
}
