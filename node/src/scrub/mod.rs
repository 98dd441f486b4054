//! Reads everything that is held again, slowly and for ever, so that what rots is noticed while others still have it. Damage leaves what is
//! held as it is found; having it again is the business of `mend`.

mod pace;
mod record;
mod round;

use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use p2pweights_protocol::engine::Command;
use p2pweights_protocol::geometry::{GROUP_BYTES, Geometry};
use p2pweights_protocol::ids::BlobHash;
use tokio::runtime::Handle;
use tokio::time::sleep;
use tracing::{debug, info, warn};

pub use self::pace::Pace;
pub use self::record::{Record, now_s};
use self::round::{END, Next, Position};
use crate::config::NodeConfig;
use crate::failure::phrase;
use crate::node::{Core, blocking};
use crate::report::{DamageCount, Failure, ScrubReport};
use crate::store::{BlobCheck, CheckStep, StoreError};

/// Groups read at a time: 1 MiB takes a disk a few milliseconds, so nobody waits long behind it.
const STEP_GROUPS: u64 = 64;
/// The place is written down after so much was read …
const SAVE_BYTES: u64 = 256 << 20;
/// … or this long, whichever comes first.
const SAVE_PAUSE: Duration = Duration::from_secs(60);
/// Longest pause until the clock is looked at again: it may have been set.
const LOOK_PAUSE: Duration = Duration::from_secs(600);

/// How the scrub goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubSettings {
    /// From the beginning of one cycle to that of the next.
    pub period: Duration,
    /// Most bytes read in a second; `None`: as the disk allows.
    pub rate: Option<NonZeroU64>,
}

impl ScrubSettings {
    /// As a node is configured; `None` if it does not scrub.
    pub fn of(config: &NodeConfig) -> Option<Self> {
        config.scrub_period.map(|period| Self { period, rate: config.scrub_rate })
    }
}

/// Scrubs until the node stops.
pub async fn run(core: Arc<Core>, settings: ScrubSettings) {
    let scrub = Scrub { core, settings };
    let mut pace = Pace::new(settings.rate);
    loop {
        let store = scrub.core.store.clone();
        let next = scrub.core.record.round(|round| {
            round.next(now_s(), settings.period.as_secs(), |from| store.next_held(from.unwrap_or(BlobHash([0; 32]))))
        });
        let wait = match next {
            Next::Wait(seconds) => Duration::from_secs(seconds).min(LOOK_PAUSE),
            Next::Over => {
                let report = scrub.core.record.report();
                info!(damaged = report.ever.damaged, "all that is held has been read");
                scrub.save().await;
                continue;
            }
            Next::Read(blob, group) => {
                let checked = scrub.read(blob, group, &mut pace).await;
                if checked.is_err() {
                    break;
                }
                continue;
            }
        };
        tokio::select! {
            () = sleep(wait) => (),
            () = scrub.core.stop.cancelled() => break,
        }
    }
    scrub.save().await;
}

/// The node is stopping.
struct Stopping;

struct Scrub {
    core: Arc<Core>,
    settings: ScrubSettings,
}

impl Scrub {
    /// Reads one blob to its end.
    async fn read(&self, blob: BlobHash, group: u64, pace: &mut Pace) -> Result<(), Stopping> {
        debug!(blob = %blob.short(), group, "scrub");
        let mut check = self.core.store.check(blob, group);
        let mut unsaved = (0, Instant::now());
        loop {
            let began = Instant::now();
            let (returned, step) = self.step(check).await?;
            check = returned;
            let (groups, outboard_mended) = match step {
                Ok(CheckStep::Proved { groups, outboard_mended, .. }) => (groups, outboard_mended),
                Ok(CheckStep::Stopped) => return Err(Stopping),
                Ok(CheckStep::Finished) => break,
                Err(error) => {
                    self.troubled(blob, &error).await;
                    break;
                }
            };
            if outboard_mended {
                self.core.record.count(DamageCount { outboards: 1, ..DamageCount::default() });
            }
            let bytes = groups * GROUP_BYTES;
            self.core.record.round(|round| round.advance(Position { blob, group: check.position() }, bytes));
            unsaved.0 += bytes;
            if unsaved.0 >= SAVE_BYTES || unsaved.1.elapsed() >= SAVE_PAUSE {
                self.save().await;
                unsaved = (0, Instant::now());
            }
            let pause = pace.pause(Instant::now(), bytes, began.elapsed(), self.core.driver.activity());
            tokio::select! {
                () = sleep(pause) => (),
                () = self.core.stop.cancelled() => return Err(Stopping),
            }
        }
        self.core.record.round(|round| round.advance(Position { blob, group: END }, 0));
        Ok(())
    }

    /// One step on a thread of its own.
    async fn step(&self, mut check: BlobCheck) -> Result<(BlobCheck, Result<CheckStep, StoreError>), Stopping> {
        let (stop, rate, runtime) = (self.core.stop.clone(), self.settings.rate, Handle::current());
        if stop.is_cancelled() {
            return Err(Stopping);
        }
        let work = move || {
            // An outboard that is made again from a whole blob is read at the same rate.
            let mut go_on = |bytes: u64| {
                if let Some(rate) = rate {
                    let turn = Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
                    // Over at once when the node stops, which is seen below.
                    let _ = runtime.block_on(stop.run_until_cancelled(sleep(turn)));
                }
                if stop.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let step = check.step(STEP_GROUPS, &mut go_on);
            Ok((check, step))
        };
        blocking(work).await.map_err(|failure: Failure| {
            warn!(error = failure.message, "the scrub ends");
            Stopping
        })
    }

    async fn troubled(&self, blob: BlobHash, error: &StoreError) {
        match error {
            // Removed meanwhile.
            StoreError::Missing(_) => (),
            StoreError::Changed { path } => {
                warn!(%blob, path = %path.display(), "a published file changed; it is not served any more");
                // Fails only when the driver has gone.
                let _ = self.core.driver.command(Command::Withdraw { blob }).await;
            }
            error => warn!(%blob, error = phrase(error), "the scrub cannot read a blob, and goes on with the next"),
        }
    }

    async fn save(&self) {
        let record = Arc::clone(&self.core.record);
        // Fails only by a panic, which is logged.
        let _ = blocking(move || {
            record.save();
            Ok(())
        })
        .await;
    }
}

/// The scrub as `status` shows it.
pub fn report(record: &Record, settings: Option<ScrubSettings>, held_bytes: u64) -> ScrubReport {
    let due = settings.map(|settings| record.round(|round| round.due_s(settings.period.as_secs())));
    let report = record.report();
    ScrubReport {
        enabled: settings.is_some(),
        rate: settings.and_then(|settings| settings.rate).map(NonZeroU64::get),
        period_s: settings.map(|settings| settings.period.as_secs()),
        total: if report.cycle_began_s.is_some() { held_bytes.max(report.checked) } else { 0 },
        next_cycle_s: due.filter(|_| report.cycle_began_s.is_none()),
        ..report
    }
}

/// Bytes of a blob's groups, as the record counts them.
pub fn damage(size: u64, groups: &p2pweights_protocol::span_set::SpanSet) -> DamageCount {
    let geometry = Geometry::of(size);
    DamageCount { damaged: groups.runs().map(|run| geometry.bytes_in(run)).sum(), ..DamageCount::default() }
}
