//! A fetch that is killed half way and begun again.

use super::{column, mega};
use crate::Outcome;
use crate::figures::{MB, Report, SECONDS};
use crate::lab::Lab;

struct Round {
    whole_s: f64,
    until_killed_s: f64,
    again_s: f64,
    /// Bytes that the first run had said were verified, and the second fetched nevertheless.
    twice_bytes: u64,
}

pub fn run(lab: &Lab, report: &mut Report) -> Outcome {
    let bytes = lab.file_bytes();
    let (source, hash) = lab.source("source-0", &lab.model()?)?;
    let sources = [source.address.as_str()];
    let rounds = lab.rounds(|| {
        lab.settle()?;
        let whole_s = lab.fetch("fetcher", &hash, &sources)?.took_s;
        lab.settle()?;
        let mut first = lab.start_fetch("fetcher", &hash, &sources)?;
        let began = first.began();
        // Progress is told four times a second: it may be well beyond half when we hear of it.
        let verified = first.until_bytes(bytes * 2 / 5)?;
        let killed = first.process.kill()?.ended;
        let second = lab.start_fetch("fetcher", &hash, &sources)?.end()?;
        lab.forget_fetch("fetcher")?;
        Ok(Round {
            whole_s,
            until_killed_s: (killed - began).as_secs_f64(),
            again_s: second.took_s,
            twice_bytes: (verified + second.fetched).saturating_sub(bytes),
        })
    })?;
    let whole = column(&rounds, |round| round.whole_s);
    report.figure("fetch without interruption", SECONDS, &whole);
    report.figure("until it was killed", SECONDS, &column(&rounds, |round| round.until_killed_s));
    report.figure("from the restart to the end", SECONDS, &column(&rounds, |round| round.again_s));
    let both = column(&rounds, |round| round.until_killed_s + round.again_s);
    report.compared("both together", SECONDS, &both, "the time without interruption", &whole);
    report.figure("fetched twice", MB, &column(&rounds, |round| mega(round.twice_bytes)));
    source.process.kill()?;
    lab.forget("source-0")
}
