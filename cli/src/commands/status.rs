//! `status`: the state of the node, or of its store alone when none runs.

use p2pweights_node::config::NodeConfig;
use p2pweights_node::report::StatusReport;
use p2pweights_node::session::Session;
use serde::Serialize;

use crate::failure::CommandError;
use crate::output::{Output, table};
use crate::size;

#[derive(Serialize)]
struct StatusLine<'a> {
    running: bool,
    #[serde(flatten)]
    report: &'a StatusReport,
}

pub async fn run(output: Output, config: NodeConfig) -> Result<(), CommandError> {
    let session = Session::open_offline(config).await?;
    let running = session.is_remote();
    let answer = session.status().await;
    session.close().await;
    let report = answer?;
    output.value(&StatusLine { running, report: &report }, || lines(&report, running))
}

fn lines(report: &StatusReport, running: bool) -> Vec<String> {
    let mut facts: Vec<(&str, String)> = vec![("peer id", report.peer_id.clone()), ("network", report.network.clone())];
    if running {
        facts.insert(0, ("node", format!("running for {}, {}", size::duration(report.uptime_s), report.agent)));
        facts.extend(report.listen.iter().map(|address| ("listen", address.clone())));
        facts.push(("api", report.api.clone().unwrap_or_else(|| "off".to_owned())));
        facts.push(("peers", format!("{} connected, {} in the DHT's table", report.connected, report.dht_peers)));
        facts.push(("announced", size::count(report.announced, "key")));
        facts.push(("sent", size::bytes(report.sent_bytes)));
        facts.push(("received", size::bytes(report.received_bytes)));
    } else {
        facts.insert(0, ("node", "none is running over this data dir; `p2pweights node` starts one".to_owned()));
    }
    facts.push(("store", format!("{} in full, {} held", size::count(report.blobs, "blob"), size::bytes(report.bytes))));
    if let Some(reason) = &report.paused {
        facts.push(("paused", reason.clone()));
    }
    facts.extend(report.withdrawn.iter().map(|entry| {
        (
            "withdrawn",
            format!("{}: {} ({}); `publish` it again to serve it as it is now", entry.path.display(), entry.reason, entry.hash),
        )
    }));
    let rows: Vec<_> = facts.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    let mut lines = table(&["", ""], &rows);
    if !report.swarms.is_empty() {
        let row = |swarm: &p2pweights_node::report::SwarmReport| {
            vec![
                swarm.hash.clone(),
                size::bytes(swarm.total),
                size::percent(swarm.verified, swarm.total),
                swarm.providers.to_string(),
                size::bytes(swarm.in_flight),
            ]
        };
        lines.push(String::new());
        let rows: Vec<_> = report.swarms.iter().map(row).collect();
        lines.extend(table(&["swarm", ">size", ">verified", ">providers", ">in flight"], &rows));
    }
    lines
}
