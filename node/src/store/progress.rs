//! What is known about a partial blob's groups, as an append-only file of checksummed records. The bytes are drawn in `docs/store.md`.
//! Knows groups and this file; whether a group is really there is for others to prove.

use std::io;
use std::sync::Arc;

use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::span_set::SpanSet;

use super::disk::DiskFile;
use super::error::{AtPath, StoreError};
use super::layout::Layout;

/// Bytes of the header and of each record: half a cache line, a divisor of every sector size, so that a record is torn only at the end.
pub(super) const RECORD_BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"p2pwprg\x01";

/// What a record says about a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Proved and handed to the system, perhaps not on the disk.
    Written,
    /// Proved and synced.
    Durable,
    /// Not held any more: found damaged, or a sync failed.
    Lost,
    /// Found damaged, and to be had again. Groups lost so stand in a [`Mark::Lost`], too, for a program that does not know this mark.
    Damaged,
}

/// What a progress file adds up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    /// Size of the blob.
    pub(super) size: u64,
    /// Groups to be trusted.
    pub(super) durable: SpanSet,
    /// Groups to be proved again.
    pub(super) written: SpanSet,
    /// Groups that were found damaged and have not come again.
    pub(super) damaged: SpanSet,
    /// A record could not be read: of any group it may have said anything.
    pub(super) rotten: bool,
}

impl Progress {
    /// Adds up a progress file; `None` when its header is not readable. A record that is torn or rotten is passed over: at worst its
    /// groups are fetched again, or are found damaged again.
    pub(super) fn parse(hash: BlobHash, bytes: &[u8]) -> Option<Self> {
        let (header, records) = bytes.split_first_chunk::<RECORD_BYTES>()?;
        if header[..8] != *MAGIC || header[24..] != checksum(hash, &header[..24]) {
            return None;
        }
        let size = u64_at(header, 8);
        let groups = Geometry::of(size).groups();
        let mut rotten = false;
        let (mut durable, mut written, mut damaged) = (SpanSet::new(), SpanSet::new(), SpanSet::new());
        for record in records.as_chunks::<RECORD_BYTES>().0 {
            if record[24..] != checksum(hash, &record[..24]) {
                rotten = true;
                continue;
            }
            let Ok(span) = Span::try_from((u64_at(record, 8), u64_at(record, 16))) else { continue };
            if span.end() > groups {
                continue;
            }
            match record[0] {
                1 => durable.gaps(span).into_iter().for_each(|gap| {
                    written.insert(gap);
                }),
                2 => {
                    durable.insert(span);
                    written.remove(span);
                    damaged.remove(span);
                }
                kind @ (3 | 4) => {
                    durable.remove(span);
                    written.remove(span);
                    if kind == 4 {
                        damaged.insert(span);
                    }
                }
                _ => {}
            }
        }
        Some(Self { size, durable, written, damaged, rotten })
    }
}

/// Writes a progress file which says just this, in place of any other.
pub(super) fn write_progress(
    layout: &Layout,
    hash: BlobHash,
    size: u64,
    durable: &SpanSet,
    damaged: &SpanSet,
) -> Result<(), StoreError> {
    let mut contents = header(hash, size).to_vec();
    for (mark, spans) in [(Mark::Durable, durable), (Mark::Damaged, damaged)] {
        spans.runs().for_each(|span| contents.extend_from_slice(&record(hash, mark, span)));
    }
    layout.write_whole(&layout.progress(hash), &contents)
}

/// A progress file open for more records.
#[derive(Debug)]
pub(super) struct ProgressLog {
    hash: BlobHash,
    file: Arc<DiskFile>,
    /// Where the next record goes. An append that failed half-way is overwritten by the next, so records stay aligned.
    end: u64,
}

impl ProgressLog {
    /// Opens a file just written by [`write_progress`].
    pub(super) fn open(layout: &Layout, hash: BlobHash) -> Result<Self, StoreError> {
        let path = layout.progress(hash);
        let file = layout.disk().open_existing(&path).at(&path)?;
        let end = file.len().at(&path)?;
        Ok(Self { hash, file: Arc::new(file), end })
    }

    /// Adds a record for each span. Not durable until [`ProgressLog::file`] is synced.
    pub(super) fn append(&mut self, mark: Mark, spans: impl IntoIterator<Item = Span>) -> io::Result<()> {
        let records: Vec<u8> = spans.into_iter().flat_map(|span| record(self.hash, mark, span)).collect();
        self.file.write_all_at(&records, self.end)?;
        self.end += records.len() as u64;
        Ok(())
    }

    /// The file, to be synced without holding the log.
    pub(super) fn file(&self) -> Arc<DiskFile> {
        Arc::clone(&self.file)
    }
}

fn header(hash: BlobHash, size: u64) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&size.to_le_bytes());
    seal(hash, bytes)
}

fn record(hash: BlobHash, mark: Mark, span: Span) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[0] = match mark {
        Mark::Written => 1,
        Mark::Durable => 2,
        Mark::Lost => 3,
        Mark::Damaged => 4,
    };
    bytes[8..16].copy_from_slice(&span.start().to_le_bytes());
    bytes[16..24].copy_from_slice(&span.groups().to_le_bytes());
    seal(hash, bytes)
}

fn seal(hash: BlobHash, mut bytes: [u8; RECORD_BYTES]) -> [u8; RECORD_BYTES] {
    let sum = checksum(hash, &bytes[..24]);
    bytes[24..].copy_from_slice(&sum);
    bytes
}

/// Keyed by the blob's hash: a record that strayed here from another blob's file does not count.
fn checksum(hash: BlobHash, bytes: &[u8]) -> [u8; 8] {
    *blake3::keyed_hash(hash.as_bytes(), bytes).as_bytes().first_chunk().expect("a hash has 32 bytes")
}

fn u64_at(bytes: &[u8; RECORD_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("a record has 8 bytes there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 100 * 16 * 1024;

    fn span(start: u64, end: u64) -> Span {
        Span::new(start, end).unwrap()
    }

    fn file(hash: BlobHash, marks: &[(Mark, Span)]) -> Vec<u8> {
        let mut bytes = header(hash, SIZE).to_vec();
        marks.iter().for_each(|&(mark, span)| bytes.extend_from_slice(&record(hash, mark, span)));
        bytes
    }

    #[test]
    fn golden_bytes() {
        let hash = BlobHash::of(b"weights");
        assert_eq!(
            hex::encode(file(hash, &[(Mark::Durable, span(2, 5)), (Mark::Damaged, span(7, 8))])),
            "7032707770726701000019000000000000000000000000004c178fb09d588666\
             02000000000000000200000000000000030000000000000085b0638050950f18\
             0400000000000000070000000000000001000000000000009dc1cfecc9501f8c"
        );
    }

    #[test]
    fn records_add_up_in_order() {
        let hash = BlobHash::of(b"weights");
        let marks = [
            (Mark::Written, span(0, 10)),
            (Mark::Durable, span(0, 6)),
            (Mark::Written, span(4, 12)),
            (Mark::Lost, span(2, 3)),
            (Mark::Lost, span(11, 12)),
            (Mark::Durable, span(99, 101)),
            (Mark::Durable, span(20, 30)),
            (Mark::Damaged, span(22, 26)),
            (Mark::Durable, span(23, 24)),
        ];
        let progress = Progress::parse(hash, &file(hash, &marks)).unwrap();
        assert_eq!(progress.size, SIZE);
        assert_eq!(progress.durable, [span(0, 2), span(3, 6), span(20, 22), span(23, 24), span(26, 30)].into_iter().collect());
        assert_eq!(progress.written, [span(6, 11)].into_iter().collect());
        assert_eq!(progress.damaged, [span(22, 23), span(24, 26)].into_iter().collect());
    }

    #[test]
    fn a_torn_or_rotten_record_costs_itself_only() {
        let hash = BlobHash::of(b"weights");
        let whole = file(hash, &[(Mark::Durable, span(0, 1)), (Mark::Durable, span(5, 6)), (Mark::Durable, span(9, 10))]);
        for cut in RECORD_BYTES..whole.len() {
            let progress = Progress::parse(hash, &whole[..cut]).unwrap();
            assert_eq!(progress.durable.groups(), (cut / RECORD_BYTES) as u64 - 1, "cut {cut}");
        }
        for at in RECORD_BYTES..whole.len() {
            let mut rotten = whole.clone();
            rotten[at] ^= 4;
            assert_eq!(Progress::parse(hash, &rotten).unwrap().durable.groups(), 2, "byte {at}");
        }
        for at in 0..RECORD_BYTES {
            let mut rotten = whole.clone();
            rotten[at] ^= 4;
            assert_eq!(Progress::parse(hash, &rotten), None, "byte {at}");
        }
        assert_eq!(Progress::parse(BlobHash::of(b"another"), &whole), None);
    }
}
