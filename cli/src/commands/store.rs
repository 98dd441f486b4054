//! `store rebuild`: makes the index anew from the files.

use p2pweights_node::config::NodeConfig;
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
        let models = size::count(report.models, "model");
        let mut lines =
            vec![format!("found {}, {} of them partial, and {models}", size::count(report.blobs, "blob"), report.partial)];
        lines.extend(report.strays.iter().map(|path| format!("belongs to nothing, left alone: {}", path.display())));
        lines
    })
}
