//! Peak memory of either side, for small files and large ones, with one source and with fifty.

use std::fs::{self, File};

use super::mega;
use crate::figures::{Key, MB, Report};
use crate::lab::Lab;
use crate::{MIB, Outcome};

/// Sizes with one source.
const SIZES_MIB: [u64; 3] = [64, 2048, 64 * 1024];
const QUICK_SIZES_MIB: [u64; 2] = [64, 512];
const SMOKE_SIZES_MIB: [u64; 1] = [8];
/// What the disk must have besides the file: proof trees, other people's needs.
const MARGIN: u64 = 2048 * MIB;

pub fn run(lab: &Lab, report: &mut Report) -> Outcome {
    let sizes = lab.scaled(SIZES_MIB.as_slice(), QUICK_SIZES_MIB.as_slice(), SMOKE_SIZES_MIB.as_slice());
    for size in sizes {
        let room = rustix::fs::statvfs(lab.path("."))?;
        let fits = (room.f_bavail * room.f_frsize).saturating_sub(MARGIN) / MIB;
        let mib = if fits < *size { fits / 1024 * 1024 } else { *size };
        if mib < *size {
            println!("  {size} MiB do not fit here: {mib} MiB instead");
        }
        one(lab, report, mib, 1)?;
    }
    one(lab, report, lab.scaled(512, 64, 8), lab.scaled(50, 50, 5))
}

fn one(lab: &Lab, report: &mut Report, mib: u64, count: usize) -> Outcome {
    // Sparse: nothing of it is on the disk of the sources.
    let file = lab.path("sparse.bin");
    File::create(&file)?.set_len(mib * MIB)?;
    let (sources, hash) = lab.sources(count, &file)?;
    let addresses: Vec<&str> = sources.iter().map(|source| source.address.as_str()).collect();
    let fetched = lab.fetch("fetcher", &hash, &addresses)?;
    let peaks: Vec<f64> = sources.iter().map(|source| mega(source.process.peak_bytes())).collect();
    let names = if count == 1 { "one source".to_owned() } else { format!("{count} sources") };
    report.figure(&format!("{mib} MiB, {names}: source"), MB, &peaks);
    report.figure(&format!("{mib} MiB, {names}: fetcher"), MB, &[mega(fetched.spent.peak_bytes)]);
    peaks.into_iter().chain([mega(fetched.spent.peak_bytes)]).for_each(|peak| report.hold(Key::Memory, peak));
    lab.dismiss(sources)?;
    fs::remove_file(file)?;
    Ok(())
}
