//! Honest sources beside four with one vice each, and the honest ones alone.

use super::{column, rate};
use crate::figures::{CPU_S, Key, MB_PER_S, Report};
use crate::lab::{Lab, Node};
use crate::process::Process;
use crate::vices::Vice;
use crate::{Outcome, yardstick};

const HONEST: usize = 2;

pub fn run(lab: &Lab, report: &mut Report) -> Outcome {
    let (file, bytes) = (lab.model()?, lab.file_bytes());
    let mut hash = String::new();
    let mut honest: Vec<Node> = Vec::new();
    for index in 0..HONEST {
        let (source, published) = lab.source(&format!("source-{index}"), &file)?;
        honest.push(source);
        hash = published;
    }
    for vice in Vice::ALL {
        lab.publish(vice.name(), &file, &[])?;
    }
    let good: Vec<&str> = honest.iter().map(|source| source.address.as_str()).collect();
    let rounds = lab.rounds(|| {
        lab.settle()?;
        let copy_s = yardstick::copy(lab, &file)?;
        lab.settle()?;
        let alone = lab.fetch("fetcher", &hash, &good)?;
        lab.settle()?;
        // Anew in each round: what they did in one must not be held against them in the next, for each fetcher is another, too.
        let bad = Vice::ALL.iter().map(|vice| hostile(lab, *vice, &hash)).collect::<Outcome<Vec<_>>>()?;
        let all: Vec<&str> = bad.iter().map(|(_, address)| address.as_str()).chain(good.iter().copied()).collect();
        let among = lab.fetch("fetcher", &hash, &all)?;
        // They are at home on this machine, too: what they burn is missing here, though it would not be elsewhere.
        let burnt_s: f64 = bad.iter().map(|(process, _)| process.cpu_s()).sum();
        Ok((copy_s, alone.took_s, among.took_s, burnt_s))
    })?;
    let alone = column(&rounds, |(_, alone_s, ..)| rate(bytes, *alone_s));
    report.figure("plain TCP copy to a file", MB_PER_S, &column(&rounds, |(copy_s, ..)| rate(bytes, *copy_s)));
    report.figure(&format!("{HONEST} honest sources alone"), MB_PER_S, &alone);
    let among = column(&rounds, |(_, _, among_s, _)| rate(bytes, *among_s));
    let ratio = report.compared("the same beside four bad ones", MB_PER_S, &among, "alone", &alone);
    report.hold(Key::BadSources, ratio);
    report.figure("  processor time of the bad ones", CPU_S, &column(&rounds, |(.., burnt_s)| *burnt_s));
    for node in honest {
        node.process.kill()?;
        lab.forget(&node.data_dir)?;
    }
    Vice::ALL.iter().try_for_each(|vice| lab.forget(vice.name()))
}

fn hostile(lab: &Lab, vice: Vice, hash: &str) -> Outcome<(Process, String)> {
    let data_dir = lab.path(vice.name());
    let mut process = lab.role(&["vice", vice.name(), crate::lab::text(&data_dir)?, hash])?;
    let (_, address) = process.line()?;
    Ok((process, address))
}
