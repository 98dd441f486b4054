//! `verify`: reads the store again, says what does not prove, and has it mended if asked to.

use p2pweights_node::config::NodeConfig;
use p2pweights_node::report::{FailureKind, Verdict, VerifyEntry, VerifyEvent, VerifyReport, VerifyRequest};
use p2pweights_node::session::Session;

use crate::args::VerifyArguments;
use crate::failure::CommandError;
use crate::interrupts::Interrupts;
use crate::output::Output;
use crate::progress::VerifyProgress;
use crate::size;

pub async fn run(output: Output, config: NodeConfig, arguments: VerifyArguments) -> Result<(), CommandError> {
    let mut interrupts = Interrupts::listen()?;
    let VerifyArguments { hash: target, mend, peer: peers, timeout: timeout_s, .. } = arguments;
    let session = if mend { Session::open(config).await? } else { Session::open_offline(config).await? };
    let remote = session.is_remote();
    let mut found = Vec::new();
    let followed = tokio::select! {
        followed = follow(output, &session, VerifyRequest { target, mend, peers, timeout_s }, &mut found) => followed,
        () = interrupts.wait() => Err(CommandError::new(FailureKind::Interrupted, "stopped before all was read")
            .or_hint("damage found so far is not served any more, and is not forgotten")),
    };
    session.close().await;
    let report = match followed {
        Ok(report) => report,
        Err(error) => {
            let so_far = VerifyReport { entries: found, ok: true };
            if !output.is_json() && !so_far.entries.is_empty() {
                lines(&so_far).iter().try_for_each(|line| output.line(line))?;
            }
            return Err(error);
        }
    };
    if !output.is_json() {
        lines(&report).iter().try_for_each(|line| output.line(line))?;
    }
    if report.ok {
        return Ok(());
    }
    let bad = report.entries.iter().filter(|entry| !entry.verdict.is_well()).count();
    let message = format!("{bad} of {} did not prove", size::count(report.entries.len(), "blob"));
    Err(CommandError::new(FailureKind::Disk, message).or_hint(hint(&report, remote, mend)))
}

/// What a person can do about it.
fn hint(report: &VerifyReport, remote: bool, mend: bool) -> &'static str {
    let any = |verdict| report.entries.iter().any(|entry| entry.verdict == verdict);
    match (any(Verdict::Damaged), any(Verdict::Unreadable)) {
        (_, true) => "the disk did not read all of it: look at its health, and at the system's log",
        (true, _) if remote => {
            "damaged bytes are no longer served; the running node fetches them again: `status` shows how far it is"
        }
        (true, _) if mend => "nobody delivered what is missing; `node` goes on trying, `--peer` names somebody who has it",
        (true, _) => "damaged bytes are no longer served; `verify --mend` or a running `node` fetches them again",
        _ => "a file that changed is no longer served; `publish` it again to serve it as it is now",
    }
}

async fn follow(
    output: Output,
    session: &Session,
    request: VerifyRequest,
    found: &mut Vec<VerifyEntry>,
) -> Result<VerifyReport, CommandError> {
    let mut events = session.verify(request).await?;
    let mut progress = VerifyProgress::new(output);
    while let Some(event) = events.recv().await {
        match event {
            VerifyEvent::Failed(failure) => return Err(failure.into()),
            event => {
                progress.event(&event)?;
                match event {
                    VerifyEvent::Done(report) => return Ok(report),
                    VerifyEvent::Blob(entry) => found.push(entry),
                    _ => (),
                }
            }
        }
    }
    Err(CommandError::internal("the node ended before all was read").or_hint("run the same command again"))
}

fn lines(report: &VerifyReport) -> Vec<String> {
    let mut lines: Vec<String> = report.entries.iter().map(line).collect();
    let total = report.entries.iter().map(|entry| entry.bytes).sum();
    lines.push(format!("read {} in {}", size::bytes(total), size::count(report.entries.len(), "blob")));
    lines
}

fn line(entry: &VerifyEntry) -> String {
    let name = entry.path.as_deref().unwrap_or("");
    let damaged = || size::bytes(entry.damaged);
    let verdict = match (entry.verdict, &entry.problem) {
        (Verdict::Ok, None) => "ok".to_owned(),
        (Verdict::OutboardMended, None) => "ok, its outboard was damaged and has been made again".to_owned(),
        (Verdict::Mended, _) => format!("mended ({} fetched again)", damaged()),
        (Verdict::Damaged, Some(problem)) if entry.damaged > 0 => format!("{problem} ({} damaged)", damaged()),
        (_, Some(problem)) => problem.clone(),
        (_, None) => format!("{} damaged", damaged()),
    };
    format!("{}  {:>10}  {verdict}  {name}", entry.hash, size::bytes(entry.bytes)).trim_end().to_owned()
}
