//! Brings the files of a listing: several at a time, each from where it was left, again and again while that brings something, and looks
//! whether each is what the listing says.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use hyper::body::Bytes;
use tokio::sync::mpsc;
use tracing::debug;

use super::hub::{Commit, FileTrouble, Hub, Listed};
use super::meter::Meter;
use super::retry::Pauses;
use super::{Contents, of_intake};
use crate::failure::phrase;
use crate::node::blocking;
use crate::origin::{Answer, OriginError, Retry, shown};
use crate::report::{Failure, FailureKind, ImportEvent};
use crate::store::{Begun, FileId, Intake, IntakeError, Intakes, Taken};

/// Files that come at the same time: enough that small ones do not wait for the hub's answers, as many as its own client takes.
const FILES_AT_ONCE: usize = 8;
/// Portions of a file that wait to be written: the network goes on while the disk is busy. One has 400 KiB at most.
const PORTIONS: usize = 8;
/// An attempt that brings less than this does not count as progress: a hub that sends a byte at a time is given up.
const PROGRESS_BYTES: u64 = 1 << 20;
/// A pause from which on the user is told why nothing comes.
const WORTH_TELLING: Duration = Duration::from_secs(5);
/// How often progress is told.
const TICK: Duration = Duration::from_millis(250);

/// Brings everything that is missing; gives what each content is, and how many bytes came over the network.
pub(super) async fn bring(
    hub: &Arc<Hub>,
    commit: &Commit,
    files: &[Listed],
    contents: &Contents,
    events: &mpsc::Sender<ImportEvent>,
) -> Result<(BTreeMap<FileId, Taken>, u64), Failure> {
    // One file for each content; a file that is there twice counts once.
    let mut missing: BTreeMap<FileId, &Listed> = BTreeMap::new();
    for file in files.iter().filter(|file| contents.missing.contains_key(&file.id)) {
        missing.entry(file.id).or_insert(file);
    }
    let mut missing: Vec<Listed> = missing.into_values().cloned().collect();
    missing.sort_by(|a, b| Reverse(a.size).cmp(&Reverse(b.size)).then_with(|| a.path.cmp(&b.path)));
    let held: u64 = contents.held.values().map(|taken| taken.size).sum();
    let meter = Meter::new(held + missing.iter().map(|file| file.size).sum::<u64>(), held);
    let bringing = Bringing { hub, commit, intakes: &contents.intakes, meter: &meter, events };
    let mut coming = futures::stream::iter(missing.into_iter().enumerate())
        .map(|(index, file)| {
            let bringing = &bringing;
            async move { bringing.file(index, &file).await.map(|(taken, fetched)| (file, taken, fetched)) }
        })
        .buffer_unordered(FILES_AT_ONCE);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut taken = BTreeMap::new();
    loop {
        tokio::select! {
            next = coming.next() => match next {
                None => break,
                Some(brought) => {
                    let (file, found, fetched) = brought?;
                    taken.insert(file.id, found);
                    let (hash, sha256) = (found.hash.to_string(), found.sha256.to_string());
                    let event = ImportEvent::File { path: file.path.as_str().to_owned(), hash, sha256, bytes: found.size, fetched };
                    events.send(event).await.map_err(|_| gone())?;
                }
            },
            _ = ticks.tick() => {
                // A queue that is full has news enough.
                let _ = events.try_send(meter.progress());
            }
        }
    }
    events.send(meter.progress()).await.map_err(|_| gone())?;
    Ok((taken, meter.fetched()))
}

fn gone() -> Failure {
    Failure::new(FailureKind::Interrupted, "nobody waits for the result any more")
}

struct Bringing<'a> {
    hub: &'a Arc<Hub>,
    commit: &'a Commit,
    intakes: &'a Arc<Intakes>,
    meter: &'a Meter,
    events: &'a mpsc::Sender<ImportEvent>,
}

/// How an attempt ended.
enum End {
    Whole(Taken),
    Trouble(OriginError),
    /// All came, and it is something else.
    Wrong(IntakeError),
}

impl Bringing<'_> {
    /// Brings one file, and how much of it came over the network.
    async fn file(&self, index: usize, file: &Listed) -> Result<(Taken, u64), Failure> {
        let (mut pauses, mut fetched, mut wrong_before) = (Pauses::default(), 0, false);
        let mut open = None;
        loop {
            let intake = match open.take() {
                Some(intake) => intake,
                None => match self.open(file).await? {
                    Begun::Taken(taken) => {
                        self.meter.end(index, file.size);
                        return Ok((taken, fetched));
                    }
                    Begun::Open(intake) => intake,
                },
            };
            self.meter.begin(index, file.path.as_str(), intake.bytes(), file.size);
            let before = intake.bytes();
            let (end, left) = self.attempt(index, file, intake).await?;
            let came = left.as_ref().map_or(file.size, |intake| intake.bytes()).saturating_sub(before);
            fetched += came;
            match end {
                End::Whole(taken) => {
                    self.meter.end(index, file.size);
                    return Ok((taken, fetched));
                }
                End::Wrong(error) => {
                    let (intakes, id) = (Arc::clone(self.intakes), file.id);
                    blocking(move || Ok(intakes.discard(id)?)).await?;
                    // Once it may be the disk, or what was here before.
                    if wrong_before {
                        return Err(of_file(file, of_intake(error)));
                    }
                    debug!(path = %file.path, error = phrase(&error), "not what the listing says, once more");
                    wrong_before = true;
                }
                End::Trouble(error) => {
                    open = left;
                    if came >= PROGRESS_BYTES {
                        pauses.progress();
                    }
                    // A signed address that has expired: the hub gives a new one.
                    let retry = if self.is_expired(&error) { Retry::After(None) } else { error.retry() };
                    let Some(pause) = pauses.next(retry) else { return Err(of_file(file, self.hub.failure(error))) };
                    debug!(path = %file.path, error = phrase(&error), ?pause, "once more");
                    if pause >= WORTH_TELLING {
                        let message = format!("{}: {}; once more in {} s", file.path, phrase(&error), pause.as_secs());
                        // A queue that is full has news enough.
                        let _ = self.events.try_send(ImportEvent::Warning { message });
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn is_expired(&self, error: &OriginError) -> bool {
        matches!(error, OriginError::Status { status, shown, .. } if status.as_u16() == 403 && !self.hub.is_own(shown))
    }

    async fn open(&self, file: &Listed) -> Result<Begun, Failure> {
        let (intakes, id) = (Arc::clone(self.intakes), file.id);
        blocking(move || Ok(intakes.open(id))).await?.map_err(|error| of_file(file, of_intake(error)))
    }

    /// Fetches what is missing, once. What came stays in the file that is given back.
    async fn attempt(&self, index: usize, file: &Listed, mut intake: Box<Intake>) -> Result<(End, Option<Box<Intake>>), Failure> {
        if intake.bytes() < file.size {
            let (answer, first) = match self.hub.file(self.commit, file, intake.bytes()).await {
                Ok(answer) => answer,
                Err(FileTrouble::Lie(failure)) => return Err(failure),
                Err(FileTrouble::Origin(error)) => return Ok((End::Trouble(error), Some(intake))),
            };
            // A hub that ignores the range sends again what is here.
            let skip = intake.bytes() - first;
            let (left, trouble) = self.write(index, file, intake, answer, skip).await?;
            if let Some(error) = trouble {
                return Ok((End::Trouble(error), Some(left)));
            }
            intake = left;
        }
        match blocking(move || Ok(intake.finish())).await? {
            Ok(taken) => Ok((End::Whole(taken), None)),
            Err(error @ (IntakeError::Wrong { .. } | IntakeError::TooShort { .. })) => Ok((End::Wrong(error), None)),
            Err(error) => Err(of_file(file, of_intake(error))),
        }
    }

    /// Has a body written down by a thread of its own, while the next portions come.
    async fn write(
        &self,
        index: usize,
        file: &Listed,
        mut intake: Box<Intake>,
        mut answer: Answer,
        mut skip: u64,
    ) -> Result<(Box<Intake>, Option<OriginError>), Failure> {
        let (portions, mut queue) = mpsc::channel::<Bytes>(PORTIONS);
        let writer = tokio::task::spawn_blocking(move || {
            while let Some(bytes) = queue.blocking_recv() {
                if let Err(error) = intake.write(bytes) {
                    return (intake, Some(error));
                }
            }
            (intake, None)
        });
        let trouble = loop {
            let mut bytes = match answer.chunk().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break None,
                Err(error) => break Some(error),
            };
            let dropped = bytes.len().min(usize::try_from(skip).unwrap_or(usize::MAX));
            skip -= dropped as u64;
            let bytes = bytes.split_off(dropped);
            let count = bytes.len() as u64;
            if portions.send(bytes).await.is_err() {
                // It says why.
                break None;
            }
            self.meter.came(index, count);
        };
        drop(portions);
        match writer.await {
            Ok((intake, None)) => {
                let missing = file.size - intake.bytes();
                let short = || OriginError::Short { shown: shown(answer.url()), missing };
                Ok((intake, trouble.or_else(|| (missing > 0).then(short))))
            }
            Ok((_, Some(error))) => Err(of_file(file, of_intake(error))),
            Err(error) => Err(Failure::new(FailureKind::Internal, format!("a worker thread failed: {error}"))),
        }
    }
}

/// Says which file.
fn of_file(file: &Listed, failure: Failure) -> Failure {
    Failure { message: format!("{}: {}", file.path, failure.message), ..failure }
}
