//! Reads what is held and proves it, a model or everything, and tells how it goes. Needs no network; for blocking threads.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use p2pweights_protocol::geometry::Geometry;
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::link::Link;
use p2pweights_protocol::manifest::Shard;

use crate::failure::phrase;
use crate::inventory::{held_bytes, manifest};
use crate::report::{Failure, FailureKind, Verdict, VerifyEntry, VerifyEvent, VerifyReport};
use crate::speed::Speed;
use crate::store::{CheckStep, Location, Store, StoreError};

/// Groups read at a time: 16 MiB, after which somebody may have stopped it.
const STEP_GROUPS: u64 = 1024;
/// Progress is told at most once in this time.
const TICK: Duration = Duration::from_millis(200);

/// Re-reads everything, or what belongs to one hash. Each blob is told of when it has been read; `told` says whether to go on. What was found
/// by then stays found.
pub fn verify(
    store: &Store,
    target: Option<&str>,
    told: &mut dyn FnMut(VerifyEvent) -> ControlFlow<()>,
) -> Result<VerifyReport, Failure> {
    let blobs = blobs(store, target)?;
    let names = names(store);
    let total = blobs.iter().filter_map(|hash| store.blob(*hash)).map(|status| held_bytes(&status)).sum();
    let mut meter = Meter { told, bytes: 0, total, speed: Speed::default(), last: None };
    meter.tick()?;
    let mut entries = Vec::new();
    for hash in blobs {
        if let Some(entry) = verify_one(store, hash, names.get(&hash).cloned(), &mut meter)? {
            meter.tell(VerifyEvent::Blob(entry.clone()))?;
            entries.push(entry);
        }
    }
    let ok = entries.iter().all(|entry| entry.verdict.is_well());
    Ok(VerifyReport { entries, ok })
}

/// What is to be read, each blob once; those that were withdrawn are told of, too.
fn blobs(store: &Store, target: Option<&str>) -> Result<Vec<BlobHash>, Failure> {
    let mut seen = BTreeSet::new();
    let blobs: Vec<BlobHash> = match target {
        None => store.blobs().iter().map(|status| status.hash).collect(),
        Some(target) => {
            let hash = Link::parse_target(target)?.hash();
            store.blob(hash).ok_or(StoreError::Missing(hash))?;
            // A manifest that is damaged itself shows as such.
            let shards = manifest(store, hash).ok().flatten();
            let shards =
                shards.map_or_else(Vec::new, |(manifest, _)| manifest.shards().iter().map(|shard| shard.blake3()).collect());
            shards.into_iter().chain([hash]).filter(|blob| store.blob(*blob).is_some()).collect()
        }
    };
    Ok(blobs.into_iter().filter(|hash| seen.insert(*hash)).collect())
}

fn names(store: &Store) -> BTreeMap<BlobHash, String> {
    store
        .manifests()
        .iter()
        .filter_map(|pin| manifest(store, pin.manifest).ok().flatten())
        .flat_map(|(manifest, _)| {
            let named = |shard: &Shard| (shard.blake3(), shard.path().as_str().to_owned());
            manifest.shards().iter().map(named).collect::<Vec<_>>()
        })
        .collect()
}

/// Counts bytes, and tells.
struct Meter<'a> {
    told: &'a mut dyn FnMut(VerifyEvent) -> ControlFlow<()>,
    bytes: u64,
    total: u64,
    speed: Speed,
    last: Option<Instant>,
}

impl Meter<'_> {
    fn tell(&mut self, event: VerifyEvent) -> Result<(), Failure> {
        match (self.told)(event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Failure::new(FailureKind::Interrupted, "stopped before all was read")),
        }
    }

    fn tick(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        self.speed.record(now, self.bytes);
        if self.last.is_some_and(|last| now.duration_since(last) < TICK) {
            return Ok(());
        }
        self.last = Some(now);
        let (bytes, rate) = (self.bytes.min(self.total), self.speed.bytes_per_s());
        let eta_s = (self.total - bytes).checked_div(rate);
        self.tell(VerifyEvent::Progress { bytes, total: self.total, rate, eta_s })
    }
}

/// `None` if the blob was removed meanwhile.
fn verify_one(
    store: &Store,
    hash: BlobHash,
    name: Option<String>,
    meter: &mut Meter<'_>,
) -> Result<Option<VerifyEntry>, Failure> {
    let Some(status) = store.blob(hash) else { return Ok(None) };
    let geometry = Geometry::of(status.size);
    let path = name.or_else(|| match &status.location {
        Location::Referenced(path) => Some(path.display().to_string()),
        Location::Stored => None,
    });
    let mut entry =
        VerifyEntry { hash: hash.to_string(), path, bytes: held_bytes(&status), damaged: 0, problem: None, verdict: Verdict::Ok };
    let read_before = meter.bytes;
    let mut check = store.check(hash, 0);
    let mut error = None;
    loop {
        let before = check.position();
        match check.step(STEP_GROUPS, &mut |_| meter.tick().map_or(ControlFlow::Break(()), ControlFlow::Continue)) {
            Ok(CheckStep::Finished) => break,
            Ok(CheckStep::Stopped) => (),
            Ok(CheckStep::Proved { groups, lost, outboard_mended }) => {
                entry.damaged += lost.runs().map(|run| geometry.bytes_in(run)).sum::<u64>();
                if outboard_mended {
                    entry.verdict = Verdict::OutboardMended;
                }
                debug_assert!(check.position() >= before);
                meter.bytes += (groups * p2pweights_protocol::geometry::GROUP_BYTES).min(entry.bytes + read_before - meter.bytes);
            }
            Err(StoreError::Missing(_)) => return Ok(None),
            Err(failed) => {
                error = Some(failed);
                break;
            }
        }
        meter.tick()?;
    }
    meter.bytes = read_before + entry.bytes;
    if let Some(withdrawn) = store.withdrawn_blob(hash) {
        (entry.verdict, entry.problem) = (Verdict::Withdrawn, Some(withdrawn.reason));
    } else if let Some(error) = error {
        (entry.verdict, entry.problem) = (Verdict::Unreadable, Some(phrase(&error)));
    } else if entry.damaged > 0 || store.is_under_repair(hash) {
        let problem = if entry.damaged > 0 { "damaged on the disk" } else { "damage found earlier is not mended yet" };
        (entry.verdict, entry.problem) = (Verdict::Damaged, Some(problem.to_owned()));
    }
    Ok(Some(entry))
}
