//! Clearing away and evicting, for a node and without one: first what nothing keeps, then what the policy says. Everything is withdrawn
//! before it goes, so that nothing is announced or granted that is not there any more.

use std::collections::BTreeMap;
use std::time::Duration;

use p2pweights_protocol::ids::BlobHash;
use tokio::time::Instant;
use tracing::{info, warn};

use super::picture::{IN_USE, Kept, garbage, kept, kept_blobs, pinned};
use super::policy::{Choice, Eviction, Picture, Rules, choose};
use super::{GARBAGE_AGE, UpkeepConfig};
use crate::clock::wall_ns;
use crate::node::{Core, blocking};
use crate::report::{Failure, GcEntry, GcReport, GcRequest, StayEntry};
use crate::store::{Store, StoreError};

/// Models about which others are asked in one go; more than these stay until the next time.
const SURVEYS: usize = 32;
/// How often a node looks whether the high watermark is passed.
const WATCH: Duration = Duration::from_secs(30);
/// How long what is being served may take to end; what takes longer stays.
const SERVED: Duration = Duration::from_secs(5);
/// How long it may take until what has been fetched is not in use any more.
const SETTLED: Duration = Duration::from_secs(5);
/// Every so many looks, which blobs were of use is written down: every ten minutes.
const LOOKS_PER_SAVE: u64 = 20;

/// How much is wanted.
#[derive(Debug, Clone, Copy)]
enum Goal {
    /// No more than the low watermark.
    Low,
    /// The same, if the high one is passed.
    LowIfHigh,
    /// So many bytes for a fetch: all of them, or nothing goes.
    Room(u64),
}

/// What goes.
struct Plan {
    garbage: Vec<(BlobHash, GcEntry)>,
    kept: Kept,
    rules: Rules,
    taken: u64,
    quota: Option<u64>,
}

fn plan(store: &Store, config: UpkeepConfig, goal: Goal, older_than: Duration) -> Result<Plan, Failure> {
    let usage = store.disk_usage()?;
    let quota = store.quota_use();
    let taken = usage.total_bytes() + quota.map_or(0, |quota| quota.promised_bytes);
    let part = |percent: u8| quota.map_or(u64::MAX, |quota| quota.limit_bytes / 100 * u64::from(percent));
    let (high, low) = (part(config.watermarks.high), part(config.watermarks.low));
    let wanted = match goal {
        Goal::LowIfHigh if taken <= high => 0,
        Goal::Low | Goal::LowIfHigh => taken.saturating_sub(low),
        Goal::Room(bytes) => bytes,
    };
    let idle = matches!(goal, Goal::LowIfHigh) && wanted == 0;
    let garbage = if idle { Vec::new() } else { garbage(store, &usage, wall_ns(), older_than) };
    let cleared: u64 = garbage.iter().map(|(_, entry)| entry.bytes).sum();
    let rules = Rules {
        policy: config.eviction,
        last_copies: config.evict_last_copy,
        wanted: wanted.saturating_sub(cleared),
        all_or_nothing: matches!(goal, Goal::Room(_)),
    };
    Ok(Plan {
        garbage,
        kept: kept(store, &usage),
        rules,
        taken: usage.total_bytes(),
        quota: quota.map(|quota| quota.limit_bytes),
    })
}

impl Plan {
    /// Whether enough goes.
    fn is_enough(&self, choice: &Choice) -> bool {
        choice.freed >= self.rules.wanted
    }

    fn report(&self, choice: &Choice, dry_run: bool) -> GcReport {
        let cleared: Vec<GcEntry> = self.garbage.iter().map(|(_, entry)| entry.clone()).collect();
        let stays = if self.is_enough(choice) { Vec::new() } else { self.kept.stays(choice, self.rules) };
        let freed = cleared.iter().map(|entry| entry.bytes).sum::<u64>() + choice.freed;
        let (evicted, taken) = (self.kept.entries(choice), self.taken.saturating_sub(freed));
        GcReport { dry_run, cleared, evicted, stays, freed, taken, quota: self.quota }
    }

    /// Every blob that goes.
    fn blobs(&self, choice: &Choice) -> Vec<BlobHash> {
        self.garbage.iter().map(|(blob, _)| *blob).chain(choice.blobs.iter().copied()).collect()
    }
}

/// Takes it away; returns the blobs that stayed because somebody pinned them or began to use them since the choice was made.
fn carry_out(store: &Store, plan: &Plan, choice: &Choice) -> Result<Vec<BlobHash>, Failure> {
    let pinned = pinned(store);
    // The records first: what is left without one after a crash is cleared away later.
    for hash in choice.units.iter().filter(|hash| !pinned.contains(hash)) {
        if plan.kept.is_model(*hash) {
            store.remove_manifest(*hash)?
        } else {
            store.remove_wanted(*hash)?
        };
    }
    let (kept, mut stayed) = (kept_blobs(store), Vec::new());
    for blob in plan.blobs(choice) {
        if kept.contains(&blob) {
            stayed.push(blob);
            continue;
        }
        match store.remove_idle(blob) {
            Ok(_) => {}
            Err(StoreError::Busy(_)) => stayed.push(blob),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(stayed)
}

/// What the disk says afterwards.
fn finish(store: &Store, mut report: GcReport, request: GcRequest) -> Result<GcReport, Failure> {
    let before_ns =
        wall_ns().saturating_sub(i64::try_from(request.older_than_s).unwrap_or(i64::MAX).saturating_mul(1_000_000_000));
    let imports = store.abandoned_imports(before_ns, !request.dry_run)?;
    if imports > 0 {
        report.cleared.push(GcEntry { hash: String::new(), kind: "import".to_owned(), name: None, bytes: imports });
    }
    let damaged = store.damaged_indexes(!request.dry_run)?;
    if damaged > 0 {
        report.cleared.push(GcEntry { hash: String::new(), kind: "index".to_owned(), name: None, bytes: damaged });
    }
    if request.dry_run {
        report.freed += imports + damaged;
        report.taken = report.taken.saturating_sub(imports + damaged);
    } else {
        let (before, after) = (report.freed + report.taken, store.disk_usage()?.total_bytes());
        (report.freed, report.taken) = (before.saturating_sub(after), after);
    }
    Ok(report)
}

/// `gc` without a node: nobody can be asked who else holds what.
pub fn gc(store: &Store, config: UpkeepConfig, request: GcRequest) -> Result<GcReport, Failure> {
    let plan = plan(store, config, Goal::Low, Duration::from_secs(request.older_than_s))?;
    let choice = choose(&plan.kept.picture, plan.rules);
    let report = plan.report(&choice, request.dry_run);
    if !request.dry_run {
        carry_out(store, &plan, &choice)?;
    }
    finish(store, report, request)
}

impl Core {
    /// Clears away what nothing keeps and, over the low watermark, evicts.
    pub async fn gc(&self, request: GcRequest) -> Result<GcReport, Failure> {
        let (report, _) = self.clear(Goal::Low, Duration::from_secs(request.older_than_s), request.dry_run).await?;
        let store = self.store.clone();
        blocking(move || finish(&store, report, request)).await
    }

    /// Makes room for a fetch, or says what stays and why: nothing goes then.
    pub(crate) async fn make_room(&self, bytes: u64) -> Result<Result<(), Vec<StayEntry>>, Failure> {
        if self.upkeep.eviction == Eviction::Off {
            return Ok(Err(Vec::new()));
        }
        let until = Instant::now() + SETTLED;
        loop {
            let (report, enough) = self.clear(Goal::Room(bytes), GARBAGE_AGE, false).await?;
            if enough && report.freed > 0 {
                return Ok(Ok(()));
            }
            // What was fetched just now is in use until its last sync.
            if Instant::now() >= until || !report.stays.iter().any(|entry| entry.reason == IN_USE) {
                return Ok(Err(report.stays));
            }
            tokio::time::sleep(SETTLED / 50).await;
        }
    }

    /// Keeps below the high watermark, and the order of uses written down, until the node stops.
    pub(crate) async fn keep_up(&self) {
        let mut looks = 0_u64;
        loop {
            tokio::select! {
                () = tokio::time::sleep(WATCH) => {}
                () = self.stop.cancelled() => return,
            }
            looks += 1;
            if looks.is_multiple_of(LOOKS_PER_SAVE) {
                let store = self.store.clone();
                let save = move || {
                    store.save_uses();
                    Ok(())
                };
                let _ = blocking(save).await;
            }
            let Some(quota) = self.store.quota_use().filter(|_| self.upkeep.eviction != Eviction::Off) else { continue };
            let high = quota.limit_bytes / 100 * u64::from(self.upkeep.watermarks.high);
            if quota.limit_bytes - quota.left_bytes <= high {
                continue;
            }
            if let Err(failure) = self.clear(Goal::LowIfHigh, GARBAGE_AGE, false).await {
                warn!(error = failure.message, "the high watermark is passed, and nothing could be evicted");
            }
        }
    }

    /// Says what goes, and takes it away unless told not to.
    async fn clear(&self, goal: Goal, older_than: Duration, dry_run: bool) -> Result<(GcReport, bool), Failure> {
        // One at a time: two would each evict what one has to.
        let Ok(_turn) = self.upkeep_turn.acquire().await else { return Err(Failure::internal(&crate::driver::Stopped)) };
        let (store, config) = (self.store.clone(), self.upkeep);
        let mut plan = blocking(move || plan(&store, config, goal, older_than)).await?;
        let choice = self.choose(&mut plan.kept.picture, plan.rules).await;
        if matches!(goal, Goal::Room(_)) && !plan.is_enough(&choice) {
            return Ok((plan.report(&Choice::default(), dry_run), false));
        }
        let report = plan.report(&choice, dry_run);
        let enough = plan.is_enough(&choice);
        let going = plan.blobs(&choice);
        if dry_run || going.is_empty() && choice.units.is_empty() {
            return Ok((report, enough));
        }
        for blob in &going {
            self.withdraw(*blob).await?;
        }
        // What was granted before goes out first.
        let until = Instant::now() + SERVED;
        while Instant::now() < until && going.iter().any(|blob| self.store.is_read(*blob)) {
            tokio::time::sleep(SERVED / 100).await;
        }
        for entry in &report.evicted {
            info!(hash = entry.hash, name = entry.name, bytes = entry.bytes, "evicted");
        }
        let store = self.store.clone();
        let stayed = blocking(move || carry_out(&store, &plan, &choice)).await?;
        self.offer(stayed).await?;
        self.withdraw_withheld().await?;
        Ok((report, enough))
    }

    /// Chooses, asking others about what would go until it is known of all that goes who else holds it.
    async fn choose(&self, picture: &mut Picture, rules: Rules) -> Choice {
        let mut known: BTreeMap<BlobHash, usize> = BTreeMap::new();
        let ask = !rules.last_copies || rules.policy == Eviction::BestReplicated;
        loop {
            for unit in &mut picture.units {
                // Until it is known, the best is hoped for; what is hoped for is asked about before anything goes.
                let hoped = if known.len() < SURVEYS { 1 } else { 0 };
                unit.copies = Some(known.get(&unit.hash).copied().unwrap_or(hoped));
            }
            let choice = choose(picture, rules);
            let all = rules.policy == Eviction::BestReplicated;
            let may = |unit: &&super::policy::Unit| {
                !unit.pinned && !unit.busy && (all && rules.wanted > 0 || choice.units.contains(&unit.hash))
            };
            let next = picture.units.iter().filter(may).find(|unit| !known.contains_key(&unit.hash) && known.len() < SURVEYS);
            match next {
                Some(unit) if ask => {
                    let copies = self.copies(unit, &picture.sizes).await;
                    known.insert(unit.hash, copies);
                }
                _ => return choice,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Watermarks;
    use crate::store::WantedRecord;

    #[test]
    fn what_is_pinned_after_the_choice_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let wanted = [1_u8, 2].map(|byte| WantedRecord::new(store.put_bytes(&[byte; 100_000]).unwrap(), None));
        wanted.iter().for_each(|record| store.set_wanted(record.clone()).unwrap());
        let eviction = Eviction::LeastRecentlyServed;
        let config = UpkeepConfig { eviction, watermarks: Watermarks::default(), evict_last_copy: true };
        let plan = plan(&store, config, Goal::Room(200_000), Duration::ZERO).unwrap();
        let choice = choose(&plan.kept.picture, plan.rules);
        assert_eq!(choice.units.len(), 2, "both would have to go");

        store.set_wanted(WantedRecord { pinned: true, ..wanted[0].clone() }).unwrap();
        assert_eq!(carry_out(&store, &plan, &choice).unwrap(), [wanted[0].hash]);
        assert!(store.blob(wanted[0].hash).is_some_and(|status| status.complete));
        assert_eq!(store.blob(wanted[1].hash), None);
        assert_eq!(store.wanted().len(), 1);
    }

    #[test]
    fn whatever_the_clock_says_nothing_goes_that_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let [kept, left] = [1_u8, 2].map(|byte| store.put_bytes(&[byte; 100_000]).unwrap());
        store.set_wanted(WantedRecord::new(kept, None)).unwrap();
        let usage = store.disk_usage().unwrap();
        let going = |now_ns| garbage(&store, &usage, now_ns, GARBAGE_AGE).into_iter().map(|(hash, _)| hash).collect::<Vec<_>>();
        assert_eq!([i64::MIN, 0, wall_ns()].map(going), [const { Vec::new() }; 3], "what seems to be from the future is young");
        assert_eq!(going(i64::MAX), [left]);
    }
}
