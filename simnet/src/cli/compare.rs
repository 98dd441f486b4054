//! `simnet compare`: one seed with this engine and with models of others, side by side.

use std::time::Duration;

use p2pweights_protocol::time::Instant;
use p2pweights_simnet::{Scenario, baseline};

use super::args::CompareArguments;
use super::failure::Failure;
use super::output::{Output, duration, table};
use super::replay::watched;
use super::source::Source;

/// How one way of distributing did.
#[derive(Debug)]
struct Rival {
    name: String,
    /// When each fetcher finished, from the world's beginning; `None`: never.
    finishes: Vec<Option<Duration>>,
    /// Payload bytes that hosts which held everything at the beginning sent, in thousandths of a copy.
    source_permille: u64,
}

/// Models of others in the same world.
fn rivals(scenario: &Scenario, copy_bytes: u64) -> impl Iterator<Item = Rival> {
    baseline::all().iter().map(move |model| {
        let report = (model.run)(scenario);
        let sent = report.sent.iter().zip(&scenario.hosts).filter(|(_, plan)| !plan.fetches).map(|(sent, _)| sent).sum();
        Rival { name: model.label.into(), finishes: report.finished_at, source_permille: permille(sent, copy_bytes) }
    })
}

/// Compares them.
pub fn run(arguments: &CompareArguments, output: Output) -> Result<(), Failure> {
    let source = Source::load(&arguments.seed.file, arguments.seed.form.form())?;
    let seed = arguments.seed.seed.unwrap_or(source.file.seed);
    let (_, report) = watched(&source, seed, output)?;
    let scenario = source.file.scenario(seed)?;
    let sent: u64 = report.hosts.iter().zip(&scenario.hosts).filter(|(_, plan)| !plan.fetches).map(|(host, _)| host.sent).sum();
    let finish = |host: &p2pweights_simnet::HostId| report.hosts[host.0].finished_at.map(|at| at - Instant::START);
    let ours = Rival {
        name: "p2pweights".into(),
        finishes: report.fetchers.iter().map(finish).collect(),
        source_permille: permille(sent, report.copy_bytes),
    };
    let all: Vec<Rival> = [ours].into_iter().chain(rivals(&scenario, report.copy_bytes)).collect();
    if output.is_json() {
        return all.iter().try_for_each(|rival| {
            let at = |place: usize| quantile(&rival.finishes, place).map(|at| at.as_secs_f64());
            output.json(&serde_json::json!({
                "name": rival.name, "seed": seed, "bound_s": report.bound.as_secs_f64(),
                "p50_s": at(500), "p99_s": at(990), "last_s": at(1000), "source_copies_permille": rival.source_permille,
            }))
        });
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|rival| {
            let at = |place: usize| quantile(&rival.finishes, place);
            let ratio =
                |time: Duration| u64::try_from(time.as_nanos() * 1000 / report.bound.as_nanos().max(1)).unwrap_or(u64::MAX);
            let text = |time: Option<Duration>| {
                time.map_or_else(|| "never".into(), |time| format!("{} = {}", duration(time), thousandths(ratio(time))))
            };
            vec![rival.name.clone(), text(at(500)), text(at(990)), text(at(1000)), thousandths(rival.source_permille)]
        })
        .collect();
    output.line(&format!("bound {}; each time also as a multiple of it", duration(report.bound)))?;
    table(&["", ">half", ">99 %", ">last", ">copies from sources"], &rows).iter().try_for_each(|line| output.line(line))?;
    let ignored = baseline::ignored(&scenario);
    if !ignored.is_empty() {
        output.line(&format!("the models leave out, in their favour: {}; so this is no comparison", ignored.join(", ")))?;
    }
    output.line("all of them are models in a simulator: not to be compared with production figures")
}

fn permille(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 1000 / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}

fn thousandths(permille: u64) -> String {
    format!("{}.{:03}", permille / 1000, permille % 1000)
}

/// When so many thousandths have finished.
fn quantile(finishes: &[Option<Duration>], permille: usize) -> Option<Duration> {
    let mut done: Vec<Duration> = finishes.iter().copied().flatten().collect();
    done.sort_unstable();
    done.get((finishes.len() * permille).div_ceil(1000).checked_sub(1)?).copied()
}
