//! `node`: runs a node until it is told to stop.

use std::io::Read;

use p2pweights_node::config::NodeConfig;
use p2pweights_node::node::Node;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::failure::CommandError;
use crate::interrupts::Interrupts;
use crate::output::Output;
use crate::settings::Settings;

/// The line by which other programs know that a node serves; a public format.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename = "ready")]
pub struct Ready {
    /// The peer id as libp2p prints it.
    pub peer_id: String,
    /// Listen addresses, each ending in `/p2p/<peer id>`.
    pub listen: Vec<String>,
    /// Where the local API listens.
    pub api: Option<String>,
    /// The address that programs take as their Hugging Face endpoint.
    #[serde(default)]
    pub gateway: Option<String>,
    /// The address at which programs find the metrics.
    #[serde(default)]
    pub metrics: Option<String>,
}

pub async fn run(output: Output, settings: Settings, stop_with_stdin: bool) -> Result<(), CommandError> {
    let mut interrupts = Interrupts::listen()?;
    let gateway = settings.gateway_of_node();
    let config = NodeConfig { gateway, ..settings.node };
    let node = tokio::select! {
        started = Node::start(config) => started?,
        () = interrupts.wait() => return Ok(()),
    };
    let status = node.status().await;
    let gateway = status.gateway.map(|address| format!("http://{address}"));
    let metrics = status.metrics.map(|address| format!("http://{address}/metrics"));
    let ready = Ready { peer_id: status.peer_id, listen: status.listen, api: status.api, gateway, metrics };
    let announced = announce(output, ready);
    if announced.is_ok() {
        tokio::select! {
            () = interrupts.wait() => {}
            () = stdin_ends(), if stop_with_stdin => {}
        }
        tracing::info!("stopping");
    }
    node.shutdown().await;
    announced
}

fn announce(output: Output, ready: Ready) -> Result<(), CommandError> {
    output.value(&ready, || {
        let mut lines = vec![format!("peer id  {}", ready.peer_id)];
        lines.extend(ready.listen.iter().map(|address| format!("listen   {address}")));
        lines.push(format!("api      {}", ready.api.as_deref().unwrap_or("off")));
        let gateway = ready.gateway.as_ref().map_or_else(|| "off".to_owned(), |gateway| format!("HF_ENDPOINT={gateway}"));
        lines.push(format!("gateway  {gateway}"));
        lines.extend(ready.metrics.iter().map(|address| format!("metrics  {address}")));
        lines.push("ready    Ctrl-C stops".to_owned());
        lines
    })
}

/// Returns at the end of standard input. A thread of its own reads it: such a read can't be cancelled.
async fn stdin_ends() {
    let (sender, ended) = oneshot::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while matches!(std::io::stdin().read(&mut buffer), Ok(1..)) {}
        // The node may have been stopped otherwise, meanwhile.
        let _ = sender.send(());
    });
    let _ = ended.await;
}
