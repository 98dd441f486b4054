//! Honest sources beside four with one vice each, and the honest ones alone.

use super::{column, rate};
use crate::figures::{CPU_S, Key, MB_PER_S, Report};
use crate::lab::Lab;
use crate::process::Process;
use crate::vices::Vice;
use crate::{Outcome, yardstick};

const HONEST: usize = 2;

struct Round {
    copy_s: f64,
    alone_s: f64,
    /// Seconds, and processor time of the bad ones.
    all: (f64, f64),
    /// The same, beside one of each kind.
    each: Vec<(f64, f64)>,
}

pub fn run(lab: &Lab, report: &mut Report) -> Outcome {
    let (file, bytes) = (lab.model()?, lab.file_bytes());
    let (honest, hash) = lab.sources(HONEST, &file)?;
    for vice in Vice::ALL {
        lab.publish(vice.name(), &file, &[])?;
    }
    let good: Vec<&str> = honest.iter().map(|source| source.address.as_str()).collect();
    let beside = |vices: &[Vice]| -> Outcome<(f64, f64)> {
        lab.settle()?;
        // Anew each time: what they did to one fetcher is not held against them by the next, who is another, too.
        let bad = vices.iter().map(|vice| hostile(lab, *vice, &hash)).collect::<Outcome<Vec<_>>>()?;
        let all: Vec<&str> = bad.iter().map(|(_, address)| address.as_str()).chain(good.iter().copied()).collect();
        let fetched = lab.fetch("fetcher", &hash, &all)?;
        // They are at home on this machine, too: what they burn is missing here, though it would not be elsewhere.
        Ok((fetched.took_s, bad.iter().map(|(process, _)| process.cpu_s()).sum()))
    };
    let rounds = lab.rounds(|| {
        lab.settle()?;
        let copy_s = yardstick::copy(lab, &file)?;
        let (alone_s, _) = beside(&[])?;
        let all = beside(&Vice::ALL)?;
        let each = Vice::ALL.iter().map(|vice| beside(&[*vice])).collect::<Outcome<Vec<_>>>()?;
        Ok(Round { copy_s, alone_s, all, each })
    })?;
    let rates = |seconds: &dyn Fn(&Round) -> f64| column(&rounds, |round| rate(bytes, seconds(round)));
    let alone = rates(&|round| round.alone_s);
    report.figure("plain TCP copy to a file", MB_PER_S, &rates(&|round| round.copy_s));
    report.figure(&format!("{HONEST} honest sources alone"), MB_PER_S, &alone);
    let ratio = report.compared("the same beside four bad ones", MB_PER_S, &rates(&|round| round.all.0), "alone", &alone);
    report.hold(Key::BadSources, ratio);
    report.figure("  processor time of the bad ones", CPU_S, &column(&rounds, |round| round.all.1));
    for (index, vice) in Vice::ALL.iter().enumerate() {
        let what = format!("beside one that {}", vice.name());
        report.compared(&what, MB_PER_S, &rates(&|round| round.each[index].0), "alone", &alone);
        report.figure("  its processor time", CPU_S, &column(&rounds, |round| round.each[index].1));
    }
    lab.dismiss(honest)?;
    Vice::ALL.iter().try_for_each(|vice| lab.forget(vice.name()))
}

fn hostile(lab: &Lab, vice: Vice, hash: &str) -> Outcome<(Process, String)> {
    let data_dir = lab.path(vice.name());
    let mut process = lab.role(&["vice", vice.name(), crate::lab::text(&data_dir)?, hash])?;
    let (_, address) = process.line()?;
    Ok((process, address))
}
