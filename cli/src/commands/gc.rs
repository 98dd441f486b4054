//! `gc`: clears away what nothing keeps and, over the low watermark, evicts.

use p2pweights_node::config::NodeConfig;
use p2pweights_node::report::{GcReport, GcRequest};
use p2pweights_node::session::Session;

use crate::args::GcArguments;
use crate::failure::CommandError;
use crate::output::{Output, table};
use crate::size;

pub async fn run(output: Output, config: NodeConfig, arguments: GcArguments) -> Result<(), CommandError> {
    let session = Session::open_offline(config).await?;
    let request = GcRequest { dry_run: arguments.dry_run, older_than_s: arguments.older_than.as_secs() };
    let answer = session.gc(request).await;
    session.close().await;
    let report = answer?;
    output.value(&report, || lines(&report))
}

fn lines(report: &GcReport) -> Vec<String> {
    let gone = report.cleared.iter().chain(&report.evicted);
    let named = |hash: &str, name: &Option<String>| name.clone().unwrap_or_else(|| hash.to_owned());
    let rows: Vec<Vec<String>> =
        gone.map(|entry| vec![entry.kind.clone(), size::bytes(entry.bytes), named(&entry.hash, &entry.name)]).collect();
    let mut lines = if rows.is_empty() { Vec::new() } else { table(&["kind", ">size", "what"], &rows) };
    lines.extend(report.stays.iter().map(|entry| format!("stays ({}): {}", entry.reason, named(&entry.hash, &entry.name))));
    let freed = size::bytes(report.freed);
    let did = if report.dry_run { format!("would free {freed}") } else { format!("freed {freed}") };
    let quota = report.quota.map_or_else(String::new, |quota| format!(" of {}", size::bytes(quota)));
    let then = if report.dry_run { "would be" } else { "are" };
    lines.push(format!("{did}; {}{quota} {then} taken", size::bytes(report.taken)));
    lines
}
