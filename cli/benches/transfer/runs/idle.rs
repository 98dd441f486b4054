//! A node that has nothing to do, with a thousand published files to keep known.

use std::time::{Duration, Instant};

use super::mega;
use super::small_files::write_files;
use crate::Outcome;
use crate::figures::{Key, MB, PERCENT, Report};
use crate::lab::Lab;

/// How long it may take to make the files known in the DHT before it counts as idle anyway.
const SETTLING: Duration = Duration::from_secs(30);
/// How often we look, which costs the node a little.
const LOOK: Duration = Duration::from_secs(1);

pub fn run(lab: &Lab, report: &mut Report) -> Outcome {
    let window = Duration::from_secs(lab.scaled(60, 5, 1));
    let files = lab.scaled(1000, 1000, 50);
    write_files(lab, "idle-files", files, 4096)?;
    let other = lab.node("other", &[])?;
    lab.publish("idle", &lab.path("idle-files"), &[])?;
    let began = Instant::now();
    let node = lab.node("idle", &["--bootstrap", &other.address])?;
    loop {
        std::thread::sleep(LOOK);
        let announced = lab.status(&node)?["announced"].as_u64().unwrap_or(0);
        if announced >= files as u64 || began.elapsed() >= SETTLING {
            println!("  {announced} hashes known in the DHT after {:.0} s", began.elapsed().as_secs_f64());
            break;
        }
    }
    let before = node.process.cpu_s();
    std::thread::sleep(window);
    let share = (node.process.cpu_s() - before) / window.as_secs_f64() * 100.0;
    let (resident, peak) = (mega(node.process.resident_bytes()), mega(node.process.peak_bytes()));
    report.figure("memory", MB, &[resident]);
    report.figure("  at its peak, from the start on", MB, &[peak]);
    report.figure(&format!("processor, over {} s", window.as_secs()), PERCENT, &[share]);
    report.hold(Key::IdleMemory, peak);
    report.hold(Key::IdleCpu, share);
    for node in [node, other] {
        node.process.kill()?;
        lab.forget(&node.data_dir)?;
    }
    lab.forget("idle-files")
}
