//! Answers on their way out over a direct connection, as the thread sees them that reads and proves them: encrypted where they lie and
//! given to the socket, with no copy in between.

use std::io::{self, Write};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Cap;
use crate::net::RecordWriter;

/// Encrypted bytes that are collected for one system call.
const WRITE_BYTES: usize = 128 * 1024;
/// Writes below this are collected: headers and parents, which would make records of their own.
const SMALL: usize = 4096;

/// A direct connection to write to.
pub struct SocketOutlet {
    writer: RecordWriter,
    /// Small writes; they go out before anything that follows them.
    small: Vec<u8>,
    cap: Cap,
    runtime: Handle,
    stop: CancellationToken,
    /// How long the peer may take nothing.
    patience: Duration,
}

impl SocketOutlet {
    /// Keeps within the cap; `stop` ends a wait for it. Called within a runtime, used outside of its tasks.
    pub fn new(writer: RecordWriter, cap: Cap, stop: CancellationToken, patience: Duration) -> Self {
        Self { writer, small: Vec::with_capacity(2 * SMALL), cap, runtime: Handle::current(), stop, patience }
    }

    fn seal_small(&mut self) -> io::Result<()> {
        if !self.small.is_empty() {
            self.writer.seal(&self.small)?;
            self.small.clear();
        }
        Ok(())
    }

    /// Writes all that waits.
    fn drain(&mut self) -> io::Result<()> {
        while self.writer.queued() > 0 {
            let most = self.cap.turn_bytes().min(self.writer.queued());
            // Waiting for the cap is not the peer's fault, and not counted against it.
            if !self.cap.pass_blocking(most, &self.runtime, &self.stop) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let mut left = most;
            while left > 0 {
                left -= self.writer.write(left, self.patience)?;
            }
        }
        Ok(())
    }
}

impl Write for SocketOutlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() < SMALL {
            if self.small.len() + bytes.len() > SMALL {
                self.seal_small()?;
            }
            self.small.extend_from_slice(bytes);
        } else {
            self.seal_small()?;
            self.writer.seal(bytes)?;
            if self.writer.queued() >= WRITE_BYTES {
                self.drain()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.seal_small()?;
        self.drain()
    }
}
