//! Fetches again what was found damaged: exactly the groups that a complete blob has lost, from whoever has them, again and again with growing
//! pauses. That a blob is to be mended stands in its progress file, so a restart changes nothing.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2pweights_protocol::engine::{Command, Order, Want};
use p2pweights_protocol::geometry::Geometry;
use p2pweights_protocol::ids::{BlobHash, PeerId, SwarmId};
use p2pweights_protocol::span_set::SpanSet;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use crate::node::{Core, blocking};
use crate::report::{DamageCount, Failure, RepairReport};
use crate::store::{Repair, locked};

/// Blobs mended at a time.
const AT_ONCE: usize = 4;
/// An attempt to which nothing has come for so long is given up.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two attempts doubles each time, up to this many times the first: an hour for a minute.
const PAUSE_GROWTH: u32 = 60;
/// How often somebody looks whether a blob is complete of which the driver says nothing.
const LOOK: Duration = Duration::from_secs(1);

/// What the mender is told, and what it tells.
#[derive(Debug, Default)]
pub struct Mending {
    news: Notify,
    waiting: Mutex<Schedule>,
}

impl Mending {
    /// Damage was found.
    pub fn damage_found(&self) {
        self.news.notify_one();
    }

    /// The blobs under repair, with how it stands with each.
    pub fn report(&self, repairs: &[Repair]) -> Vec<RepairReport> {
        let (schedule, now) = (locked(&self.waiting), Instant::now());
        let report = |repair: &Repair| {
            let turn = schedule.0.get(&repair.hash);
            RepairReport {
                hash: repair.hash.to_string(),
                bytes: repair.damaged_bytes,
                attempts: turn.map_or(0, |turn| turn.attempts),
                trying: turn.is_some_and(|turn| turn.trying),
                next_try_s: turn.filter(|turn| !turn.trying).map(|turn| turn.next.saturating_duration_since(now).as_secs()),
            }
        };
        repairs.iter().map(report).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    attempts: u32,
    damaged_bytes: u64,
    next: Instant,
    trying: bool,
}

/// When each blob is tried again. Pure.
#[derive(Debug, Default)]
struct Schedule(BTreeMap<BlobHash, Turn>);

impl Schedule {
    /// These are under repair now. More damage than before is a reason to try at once; what is mended is forgotten.
    fn set(&mut self, now: Instant, repairs: &[Repair]) {
        let before = std::mem::take(&mut self.0);
        for repair in repairs {
            let damaged_bytes = repair.damaged_bytes;
            let new = Turn { attempts: 0, damaged_bytes, next: now, trying: false };
            let turn = match before.get(&repair.hash) {
                Some(turn) if turn.trying => Turn { damaged_bytes, ..*turn },
                Some(turn) if damaged_bytes <= turn.damaged_bytes => Turn { damaged_bytes, ..*turn },
                _ => new,
            };
            self.0.insert(repair.hash, turn);
        }
    }

    /// The blob that has waited longest for its turn; it is tried from now on.
    fn take_due(&mut self, now: Instant) -> Option<BlobHash> {
        let due = self.0.iter_mut().filter(|(_, turn)| !turn.trying && turn.next <= now);
        let (hash, turn) = due.min_by_key(|(hash, turn)| (turn.next, **hash))?;
        turn.trying = true;
        Some(*hash)
    }

    fn failed(&mut self, now: Instant, hash: BlobHash, first_pause: Duration) {
        if let Some(turn) = self.0.get_mut(&hash) {
            let factor = 2u32.checked_pow(turn.attempts).unwrap_or(PAUSE_GROWTH).min(PAUSE_GROWTH);
            turn.attempts += 1;
            (turn.next, turn.trying) = (now + first_pause * factor, false);
        }
    }

    fn next(&self) -> Option<Instant> {
        self.0.values().filter(|turn| !turn.trying).map(|turn| turn.next).min()
    }
}

/// Mends until the node stops.
pub async fn run(core: Arc<Core>, first_pause: Duration) {
    let mut under_way: JoinSet<(BlobHash, bool)> = JoinSet::new();
    loop {
        let store = core.store.clone();
        let Ok(repairs) = blocking(move || Ok(store.repairs())).await else { return };
        locked(&core.mending.waiting).set(Instant::now(), &repairs);
        while under_way.len() < AT_ONCE {
            let Some(hash) = locked(&core.mending.waiting).take_due(Instant::now()) else { break };
            let core = Arc::clone(&core);
            under_way.spawn(async move {
                let mended = attempt(&core, hash, Vec::new(), PATIENCE).await;
                if let Err(failure) = &mended {
                    warn!(%hash, error = failure.message, "not mended");
                }
                (hash, mended.unwrap_or(false))
            });
        }
        // With all hands full, only an end brings something new.
        let next = locked(&core.mending.waiting).next().filter(|_| under_way.len() < AT_ONCE);
        tokio::select! {
            () = core.stop.cancelled() => break,
            () = core.mending.news.notified() => (),
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => (),
            Some(ended) = under_way.join_next() => {
                if let Ok((hash, false)) = ended {
                    locked(&core.mending.waiting).failed(Instant::now(), hash, first_pause);
                }
            }
        }
    }
    while under_way.join_next().await.is_some() {}
}

/// Tries to have a blob complete again. Gives up when nothing has come for `patience`, or the node stops: then `false`.
pub async fn attempt(core: &Arc<Core>, hash: BlobHash, providers: Vec<PeerId>, patience: Duration) -> Result<bool, Failure> {
    let Some(repair) = repair_of(core, hash).await? else { return Ok(true) };
    let withheld = core.withheld().await?.contains(&hash);
    let restored = repair.may_be_restored(Geometry::of(repair.size)) && restore(core, hash).await?;
    // Whatever is fetched is also given to others; an import brings the withheld again.
    let mended = restored || !withheld && fetch(core, &repair, providers, patience).await?;
    if mended {
        core.record.count(DamageCount { mended: repair.damaged_bytes, ..DamageCount::default() });
        info!(%hash, bytes = repair.damaged_bytes, restored, "mended");
    }
    let record = Arc::clone(&core.record);
    blocking(move || {
        record.save();
        Ok(())
    })
    .await?;
    Ok(mended)
}

async fn repair_of(core: &Core, hash: BlobHash) -> Result<Option<Repair>, Failure> {
    let store = core.store.clone();
    blocking(move || Ok(store.repairs().into_iter().find(|repair| repair.hash == hash))).await
}

/// The data may be right, and only the outboard wrong.
async fn restore(core: &Arc<Core>, hash: BlobHash) -> Result<bool, Failure> {
    let (store, stop) = (core.store.clone(), core.stop.clone());
    let restored = blocking(move || {
        let mut go_on = |_| if stop.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        Ok(store.restore(hash, &mut go_on)?)
    })
    .await?;
    if restored {
        core.offer(vec![hash]).await?;
    }
    Ok(restored)
}

async fn fetch(core: &Arc<Core>, repair: &Repair, providers: Vec<PeerId>, patience: Duration) -> Result<bool, Failure> {
    let (hash, swarm) = (repair.hash, SwarmId(repair.hash));
    let stopped = |error| Failure::internal(&error);
    core.driver.enter(swarm).await.map_err(stopped)?;
    core.driver.watch(vec![hash]).await.map_err(stopped)?;
    let outcome = tokio::select! {
        outcome = bring(core, repair, providers, patience) => outcome,
        () = core.stop.cancelled() => Ok(false),
    };
    // However it ended. Fails only when the driver has stopped, and then all of it is done already.
    let _ = core.driver.leave(swarm).await;
    let _ = core.driver.unwatch(vec![hash]).await;
    let _ = core.driver.release(vec![hash]).await;
    outcome
}

async fn bring(core: &Arc<Core>, repair: &Repair, providers: Vec<PeerId>, patience: Duration) -> Result<bool, Failure> {
    let (hash, swarm) = (repair.hash, SwarmId(repair.hash));
    let stopped = |error: crate::driver::Stopped| Failure::internal(&error);
    let mut changes = core.driver.changes();
    // Where nothing is held nothing proves the size, either: what lies there may have been cut short.
    let mut size = (!repair.held.is_empty()).then_some(repair.size);
    let mut held = repair.held.clone();
    let mut joined = None;
    let mut last = (held.groups(), 0, Instant::now());
    debug!(%hash, missing = repair.damaged_bytes, "mending");
    loop {
        if joined != Some(size) {
            let want = Want { blob: hash, size, held: std::mem::take(&mut held), order: Order::default() };
            let command = Command::Join { swarm, wants: vec![want], providers: providers.clone() };
            core.driver.command(command).await.map_err(stopped)?;
            joined = Some(size);
        }
        // Ends early when something changed.
        let _ = timeout(LOOK, changes.changed()).await;
        let store = core.store.clone();
        let (complete, held_groups) = blocking(move || {
            let status = store.blob(hash);
            // Removed meanwhile: nothing is left to be mended.
            Ok(status.map_or((true, 0), |status| (status.complete, status.held.groups())))
        })
        .await?;
        if complete {
            return Ok(true);
        }
        let look = core.driver.look(swarm, vec![hash]).await.map_err(stopped)?.blobs.into_iter().next().unwrap_or_default();
        if size.is_none() && look.size.is_some() {
            (size, held) = (look.size, SpanSet::new());
        }
        if (held_groups, look.verified) != (last.0, last.1) {
            last = (held_groups, look.verified, Instant::now());
        } else if last.2.elapsed() >= patience {
            debug!(%hash, providers = look.providers, "nobody delivers it now");
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repair(name: u8, damaged_bytes: u64) -> Repair {
        Repair { hash: BlobHash([name; 32]), size: 1 << 20, held: SpanSet::new(), damaged_bytes }
    }

    #[test]
    fn pauses_grow_up_to_a_bound_and_new_damage_is_tried_at_once() {
        let (pause, start) = (Duration::from_secs(60), Instant::now());
        let mut schedule = Schedule::default();
        schedule.set(start, &[repair(1, 5)]);
        let mut now = start;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert_eq!(schedule.take_due(now), Some(BlobHash([1; 32])));
            assert_eq!(schedule.take_due(now), None, "it is being tried");
            schedule.set(now, &[repair(1, 5)]);
            schedule.failed(now, BlobHash([1; 32]), pause);
            let next = schedule.next().expect("it is tried again");
            pauses.push((next - now).as_secs() / 60);
            assert_eq!(schedule.take_due(next - Duration::from_nanos(1)), None);
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(schedule.take_due(now), Some(BlobHash([1; 32])));
        schedule.failed(now, BlobHash([1; 32]), pause);
        // Less is left of it: no reason to hurry. More is.
        schedule.set(now, &[repair(1, 4)]);
        assert_eq!(schedule.take_due(now), None);
        schedule.set(now, &[repair(1, 6), repair(2, 1)]);
        assert_eq!(schedule.take_due(now), Some(BlobHash([1; 32])));
        assert_eq!(schedule.take_due(now), Some(BlobHash([2; 32])));
        schedule.set(now, &[]);
        assert_eq!(schedule.next(), None);
    }
}
