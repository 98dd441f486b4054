//! `show`: a model or blob of the store in full.

use p2pweights_node::config::NodeConfig;
use p2pweights_node::report::ShowReport;
use p2pweights_node::session::Session;

use crate::args::ShowArguments;
use crate::failure::CommandError;
use crate::output::{Output, table};
use crate::size;

/// Members of a manifest which are printed below as a table, or are of no use to a person.
const NOT_SHOWN: [&str; 2] = ["files", "shards"];

pub async fn run(output: Output, config: NodeConfig, arguments: ShowArguments) -> Result<(), CommandError> {
    let session = Session::open_offline(config).await?;
    let answer = session.show(arguments.target).await;
    session.close().await;
    let report = answer.map_err(|failure| {
        CommandError::from(failure)
            .or_hint("`p2pweights list` prints what is in the store; `fetch HASH --dry-run` looks elsewhere")
    })?;
    output.value(&report, || lines(&report))
}

fn lines(report: &ShowReport) -> Vec<String> {
    let mut facts = vec![
        vec![report.kind.clone(), report.hash.clone()],
        vec!["link".to_owned(), report.link.clone()],
        vec![
            "size".to_owned(),
            format!("{} ({} bytes) in {}", size::bytes(report.bytes), report.bytes, size::count(report.files.len(), "file")),
        ],
    ];
    if report.withheld {
        let why = "imported from a gated or private repository; not announced nor given to others (setting share.gated)";
        facts.push(vec!["withheld".to_owned(), why.to_owned()]);
    }
    let members = report.manifest.as_ref().and_then(serde_json::Value::as_object);
    for (name, value) in members.into_iter().flatten().filter(|(name, _)| !NOT_SHOWN.contains(&name.as_str())) {
        match value {
            serde_json::Value::Null => {}
            serde_json::Value::String(text) => facts.push(vec![name.clone(), text.clone()]),
            other => facts.push(vec![name.clone(), other.to_string()]),
        }
    }
    let rows: Vec<_> = report
        .files
        .iter()
        .map(|file| vec![file.hash.clone(), size::bytes(file.bytes), size::percent(file.held, file.bytes), file.path.clone()])
        .collect();
    let mut lines = table(&["", ""], &facts);
    lines.push(String::new());
    lines.extend(table(&["BLAKE3", ">size", ">held", "path"], &rows));
    lines
}
