//! Reading a blob for somebody on this machine, as plain bytes: also what is proved and not synced yet, for it is proved again on the way
//! out, and a power cut that loses it ends the reader, too.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use p2pweights_protocol::geometry::Span;
use p2pweights_protocol::ids::BlobHash;

use super::Store;
use super::error::ReadError;
use super::reader::BlobReader;
use super::slot::Slot;

/// While it is there, a blob counts as read: eviction leaves it.
#[derive(Debug)]
pub struct BeingRead(Arc<Slot>);

impl Drop for BeingRead {
    fn drop(&mut self) {
        self.0.reading.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Store {
    /// How many groups from this one on are proved, synced or not, without a gap.
    pub fn readable(&self, hash: BlobHash, from: u64) -> u64 {
        let Some(slot) = self.shared.slot(hash) else { return 0 };
        let state = slot.state();
        let Some(rest) = Span::new(from, state.geometry.groups()) else { return 0 };
        if state.removed || state.withdrawn.is_some() {
            return 0;
        }
        let mut end = from;
        // What is held and what is pending may lie side by side.
        while let Some(run) = Span::new(end, rest.end()).and_then(|rest| {
            [&state.held, &state.pending].into_iter().find_map(|set| set.overlaps(rest).next().filter(|run| run.start() == end))
        }) {
            end = run.end();
        }
        end - from
    }
}

impl BlobReader {
    /// Has the blob count as read.
    pub fn being_read(&self) -> BeingRead {
        let slot = self.slot();
        slot.reading.fetch_add(1, Ordering::AcqRel);
        self.touch();
        BeingRead(Arc::clone(slot))
    }

    /// Reads the bytes of a span into the buffer, which has just its length, and proves them. After an error the buffer is worth nothing.
    pub fn read_span(&self, span: Span, buffer: &mut [u8]) -> Result<(), ReadError> {
        let start = self.geometry().byte_range(span).start;
        let mut filled = 0;
        while filled < buffer.len() {
            match self.data().read_at(&mut buffer[filled..], start + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => (),
                Err(error) => return Err(ReadError::Io(error)),
            }
        }
        self.check_stamp()?;
        self.files().check_span(span, &buffer[..filled])?;
        Ok(())
    }
}
