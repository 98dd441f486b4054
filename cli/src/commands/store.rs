//! `store rebuild`: makes the index anew from the files.

use p2pweights_node::config::NodeConfig;
use p2pweights_node::report::RebuildReport;
use p2pweights_node::session::Session;

use crate::failure::CommandError;
use crate::output::Output;
use crate::size;

pub async fn rebuild(output: Output, config: NodeConfig) -> Result<(), CommandError> {
    let session = Session::open_offline(config).await?;
    let answer = session.rebuild().await;
    session.close().await;
    let report = answer?;
    output.value(&report, || {
        let (blobs, models) = (size::count(report.blobs, "blob"), size::count(report.models, "model"));
        let RebuildReport { partial, referenced, .. } = report;
        vec![format!("found {blobs}, {partial} of them partial, {referenced} published where they lie, and {models}")]
    })
}
