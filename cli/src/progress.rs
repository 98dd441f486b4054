//! How a fetch, a publish, an import or a verify is shown while it runs: bars on a terminal, plain lines when piped, JSON lines when asked for.
//! Knows events, not where they come from.

mod bar_set;
mod file_bars;
mod import;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use p2pweights_node::report::{FetchEvent, FilePlan, MirrorReport, PublishEvent, SourceReport, VerifyEvent};

use crate::failure::CommandError;
use crate::output::{Output, table};
use crate::size;
use bar_set::BarSet;
use file_bars::FileBars;
pub use import::ImportProgress;

/// Plain lines: at most one in this time at first …
const EARLY_LINE_INTERVAL: Duration = Duration::from_secs(1);
/// … and in this time once it is clear that it takes long, so that a log stays readable.
const LATE_LINE_INTERVAL: Duration = Duration::from_secs(10);
/// What "at first" means.
const EARLY: Duration = Duration::from_secs(30);
/// A line also for each such part of the whole, so that a short transfer shows more than its end.
const LINE_PERCENT: u64 = 5;

/// Decides when a plain line is due.
#[derive(Debug)]
struct LineClock {
    started: Instant,
    last: Option<(Instant, u64)>,
}

impl LineClock {
    fn new() -> Self {
        Self { started: Instant::now(), last: None }
    }

    fn is_due(&mut self, bytes: u64, total: u64) -> bool {
        let percent = bytes.saturating_mul(100) / total.max(1);
        let interval = if self.started.elapsed() < EARLY { EARLY_LINE_INTERVAL } else { LATE_LINE_INTERVAL };
        let due = match self.last {
            None => true,
            Some((at, before)) => at.elapsed() >= interval || percent >= before + LINE_PERCENT,
        };
        if due {
            self.last = Some((Instant::now(), percent));
        }
        due
    }
}

/// Shows a fetch.
#[derive(Debug)]
pub struct FetchProgress {
    output: Output,
    dry_run: bool,
    labels: BTreeMap<String, String>,
    plan: Option<Plan>,
    clock: LineClock,
    search: Option<(u64, usize, usize)>,
    bars: BarSet,
    /// How files were put into their places.
    placed: BTreeSet<String>,
}

#[derive(Debug)]
struct Plan {
    name: String,
    files: Vec<FilePlan>,
    held: u64,
}

impl FetchProgress {
    /// For this output; `dry_run`: the plan is the result.
    pub fn new(output: Output, dry_run: bool) -> Self {
        Self {
            output,
            dry_run,
            labels: BTreeMap::new(),
            plan: None,
            clock: LineClock::new(),
            search: None,
            bars: BarSet::spinning(output, "looking for providers …"),
            placed: BTreeSet::new(),
        }
    }

    /// Calls peers by these names instead of their ids.
    pub fn with_labels(mut self, labels: BTreeMap<String, String>) -> Self {
        self.labels = labels;
        self
    }

    /// Shows what happened. `Failed` is not for here: whoever ends the command says it once.
    pub fn event(&mut self, event: &FetchEvent) -> Result<(), CommandError> {
        if self.output.is_json() {
            return self.output.json(event);
        }
        match event {
            FetchEvent::Searching { peers_asked, connected, providers } => self.searching(*peers_asked, *connected, *providers),
            FetchEvent::Plan { hash, name, files, bytes, held, .. } => {
                let name = name.clone().unwrap_or_else(|| hash.chars().take(10).collect());
                self.planned(Plan { name, files: files.clone(), held: *held }, *bytes)
            }
            FetchEvent::Progress { bytes, total, rate, eta_s, sources, files } => {
                for file in files {
                    self.file_progress(file.file, file.bytes);
                }
                let eta = eta_s.map_or_else(String::new, |seconds| format!(", {} left", size::duration(seconds)));
                let tail = format!("{} from {}{eta}", size::rate(*rate), size::count(*sources, "source"));
                self.total_progress(*bytes, *total, &tail)
            }
            FetchEvent::File { path, how, .. } => {
                self.placed.insert(how.clone());
                self.bars.remove(path);
                Ok(())
            }
            FetchEvent::Paused { reason } => self.bars.aside(
                self.output,
                &format!("paused: {reason}; what is verified is kept, and it goes on by itself once there is room"),
            ),
            FetchEvent::Resumed => self.bars.aside(self.output, "there is room again: going on"),
            FetchEvent::Warning { message } => self.bars.aside(self.output, &format!("warning: {message}")),
            FetchEvent::Done { bytes, fetched, seconds, sources, mirrors, output, .. } => {
                self.bars.clear();
                if self.dry_run {
                    return Ok(());
                }
                let place = output.as_ref().map(|path| path.display().to_string());
                let mirror = |mirror: &MirrorReport| SourceReport { peer: format!("mirror {}", mirror.url), bytes: mirror.bytes };
                let sources: Vec<SourceReport> = sources.iter().cloned().chain(mirrors.iter().map(mirror)).collect();
                self.summary(*bytes, *fetched, *seconds, &sources, place)
            }
            FetchEvent::Failed(_) => Ok(()),
        }
    }

    fn searching(&mut self, asked: u64, connected: usize, providers: usize) -> Result<(), CommandError> {
        let text = format!(
            "looking for providers: {} found, {asked} asked, {} connected",
            size::count(providers, "provider"),
            size::count(connected, "peer")
        );
        if self.bars.is_drawn() {
            if self.plan.is_none() {
                self.bars.say(text);
            }
            return Ok(());
        }
        let state = (asked, connected, providers);
        if self.search != Some(state) && self.clock.is_due(0, 1) {
            self.search = Some(state);
            return self.output.line(&text);
        }
        Ok(())
    }

    fn planned(&mut self, plan: Plan, bytes: u64) -> Result<(), CommandError> {
        let held = if plan.held > 0 { format!(", {} held already", size::bytes(plan.held)) } else { String::new() };
        let verb = if self.dry_run { "would fetch" } else { "fetching" };
        let heading = format!("{verb} {}: {}, {}{held}", plan.name, size::count(plan.files.len(), "file"), size::bytes(bytes));
        if self.dry_run {
            self.bars.clear();
            self.output.line(&heading)?;
            let row = |file: &FilePlan| {
                vec![file.hash.clone(), size::bytes(file.bytes), size::percent(file.held, file.bytes), file.path.clone()]
            };
            let rows: Vec<_> = plan.files.iter().map(row).collect();
            table(&["BLAKE3", ">size", ">held", "path"], &rows).iter().try_for_each(|line| self.output.line(line))?;
        } else {
            self.bars.aside(self.output, &heading)?;
            self.bars.settle();
            self.bars.show(plan.held, bytes, String::new());
            self.clock = LineClock::new();
        }
        self.plan = Some(plan);
        Ok(())
    }

    fn file_progress(&mut self, index: usize, bytes: u64) {
        let Some(file) = self.plan.as_ref().and_then(|plan| plan.files.get(index)) else { return };
        if bytes >= file.bytes {
            self.bars.remove(&file.path);
        } else {
            self.bars.show_file(&file.path, bytes, file.bytes);
        }
    }

    fn total_progress(&mut self, bytes: u64, total: u64, tail: &str) -> Result<(), CommandError> {
        if self.bars.is_drawn() {
            self.bars.show(bytes, total, format!("{} of {}, {tail}", size::percent(bytes, total), size::bytes(total)));
        } else if self.clock.is_due(bytes, total) {
            let line = format!("{} of {} ({}), {tail}", size::bytes(bytes), size::bytes(total), size::percent(bytes, total));
            return self.output.line(&line);
        }
        Ok(())
    }

    fn summary(
        &self,
        bytes: u64,
        fetched: u64,
        seconds: f64,
        sources: &[SourceReport],
        place: Option<String>,
    ) -> Result<(), CommandError> {
        let (files, name) = self.plan.as_ref().map_or((0, ""), |plan| (plan.files.len(), plan.name.as_str()));
        let rate = size::rate(size::average_rate(fetched, seconds));
        let mut lines = vec![format!("{name}: {}, {}, every byte proved", size::count(files, "file"), size::bytes(bytes))];
        lines.push(format!(
            "fetched {} in {seconds:.1} s, {rate}; {} was here before",
            size::bytes(fetched),
            size::bytes(bytes.saturating_sub(fetched))
        ));
        lines.extend(source_lines(sources, &self.labels));
        lines.push(
            place.map_or_else(|| "it is in the store".to_owned(), |place| format!("it lies in {place}{}", self.placed_how())),
        );
        lines.iter().try_for_each(|line| self.output.line(line))
    }

    /// Whether the files take room twice.
    fn placed_how(&self) -> &'static str {
        let any = |how: &str| self.placed.contains(how);
        match (any("copied"), any("linked"), any("shared")) {
            (true, ..) => ", copied: it is another file system than the store's, which has it too",
            (false, true, _) => ", linked: the store has the same files under other names",
            (false, false, true) => ", sharing the store's blocks",
            (false, false, false) => "",
        }
    }
}

/// Who delivered how much, the largest first.
pub fn source_lines(sources: &[SourceReport], labels: &BTreeMap<String, String>) -> Vec<String> {
    let total = sources.iter().map(|source| source.bytes).sum();
    let mut sources: Vec<_> = sources.iter().collect();
    sources.sort_by_key(|source| std::cmp::Reverse(source.bytes));
    let row = |source: &&SourceReport| {
        let label = labels.get(&source.peer).map_or_else(|| source.peer.clone(), |label| format!("{label}  {}", source.peer));
        vec!["  from".to_owned(), size::bytes(source.bytes), size::percent(source.bytes, total), label]
    };
    table(&["", ">", ">", ""], &sources.iter().map(row).collect::<Vec<_>>())
}

/// Shows a publish.
#[derive(Debug)]
pub struct PublishProgress {
    output: Output,
    bars: FileBars,
}

impl PublishProgress {
    /// For this output.
    pub fn new(output: Output) -> Self {
        Self { output, bars: FileBars::new(output, "hashed") }
    }

    /// Shows what happened. `Failed` is not for here: whoever ends the command says it once.
    pub fn event(&mut self, event: &PublishEvent) -> Result<(), CommandError> {
        if self.output.is_json() {
            return self.output.json(event);
        }
        match event {
            PublishEvent::Progress { bytes, total, rate, eta_s, files } => {
                self.bars.show(*bytes, *total, *rate, *eta_s, files)?
            }
            PublishEvent::File { path, .. } => self.bars.remove(path),
            PublishEvent::Done(_) => self.bars.clear(),
            PublishEvent::Failed(_) => (),
        }
        Ok(())
    }
}

/// Shows a verify.
#[derive(Debug)]
pub struct VerifyProgress {
    output: Output,
    bars: FileBars,
}

impl VerifyProgress {
    /// For this output.
    pub fn new(output: Output) -> Self {
        Self { output, bars: FileBars::new(output, "read") }
    }

    /// Shows what happened. `Failed` is not for here: whoever ends the command says it once.
    pub fn event(&mut self, event: &VerifyEvent) -> Result<(), CommandError> {
        if self.output.is_json() {
            return self.output.json(event);
        }
        match event {
            VerifyEvent::Progress { bytes, total, rate, eta_s } => self.bars.show(*bytes, *total, *rate, *eta_s, &[])?,
            VerifyEvent::Mending { blobs, bytes } => {
                self.bars.say(format!("mending {}, {} left", size::count(*blobs, "blob"), size::bytes(*bytes)))?
            }
            VerifyEvent::Blob(_) | VerifyEvent::Failed(_) => (),
            VerifyEvent::Done(_) => self.bars.clear(),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn piped_lines_do_not_flood() {
        let mut clock = LineClock::new();
        let lines = (0..=1000).filter(|bytes| clock.is_due(*bytes, 1000)).count();
        assert!((2..=22).contains(&lines), "{lines} lines");
    }
}
