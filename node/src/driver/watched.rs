//! What becomes of blobs that somebody waits for: who looks again learns what has changed, without a look at each of thousands.

use std::collections::BTreeMap;

use p2pweights_protocol::ids::{BlobHash, PeerId};

use super::handle::BlobLook;

/// What is watched of a blob.
#[derive(Debug, Default)]
pub(super) struct Watched {
    watchers: usize,
    /// The number of its latest change; 0: none yet.
    changed: u64,
    /// What was last known of it.
    pub(super) look: BlobLook,
    /// Verified bytes by source.
    pub(super) sources: BTreeMap<PeerId, u64>,
}

/// All blobs that are watched.
#[derive(Debug, Default)]
pub(super) struct Watches {
    blobs: BTreeMap<BlobHash, Watched>,
    /// Each blob that has changed, once, in the order of their latest changes.
    changes: BTreeMap<u64, BlobHash>,
    /// Changes so far.
    number: u64,
}

impl Watches {
    /// One more watches this blob.
    pub(super) fn watch(&mut self, blob: BlobHash) {
        self.blobs.entry(blob).or_default().watchers += 1;
    }

    /// One less does.
    pub(super) fn unwatch(&mut self, blob: BlobHash) {
        let Some(watched) = self.blobs.get_mut(&blob) else { return };
        watched.watchers = watched.watchers.saturating_sub(1);
        if watched.watchers == 0 {
            self.changes.remove(&watched.changed);
            self.blobs.remove(&blob);
        }
    }

    /// A watched blob.
    pub(super) fn find(&mut self, blob: BlobHash) -> Option<&mut Watched> {
        self.blobs.get_mut(&blob)
    }

    /// A blob, if it is watched, is not what it was: whoever looks next is to learn of it.
    pub(super) fn change(&mut self, blob: BlobHash) -> Option<&mut Watched> {
        let watched = self.blobs.get_mut(&blob)?;
        self.changes.remove(&watched.changed);
        self.number += 1;
        watched.changed = self.number;
        self.changes.insert(self.number, blob);
        Some(watched)
    }

    /// What has changed after the change with this number, and the number to ask with the next time.
    pub(super) fn since(&self, number: u64) -> (u64, Vec<BlobHash>) {
        (self.number, self.changes.range(number + 1..).map(|(_, blob)| *blob).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_again_learns_what_has_changed_and_nothing_else() {
        let [one, two, other] = [1, 2, 3].map(|name| BlobHash([name; 32]));
        let mut watches = Watches::default();
        watches.watch(one);
        watches.watch(two);
        watches.watch(two);
        assert!(watches.change(other).is_none());
        assert_eq!(watches.since(0), (0, vec![]));
        for blob in [one, two, one] {
            assert!(watches.change(blob).is_some());
        }
        assert_eq!(watches.since(0), (3, vec![two, one]), "each once");
        assert_eq!(watches.since(2), (3, vec![one]));
        assert_eq!(watches.since(3), (3, vec![]));
        watches.unwatch(two);
        watches.unwatch(one);
        assert_eq!(watches.since(0), (3, vec![two]), "somebody still watches it");
        watches.unwatch(two);
        assert_eq!(watches.since(0), (3, vec![]));
        assert!(watches.find(two).is_none() && watches.blobs.is_empty());
    }
}
