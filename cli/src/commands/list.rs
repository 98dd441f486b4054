//! `list`: the models and blobs in the store.

use p2pweights_node::config::NodeConfig;
use p2pweights_node::report::ListEntry;
use p2pweights_node::session::Session;

use crate::failure::CommandError;
use crate::output::{Output, table};
use crate::size;

pub async fn run(output: Output, config: NodeConfig) -> Result<(), CommandError> {
    let session = Session::open_offline(config).await?;
    let (answer, status) = (session.list().await, session.status().await);
    session.close().await;
    let (entries, disk) = (answer?, status?.disk);
    output.value(&entries, || {
        if entries.is_empty() {
            return vec!["nothing in the store; `publish` or `fetch` something".to_owned()];
        }
        let titles = ["hash", "kind", ">files", ">size", ">held", ">disk", "name"];
        let mut lines = table(&titles, &entries.iter().map(row).collect::<Vec<_>>());
        let shared =
            if disk.shared > 0 { format!(" + {} shared between models", size::bytes(disk.shared)) } else { String::new() };
        let parts = format!("{} listed{shared} + {} index and other", size::bytes(disk.listed), size::bytes(disk.other));
        lines.push(format!("on disk: {parts} = {}", size::bytes(disk.total)));
        lines
    })
}

fn row(entry: &ListEntry) -> Vec<String> {
    let mut name = entry.name.clone().unwrap_or_default();
    if let Some(revision) = &entry.revision {
        name.push_str(&format!(" @ {revision}"));
    }
    if entry.pinned {
        name.push_str("  pinned");
    }
    if entry.withheld {
        name.push_str("  withheld");
    }
    if let Some(path) = &entry.path {
        name.push_str(&format!("  in {}", path.display()));
    }
    vec![
        entry.hash.clone(),
        entry.kind.clone(),
        entry.files.to_string(),
        size::bytes(entry.bytes),
        size::percent(entry.held, entry.bytes),
        size::bytes(entry.disk),
        name.trim_start().to_owned(),
    ]
}
