//! `status`: the state of the node, or of its store alone when none runs.

use std::time::SystemTime;

use p2pweights_node::config::NodeConfig;
use p2pweights_node::report::{DamageCount, RepairReport, StatusReport};
use p2pweights_node::session::Session;
use serde::Serialize;

use crate::failure::CommandError;
use crate::output::{Output, table};
use crate::size;

/// Blobs under repair that are named; all of them are in the JSON.
const REPAIRS_SHOWN: usize = 10;

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
        let endpoint = |address: &String| format!("{address} (HF_ENDPOINT=http://{address})");
        facts.push(("gateway", report.gateway.as_ref().map_or_else(|| "off".to_owned(), endpoint)));
        facts.extend(report.metrics.iter().map(|address| ("metrics", format!("http://{address}/metrics"))));
        facts.push(("peers", format!("{} connected, {} in the DHT's table", report.connected, report.dht_peers)));
        facts.push(("announced", size::count(report.announced, "key")));
        facts.push(("sent", size::bytes(report.sent_bytes)));
        facts.push(("received", size::bytes(report.received_bytes)));
    } else {
        facts.insert(0, ("node", "none is running over this data dir; `p2pweights node` starts one".to_owned()));
    }
    facts.push(("store", format!("{} in full, {} held", size::count(report.blobs, "blob"), size::bytes(report.bytes))));
    let disk = &report.disk;
    let quota = disk.quota.map_or_else(String::new, |quota| {
        let promised =
            if disk.promised > 0 { format!(", {} promised to fetches", size::bytes(disk.promised)) } else { String::new() };
        format!(" of a quota of {}, {} left{promised}", size::bytes(quota), size::bytes(disk.left.unwrap_or(0)))
    });
    facts.push(("disk", format!("{}{quota}", size::bytes(disk.total))));
    if let Some(reason) = &report.paused {
        facts.push(("paused", reason.clone()));
    }
    facts.extend(health(report, running).into_iter().map(|text| ("scrub", text)));
    facts.extend(report.repairs.iter().take(REPAIRS_SHOWN).map(|repair| ("damaged", under_repair(repair))));
    if report.repairs.len() > REPAIRS_SHOWN {
        facts.push(("damaged", format!("… {} in all", size::count(report.repairs.len(), "blob"))));
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

/// What is known of the health of the store.
fn health(report: &StatusReport, running: bool) -> Vec<String> {
    let scrub = &report.scrub;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let ago = |at: u64| format!("{} ago", size::duration(now.saturating_sub(at)));
    let last = scrub.last_cycle_s.map_or_else(|| "never read to the end".to_owned(), |at| format!("all read {}", ago(at)));
    let next = match (scrub.cycle_began_s, scrub.next_cycle_s) {
        _ if running && !scrub.enabled => ", off".to_owned(),
        (Some(_), _) if running => {
            format!(", reading again: {} of {}", size::percent(scrub.checked, scrub.total), size::bytes(scrub.total))
        }
        (None, Some(due)) => format!(", again in {}", size::duration(due.saturating_sub(now))),
        _ => String::new(),
    };
    let mut lines = vec![format!("{last}{next}")];
    let DamageCount { damaged, mended, outboards } = scrub.ever;
    if damaged + outboards > 0 {
        let since = if scrub.since_start.damaged > 0 {
            format!(", {} of it since the start", size::bytes(scrub.since_start.damaged))
        } else {
            String::new()
        };
        let outboards =
            if outboards > 0 { format!(", {} made again", size::count(count(outboards), "outboard")) } else { String::new() };
        lines.push(format!("{} found damaged ever{since}, {} mended{outboards}", size::bytes(damaged), size::bytes(mended)));
    }
    lines
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn under_repair(repair: &RepairReport) -> String {
    let what = match (repair.trying, repair.next_try_s) {
        (true, _) => "being fetched again".to_owned(),
        (false, Some(seconds)) => {
            format!(
                "nobody delivered it in {}, next in {}",
                size::count(count(repair.attempts.into()), "attempt"),
                size::duration(seconds)
            )
        }
        (false, None) => "a running node fetches it again".to_owned(),
    };
    format!("{}: {} missing, {what}", repair.hash, size::bytes(repair.bytes))
}
