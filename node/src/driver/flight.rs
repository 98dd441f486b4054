//! The flight log: every fact that the engine got and every wish that followed, written down so that simnet can go through the run again.
//! Off the driver's path: a thread of its own turns them into lines and writes. The engine never waits for it; a log that falls behind
//! ends there and says so, since what follows a gap cannot be replayed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use p2pweights_protocol::engine::{EngineConfig, Input, Output};
use p2pweights_protocol::flight::{Ending, Header, Line, Step, VERSION};
use p2pweights_protocol::time::Instant;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// Steps that may wait for the disk. A busy node makes some thousand a second, so this is seconds of a disk that hangs.
const STEPS: usize = 16 * 1024;
/// Longest log. It stops there instead of starting anew: a flight without its beginning cannot be replayed. Some hundred gigabytes of
/// payload fit.
const LOG_BYTES: u64 = 256 * 1024 * 1024;
/// What every flight log begins with.
const BEGINNING: &[u8] = b"{\"flight\":";

/// Why there is no flight log.
#[derive(Debug, Error)]
pub enum FlightError {
    /// Something else lies there.
    #[error("{path} exists and is no flight log; choose another path for the flight log, or move that file away")]
    Taken {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error("cannot write the flight log {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A file for a flight log, with nothing in it yet.
#[derive(Debug)]
pub struct FlightFile {
    path: PathBuf,
    file: File,
    limit_bytes: u64,
}

impl FlightFile {
    /// Makes the file. A flight log that lies there already is kept as `<path>.previous`: it may tell why its node ended.
    pub fn create(path: &Path) -> Result<Self, FlightError> {
        let failed = |source| FlightError::Write { path: path.to_owned(), source };
        if let Ok(metadata) = fs::symlink_metadata(path) {
            if !metadata.is_file() || !is_flight_log(path).map_err(failed)? {
                return Err(FlightError::Taken { path: path.to_owned() });
            }
            let mut previous = path.as_os_str().to_owned();
            previous.push(".previous");
            fs::rename(path, previous).map_err(failed)?;
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        // It says who was talked to, and what about.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file, limit_bytes: LOG_BYTES })
    }
}

/// Whether a file begins like a flight log; one that its node had no time to begin counts.
fn is_flight_log(path: &Path) -> io::Result<bool> {
    let mut beginning = Vec::new();
    File::open(path)?.take(BEGINNING.len() as u64).read_to_end(&mut beginning)?;
    Ok(beginning.is_empty() || beginning == BEGINNING)
}

/// A flight log being written.
#[derive(Debug)]
pub struct FlightLog {
    /// Gone once the log has ended.
    steps: Option<mpsc::Sender<Step>>,
    /// Tells the writer why nothing more comes.
    ending: Option<oneshot::Sender<Ending>>,
    writer: JoinHandle<()>,
}

impl FlightLog {
    /// Begins the log of an engine of this making.
    pub fn start(file: FlightFile, config: &EngineConfig, seed: u64) -> Self {
        let (steps, queue) = mpsc::channel(STEPS);
        let (ending, ended) = oneshot::channel();
        let program = env!("CARGO_PKG_VERSION").to_owned();
        let header = Header { version: VERSION, program, seed, config: config.clone() };
        let writer = tokio::task::spawn_blocking(move || write(file, header, queue, ended));
        Self { steps: Some(steps), ending: Some(ending), writer }
    }

    /// Whether steps are still written down; if not, nobody needs to copy them.
    pub fn is_open(&self) -> bool {
        self.steps.is_some()
    }

    /// Writes a step down, without waiting.
    pub fn record(&mut self, now: Instant, input: Input, outputs: Vec<Output>) {
        let Some(steps) = &self.steps else { return };
        match steps.try_send(Step { now, input, outputs }) {
            Ok(()) => (),
            Err(mpsc::error::TrySendError::Full(_)) => {
                warn!("the disk is too slow for the flight log: it ends here");
                self.close(Ending::Behind);
            }
            // The writer has said why.
            Err(mpsc::error::TrySendError::Closed(_)) => self.steps = None,
        }
    }

    /// Ends the log with the node.
    pub async fn finish(mut self) {
        self.close(Ending::Stopped);
        if let Err(error) = self.writer.await {
            warn!(%error, "the flight log's writer failed");
        }
    }

    fn close(&mut self, ending: Ending) {
        if let (Some(_), Some(sender)) = (self.steps.take(), self.ending.take()) {
            // Fails only when the writer has ended by itself.
            let _ = sender.send(ending);
        }
    }
}

fn write(file: FlightFile, header: Header, queue: mpsc::Receiver<Step>, ended: oneshot::Receiver<Ending>) {
    let FlightFile { path, file, limit_bytes } = file;
    match write_lines(BufWriter::new(file), limit_bytes, header, queue, ended) {
        Ok(Ending::Stopped | Ending::Behind) => (),
        Ok(Ending::Full) => info!(path = %path.display(), limit_bytes, "the flight log is as long as it may be: it ends here"),
        Err(error) => warn!(path = %path.display(), %error, "the flight log cannot be written: it ends here"),
    }
}

/// Writes lines until the last step has been written, or the log is full; returns why it ended.
fn write_lines(
    mut file: impl Write,
    limit_bytes: u64,
    header: Header,
    mut queue: mpsc::Receiver<Step>,
    ended: oneshot::Receiver<Ending>,
) -> io::Result<Ending> {
    let text = Line::Flight(header).to_text();
    let mut written = text.len() as u64;
    file.write_all(text.as_bytes())?;
    file.flush()?;
    let ending = loop {
        // Nothing stays in memory while there is nothing to do: a crash is what such a log is for.
        let step = match queue.try_recv() {
            Ok(step) => Some(step),
            Err(_) => {
                file.flush()?;
                queue.blocking_recv()
            }
        };
        let Some(step) = step else { break ended.blocking_recv().unwrap_or(Ending::Stopped) };
        let text = Line::Step(step).to_text();
        written += text.len() as u64;
        if written > limit_bytes {
            break Ending::Full;
        }
        file.write_all(text.as_bytes())?;
    };
    file.write_all(Line::End(ending).to_text().as_bytes())?;
    file.flush()?;
    Ok(ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { version: VERSION, program: "test".into(), seed: 1, config: EngineConfig::default() }
    }

    fn tick(at: u64) -> Step {
        Step { now: Instant(at), input: Input::Tick, outputs: Vec::new() }
    }

    fn lines(text: &[u8]) -> Vec<Line> {
        text.split_inclusive(|byte| *byte == b'\n').map(|line| Line::parse(line).unwrap()).collect()
    }

    #[test]
    fn a_log_that_is_full_ends_and_says_so() {
        let first = Line::Flight(header()).to_text().len() as u64;
        let each = Line::Step(tick(1)).to_text().len() as u64;
        let (steps, queue) = mpsc::channel(8);
        let (_ending, ended) = oneshot::channel();
        (1..6).for_each(|at| steps.try_send(tick(at)).unwrap());
        let mut text = Vec::new();
        let ending = write_lines(&mut text, first + 2 * each, header(), queue, ended).unwrap();
        assert_eq!(ending, Ending::Full);
        let expected = [Line::Flight(header()), Line::Step(tick(1)), Line::Step(tick(2)), Line::End(Ending::Full)];
        assert_eq!(lines(&text), expected);
    }

    #[tokio::test]
    async fn a_log_that_falls_behind_keeps_what_it_has_and_says_so() {
        let (steps, queue) = mpsc::channel(2);
        let (ending, ended) = oneshot::channel();
        // A writer that has not come to write anything yet.
        let (begin, begun) = oneshot::channel::<()>();
        let (result, text) = oneshot::channel();
        let writer = tokio::task::spawn_blocking(move || {
            let mut text = Vec::new();
            begun.blocking_recv().unwrap();
            write_lines(&mut text, 1 << 20, header(), queue, ended).unwrap();
            result.send(text).unwrap();
        });
        let mut log = FlightLog { steps: Some(steps), ending: Some(ending), writer };
        (1..4).for_each(|at| log.record(Instant(at), Input::Tick, Vec::new()));
        assert!(!log.is_open(), "the third step found no room");
        log.record(Instant(4), Input::Tick, Vec::new());
        begin.send(()).unwrap();
        log.finish().await;
        let expected = [Line::Flight(header()), Line::Step(tick(1)), Line::Step(tick(2)), Line::End(Ending::Behind)];
        assert_eq!(lines(&text.await.unwrap()), expected);
    }

    #[test]
    fn a_disk_that_fails_ends_the_log_and_nothing_else() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (steps, queue) = mpsc::channel(8);
        let (_ending, ended) = oneshot::channel();
        assert!(write_lines(Broken, 1 << 20, header(), queue, ended).is_err());
        assert!(steps.try_send(tick(1)).is_err(), "the driver notices");
    }

    #[test]
    fn the_previous_log_is_kept_and_other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (path, previous) = (folder.path().join("flight.log"), folder.path().join("flight.log.previous"));
        drop(FlightFile::create(&path).unwrap());
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions()) & 0o777, 0o600);
        fs::write(&path, Line::Flight(header()).to_text()).unwrap();
        drop(FlightFile::create(&path).unwrap());
        assert_eq!(fs::read(&previous).unwrap(), Line::Flight(header()).to_text().into_bytes());
        assert!(fs::read(&path).unwrap().is_empty());
        fs::write(&path, "a letter").unwrap();
        assert!(matches!(FlightFile::create(&path), Err(FlightError::Taken { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"a letter");
        assert!(matches!(FlightFile::create(folder.path()), Err(FlightError::Taken { .. })));
        let missing = folder.path().join("missing").join("flight.log");
        assert!(matches!(FlightFile::create(&missing), Err(FlightError::Write { .. })));
    }
}
