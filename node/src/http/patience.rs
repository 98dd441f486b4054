//! A connection that is given up when the other side takes nothing for too long: a reader that has gone to sleep must not keep memory.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// So many bytes are taken in twice the patience, spent waiting, or it is too slow: a reader that takes a byte now and then keeps as much
/// memory as one that sleeps. With a patience of a minute that is 4 kbit/s.
const LEAST_BYTES: u64 = 64 * 1024;

/// Wraps a stream.
pub struct Patient<S> {
    stream: S,
    patience: Duration,
    /// Since when something waits to be written, and when that has waited too long; `None` while nothing does.
    waits: Option<(Instant, Pin<Box<Sleep>>)>,
    /// How long was waited, and what was taken, since it was fast enough last.
    waited: Duration,
    taken: u64,
}

impl<S> Patient<S> {
    /// Gives up after so long.
    pub fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, waits: None, waited: Duration::ZERO, taken: 0 }
    }

    /// Judges what became of an attempt to write: `bytes` were taken, if any.
    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        let late =
            |waited: Duration| io::Error::new(io::ErrorKind::TimedOut, format!("next to nothing was taken for {waited:?}"));
        if let Poll::Ready(done) = &written {
            self.waited += self.waits.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
            self.taken += done.as_ref().map_or(0, |done| bytes(done) as u64);
            if self.taken >= LEAST_BYTES {
                (self.waited, self.taken) = (Duration::ZERO, 0);
            } else if self.waited >= 2 * self.patience {
                return Poll::Ready(Err(late(self.waited)));
            }
            return written;
        }
        let patience = self.patience;
        let (since, deadline) = self.waits.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(patience))));
        if deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(late(since.elapsed())));
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written, |count| *count)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(context, written, |count| *count)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.judge(context, flushed, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn who_stops_reading_is_given_up() {
        let (near, _far) = tokio::io::duplex(10);
        let mut patient = Patient::new(near, Duration::from_millis(20));
        let error = patient.write_all(&[7; 100]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn who_takes_a_little_now_and_then_is_given_up() {
        let (near, mut far) = tokio::io::duplex(10);
        let mut patient = Patient::new(near, Duration::from_millis(500));
        let reading = tokio::spawn(async move {
            let (mut part, mut pauses) = ([0; 10], tokio::time::interval(Duration::from_millis(50)));
            while far.read_exact(&mut part).await.is_ok() {
                pauses.tick().await;
            }
        });
        // It would be through with it after five seconds.
        let error = patient.write_all(&[7; 1000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(patient);
        reading.await.unwrap();
    }

    #[tokio::test]
    async fn who_reads_is_served_however_little_at_a_time() {
        let (near, mut far) = tokio::io::duplex(10);
        let mut patient = Patient::new(near, Duration::from_secs(60));
        let writing = tokio::spawn(async move { patient.write_all(&[7; 100]).await });
        for _ in 0..10 {
            let mut part = [0; 10];
            far.read_exact(&mut part).await.unwrap();
            assert_eq!(part, [7; 10]);
        }
        writing.await.unwrap().unwrap();
    }
}
