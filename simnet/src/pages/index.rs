//! The page: what it is, a table of all scenarios with target and result side by side, and a section for each. One file, which needs
//! nothing from anywhere.

use super::figures::{bytes, count, counted};
use super::markup::escape;
use super::row::{Row, Verdict};
use super::section;

const STYLE: &str = include_str!("page.css");

/// The page.
pub fn page(rows: &[Row]) -> String {
    let sections: String = rows.iter().map(section::section).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>p2pweights in simnet</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{}{}{sections}</main>\n</body>\n</html>\n",
        header(rows),
        table(rows),
    )
}

fn header(rows: &[Row]) -> String {
    let runs: usize = rows.iter().map(|row| row.runs.len()).sum();
    let mut engines: Vec<&str> = rows.iter().flat_map(|row| &row.runs).map(|run| run.engine.as_str()).collect();
    engines.sort_unstable();
    engines.dedup();
    let shorts = rows.iter().any(|row| row.runs.iter().any(|run| !run.full));
    let short = if shorts { " Scenarios marked <em>short form</em> ran smaller than their row says." } else { "" };
    format!(
        "<header>\n<h1>p2pweights in simnet</h1>\n<p class=\"lead\">The engine that ships (version {}), driven through simulated links, disks \
         and hostile peers in virtual time: {}, {}.</p>\n{}<p class=\"caution\"><strong>These are simulated figures.</strong> They come from a \
         model of networks, and are never comparable with figures that others measured in production. Baselines are our own models of \
         other ways to spread the same bytes, in the same worlds. Times are multiples of the <em>bound</em>: the time that no protocol \
         can beat, proofs counted in. Of several seeds the worst is shown.{short}</p>\n</header>\n",
        escape(&engines.join(", ")),
        counted(rows.len() as u64, "scenario"),
        counted(runs as u64, "run"),
        summary(rows),
    )
}

/// How many met what was asked, and by name which did not.
fn summary(rows: &[Row]) -> String {
    let with = |verdict: Verdict| rows.iter().filter(move |row| row.verdict() == verdict);
    let (met, missed) = (with(Verdict::Met).count(), with(Verdict::Missed).count());
    if met + missed == 0 {
        return String::new();
    }
    let names: Vec<String> = with(Verdict::Missed)
        .map(|row| format!("<a href=\"#{}\">{}{}</a>", row.slug, number(row, "#", " "), escape(&row.worst().name)))
        .collect();
    let misses = match names.len() {
        0 => String::new(),
        _ => format!(" <span class=\"missed\">Missed: {}.</span>", names.join(", ")),
    };
    format!(
        "<p class=\"summary\">{met} of {} met their targets in every seed.{misses}</p>\n",
        counted((met + missed) as u64, "scenario")
    )
}

fn table(rows: &[Row]) -> String {
    let bodies: String = rows.iter().map(lines).collect();
    format!(
        "<table class=\"rows\">\n<thead><tr><th class=\"number\">#</th><th>scenario</th><th>target</th><th>result <small>worst seed</small></th>\
         <th>verdict</th><th>seeds</th><th>world</th></tr></thead>\n{bodies}</table>\n"
    )
}

/// A scenario's lines in the table: one for each thing that was asked of it.
fn lines(row: &Row) -> String {
    let run = row.worst();
    let mut asked: Vec<(String, String, Verdict)> = row
        .expectations()
        .into_iter()
        .map(|(expectation, seed)| {
            let target = format!("{} <b>{}</b>", escape(&expectation.name), escape(&expectation.target));
            let seed = if row.runs.len() > 1 { format!(" <small>seed {seed}</small>") } else { String::new() };
            let verdict = if expectation.passed { Verdict::Met } else { Verdict::Missed };
            (target, escape(&expectation.result) + &seed, verdict)
        })
        .collect();
    if let Some(broken) = row.runs.iter().find(|run| !run.is_sound()) {
        let result = format!("{} <small>seed {}</small>", section::broken(broken), broken.seed);
        asked.push(("no rule broken".into(), result, Verdict::Missed));
    }
    if asked.is_empty() {
        asked.push((String::new(), String::new(), Verdict::NoTarget));
    }
    let short = if run.full { "" } else { " <small>short form</small>" };
    let name = format!("<a href=\"#{}\">{}</a>{short}", row.slug, escape(&run.name));
    let seeds = format!("{} of {}", row.passed(), row.runs.len());
    let size = if run.copy_bytes > 0 { format!(", {}", bytes(run.copy_bytes)) } else { String::new() };
    let world = counted(run.hosts, "host") + &size;
    let first = [number(row, "", ""), name, seeds, world];
    let mut body = String::from("<tbody>\n");
    for (index, (target, result, verdict)) in asked.into_iter().enumerate() {
        let [number, name, seeds, world] = if index == 0 { first.clone() } else { Default::default() };
        body += &format!(
            "<tr><td class=\"number\">{number}</td><td class=\"name\">{name}</td><td class=\"target\">{target}</td>\
             <td class=\"result\">{result}</td><td class=\"verdict\">{}</td><td class=\"seeds\">{seeds}</td><td class=\"world\">{world}</td></tr>\n",
            mark(verdict),
        );
    }
    body + "</tbody>\n"
}

/// A verdict in words and colour.
pub fn mark(verdict: Verdict) -> String {
    let class = match verdict {
        Verdict::Met => "met",
        Verdict::Missed => "missed",
        Verdict::NoTarget => "none",
    };
    format!("<span class=\"{class}\">{}</span>", verdict.word())
}

/// The row's number between two texts, if it has one.
pub fn number(row: &Row, before: &str, after: &str) -> String {
    row.worst().row.map_or(String::new(), |number| format!("{before}{}{after}", count(u64::from(number))))
}
