//! Reused buffers between a network task and a blocking thread: fresh memory for each block costs more than the copy.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use super::locked;

/// Bytes of one buffer. Handing one over wakes a thread, so half as much cost a fifth of the speed; fifty streams with four each take
/// 50 MiB.
pub const BUFFER_BYTES: usize = 256 * 1024;
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

/// The blocking end that reads: a network task fills the channel.
#[derive(Debug)]
pub struct BlockingReader {
    filled: mpsc::Receiver<Vec<u8>>,
    pool: Pool,
    current: Vec<u8>,
    position: usize,
}

impl BlockingReader {
    /// Reads what comes through the channel.
    pub fn new(filled: mpsc::Receiver<Vec<u8>>, pool: Pool) -> Self {
        Self { filled, pool, current: Vec::new(), position: 0 }
    }
}

impl Read for BlockingReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.position == self.current.len() {
            let Some(next) = self.filled.blocking_recv() else { return Ok(0) };
            self.pool.give_back(std::mem::replace(&mut self.current, next));
            self.position = 0;
        }
        let count = out.len().min(self.current.len() - self.position);
        out[..count].copy_from_slice(&self.current[self.position..self.position + count]);
        self.position += count;
        Ok(count)
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

    /// Hands over what there is, perhaps nothing, as the end of something.
    pub fn end(&mut self, mark: M) -> io::Result<()> {
        self.hand_over(Some(mark))
    }

    fn hand_over(&mut self, mark: Option<M>) -> io::Result<()> {
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
