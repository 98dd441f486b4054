//! Very many small files in one model, beside `tar` over plain TCP.

use std::fs;

use super::{column, mega, rate};
use crate::figures::{CPU_S, Key, MB, MB_PER_S, Report, SECONDS};
use crate::lab::Lab;
use crate::{Outcome, yardstick};

const FILE_BYTES: usize = 20 * 1024;
/// Files in one folder of the model.
const IN_A_FOLDER: usize = 100;

pub fn run(lab: &Lab, report: &mut Report) -> Outcome {
    let files = lab.scaled(10_000, 1000, 50);
    let bytes = (files * FILE_BYTES) as u64;
    write_files(lab, "many", files, FILE_BYTES)?;
    let (source, hash) = lab.source("source-0", &lab.path("many"))?;
    let rounds = lab.rounds(|| {
        lab.settle()?;
        let tar_s = yardstick::tar(lab, &lab.path("many"))?;
        lab.settle()?;
        let before = source.process.cpu_s();
        let fetched = lab.fetch("fetcher", &hash, &[&source.address])?;
        Ok((tar_s, fetched, source.process.cpu_s() - before))
    })?;
    let tar = column(&rounds, |(tar_s, ..)| rate(bytes, *tar_s));
    report.figure(&format!("{files} × 20 KiB through tar, TCP, tar"), MB_PER_S, &tar);
    let rates = column(&rounds, |(_, fetched, _)| rate(bytes, fetched.took_s));
    let ratio = report.compared(&format!("{files} × 20 KiB as one model"), MB_PER_S, &rates, "tar", &tar);
    report.hold(Key::SmallFiles, ratio);
    report.figure("  time", SECONDS, &column(&rounds, |(_, fetched, _)| fetched.took_s));
    report.figure(
        "  processor time, both sides",
        CPU_S,
        &column(&rounds, |(_, fetched, source_s)| fetched.spent.cpu_s + source_s),
    );
    report.figure("  peak memory, source", MB, &[mega(source.process.peak_bytes())]);
    report.figure("  peak memory, fetcher", MB, &column(&rounds, |(_, fetched, _)| mega(fetched.spent.peak_bytes)));
    source.process.kill()?;
    lab.forget("source-0")?;
    lab.forget("many")
}

/// A folder with so many files, no two alike.
pub fn write_files(lab: &Lab, folder: &str, files: usize, bytes: usize) -> Outcome {
    let mut content = vec![0; bytes];
    for file in 0..files {
        let parent = lab.path(folder).join(format!("part-{:04}", file / IN_A_FOLDER));
        if file % IN_A_FOLDER == 0 {
            fs::create_dir_all(&parent)?;
        }
        blake3::Hasher::new().update(&file.to_le_bytes()).finalize_xof().fill(&mut content);
        fs::write(parent.join(format!("{file:06}.bin")), &content)?;
    }
    Ok(())
}
