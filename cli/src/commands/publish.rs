//! `publish`: hashes a file or folder and makes it available.

use std::path::Path;

use p2pweights_node::config::NodeConfig;
use p2pweights_node::report::{FailureKind, PublishEvent, PublishRequest, Published};
use p2pweights_node::session::Session;

use crate::args::PublishArguments;
use crate::failure::CommandError;
use crate::interrupts::Interrupts;
use crate::output::Output;
use crate::progress::PublishProgress;
use crate::size;

pub async fn run(output: Output, config: NodeConfig, arguments: PublishArguments) -> Result<(), CommandError> {
    publish(output, config, arguments, None).await
}

/// The same for what another program keeps of a hub: where it came from goes into the manifest.
pub async fn import(output: Output, config: NodeConfig, arguments: PublishArguments, origin: String) -> Result<(), CommandError> {
    publish(output, config, arguments, Some(origin)).await
}

async fn publish(
    output: Output,
    config: NodeConfig,
    arguments: PublishArguments,
    origin: Option<String>,
) -> Result<(), CommandError> {
    let mut interrupts = Interrupts::listen()?;
    let request = PublishRequest {
        path: existing(&arguments.path)?,
        name: arguments.name,
        revision: arguments.revision,
        license: arguments.license,
        copy: arguments.copy,
        no_sha256: arguments.no_sha256,
        include: arguments.include,
        exclude: arguments.exclude,
        origin,
        mirrors: arguments.mirror,
        sidecar: arguments.sidecar,
    };
    let session = Session::open(quiet(config)).await?;
    let running = session.is_remote();
    let followed = tokio::select! {
        followed = follow(output, &session, request) => followed,
        () = interrupts.wait() => Err(CommandError::new(FailureKind::Interrupted, "stopped before all was hashed")
            .or_hint("the files that were finished are kept: run the same command again, and it goes on from there")),
    };
    session.close().await;
    let published = followed?;
    if output.is_json() {
        return Ok(());
    }
    lines(&published, running).iter().try_for_each(|line| output.line(line))
}

/// An embedded node lives only as long as the hashing takes: too short to serve anybody, so it contacts and expects nobody.
pub fn quiet(mut config: NodeConfig) -> NodeConfig {
    config.listen.clear();
    config.bootstrap.clear();
    config.mdns = false;
    config.api = None;
    config
}

fn existing(path: &Path) -> Result<std::path::PathBuf, CommandError> {
    let absolute = std::path::absolute(path).map_err(|error| CommandError::usage(format!("{}: {error}", path.display())))?;
    std::fs::metadata(&absolute).map_err(|error| CommandError::usage(format!("cannot publish {}: {error}", path.display())))?;
    Ok(absolute)
}

async fn follow(output: Output, session: &Session, request: PublishRequest) -> Result<Published, CommandError> {
    let mut events = session.publish(request).await?;
    let mut progress = PublishProgress::new(output);
    while let Some(event) = events.recv().await {
        match event {
            PublishEvent::Failed(failure) => return Err(failure.into()),
            event => {
                progress.event(&event)?;
                if let PublishEvent::Done(published) = event {
                    return Ok(published);
                }
            }
        }
    }
    Err(CommandError::internal("the node ended before the publish did").or_hint("run the same command again"))
}

fn lines(published: &Published, running: bool) -> Vec<String> {
    let mut lines = vec![
        format!("published {}, {}", size::count(published.files, "file"), size::bytes(published.bytes)),
        format!("hash  {}", published.hash),
        format!("link  {}", published.link),
    ];
    if !running {
        lines.push("`p2pweights node` serves it".to_owned());
    }
    lines
}
