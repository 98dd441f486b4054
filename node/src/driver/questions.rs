//! Who is waiting to learn whom the DHT names as providers. Book-keeping only.

use std::collections::BTreeMap;

use p2pweights_protocol::ids::{BlobHash, PeerId};
use tokio::sync::oneshot;

/// Providers that are told of, of those named.
const PROVIDERS: usize = 64;

/// Who waits for an answer.
type Askers = Vec<oneshot::Sender<Vec<PeerId>>>;

/// Open questions, by blob: who was found so far, and who asks.
#[derive(Debug, Default)]
pub(super) struct Questions(BTreeMap<BlobHash, (Vec<PeerId>, Askers)>);

impl Questions {
    /// Somebody wants to know.
    pub(super) fn ask(&mut self, blob: BlobHash, reply: oneshot::Sender<Vec<PeerId>>) {
        // Who has gone does not ask any more: a look-up that never ends leaves no more than those who still wait.
        self.0.retain(|_, (_, replies)| {
            replies.retain(|reply| !reply.is_closed());
            !replies.is_empty()
        });
        self.0.entry(blob).or_default().1.push(reply);
    }

    /// A look-up found these; `finished`: no more will come.
    pub(super) fn found(&mut self, blob: BlobHash, providers: &[PeerId], finished: bool) {
        let Some((found, _)) = self.0.get_mut(&blob) else { return };
        let fresh: Vec<PeerId> = providers.iter().filter(|peer| !found.contains(peer)).copied().collect();
        found.extend(fresh.into_iter().take(PROVIDERS.saturating_sub(found.len())));
        if !finished {
            return;
        }
        let Some((found, replies)) = self.0.remove(&blob) else { return };
        for reply in replies {
            // The asker may have gone.
            let _ = reply.send(found.clone());
        }
    }
}
