//! Answers peers that ask for parents alone. Such an answer costs no credit and is bounded by itself: as much as one large block, one at a
//! time to a peer, within the caps, and only so often.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use p2pweights_protocol::ids::PeerId;
use p2pweights_protocol::verify::Parents;
use p2pweights_protocol::wire::ParentsStatus;
use tokio::time::timeout;
use tracing::debug;

use super::{Bonds, Cap};
use crate::net::{PARENTS_PORTION, ParentsAsked};
use crate::store::Store;

/// Questions that a peer may ask at once: the windows of a large model's files.
const AT_ONCE: u32 = 32;
/// One more after each such time: 1 GiB of a blob by then, 4 MiB of its parents.
const EVERY: Duration = Duration::from_secs(5);

/// How long whoever asked may take over an answer: 4 MiB at 0.6 Mbit/s. Others wait for their turn meanwhile.
const ANSWER: Duration = Duration::from_secs(60);

/// How much each connected peer has asked lately.
#[derive(Debug, Default)]
pub(super) struct Askers(BTreeMap<PeerId, Allowance>);

#[derive(Debug, Clone, Copy)]
struct Allowance {
    left: u32,
    since: Instant,
}

impl Askers {
    /// Whether a peer may ask once more; counts as one if so.
    pub fn may_ask(&mut self, peer: PeerId, now: Instant) -> bool {
        let allowance = self.0.entry(peer).or_insert(Allowance { left: AT_ONCE, since: now });
        let more = now.saturating_duration_since(allowance.since).as_secs() / EVERY.as_secs();
        if more > 0 {
            allowance.left = AT_ONCE.min(allowance.left.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)));
            allowance.since = now;
        }
        let may = allowance.left > 0;
        allowance.left = allowance.left.saturating_sub(1);
        may
    }

    /// A peer is gone.
    pub fn forget(&mut self, peer: PeerId) {
        self.0.remove(&peer);
    }
}

/// Answers one question. Nothing wrong leaves: what the store has is checked first.
pub(super) async fn answer(mut asked: ParentsAsked, store: Store, bonds: Bonds) {
    let request = asked.request;
    let read = tokio::task::spawn_blocking(move || store.parents(request.blob, request.size, request.span));
    let parents: Option<Parents> = match read.await {
        Ok(Ok(parents)) => parents,
        Ok(Err(error)) => {
            debug!(%error, blob = %request.blob, "parents not read");
            None
        }
        Err(_) => None,
    };
    let Some(parents) = parents else { return asked.refuse(ParentsStatus::NotHeld).await };
    tokio::select! {
        given = give(&mut asked, &parents, &bonds.cap) => if let Err(error) = given { debug!(%error, "parents not taken") },
        () = bonds.stop.cancelled() => (),
    }
}

async fn give(asked: &mut ParentsAsked, parents: &Parents, cap: &Cap) -> io::Result<()> {
    asked.begin().await?;
    let most = cap.turn_bytes().min(PARENTS_PORTION);
    let mut left = ANSWER;
    for portion in parents.parts().flat_map(|(_, bytes)| bytes.chunks(most)) {
        // What our own cap takes is not the taker's fault.
        cap.pass(portion.len()).await;
        let began = Instant::now();
        timeout(left, asked.write(portion)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        left = left.saturating_sub(began.elapsed());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_may_ask_often_at_once_and_then_now_and_then() {
        let (mut askers, peer, now) = (Askers::default(), PeerId([1; 32]), Instant::now());
        let asks = |askers: &mut Askers, now| (0..100).filter(|_| askers.may_ask(peer, now)).count();
        assert_eq!(asks(&mut askers, now), AT_ONCE as usize);
        assert_eq!(asks(&mut askers, now + EVERY * 3), 3);
        assert_eq!(asks(&mut askers, now + EVERY * 1000), AT_ONCE as usize, "no more is saved up");
        assert!(askers.may_ask(PeerId([2; 32]), now), "everybody for itself");
        askers.forget(peer);
        assert!(askers.0.len() == 1);
    }
}
