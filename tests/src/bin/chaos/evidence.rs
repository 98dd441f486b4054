//! What a data dir holds, found without the store's own code: the files of `docs/store.md`, read with nothing but BLAKE3 and the proofs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::span_set::SpanSet;
use p2pweights_protocol::verify::{EncodeError, encode_span};

/// Bytes of the header of a progress file, and of each record.
const RECORD: usize = 32;

/// What proves, of each blob.
#[derive(Debug, Default)]
pub struct Evidence {
    blobs: BTreeMap<BlobHash, (Geometry, SpanSet)>,
}

/// A file that has the name of something verified and is not that.
pub type Wrong = String;

impl Evidence {
    /// Goes through a data dir of a process that is dead.
    pub fn of(data_dir: &Path) -> Result<Self, Wrong> {
        let mut evidence = Self::default();
        for path in files(&data_dir.join("blobs")) {
            let Some((hash, "data")) = parse_name(&path) else { continue };
            let data = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let geometry = Geometry::of(data.len() as u64);
            match fs::read(path.with_extension("progress")) {
                Ok(progress) => {
                    let outboard = fs::read(path.with_extension("outboard")).unwrap_or_default();
                    let (size, durable, written) = progress_of(hash, &progress);
                    if size != geometry.size() {
                        continue;
                    }
                    let mut proved = SpanSet::new();
                    for run in durable.runs() {
                        let bad = run.groups() - prove(&data, &outboard, hash, geometry, run, &mut proved);
                        if bad > 0 {
                            return Err(format!("{bad} groups of {hash} count as durable and do not prove"));
                        }
                    }
                    for run in written.runs() {
                        prove(&data, &outboard, hash, geometry, run, &mut proved);
                    }
                    evidence.blobs.insert(hash, (geometry, proved));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if BlobHash::of(&data) != hash {
                        return Err(format!("{hash} counts as complete and has other bytes"));
                    }
                    evidence.blobs.insert(hash, (geometry, geometry.whole().into_iter().collect()));
                }
                Err(error) => return Err(format!("progress of {hash}: {error}")),
            }
        }
        for path in files(&data_dir.join("arrived")) {
            let Some((hash, _)) = parse_name(&path) else { continue };
            let Ok(data) = fs::read(&path) else { continue };
            let geometry = Geometry::of(data.len() as u64);
            if BlobHash::of(&data) == hash {
                evidence.blobs.entry(hash).or_insert_with(|| (geometry, geometry.whole().into_iter().collect()));
            }
        }
        Ok(evidence)
    }

    /// Bytes that prove.
    pub fn bytes(&self) -> u64 {
        self.blobs.values().flat_map(|(geometry, proved)| proved.runs().map(|run| geometry.bytes_in(run))).sum()
    }

    /// Bytes that proved in an earlier look and do not now.
    pub fn lost_since(&self, earlier: &Self) -> u64 {
        let lost = earlier.blobs.iter().flat_map(|(hash, (geometry, before))| {
            let now = self.blobs.get(hash).map(|(_, proved)| proved.clone()).unwrap_or_default();
            before.runs().flat_map(|run| now.gaps(run)).map(|gap| geometry.bytes_in(gap)).collect::<Vec<_>>()
        });
        lost.sum()
    }
}

/// Every file below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn parse_name(path: &Path) -> Option<(BlobHash, &str)> {
    let (hash, part) = path.file_name()?.to_str()?.split_once('.')?;
    Some((hash.parse().ok()?, part))
}

/// Adds the groups of a span that prove; says how many.
fn prove(data: &[u8], outboard: &[u8], hash: BlobHash, geometry: Geometry, span: Span, proved: &mut SpanSet) -> u64 {
    let (mut rest, mut groups) = (Some(span), 0);
    while let Some(span) = rest {
        let bad = match encode_span(data, outboard, hash, geometry, span, &mut io::sink()) {
            Ok(()) => None,
            Err(EncodeError::Damaged { span }) => Some(span),
            Err(EncodeError::Read(_) | EncodeError::Write(_)) => return groups,
        };
        if let Some(good) = Span::new(span.start(), bad.map_or(span.end(), Span::start)) {
            groups += good.groups();
            proved.insert(good);
        }
        rest = bad.and_then(|bad| Span::new(bad.end(), span.end()));
    }
    groups
}

/// Size, durable groups, groups written only.
fn progress_of(hash: BlobHash, bytes: &[u8]) -> (u64, SpanSet, SpanSet) {
    let number = |record: &[u8], at: usize| u64::from_le_bytes(record[at..at + 8].try_into().expect("eight bytes"));
    let sealed = |record: &[u8]| blake3::keyed_hash(hash.as_bytes(), &record[..24]).as_bytes()[..8] == record[24..];
    let (mut durable, mut written) = (SpanSet::new(), SpanSet::new());
    let mut records = bytes.chunks_exact(RECORD).filter(|record| sealed(record));
    let size = records.next().map_or(0, |header| number(header, 8));
    for record in records {
        let Some(span) = Span::new(number(record, 8), number(record, 8).saturating_add(number(record, 16))) else { continue };
        match record[0] {
            1 => durable.gaps(span).into_iter().for_each(|gap| _ = written.insert(gap)),
            2 => {
                durable.insert(span);
                written.remove(span);
            }
            3 => {
                durable.remove(span);
                written.remove(span);
            }
            _ => {}
        }
    }
    (size, durable, written)
}

/// The BLAKE3 hash of a file.
pub fn hash_of(path: &Path) -> io::Result<BlobHash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(BlobHash(*hasher.finalize().as_bytes()))
}
