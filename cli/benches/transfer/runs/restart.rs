//! A node that starts over a large store: 10,000 blobs with 1 TB in all, as sparse files. With its index, after its index was deleted, and
//! after it was killed. And what `store rebuild` and `verify --all` take of memory over the same store.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use super::mega;
use crate::Outcome;
use crate::figures::{Key, MB, Report, SECONDS};
use crate::lab::Lab;

/// Bytes of a group, and of a pair of an outboard.
const GROUP: u64 = 16 * 1024;
const PAIR: u64 = 64;
/// One blob in so many is there in part.
const PARTIAL_EVERY: u64 = 100;

/// What happens to a data dir before a start.
type Spoil = fn(&Path);

pub fn run(lab: &Lab, report: &mut Report) -> Outcome {
    let blobs: u64 = lab.scaled(10_000, 10_000, 200);
    // Something real, so that the node can show that it serves.
    let file = lab.random_file("restart.bin", 4 * crate::MIB)?;
    let hash = lab.publish("restart", &file, &["--copy"])?.hash;
    for number in 0..blobs {
        write_blob(&lab.path("restart"), number, 100_000_000 + number)?;
    }
    let ways: [(&str, Spoil); 4] = [
        ("blobs that the index does not know", |data_dir| _ = fs::remove_file(data_dir.join("index.clean"))),
        ("with its index", |_| ()),
        ("after the index was deleted", |data_dir| _ = fs::remove_dir_all(data_dir.join("index"))),
        ("after a kill", |data_dir| _ = fs::remove_file(data_dir.join("index.clean"))),
    ];
    for (what, spoil) in ways {
        spoil(&lab.path("restart"));
        let began = Instant::now();
        let node = lab.node("restart", &[])?;
        let ready_s = began.elapsed().as_secs_f64();
        let peak = mega(node.process.peak_bytes());
        lab.fetch("restart-fetcher", &hash, &[&node.address])?;
        let held = lab.status(&node)?["blobs"].as_u64().unwrap_or(0);
        let complete = blobs - blobs.div_ceil(PARTIAL_EVERY);
        if held < complete {
            return Err(format!("{what}: {held} blobs are held, of {complete}").into());
        }
        node.process.stop()?;
        report.figure(&format!("ready to serve, {what}"), SECONDS, &[ready_s]);
        report.figure("  memory at its peak by then", MB, &[peak]);
        if what != ways[0].0 {
            report.hold(Key::Restart, ready_s);
        }
    }
    report.figure(
        "memory of `store rebuild`, at its peak",
        MB,
        &[mega(lab.start("restart", &["store", "rebuild"])?.end()?.peak_bytes)],
    );
    report.figure("memory of `verify --all`, at its peak", MB, &[verify_peak(lab)?]);
    lab.forget("restart")
}

/// Nothing in the sparse files proves, so that the record of what is damaged grows with every group. A disk takes an hour for 1 TB; this is
/// stopped after a while.
fn verify_peak(lab: &Lab) -> Outcome<f64> {
    let deadline = Instant::now() + Duration::from_secs(lab.scaled(120, 20, 1));
    let mut verify = lab.start("restart", &["verify", "--all"])?;
    while Instant::now() < deadline && verify.line().is_ok() {}
    Ok(mega(verify.kill()?.peak_bytes))
}

/// A blob of which nothing is on the disk but its files' lengths; what it would hash to, no start may ask.
fn write_blob(data_dir: &Path, number: u64, size: u64) -> Outcome {
    let hash = blake3::hash(&number.to_le_bytes());
    let name = hash.to_hex();
    let folder = data_dir.join("blobs").join(&name[..2]);
    fs::create_dir_all(&folder)?;
    let path = |part: &str| folder.join(format!("{name}.{part}"));
    File::create(path("data"))?.set_len(size)?;
    let groups = size.div_ceil(GROUP);
    File::create(path("outboard"))?.set_len((groups - 1) * PAIR)?;
    if number.is_multiple_of(PARTIAL_EVERY) {
        let mut header = [0; 24];
        header[..8].copy_from_slice(b"p2pwprg\x01");
        header[8..16].copy_from_slice(&size.to_le_bytes());
        let mut record = [0; 24];
        record[0] = 2;
        record[16..].copy_from_slice(&(groups / 2).to_le_bytes());
        let sealed = |bytes: [u8; 24]| [&bytes[..], &blake3::keyed_hash(hash.as_bytes(), &bytes).as_bytes()[..8]].concat();
        fs::write(path("progress"), [sealed(header), sealed(record)].concat())?;
    }
    Ok(())
}
