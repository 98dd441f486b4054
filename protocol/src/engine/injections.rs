//! Which blobs still have something to go out for the first time, and what each peer was promised of them: found without looking at
//! all blobs, of which a model may have thousands.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::injection::Injection;
use crate::ids::{BlobHash, PeerId};

/// The injections of all blobs that this node holds whole.
#[derive(Debug, Clone, Default)]
pub struct Injections {
    begun: BTreeMap<BlobHash, Injection>,
    /// Blobs held whole whose injection has not begun.
    unbegun: BTreeSet<BlobHash>,
    /// Blobs whose injection has begun and is not over.
    open: BTreeSet<BlobHash>,
    /// What each peer's unused credits are for.
    promised: BTreeMap<PeerId, BTreeSet<BlobHash>>,
}

impl Injections {
    /// A blob is held whole.
    pub fn held_whole(&mut self, blob: BlobHash) {
        if !self.begun.contains_key(&blob) {
            self.unbegun.insert(blob);
        }
    }

    /// A blob is not held whole any more.
    pub fn forget(&mut self, blob: BlobHash) {
        self.begun.remove(&blob);
        self.unbegun.remove(&blob);
        self.open.remove(&blob);
        self.promised.retain(|_, blobs| {
            blobs.remove(&blob);
            !blobs.is_empty()
        });
    }

    /// Several peers fetch a blob: from now on it is named to them piece by piece.
    pub fn begin(&mut self, blob: BlobHash, injection: Injection) {
        self.unbegun.remove(&blob);
        self.begun.insert(blob, injection);
        self.reopen(blob);
    }

    /// Whether a blob's injection has begun.
    pub fn has_begun(&self, blob: BlobHash) -> bool {
        self.begun.contains_key(&blob)
    }

    /// The next blob, in the order of their hashes, of which something is left; of those whose injection has not begun only if `crowd`.
    pub fn next(&self, from: Bound<BlobHash>, crowd: bool) -> Option<BlobHash> {
        let next = |blobs: &BTreeSet<BlobHash>| blobs.range((from, Bound::Unbounded)).next().copied();
        next(&self.unbegun).filter(|_| crowd).into_iter().chain(next(&self.open)).min()
    }

    /// Something happened between a peer and a blob whose injection has begun.
    pub fn change<R>(&mut self, blob: BlobHash, peer: PeerId, change: impl FnOnce(&mut Injection) -> R) -> Option<R> {
        let injection = self.begun.get_mut(&blob)?;
        let result = change(injection);
        if injection.has_promised(peer) {
            self.promised.entry(peer).or_default().insert(blob);
        } else if let Some(blobs) = self.promised.get_mut(&peer) {
            blobs.remove(&blob);
            if blobs.is_empty() {
                self.promised.remove(&peer);
            }
        }
        self.reopen(blob);
        Some(result)
    }

    /// The blobs of which a peer was promised something.
    pub fn promised_to(&self, peer: PeerId) -> impl Iterator<Item = BlobHash> + '_ {
        self.promised.get(&peer).into_iter().flatten().copied()
    }

    /// A peer is gone.
    pub fn gone(&mut self, peer: PeerId) {
        self.promised.remove(&peer);
        for (blob, injection) in &mut self.begun {
            injection.gone(peer);
            if !injection.is_over() {
                self.open.insert(*blob);
            }
        }
    }

    fn reopen(&mut self, blob: BlobHash) {
        match self.begun.get(&blob) {
            Some(injection) if !injection.is_over() => self.open.insert(blob),
            _ => self.open.remove(&blob),
        };
    }

    /// # Panics
    /// If an index says something else than the injections.
    pub fn check_invariants(&self) {
        let open: BTreeSet<BlobHash> =
            self.begun.iter().filter(|(_, injection)| !injection.is_over()).map(|(blob, _)| *blob).collect();
        assert_eq!(open, self.open, "injections that are not over");
        assert!(self.unbegun.iter().all(|blob| !self.begun.contains_key(blob)), "begun and not begun");
        for (peer, blobs) in &self.promised {
            assert!(blobs.iter().all(|blob| self.begun.get(blob).is_some_and(|injection| injection.has_promised(*peer))));
        }
        for (blob, injection) in &self.begun {
            let known = |peer: PeerId| self.promised.get(&peer).is_some_and(|blobs| blobs.contains(blob));
            assert!(injection.promised_peers().all(known), "promises of {blob:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{GROUP_BYTES, Geometry, Span};

    const PEER: PeerId = PeerId([1; 32]);

    fn blob(name: u8) -> BlobHash {
        BlobHash([name; 32])
    }

    #[test]
    fn what_has_gone_out_is_not_looked_at_again() {
        let mut injections = Injections::default();
        (1..=4).for_each(|name| injections.held_whole(blob(name)));
        let left = |injections: &Injections, crowd| -> Vec<u8> {
            let next = |from: &BlobHash| injections.next(Bound::Excluded(*from), crowd);
            std::iter::successors(injections.next(Bound::Unbounded, crowd), next).map(|blob| blob.0[0]).collect()
        };
        assert_eq!((left(&injections, true), left(&injections, false)), (vec![1, 2, 3, 4], vec![]));
        let one_group = Geometry::of(GROUP_BYTES);
        injections.begin(blob(2), Injection::new(one_group, 0));
        injections.begin(blob(3), Injection::new(one_group, 0));
        assert_eq!(left(&injections, false), [2, 3]);
        let promised = injections.change(blob(2), PEER, |injection| injection.promise(PEER, None, 16)).flatten();
        assert!(promised.is_some());
        assert_eq!((left(&injections, true), left(&injections, false)), (vec![1, 3, 4], vec![3]));
        assert_eq!(injections.promised_to(PEER).collect::<Vec<_>>(), [blob(2)]);
        injections.check_invariants();
        // Sent, and lost on the way.
        injections.change(blob(2), PEER, |injection| {
            assert!(injection.redeemed(PEER));
            injection.requested(PEER, Span::new(0, 1).expect("a group"));
        });
        assert_eq!((left(&injections, false), injections.promised_to(PEER).count()), (vec![3], 0));
        injections.change(blob(2), PEER, |injection| injection.failed(PEER, Span::new(0, 1).expect("a group")));
        assert_eq!(left(&injections, false), [2, 3]);
        injections.change(blob(3), PEER, |injection| injection.promise(PEER, None, 16));
        injections.gone(PEER);
        assert_eq!((left(&injections, false), injections.promised_to(PEER).count()), (vec![2, 3], 0));
        injections.forget(blob(3));
        assert_eq!(left(&injections, true), [1, 2, 4]);
        injections.check_invariants();
    }
}
