//! Publishing a file, with SHA-256 and without, beside each hash alone.

use super::{column, mega, rate};
use crate::figures::{CPU_S, Key, MB, MB_PER_S, Report};
use crate::lab::{Lab, Published};
use crate::{Outcome, yardstick};

/// The flag that leaves SHA-256 out.
const WITHOUT_SHA256: &str = "--no-sha256";

struct Round {
    sha256: f64,
    blake3: f64,
    all_cores: f64,
    with: Published,
    without: Option<Published>,
}

pub fn run(lab: &Lab, report: &mut Report) -> Outcome {
    let (file, bytes) = (lab.model()?, lab.file_bytes());
    let help = lab.program("none").args(["publish", "--help"]).output()?;
    let optional = String::from_utf8_lossy(&help.stdout).contains(WITHOUT_SHA256);
    let publish = |more: &[&str]| -> Outcome<Published> {
        lab.settle()?;
        let published = lab.publish("publish", &file, more)?;
        lab.forget("publish")?;
        Ok(published)
    };
    let rounds = lab.rounds(|| {
        Ok(Round {
            sha256: rate(bytes, yardstick::sha256(&file)?),
            with: publish(&[])?,
            blake3: rate(bytes, yardstick::blake3(&file)?),
            all_cores: rate(bytes, yardstick::blake3_on_all_cores(&file)?),
            without: if optional { Some(publish(&[WITHOUT_SHA256])?) } else { None },
        })
    })?;
    let (sha256, all_cores) = (column(&rounds, |round| round.sha256), column(&rounds, |round| round.all_cores));
    report.figure("SHA-256 alone, one core", MB_PER_S, &sha256);
    report.figure("BLAKE3 alone, one core", MB_PER_S, &column(&rounds, |round| round.blake3));
    report.figure("BLAKE3 alone, all cores", MB_PER_S, &all_cores);
    let rates = column(&rounds, |round| rate(bytes, round.with.took_s));
    let ratio = report.compared("publish with SHA-256", MB_PER_S, &rates, "SHA-256 alone", &sha256);
    report.hold(Key::PublishSha256, ratio);
    report.figure("  processor time", CPU_S, &column(&rounds, |round| round.with.spent.cpu_s));
    report.figure("  peak memory", MB, &column(&rounds, |round| mega(round.with.spent.peak_bytes)));
    let without: Vec<&Published> = rounds.iter().filter_map(|round| round.without.as_ref()).collect();
    if without.is_empty() {
        println!("  without SHA-256: this program has no {WITHOUT_SHA256}");
        return Ok(());
    }
    let rates = column(&without, |published| rate(bytes, published.took_s));
    let ratio = report.compared("publish without SHA-256", MB_PER_S, &rates, "BLAKE3 on all cores", &all_cores);
    report.hold(Key::PublishBlake3, ratio);
    report.figure("  processor time", CPU_S, &column(&without, |published| published.spent.cpu_s));
    report.figure("  peak memory", MB, &column(&without, |published| mega(published.spent.peak_bytes)));
    Ok(())
}
