//! An encrypted TCP connection of which each side can be used from a task or from a thread of its own.
//!
//! Payload goes through threads that block: no wake-up for each buffer, and bytes stay in one core's cache from the socket to the disk.
//! The other direction, which carries only requests, is left to tasks.

use std::fmt;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use super::records::{Inbound, Outbound, RECORD_BYTES, Records};

/// Bytes that a task lets wait before it takes more.
const QUEUE: usize = 4 * RECORD_BYTES;

/// A connection after its handshake.
#[derive(Debug)]
pub struct Sealed {
    /// What comes.
    pub reader: SealedReader,
    /// What goes.
    pub writer: SealedWriter,
}

impl Sealed {
    /// Takes over a socket on which the handshake is over.
    pub(super) fn new(socket: TcpStream, records: Records) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let twin = socket.try_clone()?;
        Ok(Self {
            reader: SealedReader { socket: watched(socket, Interest::READABLE)?, records: records.inbound },
            writer: SealedWriter { socket: watched(twin, Interest::WRITABLE)?, records: records.outbound },
        })
    }

    /// What ends the connection when it is dropped, whoever waits for it.
    pub fn closer(&self) -> io::Result<Closer> {
        Ok(Closer(self.reader.socket.get_ref().try_clone()?))
    }
}

/// A socket watched for one direction only: a task is not to be woken for payload that a thread takes care of.
#[expect(
    deprecated,
    reason = "what replaces it cannot be called from safe code; a TcpStream keeps its descriptor, which is all it is about"
)]
fn watched(socket: TcpStream, interest: Interest) -> io::Result<AsyncFd<TcpStream>> {
    AsyncFd::with_interest(socket, interest)
}

/// Ends a connection when it is dropped.
#[derive(Debug)]
pub struct Closer(TcpStream);

impl Drop for Closer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// The side that reads, for a task.
pub struct SealedReader {
    socket: AsyncFd<TcpStream>,
    records: Inbound,
}

impl SealedReader {
    /// The same side, for a thread.
    pub fn blocking(self) -> RecordReader {
        RecordReader { socket: self.socket.into_inner(), records: self.records }
    }
}

/// The side that writes, for a task.
pub struct SealedWriter {
    socket: AsyncFd<TcpStream>,
    records: Outbound,
}

impl SealedWriter {
    /// The same side, for a thread.
    pub fn blocking(self) -> RecordWriter {
        RecordWriter { socket: self.socket.into_inner(), records: self.records }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>, down_to: usize) -> Poll<io::Result<()>> {
        while self.records.queued() > down_to {
            match self.records.write_to(self.socket.get_ref(), usize::MAX) {
                Ok(_) => (),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_write_ready(cx))?.clear_ready();
                    // Asked again, for whatever happened in between.
                    match self.records.write_to(self.socket.get_ref(), usize::MAX) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                        Err(error) => return Poll::Ready(Err(error)),
                        Ok(_) => (),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for SealedReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let count = this.records.plain().len().min(buf.remaining());
            if count > 0 {
                buf.put_slice(this.records.consume(count));
                return Poll::Ready(Ok(()));
            }
            if this.records.open_next()? {
                continue;
            }
            if this.records.is_closed() {
                return Poll::Ready(Ok(()));
            }
            match this.records.fill(this.socket.get_ref(), 0, usize::MAX) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(_) => (),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut guard = ready!(this.socket.poll_read_ready(cx))?;
                    // Ready, or was ready once: the next attempt tells.
                    match this.records.fill(this.socket.get_ref(), 0, usize::MAX) {
                        Ok(0) => return Poll::Ready(Ok(())),
                        Ok(_) => (),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for SealedWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(cx, QUEUE))?;
        let count = bytes.len().min(RECORD_BYTES);
        self.records.seal(&bytes[..count])?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_drain(cx, 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx, 0))?;
        Poll::Ready(self.socket.get_ref().shutdown(Shutdown::Write))
    }
}

impl AsyncRead for Sealed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for Sealed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

impl fmt::Debug for SealedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedReader").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl fmt::Debug for SealedWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedWriter").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// How a look for more payload went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// So many bytes came out of the socket; there may be a record among them.
    Read(usize),
    /// Nothing yet.
    Nothing,
    /// Nothing will ever come again.
    End,
}

/// The side that reads, for a thread.
pub struct RecordReader {
    socket: TcpStream,
    records: Inbound,
}

impl RecordReader {
    /// What has come.
    pub fn records(&mut self) -> &mut Inbound {
        &mut self.records
    }

    /// Reads once without waiting.
    pub fn look(&mut self, room: usize, most: usize) -> io::Result<Look> {
        if self.records.is_closed() {
            return Ok(Look::End);
        }
        match self.records.fill(&self.socket, room, most) {
            Ok(0) => Ok(Look::End),
            Ok(count) => Ok(Look::Read(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Look::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Waits until there is something to read, or the time is over: then `false`.
    pub fn wait(&self, most: Duration) -> io::Result<bool> {
        wait(&self.socket, PollFlags::IN, most)
    }
}

/// The side that writes, for a thread.
pub struct RecordWriter {
    socket: TcpStream,
    records: Outbound,
}

impl RecordWriter {
    /// Bytes that wait to be written.
    pub fn queued(&self) -> usize {
        self.records.queued()
    }

    /// Encrypts; writes nothing.
    pub fn seal(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.records.seal(bytes)
    }

    /// Writes at least one and at most `most` bytes of what waits; an error of kind [`io::ErrorKind::TimedOut`] when the peer takes
    /// nothing for so long.
    pub fn write(&mut self, most: usize, patience: Duration) -> io::Result<usize> {
        loop {
            match self.records.write_to(&self.socket, most) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !wait(&self.socket, PollFlags::OUT, patience)? {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn wait(socket: &TcpStream, flags: PollFlags, most: Duration) -> io::Result<bool> {
    let timeout = Timespec { tv_sec: most.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: most.subsec_nanos().into() };
    match poll(&mut [PollFd::new(socket, flags)], Some(&timeout)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Both ends of a connection over loopback.
#[cfg(test)]
pub(crate) fn sealed_pair() -> (Sealed, Sealed) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let ours = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (theirs, _) = listener.accept().expect("accepted");
    let (client, server) = super::records::tests::ends();
    (Sealed::new(ours, client).expect("watched"), Sealed::new(theirs, server).expect("watched"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn tasks_at_both_ends_move_more_than_the_sockets_hold() {
        let (ours, theirs) = sealed_pair();
        let (Sealed { writer: mut to, .. }, Sealed { reader: mut from, .. }) = (ours, theirs);
        let payload: Vec<u8> = (0..20_000_000u32).map(|at| (at ^ (at >> 9)) as u8).collect();
        let sent = payload.clone();
        let writing = tokio::spawn(async move {
            to.write_all(&sent).await.expect("written");
            to.shutdown().await.expect("flushed");
        });
        let mut got = Vec::new();
        timeout(PATIENCE, from.read_to_end(&mut got)).await.expect("in time").expect("read");
        assert!(got == payload);
        writing.await.expect("no panic");
    }

    #[tokio::test]
    async fn a_closer_ends_a_wait() {
        let (ours, _theirs) = sealed_pair();
        let closer = ours.closer().expect("a handle");
        let mut reader = ours.reader.blocking();
        let waiting = tokio::task::spawn_blocking(move || {
            while reader.look(0, usize::MAX).expect("no error") == Look::Nothing {
                reader.wait(PATIENCE).expect("no error");
            }
        });
        drop(closer);
        timeout(PATIENCE / 2, waiting).await.expect("in time").expect("no panic");
    }
}
