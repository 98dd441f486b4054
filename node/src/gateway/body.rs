//! The bytes of a file on their way to a client: read and proved in portions on blocking threads, the next one while the last is sent. What
//! is not here yet is waited for; what does not prove is never sent, and fetched again if anybody has it.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use p2pweights_protocol::geometry::{GROUP_BYTES, Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::link::Link;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::arrivals::{Arrivals, Waiter};
use crate::failure::phrase;
use crate::node::Core;
use crate::store::{BeingRead, BlobReader, ReadError, Store, StoreError, locked};

/// Groups read, proved and sent at a time where many read: 256 KiB. Each client has at most three portions in memory: one being read, one
/// handed over, one that the connection is sending.
const PORTION_GROUPS: u64 = 256 * 1024 / GROUP_BYTES;
/// The same where few read: 1 MiB. Half the threads' hand-overs, and of the proofs' paths, are what a single client's speed is made of.
const LARGE_PORTION_GROUPS: u64 = 1024 * 1024 / GROUP_BYTES;
/// So many bodies at a time are few: 72 MiB at worst.
const FEW: usize = 24;
/// Buffers kept for the next: enough for the clients of one machine, little enough to forget.
const BUFFERS_KEPT: usize = 16;
/// So often damage is looked past in one body: then the disk is no place to read from.
const DAMAGES: u32 = 3;

/// Buffers that were used, for the next use.
#[derive(Debug, Default)]
pub struct Buffers {
    unused: Mutex<Vec<Vec<u8>>>,
    /// Bodies that are being sent.
    bodies: AtomicUsize,
}

/// While it is there, a body is being sent.
struct BodyCount(Arc<Buffers>);

impl BodyCount {
    fn begin(buffers: &Arc<Buffers>) -> Self {
        buffers.bodies.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(buffers))
    }
}

impl Drop for BodyCount {
    fn drop(&mut self) {
        self.0.bodies.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A buffer that goes back when its last byte is sent.
struct Lent {
    bytes: Vec<u8>,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut buffers = locked(&self.home.unused);
        if buffers.len() < BUFFERS_KEPT {
            buffers.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl Buffers {
    /// A buffer of at least this length.
    fn take(self: &Arc<Self>, length: usize) -> Lent {
        let bytes = locked(&self.unused).pop().filter(|bytes| bytes.len() >= length).unwrap_or_else(|| vec![0; length]);
        Lent { bytes, home: Arc::clone(self) }
    }

    fn portion_groups(&self) -> u64 {
        if self.bodies.load(Ordering::Relaxed) <= FEW { LARGE_PORTION_GROUPS } else { PORTION_GROUPS }
    }
}

/// A file, as far as its body needs to know it.
#[derive(Debug, Clone)]
pub struct FileBytes {
    /// The blob.
    pub blob: BlobHash,
    /// Its size.
    pub size: u64,
    /// The model that it belongs to, and who may have that.
    pub link: Link,
}

/// A body of these bytes of a file. It ends early, which breaks the connection, if they cannot be had.
pub fn body(core: &Arc<Core>, arrivals: &Arc<Arrivals>, buffers: &Arc<Buffers>, file: FileBytes, bytes: Range<u64>) -> Body {
    let sending = Sending {
        core: Arc::clone(core),
        arrivals: Arc::clone(arrivals),
        buffers: Arc::clone(buffers),
        _counted: BodyCount::begin(buffers),
        geometry: Geometry::of(file.size),
        file,
        at: bytes.start,
        end: bytes.end,
        open: None,
        waiter: None,
        next: None,
        damages: 0,
    };
    Body::from_stream(futures::stream::try_unfold(sending, |mut sending| async move {
        let portion = sending.portion().await?;
        Ok::<_, io::Error>(portion.map(|portion| (portion, sending)))
    }))
}

type Read = (u64, JoinHandle<Result<Bytes, ReadFailure>>);

struct Sending {
    core: Arc<Core>,
    arrivals: Arc<Arrivals>,
    buffers: Arc<Buffers>,
    _counted: BodyCount,
    file: FileBytes,
    geometry: Geometry,
    at: u64,
    end: u64,
    /// The blob, once something of it was there; and its mark against eviction.
    open: Option<(Arc<BlobReader>, BeingRead)>,
    /// There while something is not here.
    waiter: Option<Waiter>,
    /// The next portion on its way, and where it ends.
    next: Option<Read>,
    damages: u32,
}

/// Why a portion could not be read.
enum ReadFailure {
    Open(StoreError),
    Read { span: Span, error: ReadError },
}

impl Sending {
    /// The next bytes; `None` at the end.
    async fn portion(&mut self) -> io::Result<Option<Bytes>> {
        while self.at < self.end {
            if self.core.stop.is_cancelled() {
                return Err(cut("the node is shutting down"));
            }
            let (end, read) = match self.next.take() {
                Some(next) => next,
                None => {
                    let core = Arc::clone(&self.core);
                    let span = tokio::select! {
                        span = self.wait() => span?,
                        () = core.stop.cancelled() => return Err(cut("the node is shutting down")),
                    };
                    self.begin(span).await?
                }
            };
            match read.await.map_err(io::Error::other)? {
                Ok(bytes) => {
                    self.at = end;
                    self.read_ahead().await?;
                    return Ok(Some(bytes));
                }
                Err(failure) => self.look_past(failure).await?,
            }
        }
        Ok(None)
    }

    /// Waits until something of what comes next is here, and says what.
    async fn wait(&mut self) -> io::Result<Span> {
        let group = self.at / GROUP_BYTES;
        let readable = self.core.store.readable(self.file.blob, group);
        let groups = if readable > 0 {
            readable
        } else {
            let FileBytes { blob, size, link } = &self.file;
            let waiter = self.waiter.get_or_insert_with(|| self.arrivals.read(link, *blob, *size, group));
            waiter.wait_for(group).await.map_err(|failure| cut(&failure.message))?
        };
        Ok(self.span(group, groups))
    }

    /// The next portion, of which so many groups are here. Portions begin at multiples of their size, where the proof is shortest.
    fn span(&self, group: u64, readable: u64) -> Span {
        let portion = self.buffers.portion_groups();
        let portion_end = (group / portion + 1) * portion;
        let end = portion_end.min(group + readable).min(self.end.div_ceil(GROUP_BYTES));
        Span::new(group, end).expect("at least one group is readable, and wanted")
    }

    /// Has what comes after read, if it is here.
    async fn read_ahead(&mut self) -> io::Result<()> {
        if self.at >= self.end {
            self.waiter = None;
            return Ok(());
        }
        let group = self.at / GROUP_BYTES;
        if let Some(waiter) = &mut self.waiter {
            waiter.move_to(group);
        }
        let readable = self.core.store.readable(self.file.blob, group);
        if readable > 0 {
            let span = self.span(group, readable);
            self.next = Some(self.begin(span).await?);
        }
        Ok(())
    }

    /// Has a span read on a blocking thread.
    async fn begin(&mut self, span: Span) -> io::Result<Read> {
        let range = self.geometry.byte_range(span);
        let wanted = self.at.max(range.start)..self.end.min(range.end);
        let part = (wanted.start - range.start) as usize..(wanted.end - range.start) as usize;
        let length = (range.end - range.start) as usize;
        if self.open.is_none() {
            let (store, blob) = (self.core.store.clone(), self.file.blob);
            let opened = tokio::task::spawn_blocking(move || store.reader(blob)).await.map_err(io::Error::other)?;
            match opened {
                Ok(reader) => {
                    let being_read = reader.being_read();
                    self.open = Some((Arc::new(reader), being_read));
                }
                Err(error) => {
                    let failure = ReadFailure::Open(error);
                    return Ok((wanted.start, tokio::spawn(async { Err(failure) })));
                }
            }
        }
        let (reader, _) = self.open.as_ref().ok_or_else(|| cut("it is not open"))?;
        let (reader, buffers) = (Arc::clone(reader), Arc::clone(&self.buffers));
        let read = tokio::task::spawn_blocking(move || {
            let mut lent = buffers.take(length);
            match reader.read_span(span, &mut lent.bytes[..length]) {
                Ok(()) => Ok(Bytes::from_owner(lent).slice(part)),
                Err(error) => Err(ReadFailure::Read { span, error }),
            }
        });
        Ok((wanted.end, read))
    }

    /// What could not be read is looked at again: the store takes damage out of what is held, and then it is fetched like anything else that
    /// is missing. An error when that has happened too often.
    async fn look_past(&mut self, failure: ReadFailure) -> io::Result<()> {
        self.damages += 1;
        (self.open, self.next) = (None, None);
        // A fetch that has ended well does not know of this.
        self.waiter = None;
        let blob = self.file.blob;
        let error = match &failure {
            ReadFailure::Open(error) => phrase(error),
            ReadFailure::Read { error, .. } => phrase(error),
        };
        warn!(%blob, at = self.at, error, "not readable");
        if self.damages > DAMAGES {
            return Err(cut(&error));
        }
        match failure {
            ReadFailure::Read { span, error: ReadError::Damaged { .. } | ReadError::Io(_) } => {
                let store = self.core.store.clone();
                tokio::task::spawn_blocking(move || suspect(&store, blob, span)).await.map_err(io::Error::other)
            }
            // The owner changed the file: the store has noticed, the others are to know.
            ReadFailure::Open(StoreError::Changed { .. }) | ReadFailure::Read { error: ReadError::Changed { .. }, .. } => {
                self.core.withdraw(blob).await.map_err(|failure| cut(&failure.message))
            }
            _ => Ok(()),
        }
    }
}

fn suspect(store: &Store, blob: BlobHash, span: Span) {
    if let Err(error) = store.suspect(blob, span) {
        debug!(%blob, error = phrase(&error), "damage not recorded");
    }
}

fn cut(why: &str) -> io::Error {
    io::Error::other(why.to_owned())
}
