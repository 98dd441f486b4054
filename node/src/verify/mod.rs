//! A verify from the order to the report: `reading` proves what is held, and what is damaged is fetched again if that was asked for.

mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use p2pweights_protocol::ids::{BlobHash, PeerId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::fetch::introduce;
use crate::mend;
use crate::node::{Core, blocking};
use crate::report::{Failure, FailureKind, Verdict, VerifyEvent, VerifyReport, VerifyRequest};
use crate::store::Store;

/// Blobs mended at a time.
const MENDED_AT_ONCE: usize = 8;
/// How often it is told how much is still to be mended.
const TICK: Duration = Duration::from_secs(1);

/// Reads and proves, with nobody to tell others of what is found. For blocking threads.
pub fn read(store: &Store, target: Option<&str>, events: &mpsc::Sender<VerifyEvent>) -> Result<VerifyReport, Failure> {
    reading::verify(store, target, &mut |event| {
        let sent = match event {
            // A queue that is full has news enough.
            event @ VerifyEvent::Progress { .. } => match events.try_send(event) {
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => true,
            },
            event => events.blocking_send(event).is_ok(),
        };
        if sent { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
}

/// Verifies; sends every event but a failure, which it returns.
pub async fn run(core: &Arc<Core>, request: &VerifyRequest, events: &mpsc::Sender<VerifyEvent>) -> Result<(), Failure> {
    let (store, target, told) = (core.store.clone(), request.target.clone(), events.clone());
    let reading = blocking(move || read(&store, target.as_deref(), &told));
    let mut report = tokio::select! {
        report = reading => report?,
        // The reading ends with its next step.
        () = core.stop.cancelled() => return Err(Failure::new(FailureKind::Interrupted, "the node is shutting down")),
    };
    for entry in &report.entries {
        if let (Verdict::Withdrawn, Ok(blob)) = (entry.verdict, entry.hash.parse()) {
            core.withdraw(blob).await?;
        }
    }
    let outboards = report.entries.iter().filter(|entry| entry.verdict == Verdict::OutboardMended).count() as u64;
    core.record.count(crate::report::DamageCount { outboards, ..Default::default() });
    if report.entries.iter().any(|entry| entry.verdict != Verdict::Ok) {
        let record = Arc::clone(&core.record);
        blocking(move || {
            record.save();
            Ok(())
        })
        .await?;
    }
    if request.mend {
        tokio::select! {
            mended = mend(core, request, &mut report, events) => mended?,
            () = events.closed() => return Err(gone()),
        }
    }
    events.send(VerifyEvent::Done(report)).await.map_err(|_| gone())
}

fn gone() -> Failure {
    Failure::new(FailureKind::Interrupted, "nobody waits for the result any more")
}

/// Fetches again what is damaged of the blobs in the report, as far as they were complete.
async fn mend(
    core: &Arc<Core>,
    request: &VerifyRequest,
    report: &mut VerifyReport,
    events: &mpsc::Sender<VerifyEvent>,
) -> Result<(), Failure> {
    let providers = introduce(core, &[], &request.peers)?;
    let damaged = report.entries.iter().filter(|entry| entry.verdict == Verdict::Damaged);
    let mut waiting: Vec<BlobHash> = damaged.filter_map(|entry| entry.hash.parse().ok()).collect();
    waiting.retain(|blob| core.store.is_under_repair(*blob));
    let all: BTreeSet<BlobHash> = waiting.iter().copied().collect();
    let patience = if request.timeout_s == 0 { mend::PATIENCE } else { Duration::from_secs(request.timeout_s) };
    let mut under_way = JoinSet::new();
    let mut ticks = interval(TICK);
    loop {
        while under_way.len() < MENDED_AT_ONCE
            && let Some(blob) = waiting.pop()
        {
            under_way.spawn(attempt(Arc::clone(core), blob, providers.clone(), patience));
        }
        tokio::select! {
            ended = under_way.join_next() => match ended {
                None => break,
                Some(Ok(mended)) => _ = mended?,
                Some(Err(error)) => return Err(Failure::internal(&error)),
            },
            _ = ticks.tick() => {
                let (blobs, bytes) = left(core, &all).await?;
                events.send(VerifyEvent::Mending { blobs, bytes }).await.map_err(|_| gone())?;
            }
        }
    }
    for entry in report.entries.iter_mut().filter(|entry| entry.verdict == Verdict::Damaged) {
        if entry.hash.parse().is_ok_and(|blob| all.contains(&blob) && core.store.is_complete(blob)) {
            (entry.verdict, entry.problem) = (Verdict::Mended, None);
            events.send(VerifyEvent::Blob(entry.clone())).await.map_err(|_| gone())?;
        } else if let Some(problem) = &mut entry.problem {
            problem.push_str("; nobody delivered it");
        }
    }
    report.ok = report.entries.iter().all(|entry| entry.verdict.is_well());
    Ok(())
}

async fn attempt(core: Arc<Core>, blob: BlobHash, providers: Vec<PeerId>, patience: Duration) -> Result<bool, Failure> {
    mend::attempt(&core, blob, providers, patience).await
}

async fn left(core: &Arc<Core>, of: &BTreeSet<BlobHash>) -> Result<(usize, u64), Failure> {
    let store = core.store.clone();
    let repairs = blocking(move || Ok(store.repairs())).await?;
    let left: BTreeMap<BlobHash, u64> = repairs
        .into_iter()
        .filter(|repair| of.contains(&repair.hash))
        .map(|repair| (repair.hash, repair.damaged_bytes))
        .collect();
    Ok((left.len(), left.values().sum()))
}
