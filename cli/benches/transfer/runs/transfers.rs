//! Whole files between nodes: one to one, four to one, one to four at once.

use super::{column, mega, rate};
use crate::figures::{CPU_S, Key, MB, MB_PER_S, PERCENT, Report, median};
use crate::lab::{Fetched, Lab};
use crate::{MIB, Outcome, yardstick};

/// Bytes to which the target for processor time refers.
const CPU_BYTES: u64 = 2048 * MIB;

struct Round {
    copy_s: f64,
    fetched: Fetched,
    /// Processor time of all sources together, meanwhile.
    sources_cpu_s: f64,
}

pub fn one_to_one(lab: &Lab, report: &mut Report) -> Outcome {
    let bytes = lab.file_bytes();
    let rounds = many_to_one(lab, report, 1, Key::OneToOne)?;
    let per = CPU_BYTES as f64 / bytes as f64;
    let both = column(&rounds, |round| (round.fetched.spent.cpu_s + round.sources_cpu_s) * per);
    report.figure("  processor time, both sides, per 2 GiB", CPU_S, &both);
    report.hold(Key::CpuSeconds, median(&both));
    Ok(())
}

pub fn four_to_one(lab: &Lab, report: &mut Report) -> Outcome {
    many_to_one(lab, report, 4, Key::FourToOne).map(|_| ())
}

fn many_to_one(lab: &Lab, report: &mut Report, count: usize, key: Key) -> Outcome<Vec<Round>> {
    let (file, bytes) = (lab.model()?, lab.file_bytes());
    let (sources, hash) = lab.sources(count, &file)?;
    let addresses: Vec<&str> = sources.iter().map(|source| source.address.as_str()).collect();
    let spent = || sources.iter().map(|source| source.process.cpu_s()).sum::<f64>();
    let rounds = lab.rounds(|| {
        lab.settle()?;
        let copy_s = yardstick::copy(lab, &file)?;
        lab.settle()?;
        let before = spent();
        let fetched = lab.fetch("fetcher", &hash, &addresses)?;
        Ok(Round { copy_s, fetched, sources_cpu_s: spent() - before })
    })?;
    let copies = column(&rounds, |round| rate(bytes, round.copy_s));
    report.figure("plain TCP copy to a file", MB_PER_S, &copies);
    let rates = column(&rounds, |round| rate(bytes, round.fetched.took_s));
    let what = if count == 1 { "one source to one fetcher".to_owned() } else { format!("{count} sources to one fetcher") };
    let ratio = report.compared(&what, MB_PER_S, &rates, "plain copy", &copies);
    report.hold(key, ratio);
    report.figure("  processor time, sources", CPU_S, &column(&rounds, |round| round.sources_cpu_s));
    report.figure("  processor time, fetcher", CPU_S, &column(&rounds, |round| round.fetched.spent.cpu_s));
    let peaks: Vec<f64> = sources.iter().map(|source| mega(source.process.peak_bytes())).collect();
    report.figure("  peak memory, sources", MB, &peaks);
    report.figure("  peak memory, fetcher", MB, &column(&rounds, |round| mega(round.fetched.spent.peak_bytes)));
    lab.dismiss(sources)?;
    Ok(rounds)
}

struct Crowd {
    copies_s: f64,
    took_s: f64,
    cpu_s: f64,
    /// Of all bytes that came over the network.
    source_share: f64,
    peak_bytes: u64,
}

pub fn one_to_four(lab: &Lab, report: &mut Report) -> Outcome {
    const FETCHERS: usize = 4;
    let (file, bytes) = (lab.model()?, lab.file_bytes());
    let (source, hash) = lab.source("source-0", &file)?;
    let sent = || -> Outcome<u64> { Ok(lab.status(&source)?["sent_bytes"].as_u64().ok_or("no sent_bytes")?) };
    let rounds = lab.rounds(|| {
        lab.settle()?;
        let copies_s = yardstick::copies(lab, &file, FETCHERS)?;
        lab.settle()?;
        let (sent_before, cpu_before) = (sent()?, source.process.cpu_s());
        let fetches = (0..FETCHERS).map(|index| lab.start_fetch(&format!("fetcher-{index}"), &hash, &[&source.address]));
        let fetches = fetches.collect::<Outcome<Vec<_>>>()?;
        let began = fetches.iter().map(|fetch| fetch.began()).min().ok_or("no fetch")?;
        let fetched = fetches.into_iter().map(|fetch| fetch.end()).collect::<Outcome<Vec<Fetched>>>()?;
        let done = fetched.iter().map(|fetched| fetched.done).max().ok_or("no fetch")?;
        let total: u64 = fetched.iter().map(|fetched| fetched.fetched).sum();
        let round = Crowd {
            copies_s,
            took_s: (done - began).as_secs_f64(),
            cpu_s: fetched.iter().map(|fetched| fetched.spent.cpu_s).sum::<f64>() + source.process.cpu_s() - cpu_before,
            source_share: (sent()? - sent_before) as f64 / total as f64 * 100.0,
            peak_bytes: fetched.iter().map(|fetched| fetched.spent.peak_bytes).max().unwrap_or(0),
        };
        (0..FETCHERS).try_for_each(|index| lab.forget_fetch(&format!("fetcher-{index}")))?;
        Ok(round)
    })?;
    let all = bytes * FETCHERS as u64;
    let copies = column(&rounds, |round| rate(all, round.copies_s));
    report.figure("four plain TCP copies at once, all together", MB_PER_S, &copies);
    let rates = column(&rounds, |round| rate(all, round.took_s));
    let ratio = report.compared("one source to four fetchers, all together", MB_PER_S, &rates, "four copies", &copies);
    report.hold(Key::OneToFour, ratio);
    let shares = column(&rounds, |round| round.source_share);
    report.figure("  share that the source sent", PERCENT, &shares);
    report.hold(Key::SourceShare, median(&shares));
    report.figure("  processor time, all five", CPU_S, &column(&rounds, |round| round.cpu_s));
    report.figure("  peak memory, source", MB, &[mega(source.process.peak_bytes())]);
    report.figure("  peak memory, largest fetcher", MB, &column(&rounds, |round| mega(round.peak_bytes)));
    lab.dismiss(vec![source])
}
