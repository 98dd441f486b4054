//! The answers of one provider over a direct connection, as the thread sees them that proves and writes them: from the socket into one
//! buffer, decrypted there, checked there, and from there to the disk.

use std::io;
use std::time::{Duration, Instant};

use p2pweights_protocol::verify::Feed;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::budget::{Budget, Share};
use super::{Bonds, Cap};
use crate::net::{Look, RecordReader};

/// What one read may bring: enough for few system calls, little enough to stay in a core's own cache.
const READ_BYTES: usize = 128 * 1024;
/// What a source that delivers takes of the budget: this buffer, and what is collected for the disk.
const FLOW_BYTES: usize = READ_BYTES + 256 * 1024;
/// A read that brings so much is the beginning of more.
const FLOWING: usize = 8 * 1024;
/// How long what comes next is waited for before memory is given back: longer than the pauses of a busy link, too short for many idle
/// sources to sit on much of it.
const MOMENT: Duration = Duration::from_millis(20);

/// A direct connection as a feed.
pub struct SocketFeed<B> {
    reader: RecordReader,
    cap: Cap,
    budget: Budget,
    /// Held while bytes flow.
    share: Option<Share>,
    runtime: Handle,
    stop: CancellationToken,
    /// Time without a byte after which the stream is given up, as long as something is asked for.
    silence: Duration,
    is_busy: B,
    /// What lies across records, put together.
    joined: Vec<u8>,
    /// That has been taken.
    is_spent: bool,
    /// The stream is over; the error that says so is kept for whoever takes next.
    over: Option<io::Error>,
}

impl<B: Fn() -> bool> SocketFeed<B> {
    /// `bonds` say what it must keep within and what ends it, `is_busy` whether something is asked for.
    pub fn new(reader: RecordReader, bonds: Bonds, silence: Duration, is_busy: B) -> Self {
        let Bonds { cap, budget, stop, .. } = bonds;
        let (joined, is_spent, share, over) = (Vec::new(), false, None, None);
        Self { reader, cap, budget, share, runtime: Handle::current(), stop, silence, is_busy, joined, is_spent, over }
    }

    /// Makes the next record's payload available if it can be had without waiting.
    fn advance(&mut self) -> io::Result<bool> {
        loop {
            if self.reader.records().open_next()? {
                return Ok(true);
            }
            let room = if self.share.is_some() { READ_BYTES } else { 0 };
            match self.reader.look(room, self.cap.turn_bytes())? {
                Look::Read(count) => {
                    if !self.cap.pass_blocking(count, &self.runtime, &self.stop) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    if self.share.is_none() && count >= FLOWING {
                        self.share = Some(self.budget.take_blocking(FLOW_BYTES, &self.runtime));
                    }
                }
                Look::Nothing => return Ok(false),
                Look::End => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// The same, waiting for up to `most`.
    fn advance_within(&mut self, most: Duration) -> io::Result<bool> {
        let until = Instant::now() + most;
        loop {
            if self.advance()? {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.reader.wait(left)? {
                return Ok(false);
            }
        }
    }

    /// The same, for as long as it takes.
    fn advance_patiently(&mut self) -> io::Result<()> {
        if self.advance_within(MOMENT)? {
            return Ok(());
        }
        self.reader.records().shrink();
        self.share = None;
        while !self.advance_within(self.silence)? {
            if (self.is_busy)() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// Brings the next so many bytes together; `false` if they do not come in a moment and `patient` is not set.
    fn gather(&mut self, bytes: usize, patient: bool) -> io::Result<bool> {
        if std::mem::take(&mut self.is_spent) {
            self.joined.clear();
        }
        loop {
            let there = self.reader.records().plain().len();
            if self.joined.is_empty() && there >= bytes {
                return Ok(true);
            }
            let count = there.min(bytes - self.joined.len());
            self.joined.extend_from_slice(self.reader.records().consume(count));
            if self.joined.len() == bytes {
                return Ok(true);
            }
            if patient {
                self.advance_patiently()?;
            } else {
                // Without a share nothing is kept in memory while waiting.
                let most = if self.share.is_some() { MOMENT } else { Duration::ZERO };
                if !self.advance_within(most)? {
                    return Ok(false);
                }
            }
        }
    }
}

impl<B: Fn() -> bool> Feed for SocketFeed<B> {
    fn has(&mut self, bytes: usize) -> bool {
        if self.over.is_some() {
            return true;
        }
        self.gather(bytes, false).unwrap_or_else(|error| {
            self.over = Some(error);
            true
        })
    }

    fn take(&mut self, bytes: usize) -> io::Result<&[u8]> {
        if let Some(error) = self.over.take() {
            return Err(error);
        }
        self.gather(bytes, true)?;
        if self.joined.is_empty() {
            return Ok(self.reader.records().consume(bytes));
        }
        self.is_spent = true;
        Ok(&self.joined)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::sync::mpsc;
    use tokio::task::spawn_blocking;
    use tokio_util::task::TaskTracker;

    use super::super::outlet::SocketOutlet;
    use super::*;
    use crate::net::{Sealed, sealed_pair};

    const PATIENCE: Duration = Duration::from_secs(20);

    fn bonds() -> Bonds {
        Bonds {
            facts: mpsc::channel(1).0,
            cap: Cap::default(),
            budget: Budget::new(1 << 20),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    #[tokio::test]
    async fn a_thread_reads_what_a_thread_wrote_whatever_the_pieces() {
        let (ours, theirs) = sealed_pair();
        let (Sealed { writer, .. }, Sealed { reader, .. }) = (ours, theirs);
        let pieces = [64, 64, 16 * 1024, 60, 3, 16 * 1024, 5000, 40_000, 1, 64, 16 * 1024 - 1];
        let writing = spawn_blocking(move || {
            let mut outlet = SocketOutlet::new(writer.blocking(), Cap::default(), CancellationToken::new(), PATIENCE);
            for (number, piece) in pieces.iter().cycle().take(2000).enumerate() {
                outlet.write_all(&vec![number as u8; *piece]).expect("written");
            }
            outlet.flush().expect("flushed");
            // The end of the stream comes with the end of the writer, not before all of it was taken.
            outlet
        });
        let reading = spawn_blocking(move || {
            let mut feed = SocketFeed::new(reader.blocking(), bonds(), PATIENCE, || true);
            // Taken in other pieces than it was written, so that some lie across records.
            let total = pieces.iter().cycle().take(2000).sum::<usize>();
            let mut expected = pieces.iter().cycle().take(2000).enumerate().flat_map(|(n, piece)| vec![n as u8; *piece]);
            let mut left = total;
            for take in [7, 16 * 1024, 100, 30_000].into_iter().cycle() {
                let take = take.min(left);
                let bytes = feed.take(take).expect("there");
                assert!(bytes.iter().all(|byte| Some(*byte) == expected.next()));
                left -= take;
                if left == 0 {
                    break;
                }
            }
            assert!(expected.next().is_none());
        });
        reading.await.expect("no panic");
        drop(writing.await.expect("no panic"));
    }

    #[tokio::test]
    async fn nothing_at_hand_is_said_and_a_part_of_something_is_kept() {
        let (ours, theirs) = sealed_pair();
        let feed_end = theirs.reader.blocking();
        let mut outlet = SocketOutlet::new(ours.writer.blocking(), Cap::default(), CancellationToken::new(), PATIENCE);
        let (asked, answer) = std::sync::mpsc::channel();
        let reading = spawn_blocking(move || {
            let mut feed = SocketFeed::new(feed_end, bonds(), PATIENCE, || true);
            asked.send(feed.has(10)).expect("listened to");
            let got = feed.take(10).expect("there").to_vec();
            (got, feed.take(1).map(<[u8]>::to_vec))
        });
        outlet.write_all(b"12345").expect("written");
        outlet.flush().expect("flushed");
        let has = spawn_blocking(move || answer.recv_timeout(PATIENCE).expect("in time")).await.expect("no panic");
        assert!(!has);
        outlet.write_all(b"67890").expect("written");
        outlet.flush().expect("flushed");
        drop((outlet, ours.reader));
        let (got, end) = reading.await.expect("no panic");
        assert_eq!(got, b"1234567890");
        assert!(end.is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof));
    }

    #[tokio::test]
    async fn silence_is_an_error_only_while_something_is_asked_for() {
        let (_ours, theirs) = sealed_pair();
        let busy = Arc::new(AtomicBool::new(false));
        let (is_busy, silence) = (Arc::clone(&busy), Duration::from_millis(5));
        let looks = Arc::new(AtomicBool::new(false));
        let looked = Arc::clone(&looks);
        let reader = theirs.reader.blocking();
        let reading = spawn_blocking(move || {
            // Not busy the first time it is asked: waits on. Then busy.
            let asked = move || looked.swap(true, Ordering::SeqCst) && is_busy.swap(true, Ordering::SeqCst);
            SocketFeed::new(reader, bonds(), silence, asked).take(1).map(<[u8]>::to_vec)
        });
        let error = reading.await.expect("no panic").expect_err("silence");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(looks.load(Ordering::SeqCst) && busy.load(Ordering::SeqCst));
    }
}
