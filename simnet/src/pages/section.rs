//! A scenario's section of the page: what it is about, its plots, its figures, and how to run it again.

use super::figures::{bytes, copies, count, counted, percent, ratio, time};
use super::index::{mark, number};
use super::markup::escape;
use super::plot::{Kind, Plot, Shape};
use super::record::{RunRecord, share};
use super::row::{Row, Verdict};

/// Broken rules that are quoted; there can be many, and the first tell most.
const QUOTED: usize = 5;
/// The time of what did not happen.
const NEVER: &str = "never";

/// The section.
pub fn section(row: &Row) -> String {
    let run = row.worst();
    let short = if run.full { "" } else { " <small>short form</small>" };
    let about: String = run.about.split("\n\n").map(|text| format!("<p>{}</p>\n", escape(text.trim()))).collect();
    let figures: String = figures(run)
        .into_iter()
        .map(|(name, value)| {
            let class = if value == NEVER { " class=\"missed\"" } else { "" };
            format!("<div><dt>{}</dt><dd{class}>{}</dd></div>\n", escape(&name), escape(&value))
        })
        .collect();
    format!(
        "<section id=\"{}\">\n<h2>{}{}{short} {}</h2>\n<div class=\"about\">\n{about}{}</div>\n{}\
         <div class=\"lead-plot\">\n{}<dl>\n{figures}</dl>\n</div>\n<div class=\"plots\">\n{}</div>\n{}\
         {}</section>\n",
        row.slug,
        number(row, "<span class=\"row\">", "</span> "),
        escape(&run.name),
        mark(row.verdict()),
        asked(row),
        violations(run),
        completion(row),
        others(row),
        seeds(row),
        again(run),
    )
}

fn again(run: &RunRecord) -> String {
    if run.command.is_empty() {
        return String::new();
    }
    format!("<p class=\"again\">To run it again: <code>{}</code></p>\n", escape(&run.command))
}

/// Target and result of all that was asked.
fn asked(row: &Row) -> String {
    let line = |(expectation, seed): (&super::record::Expectation, u64)| {
        let verdict = if expectation.passed { Verdict::Met } else { Verdict::Missed };
        let seed = if row.runs.len() > 1 { format!(" with seed {seed}") } else { String::new() };
        format!(
            "<li>{} <b>{}</b>: {}{seed}, {}</li>\n",
            escape(&expectation.name),
            escape(&expectation.target),
            escape(&expectation.result),
            mark(verdict)
        )
    };
    let lines: String = row.expectations().into_iter().map(line).collect();
    if lines.is_empty() { lines } else { format!("<ul class=\"asked\">\n{lines}</ul>\n") }
}

/// What a run broke, in a few words.
pub fn broken(run: &RunRecord) -> String {
    let mut parts = Vec::new();
    if !run.violations.is_empty() {
        parts.push(counted(run.violations.len() as u64, "violation"));
    }
    if run.bad_groups_kept > 0 {
        parts.push(format!("{} kept", counted(run.bad_groups_kept, "bad group")));
    }
    if run.ran_out_of_events {
        parts.push("stopped after too many events".into());
    }
    parts.join(", ")
}

fn violations(run: &RunRecord) -> String {
    if run.is_sound() {
        return String::new();
    }
    let lines: String = run.violations.iter().take(QUOTED).map(|violation| format!("<li>{}</li>\n", escape(violation))).collect();
    let list = if lines.is_empty() { lines } else { format!("<ul>\n{lines}</ul>\n") };
    format!("<div class=\"broken\"><strong class=\"missed\">Rules were broken: {}.</strong>\n{list}</div>\n", broken(run))
}

/// The plot that matters most, in two widths.
fn completion(row: &Row) -> String {
    let plot = |shape: Shape, class: &str| {
        let plot = Plot::of(Kind::Completion, row.worst(), &row.others(), shape);
        plot.map_or(String::new(), |plot| format!("<figure class=\"{class}\">\n{}</figure>\n", plot.svg()))
    };
    plot(Shape::Wide, "card wide") + &plot(Shape::Narrow, "card narrow")
}

fn others(row: &Row) -> String {
    let plots = Kind::ALL.into_iter().skip(1).filter_map(|kind| Plot::of(kind, row.worst(), &[], Shape::Narrow));
    plots.map(|plot| format!("<figure class=\"card\">\n{}</figure>\n", plot.svg())).collect()
}

/// Every seed on a line, if there are several.
fn seeds(row: &Row) -> String {
    if row.runs.len() < 2 {
        return String::new();
    }
    let line = |run: &&RunRecord| {
        let verdict = if run.passed() { Verdict::Met } else { Verdict::Missed };
        format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td></tr>\n",
            run.seed,
            run.last_ratio().map_or(NEVER.into(), |last| ratio(last) + " ×"),
            percent(run.waste()),
            mark(verdict),
            escape(&run.digest),
        )
    };
    let lines: String = row.runs.iter().map(line).collect();
    format!(
        "<details><summary>Shown is seed {}, the worst of {}; all of them</summary>\n<table class=\"seeds\">\n<thead><tr><th>seed</th>\
         <th>last</th><th>waste</th><th>verdict</th><th>digest</th></tr></thead>\n<tbody>\n{lines}</tbody>\n</table></details>\n",
        row.worst().seed,
        row.runs.len(),
    )
}

/// The figures beside the plot.
fn figures(run: &RunRecord) -> Vec<(String, String)> {
    let ratios = run.ratios();
    let at = |part: f64| share(&ratios, run.fetchers, part).map_or(NEVER.into(), |at| ratio(at) + " ×");
    let mut figures: Vec<(String, String)> = vec![
        ("bound".into(), time(run.bound_s)),
        ("half have finished".into(), at(0.5)),
        ("99 %".into(), at(0.99)),
        ("the last".into(), at(1.0)),
        ("hosts, fetchers".into(), format!("{}, {}", count(run.hosts), count(run.fetchers))),
    ];
    if run.copy_bytes > 0 {
        figures.push(("one copy".into(), bytes(run.copy_bytes)));
    }
    for group in run.groups.iter().filter(|group| group.fetchers == 0 && group.sent_bytes > 0) {
        figures.push((format!("{} sent", group.name), format!("{} copies", copies(run.copies(group.sent_bytes)))));
    }
    let per_mib = run.traffic.values().sum::<u64>() as f64 / (run.sent_bytes as f64 / (1u64 << 20) as f64).max(1.0);
    figures.extend([
        ("arrived twice or for nothing".into(), percent(run.waste())),
        ("uplinks idle with work at hand".into(), percent(run.idle_permille as f64 / 1e3)),
        ("messages per MiB".into(), format!("{per_mib:.2}")),
        ("blocks asked for".into(), count(run.transfers)),
    ]);
    let copied = [("fetched again after a loss", run.refetched_bytes), ("through the relay", run.relayed_bytes)];
    for (name, amount) in copied.into_iter().filter(|(_, amount)| *amount > 0) {
        figures.push((name.into(), percent(amount as f64 / run.received_bytes.max(1) as f64)));
    }
    figures.push(("seed, digest".into(), format!("{}, {}", run.seed, run.digest)));
    figures
}
