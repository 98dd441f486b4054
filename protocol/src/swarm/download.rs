//! A wanted blob: which groups are verified, which are asked for, and so which are open. A piece's state is derived from these, never
//! stored beside them; the two have-maps kept here are indexes over the span sets, checked by `check_invariants`.

use std::collections::BTreeMap;

use crate::geometry::{GROUP_BYTES, Geometry, Piece, Span};
use crate::have_map::HaveMap;
use crate::ids::{BlobHash, PeerId};
use crate::span_set::SpanSet;
use crate::swarm::availability::Availability;
use crate::swarm::holders::Holders;
use crate::wire::HavePieces;

/// What one peer says it holds of the blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Our size is not known yet: kept as it came.
    Unsized {
        /// The size claimed.
        size: u64,
        /// The pieces claimed.
        pieces: HavePieces,
    },
    /// A map over our geometry.
    Map(HaveMap),
    /// Another size than the one we go by: of no use.
    OtherSize(u64),
}

/// A wanted blob.
#[derive(Debug, Clone)]
pub struct Download {
    blob: BlobHash,
    order: u64,
    /// Whether somebody reads it from front to back while it is fetched.
    streamed: bool,
    sized: Option<Sized>,
    claims: BTreeMap<PeerId, Claim>,
}

#[derive(Debug, Clone)]
struct Sized {
    geometry: Geometry,
    verified: SpanSet,
    claimed: SpanSet,
    /// Pieces with a group that is neither verified nor claimed.
    open: HaveMap,
    /// Pieces with a group that is not verified.
    missing: HaveMap,
    availability: Availability,
}

impl Download {
    /// A blob of unknown size, the `order`-th that was wanted.
    pub fn new(blob: BlobHash, order: u64) -> Self {
        Self { blob, order, streamed: false, sized: None, claims: BTreeMap::new() }
    }

    /// The blob.
    pub fn blob(&self) -> BlobHash {
        self.blob
    }

    /// Its rank among all that was ever wanted.
    pub fn order(&self) -> u64 {
        self.order
    }

    /// Whether somebody reads it from front to back while it is fetched.
    pub fn is_streamed(&self) -> bool {
        self.streamed
    }

    /// Somebody reads it from front to back from now on, or nobody does.
    pub fn set_streamed(&mut self, streamed: bool) {
        self.streamed = streamed;
    }

    /// The geometry, once the size is known.
    pub fn geometry(&self) -> Option<Geometry> {
        self.sized.as_ref().map(|sized| sized.geometry)
    }

    /// Sets the size, with what is held already. Claims made before are read anew.
    pub fn set_geometry(&mut self, geometry: Geometry, held: &SpanSet) {
        let pieces = geometry.pieces();
        let mut sized = Sized {
            geometry,
            verified: SpanSet::new(),
            claimed: SpanSet::new(),
            open: HaveMap::full(pieces),
            missing: HaveMap::full(pieces),
            availability: Availability::new(pieces),
        };
        for run in held.runs().filter(|run| geometry.contains(*run)) {
            sized.verified.insert(run);
            sized.reindex(run);
        }
        self.sized = Some(sized);
        for (peer, claim) in std::mem::take(&mut self.claims) {
            if let Claim::Unsized { size, pieces } = claim {
                self.set_claim(peer, size, &pieces);
            }
        }
    }

    /// Verified groups.
    ///
    /// # Panics
    /// If the size is not known; so do all methods below that speak of groups.
    pub fn verified(&self) -> &SpanSet {
        &self.sized().verified
    }

    /// Groups asked for and not yet verified.
    pub fn claimed(&self) -> &SpanSet {
        &self.sized().claimed
    }

    /// Pieces of which something can still be asked.
    pub fn open(&self) -> &HaveMap {
        &self.sized().open
    }

    /// Pieces of which something is not yet verified.
    pub fn missing(&self) -> &HaveMap {
        &self.sized().missing
    }

    /// How rare each piece is.
    pub fn availability(&self) -> &Availability {
        &self.sized().availability
    }

    /// Whether every group is verified.
    pub fn is_verified(&self) -> bool {
        self.sized.as_ref().is_some_and(|sized| sized.missing.held() == 0)
    }

    /// Bytes that are not verified; 0 while the size is unknown.
    pub fn missing_bytes(&self) -> u64 {
        self.sized.as_ref().map_or(0, |sized| (sized.geometry.groups() - sized.verified.groups()) * GROUP_BYTES)
    }

    /// Whether something can still be asked for.
    pub fn is_open(&self) -> bool {
        self.sized.as_ref().is_none_or(|sized| sized.open.held() > 0)
    }

    /// The first run of groups in `within` that may be asked for.
    pub fn first_open(&self, within: Span) -> Option<Span> {
        let sized = self.sized();
        let mut from = within.start();
        loop {
            let gap = sized.verified.first_gap(Span::new(from, within.end())?)?;
            match sized.claimed.first_gap(gap) {
                Some(open) => return Some(open),
                None => from = gap.end(),
            }
        }
    }

    /// open → claimed: the span is asked for.
    pub fn claim(&mut self, span: Span) {
        let sized = self.sized_mut();
        sized.claimed.insert(span);
        sized.reindex(span);
    }

    /// claimed → open: nobody is asked for the span any more.
    pub fn release(&mut self, span: Span) {
        let sized = self.sized_mut();
        sized.claimed.remove(span);
        sized.reindex(span);
    }

    /// → verified: the groups are proved and written. Returns how many are new.
    pub fn verified_span(&mut self, span: Span) -> u64 {
        let sized = self.sized_mut();
        sized.claimed.remove(span);
        let new = sized.verified.insert(span);
        sized.reindex(span);
        new
    }

    /// verified → open: the groups turned out damaged.
    pub fn lost_span(&mut self, span: Span) {
        let sized = self.sized_mut();
        sized.verified.remove(span);
        sized.reindex(span);
    }

    /// Takes note of what a peer says it holds; replaces what it said before. `None` if the map does not fit the size.
    pub fn set_claim(&mut self, peer: PeerId, size: u64, pieces: &HavePieces) -> Option<&Claim> {
        self.remove_claim(peer);
        let claim = match &mut self.sized {
            None => Claim::Unsized { size, pieces: pieces.clone() },
            Some(sized) if sized.geometry.size() != size => Claim::OtherSize(size),
            Some(sized) => {
                let map = pieces.to_map(sized.geometry)?;
                sized.availability.add(&map);
                Claim::Map(map)
            }
        };
        self.claims.insert(peer, claim);
        self.claims.get(&peer)
    }

    /// Adds runs of pieces to what a peer said about a blob of known size; `false` if it said nothing that could be added to.
    pub fn add_claims(&mut self, peer: PeerId, pieces: impl Iterator<Item = Piece>) -> bool {
        let (Some(sized), Some(Claim::Map(map))) = (&mut self.sized, self.claims.get_mut(&peer)) else { return false };
        for piece in pieces {
            if map.insert(piece) {
                sized.availability.add_piece(piece);
            }
        }
        true
    }

    /// Adds a piece to what a peer said; `false` if it said nothing that could be added to, or the blob has no such piece.
    pub fn add_claim(&mut self, peer: PeerId, piece: Piece) -> bool {
        let Some(sized) = &mut self.sized else {
            // Kept as if it had been said at once.
            return match self.claims.get_mut(&peer) {
                Some(Claim::Unsized { size, pieces }) => {
                    let Some(mut map) = pieces.to_map(Geometry::of(*size)) else { return false };
                    let fits = piece.0 < map.pieces();
                    map.insert(piece);
                    *pieces = HavePieces::of(&map);
                    fits
                }
                _ => false,
            };
        };
        match self.claims.get_mut(&peer) {
            Some(Claim::Map(_)) if piece.0 >= sized.geometry.pieces() => false,
            Some(Claim::Map(map)) => {
                if map.insert(piece) {
                    sized.availability.add_piece(piece);
                }
                true
            }
            Some(_) => true,
            None => false,
        }
    }

    /// How many pieces the blob has, as far as this peer's claim says; `None` if it made none that can be added to.
    pub fn claimable(&self, peer: PeerId) -> Option<u32> {
        match self.claims.get(&peer)? {
            Claim::Unsized { size, .. } => Some(Geometry::of(*size).pieces()),
            Claim::Map(map) => Some(map.pieces()),
            Claim::OtherSize(_) => None,
        }
    }

    /// Forgets what a peer said; whether it had said anything.
    pub fn remove_claim(&mut self, peer: PeerId) -> bool {
        let claim = self.claims.remove(&peer);
        if let (Some(Claim::Map(map)), Some(sized)) = (&claim, &mut self.sized) {
            sized.availability.remove(map);
        }
        claim.is_some()
    }

    /// What a peer said.
    pub fn claim_of(&self, peer: PeerId) -> Option<&Claim> {
        self.claims.get(&peer)
    }

    /// The map of a peer over our geometry.
    pub fn map_of(&self, peer: PeerId) -> Option<&HaveMap> {
        match self.claims.get(&peer) {
            Some(Claim::Map(map)) => Some(map),
            _ => None,
        }
    }

    /// Peers that hold a piece of it, or say so before the size is known.
    pub fn providers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.claims
            .iter()
            .filter(|(_, claim)| match claim {
                Claim::Unsized { .. } => true,
                Claim::Map(map) => map.held() > 0,
                Claim::OtherSize(_) => false,
            })
            .map(|(peer, _)| *peer)
    }

    /// What others hold, for when we hold it all ourselves.
    pub fn into_holders(self) -> Option<Holders> {
        let mut holders = Holders::new(self.sized?.geometry.pieces());
        for (peer, claim) in self.claims {
            if let Claim::Map(map) = claim {
                holders.set(peer, map);
            }
        }
        Some(holders)
    }

    /// Every claim, by peer.
    pub fn claims(&self) -> impl Iterator<Item = (PeerId, &Claim)> + '_ {
        self.claims.iter().map(|(peer, claim)| (*peer, claim))
    }

    /// # Panics
    /// If an index disagrees with the span sets, or a group is verified and claimed at once.
    pub fn check_invariants(&self) {
        let Some(sized) = &self.sized else { return };
        for run in sized.claimed.runs() {
            assert_eq!(sized.verified.groups_within(run), 0, "groups {run:?} are verified and still asked for");
        }
        let mut availability = Availability::new(sized.geometry.pieces());
        self.claims.values().for_each(|claim| {
            if let Claim::Map(map) = claim {
                availability.add(map);
            }
        });
        assert_eq!(availability, sized.availability);
        for index in 0..sized.geometry.pieces() {
            let span = sized.geometry.piece_span(Piece(index)).expect("a piece of this blob");
            let verified = sized.verified.groups_within(span);
            let claimed = sized.claimed.groups_within(span);
            assert_eq!(sized.missing.contains(Piece(index)), verified < span.groups(), "missing, piece {index}");
            assert_eq!(sized.open.contains(Piece(index)), verified + claimed < span.groups(), "open, piece {index}");
        }
    }

    fn sized(&self) -> &Sized {
        self.sized.as_ref().expect("the caller has seen a geometry")
    }

    fn sized_mut(&mut self) -> &mut Sized {
        self.sized.as_mut().expect("the caller has seen a geometry")
    }
}

impl Sized {
    /// Brings the two indexes up to date for the pieces that a span touches.
    fn reindex(&mut self, span: Span) {
        let set = |map: &mut HaveMap, piece, present| if present { map.insert(piece) } else { map.remove(piece) };
        for piece in self.geometry.pieces_touching(span) {
            let whole = self.geometry.piece_span(piece).expect("a piece of this blob");
            // Most spans are whole pieces in one state: one look tells.
            let (verified, claimed) = if self.verified.covers(whole) {
                (whole.groups(), 0)
            } else if self.claimed.covers(whole) {
                (0, whole.groups())
            } else {
                (self.verified.groups_within(whole), self.claimed.groups_within(whole))
            };
            set(&mut self.missing, piece, verified < whole.groups());
            set(&mut self.open, piece, verified + claimed < whole.groups());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::drawing;

    fn span(start: u64, end: u64) -> Span {
        Span::new(start, end).expect("not empty")
    }

    #[test]
    fn a_piece_goes_from_open_to_claimed_to_verified_and_back() {
        let mut download = drawing::download("....");
        download.claim(span(0, 32));
        assert_eq!(drawing::draw(&download), "~~..");
        download.verified_span(span(0, 20));
        assert_eq!(drawing::draw(&download), "#~..");
        download.release(span(20, 32));
        assert_eq!(drawing::draw(&download), "#...");
        assert_eq!(download.first_open(span(0, 64)), Some(span(20, 64)), "the four groups that came are not asked again");
        download.lost_span(span(3, 4));
        assert_eq!(download.first_open(span(0, 64)), Some(span(3, 4)));
        download.check_invariants();
    }

    #[test]
    fn claims_before_the_size_is_known_count_once_it_is() {
        let mut download = Download::new(BlobHash([7; 32]), 0);
        let geometry = drawing::geometry("....");
        let (right, wrong) = (PeerId([1; 32]), PeerId([2; 32]));
        download.set_claim(right, geometry.size(), &HavePieces::All);
        download.set_claim(wrong, geometry.size() + 1, &HavePieces::All);
        let late = PeerId([3; 32]);
        download.set_claim(late, geometry.size(), &HavePieces::Map(vec![0b0001]));
        assert!(download.add_claim(late, Piece(3)) && !download.add_claim(late, Piece(4)));
        download.set_geometry(geometry, &SpanSet::new());
        assert_eq!(download.availability(), &drawing::availability("2112"));
        assert_eq!(download.providers().collect::<Vec<_>>(), [right, late]);
        download.remove_claim(right);
        download.remove_claim(late);
        assert_eq!(download.availability(), &drawing::availability("0000"));
        download.check_invariants();
    }

    #[test]
    fn a_map_that_does_not_fit_is_refused() {
        let mut download = drawing::download("....");
        let size = drawing::geometry("....").size();
        assert!(download.set_claim(PeerId([1; 32]), size, &HavePieces::Map(vec![0xff])).is_none());
        assert!(download.set_claim(PeerId([1; 32]), size, &HavePieces::Map(vec![0x0f])).is_some());
        assert!(!download.add_claim(PeerId([1; 32]), Piece(4)));
        assert!(!download.add_claim(PeerId([2; 32]), Piece(0)));
        download.check_invariants();
    }
}
