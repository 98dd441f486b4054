//! Reused buffers between a network task and a blocking thread: fresh memory for each block costs more than the copy.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use p2pweights_protocol::verify::Feed;
use tokio::sync::mpsc;

use super::budget::Share;
use super::locked;

/// Bytes of one buffer: a stream's own frames are 16 KiB, and handing one over wakes a thread.
pub const BUFFER_BYTES: usize = 128 * 1024;
/// Buffers on their way between the two ends of one stream.
const BUFFERS: usize = 4;

/// Buffers of one stream that are free.
#[derive(Debug, Clone, Default)]
pub struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    /// An empty buffer with room for [`BUFFER_BYTES`].
    pub fn take(&self) -> Vec<u8> {
        locked(&self.0).pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Gives a buffer back.
    pub fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut free = locked(&self.0);
        if free.len() < BUFFERS + 2 {
            free.push(buffer);
        }
    }
}

/// A bounded channel of filled buffers, with what else there is to say about each.
pub fn channel<B>() -> (mpsc::Sender<B>, mpsc::Receiver<B>) {
    mpsc::channel(BUFFERS)
}

/// A buffer that came from a stream, and what it takes of the budget.
pub type Filled = (Vec<u8>, Share);

/// The blocking end that reads: a network task fills the channel.
#[derive(Debug)]
pub struct BlockingReader {
    filled: mpsc::Receiver<Filled>,
    pool: Pool,
    current: Vec<u8>,
    /// What `current` takes of the budget.
    share: Option<Share>,
    position: usize,
    /// What lies across buffers, put together.
    joined: Vec<u8>,
}

impl BlockingReader {
    /// Reads what comes through the channel.
    pub fn new(filled: mpsc::Receiver<Filled>, pool: Pool) -> Self {
        Self { filled, pool, current: Vec::new(), share: None, position: 0, joined: Vec::new() }
    }
}

impl BlockingReader {
    /// Makes `current` have bytes left; `false` at the end.
    fn next(&mut self) -> bool {
        while self.position == self.current.len() {
            // Nothing is left of the last one.
            self.share = None;
            let Some((next, share)) = self.filled.blocking_recv() else { return false };
            self.share = Some(share);
            self.pool.give_back(std::mem::replace(&mut self.current, next));
            self.position = 0;
        }
        true
    }
}

impl Feed for BlockingReader {
    fn has(&mut self, bytes: usize) -> bool {
        self.current.len() - self.position >= bytes || !self.filled.is_empty()
    }

    fn take(&mut self, bytes: usize) -> io::Result<&[u8]> {
        if bytes > 0 && !self.next() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let at = self.position;
        if self.current.len() - at >= bytes {
            self.position += bytes;
            return Ok(&self.current[at..self.position]);
        }
        self.joined.clear();
        while self.joined.len() < bytes {
            if !self.next() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let part = &self.current[self.position..];
            let part = &part[..part.len().min(bytes - self.joined.len())];
            self.joined.extend_from_slice(part);
            self.position += part.len();
        }
        Ok(&self.joined)
    }
}

/// A buffer, and what it is the end of, if it is the end of something.
pub type Marked<M> = (Vec<u8>, Option<M>);

/// The blocking end that writes: a network task empties the channel.
#[derive(Debug)]
pub struct BlockingWriter<M> {
    filled: mpsc::Sender<Marked<M>>,
    pool: Pool,
    current: Vec<u8>,
}

impl<M> BlockingWriter<M> {
    /// Writes into the channel.
    pub fn new(filled: mpsc::Sender<Marked<M>>, pool: Pool) -> Self {
        let current = pool.take();
        Self { filled, pool, current }
    }

    /// Hands over what there is, perhaps nothing; `mark` says what it is the end of.
    pub fn hand_over(&mut self, mark: Option<M>) -> io::Result<()> {
        let full = std::mem::replace(&mut self.current, self.pool.take());
        self.filled.blocking_send((full, mark)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl<M> Write for BlockingWriter<M> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BUFFER_BYTES - self.current.len());
        self.current.extend_from_slice(&bytes[..count]);
        if self.current.len() == BUFFER_BYTES {
            self.hand_over(None)?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.current.is_empty() { Ok(()) } else { self.hand_over(None) }
    }
}
