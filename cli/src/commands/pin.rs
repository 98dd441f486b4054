//! `pin`, `unpin`: the promise to keep a model or blob.

use p2pweights_node::config::NodeConfig;
use p2pweights_node::session::Session;

use crate::args::PinArguments;
use crate::failure::CommandError;
use crate::output::Output;
use crate::size;

pub async fn run(output: Output, config: NodeConfig, arguments: PinArguments, pinned: bool) -> Result<(), CommandError> {
    let session = Session::open_offline(config).await?;
    let answer = session.set_pinned(arguments.target, pinned).await;
    session.close().await;
    let report = answer?;
    output.value(&report, || {
        let name = report.name.clone().unwrap_or_else(|| report.hash.clone());
        let said = match (pinned, report.changed) {
            (true, true) => "pinned",
            (true, false) => "was pinned already",
            (false, true) => "not pinned any more",
            (false, false) => "was not pinned",
        };
        let held = size::percent(report.held, report.bytes);
        vec![format!("{name}  {said}; {}, {held} held", size::bytes(report.bytes))]
    })
}
