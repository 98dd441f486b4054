//! `verify`: reads the store again and says what does not prove.

use p2pweights_node::config::NodeConfig;
use p2pweights_node::report::{FailureKind, VerifyEntry, VerifyReport};
use p2pweights_node::session::Session;

use crate::args::VerifyArguments;
use crate::failure::CommandError;
use crate::output::Output;
use crate::size;

pub async fn run(output: Output, config: NodeConfig, arguments: VerifyArguments) -> Result<(), CommandError> {
    let session = Session::open_offline(config).await?;
    let answer = session.verify(arguments.hash).await;
    session.close().await;
    let report = answer?;
    output.value(&report, || lines(&report))?;
    if report.ok {
        return Ok(());
    }
    let bad = report.entries.iter().filter(|entry| !is_well(entry)).count();
    let message = format!("{bad} of {} did not prove", size::count(report.entries.len(), "blob"));
    Err(CommandError::new(FailureKind::Disk, message)
        .or_hint("damaged bytes are no longer served; `fetch` the model again, or `publish` it again if it lies elsewhere"))
}

fn is_well(entry: &VerifyEntry) -> bool {
    entry.damaged == 0 && entry.problem.is_none()
}

fn lines(report: &VerifyReport) -> Vec<String> {
    let mut lines: Vec<String> = report.entries.iter().map(line).collect();
    let total = report.entries.iter().map(|entry| entry.bytes).sum();
    lines.push(format!("read {} in {}", size::bytes(total), size::count(report.entries.len(), "blob")));
    lines
}

fn line(entry: &VerifyEntry) -> String {
    let name = entry.path.as_deref().unwrap_or("");
    let verdict = match (&entry.problem, entry.damaged) {
        (Some(problem), 0) => problem.clone(),
        (Some(problem), damaged) => format!("{problem} ({} damaged)", size::bytes(damaged)),
        (None, 0) => "ok".to_owned(),
        (None, damaged) => format!("{} damaged", size::bytes(damaged)),
    };
    format!("{}  {:>10}  {verdict}  {name}", entry.hash, size::bytes(entry.bytes)).trim_end().to_owned()
}
