//! Hashing files on all cores: BLAKE3, outboard and SHA-256 from one read. Worker threads read runs of a file and hash them for BLAKE3, in
//! whatever order; the thread that asks takes them in order, for SHA-256, which cannot be split, and for the outboard. Knows no store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};

use p2pweights_protocol::geometry::Geometry;
use p2pweights_protocol::ids::{BlobHash, Sha256};
use p2pweights_protocol::verify::{OutboardBuilder, RUN_BYTES, Run, RunBuilder};
use sha2::Digest;

use super::disk::DiskFile;
use super::slot::locked;

/// Most cores used. More would wait for the disk, and each costs four buffers.
const CORES_MAX: usize = 16;
/// Buffers for each worker beside those of the askers: one that it fills, one that waits.
const BUFFERS_PER_WORKER: usize = 2;
/// Buffers for each file being hashed: one that SHA-256 is at, one that comes next.
const BUFFERS_PER_FILE: usize = 2;

/// A file to hash, and where its bytes go besides.
pub(super) struct Source {
    pub(super) file: Arc<File>,
    pub(super) size: u64,
    pub(super) copy: Option<Arc<DiskFile>>,
}

/// What a file's bytes hash to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hashes {
    pub(super) blake3: BlobHash,
    pub(super) sha256: Option<Sha256>,
}

pub(super) enum HashError {
    Read(io::Error),
    Write(io::Error),
    /// The file is shorter or longer than its size was said to be.
    Changed,
    Cancelled,
}

/// A buffer, and what a worker made of it.
#[derive(Default)]
struct Piece {
    index: u64,
    bytes: Vec<u8>,
    run: Run,
}

impl Piece {
    /// Reads the bytes of this index and copies them where they are to go.
    fn fill(&mut self, source: &Source, index: u64) -> Result<(), HashError> {
        let offset = index * RUN_BYTES;
        let length = (source.size - offset).min(RUN_BYTES);
        self.index = index;
        self.bytes.resize(usize::try_from(length).expect("a run fits into memory"), 0);
        source.file.read_exact_at(&mut self.bytes, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => HashError::Changed,
            _ => HashError::Read(error),
        })?;
        source.copy.as_ref().map_or(Ok(()), |copy| copy.write_all_at(&self.bytes, offset)).map_err(HashError::Write)
    }
}

struct Job {
    source: Arc<Source>,
    index: u64,
    piece: Piece,
    done: SyncSender<(Piece, Result<(), HashError>)>,
}

/// Threads that hash, and the buffers they share: at most four mebibytes a core, however many files are hashed at once and however large.
pub(super) struct Hashers {
    with_sha256: bool,
    cores: usize,
    files_at_once: usize,
    /// Started with the first file that is worth it.
    workers: OnceLock<Workers>,
    spare: Mutex<Vec<Piece>>,
}

impl Hashers {
    /// For so many files; SHA-256 is left out if nobody wants it.
    pub(super) fn new(files: usize, with_sha256: bool) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(CORES_MAX);
        Self::with_cores(cores, files, with_sha256)
    }

    fn with_cores(cores: usize, files: usize, with_sha256: bool) -> Self {
        Self { with_sha256, cores, files_at_once: files.clamp(1, cores), workers: OnceLock::new(), spare: Mutex::default() }
    }

    /// How many files may be hashed at a time, each by a thread of the asker's.
    pub(super) fn files_at_once(&self) -> usize {
        self.files_at_once
    }

    /// Hashes a file; parents go to `outboard`. `progress` gets the bytes done so far and may stop it.
    pub(super) fn hash(
        &self,
        source: Source,
        outboard: &mut impl Write,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Hashes, HashError> {
        let (file, size) = (Arc::clone(&source.file), source.size);
        let hashes = if size > RUN_BYTES {
            self.hash_in_runs(source, outboard, progress)?
        } else {
            self.hash_here(&source, outboard, progress)?
        };
        match file.read_at(&mut [0], size) {
            Ok(0) => Ok(hashes),
            Ok(_) => Err(HashError::Changed),
            Err(error) => Err(HashError::Read(error)),
        }
    }

    /// All by the asker: a file of one run is not worth waking anybody.
    fn hash_here(
        &self,
        source: &Source,
        outboard: &mut impl Write,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Hashes, HashError> {
        let mut piece = self.take_spare();
        piece.fill(source, 0)?;
        let mut builder = OutboardBuilder::new(outboard);
        builder.update(&piece.bytes).map_err(HashError::Write)?;
        let (blake3, _) = builder.finish().map_err(HashError::Write)?;
        let sha256 = self.with_sha256.then(|| Sha256(sha2::Sha256::digest(&piece.bytes).into()));
        if source.size > 0 && progress(source.size).is_break() {
            return Err(HashError::Cancelled);
        }
        self.give_back(piece);
        Ok(Hashes { blake3, sha256 })
    }

    fn hash_in_runs(
        &self,
        source: Source,
        outboard: &mut impl Write,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Hashes, HashError> {
        let workers = self.workers.get_or_init(|| Workers::start(self.threads(), self.files_at_once * self.buffers_per_file()));
        let source = Arc::new(source);
        let runs = source.size.div_ceil(RUN_BYTES);
        let mut builder = RunBuilder::new(Geometry::of(source.size), outboard).expect("more than one run");
        let mut sha256 = self.with_sha256.then(sha2::Sha256::new);
        let mut free: Vec<Piece> = (0..self.buffers_per_file()).map(|_| self.take_spare()).collect();
        let (done, finished) = sync_channel(free.len());
        // What came before its turn.
        let mut early: BTreeMap<u64, Piece> = BTreeMap::new();
        let (mut asked, mut taken) = (0, 0);
        while taken < runs {
            while asked < runs
                && let Some(piece) = free.pop()
            {
                workers.ask(Job { source: Arc::clone(&source), index: asked, piece, done: done.clone() });
                asked += 1;
            }
            let Some(piece) = early.remove(&taken) else {
                let (piece, outcome) = finished.recv().expect("this thread could send itself");
                outcome?;
                early.insert(piece.index, piece);
                continue;
            };
            if let Some(sha256) = &mut sha256 {
                sha256.update(&piece.bytes);
            }
            builder.push(&piece.run).map_err(HashError::Write)?;
            free.push(piece);
            taken += 1;
            if progress(builder.bytes()).is_break() {
                return Err(HashError::Cancelled);
            }
        }
        free.into_iter().for_each(|piece| self.give_back(piece));
        let (blake3, _) = builder.finish().map_err(HashError::Write)?;
        Ok(Hashes { blake3, sha256: sha256.map(|sha256| Sha256(sha256.finalize().into())) })
    }

    /// How many workers there are: an asker that does SHA-256 needs a core of its own.
    fn threads(&self) -> usize {
        if self.with_sha256 { (self.cores - 1).max(1) } else { self.cores }
    }

    fn buffers_per_file(&self) -> usize {
        BUFFERS_PER_FILE + BUFFERS_PER_WORKER * self.threads() / self.files_at_once
    }

    fn take_spare(&self) -> Piece {
        locked(&self.spare).pop().unwrap_or_default()
    }

    /// What an abandoned file leaves behind is not given back, so there are never more than were taken.
    fn give_back(&self, piece: Piece) {
        locked(&self.spare).push(piece);
    }
}

/// The threads; they end with this.
struct Workers {
    jobs: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    fn start(threads: usize, queue: usize) -> Self {
        let (jobs, queued) = sync_channel(queue);
        let queued = Arc::new(Mutex::new(queued));
        let threads = (0..threads).map(|_| {
            thread::spawn({
                let queued = Arc::clone(&queued);
                move || work(&queued)
            })
        });
        Self { jobs: Some(jobs), threads: threads.collect() }
    }

    fn ask(&self, job: Job) {
        let jobs = self.jobs.as_ref().expect("taken only when this is dropped");
        jobs.send(job).expect("workers end only after this end");
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn work(queued: &Mutex<Receiver<Job>>) {
    loop {
        let Ok(Job { source, index, mut piece, done }) = locked(queued).recv() else { return };
        let outcome = piece.fill(&source, index);
        if outcome.is_ok() {
            piece.run.hash(index, &piece.bytes);
        }
        // Nobody listens once the file is given up.
        let _ = done.send((piece, outcome));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn buffers_are_few_whatever_is_hashed_and_used_again() {
        for cores in 1..=CORES_MAX {
            for (files, with_sha256) in
                [(1, true), (1, false), (2, true), (7, false), (7, true), (100_000, true), (100_000, false)]
            {
                let hashers = Hashers::with_cores(cores, files, with_sha256);
                let buffers = hashers.files_at_once() * hashers.buffers_per_file();
                assert!(buffers <= 4 * cores, "{buffers} buffers on {cores} cores for {files} files");
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let hashers = Hashers::with_cores(3, 1, true);
        let mut addresses = std::collections::BTreeSet::new();
        for number in 0..5 {
            let file = File::create_new(dir.path().join(number.to_string())).unwrap();
            file.set_len(number * 7 * RUN_BYTES).unwrap();
            let (file, size) =
                (Arc::new(File::open(dir.path().join(number.to_string())).unwrap()), file.metadata().unwrap().size());
            let source = Source { file, size, copy: None };
            assert!(hashers.hash(source, &mut Vec::new(), &mut |_| ControlFlow::Continue(())).is_ok());
            addresses.extend(
                locked(&hashers.spare).iter().filter(|piece| piece.bytes.capacity() > 0).map(|piece| piece.bytes.as_ptr().addr()),
            );
        }
        assert!(addresses.len() <= hashers.buffers_per_file(), "{} buffers were made", addresses.len());
    }
}
