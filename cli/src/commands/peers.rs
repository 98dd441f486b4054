//! `peers`: who is connected to the running node.

use p2pweights_node::config::NodeConfig;
use p2pweights_node::report::PeerReport;
use p2pweights_node::session::Session;

use crate::failure::CommandError;
use crate::output::{Output, table};
use crate::size;

pub async fn run(output: Output, config: NodeConfig) -> Result<(), CommandError> {
    let session = Session::open_offline(config).await?;
    let running = session.is_remote();
    let answer = session.peers().await;
    session.close().await;
    let peers = answer?;
    output.value(&peers, || match (peers.is_empty(), running) {
        (true, false) => vec!["no node is running over this data dir; `p2pweights node` starts one".to_owned()],
        (true, true) => vec!["no peer is connected".to_owned()],
        (false, _) => {
            let titles = ["peer", ">rtt", ">received", ">sent", ">strikes", "path", "address", "agent"];
            table(&titles, &peers.iter().map(row).collect::<Vec<_>>())
        }
    })
}

fn row(peer: &PeerReport) -> Vec<String> {
    vec![
        peer.peer.clone(),
        peer.rtt_ms.map_or_else(|| "-".to_owned(), |milliseconds| format!("{milliseconds} ms")),
        size::bytes(peer.received_bytes),
        size::bytes(peer.sent_bytes),
        peer.strikes.to_string(),
        path(peer),
        peer.address.clone(),
        peer.agent.clone().unwrap_or_default(),
    ]
}

/// The way that payload takes now, and how fast it was.
fn path(peer: &PeerReport) -> String {
    match peer.paths.iter().find(|path| path.current) {
        None => "-".to_owned(),
        Some(path) => match path.rate {
            None => path.path.to_string(),
            Some(rate) => format!("{} {}", path.path, size::rate(rate)),
        },
    }
}
