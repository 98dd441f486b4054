//! `remove`: takes a model or blob out of the store.

use p2pweights_node::config::NodeConfig;
use p2pweights_node::session::Session;

use crate::args::RemoveArguments;
use crate::failure::CommandError;
use crate::output::Output;
use crate::size;

pub async fn run(output: Output, config: NodeConfig, arguments: RemoveArguments) -> Result<(), CommandError> {
    let session = Session::open_offline(config).await?;
    let answer = session.remove(arguments.hash).await;
    session.close().await;
    let report = answer?;
    output.value(&report, || {
        let mut lines = vec![format!("removed {}, {} freed", size::count(report.blobs, "blob"), size::bytes(report.freed))];
        lines.extend(report.kept.iter().map(|path| format!("yours, and stays: {}", path.display())));
        lines
    })
}
