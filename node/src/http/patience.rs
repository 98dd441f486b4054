//! A connection that is given up when the other side takes nothing for too long: a reader that has gone to sleep must not keep memory.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::least_rate::LeastRate;

/// Wraps a stream.
pub struct Patient<S> {
    stream: S,
    patience: Duration,
    /// Since when something waits to be written, and when that has waited too long; `None` while nothing does.
    waits: Option<(Instant, Pin<Box<Sleep>>)>,
    rate: LeastRate,
}

impl<S> Patient<S> {
    /// Gives up when nothing is taken for so long, or next to nothing for twice as long.
    pub fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, waits: None, rate: LeastRate::new(patience) }
    }

    /// Judges what became of an attempt to write: `bytes` says how many were taken.
    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        let late =
            |waited: Duration| io::Error::new(io::ErrorKind::TimedOut, format!("next to nothing was taken for {waited:?}"));
        let patience = self.patience;
        match written {
            Poll::Ready(Ok(done)) => {
                let waited = self.waits.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
                Poll::Ready(self.rate.passed(waited, bytes(&done) as u64).map(|()| done).map_err(late))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let (since, deadline) = self.waits.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(patience))));
                deadline.as_mut().poll(context).map(|()| Err(late(since.elapsed())))
            }
        }
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
