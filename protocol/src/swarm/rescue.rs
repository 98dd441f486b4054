//! When everything is asked for and a source stands idle: take a span from a slow source (steal), or ask twice for one of the last
//! (endgame). Pure choice over the ledger.

use crate::geometry::Span;
use crate::ids::{PeerId, RequestId};
use crate::limits;
use crate::swarm::download::Download;
use crate::swarm::ledger::{Ledger, Request};
use crate::swarm::source::Source;
use crate::time::Instant;

/// The endgame begins when at most so many requests are in flight; asking twice then costs at most as many blocks.
const ENDGAME_REQUESTS: usize = 4;
/// Asking twice pays if the second source is expected to need less than half the time the first still will.
const ENDGAME_FACTOR: u32 = 2;
/// Stealing throws away what the slow source has sent: it must be three times slower (the factor that rqbit ends at).
const STEAL_FACTOR: u32 = 3;

/// What an idle source is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rescue {
    /// Cancel this request and ask the idle source instead.
    Steal(RequestId),
    /// Ask the idle source too; the first answer cancels the other.
    AskTwice(RequestId),
}

/// The request most worth rescuing by `idle`, among those for this blob; `None` if none is.
pub fn rescue<'a>(
    download: &Download,
    ledger: &Ledger,
    source_of: impl Fn(PeerId) -> Option<&'a Source>,
    idle: PeerId,
    now: Instant,
) -> Option<Rescue> {
    let helper = source_of(idle)?;
    let map = download.map_of(idle)?;
    let geometry = download.geometry()?;
    let own_time = helper.mean_service();
    let usable =
        |request: &Request| request.provider != idle && geometry.pieces_touching(request.span).all(|piece| map.contains(piece));
    let asked_twice =
        |id: RequestId, request: &Request| ledger.overlapping(download.blob(), request.span).any(|(other, _)| other != id);
    let (id, left) = ledger
        .of_blob(download.blob())
        .filter(|(id, request)| usable(request) && !asked_twice(*id, request))
        .map(|(id, request)| {
            let expected = source_of(request.provider).map_or(now, |source| source.expected(request.asked_at, now));
            (id, expected - now)
        })
        .max_by_key(|(id, left)| (*left, *id))?;
    if ledger.in_flight() <= ENDGAME_REQUESTS && left > own_time * ENDGAME_FACTOR {
        Some(Rescue::AskTwice(id))
    } else if left > own_time * STEAL_FACTOR && left > limits::DEADLINE_MIN {
        Some(Rescue::Steal(id))
    } else {
        None
    }
}

/// The request that keeps a reader waiting, if `idle` would bring its span much sooner: the one for the first group from the reader on that is
/// not here. Nobody takes it over; both are asked, for the slow one may be about to deliver.
pub fn late_for_reader<'a>(
    download: &Download,
    ledger: &Ledger,
    source_of: impl Fn(PeerId) -> Option<&'a Source>,
    idle: PeerId,
    now: Instant,
    reader: u64,
) -> Option<RequestId> {
    let geometry = download.geometry()?;
    let missing = download.verified().first_gap(Span::new(reader, geometry.groups())?)?.prefix(1);
    let mut asked = ledger.overlapping(download.blob(), missing).filter(|(_, request)| !request.probe);
    let (id, request) = asked.next()?;
    let map = download.map_of(idle)?;
    let usable = geometry.pieces_touching(request.span).all(|piece| map.contains(piece));
    if asked.next().is_some() || request.provider == idle || !usable {
        return None;
    }
    let left = source_of(request.provider).map_or(now, |source| source.expected(request.asked_at, now)) - now;
    let late = left > source_of(idle)?.mean_service() * STEAL_FACTOR && left > limits::DEADLINE_MIN;
    late.then_some(id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::ids::BlobHash;
    use crate::swarm::drawing;
    use crate::wire::HavePieces;

    const SLOW: PeerId = PeerId([1; 32]);
    const FAST: PeerId = PeerId([2; 32]);

    /// All of `state` is asked of SLOW (one request a piece in flight); FAST is idle and holds `fast_has`.
    fn world(state: &str, fast_has: &str, slow_ms: u64, fast_ms: u64) -> (Download, Ledger, BTreeMap<PeerId, Source>) {
        let mut download = drawing::download(state);
        let size = drawing::geometry(state).size();
        download.set_claim(FAST, size, &HavePieces::of(&drawing::have_map(fast_has)));
        let mut ledger = Ledger::default();
        for (index, _) in state.chars().enumerate().filter(|(_, character)| *character == '~') {
            let start = index as u64 * 16;
            let request = Request {
                provider: SLOW,
                blob: BlobHash([7; 32]),
                size,
                span: Span::new(start, start + 16).expect("span"),
                bytes: 16 * 16 * 1024,
                asked_at: Instant::START,
                deadline: Instant::START + Duration::from_secs(60),
                probe: false,
                abandoned: false,
                delivered_before: 0,
            };
            ledger.insert(RequestId(index as u64), request);
        }
        let mut sources = BTreeMap::new();
        for (peer, ms) in [(SLOW, slow_ms), (FAST, fast_ms)] {
            let mut source = Source::default();
            source.grant(Instant::START, 4, 1 << 18, None);
            source.asked(BlobHash([7; 32]), 0, 0);
            source.delivered(Instant::START, Duration::from_millis(ms), 0, 1, 0);
            sources.insert(peer, source);
        }
        (download, ledger, sources)
    }

    fn choice(state: &str, fast_has: &str, slow_ms: u64, fast_ms: u64) -> Option<Rescue> {
        let (download, ledger, sources) = world(state, fast_has, slow_ms, fast_ms);
        rescue(&download, &ledger, |peer| sources.get(&peer), FAST, Instant::START + Duration::from_millis(1))
    }

    #[test]
    fn the_last_blocks_are_asked_twice() {
        assert_eq!(choice("###~~###", "########", 500, 100), Some(Rescue::AskTwice(RequestId(4))));
    }

    #[test]
    fn before_the_end_only_a_much_slower_source_loses_a_span() {
        assert_eq!(choice("~~~~~~##", "########", 500, 100), None, "not worth it for half a second");
        assert_eq!(choice("~~~~~~##", "########", 9_000, 100), Some(Rescue::Steal(RequestId(5))));
        assert_eq!(choice("~~~~~~##", "########", 9_000, 8_000), None, "the idle one is no faster");
    }

    fn late(state: &str, fast_has: &str, slow_ms: u64, fast_ms: u64, reader: u64) -> Option<RequestId> {
        let (download, ledger, sources) = world(state, fast_has, slow_ms, fast_ms);
        let now = Instant::START + Duration::from_millis(1);
        late_for_reader(&download, &ledger, |peer| sources.get(&peer), FAST, now, reader)
    }

    #[test]
    fn a_reader_does_not_wait_for_a_slow_source() {
        assert_eq!(late("##~#....", "########", 9_000, 100, 16), Some(RequestId(2)), "though much is still open");
        assert_eq!(late("##~#.~..", "########", 9_000, 100, 3 * 16), None, "the next bytes are asked of nobody yet");
        assert_eq!(late("##~#....", "########", 900, 100, 0), None, "it will not be long");
        assert_eq!(late("##~#....", "########", 9_000, 8_000, 0), None, "the other is no faster");
        assert_eq!(late("##~#....", "##.#####", 9_000, 100, 0), None, "the other does not have it");
        assert_eq!(late("####....", "########", 9_000, 100, 8 * 16), None, "at the end");
    }

    #[test]
    fn only_what_the_idle_source_holds() {
        assert_eq!(choice("###~~###", "...#....", 500, 100), Some(Rescue::AskTwice(RequestId(3))));
        assert_eq!(choice("###~~###", "###..###", 500, 100), None);
    }
}
