//! `import`: a model from a hub, or from what other programs keep on this machine, into the store.

use std::env;

use p2pweights_node::config::NodeConfig;
use p2pweights_node::report::{FailureKind, ImportEvent, ImportRequest, Imported, Secret};
use p2pweights_node::session::Session;

use crate::args::{ImportArguments, PublishArguments};
use crate::failure::CommandError;
use crate::interrupts::Interrupts;
use crate::output::Output;
use crate::progress::ImportProgress;
use crate::size;

/// How a repository of a hub is named.
pub const HUB_SCHEME: &str = "hf:";
/// Where models come from unless something else is said.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// Names another hub, for all programs.
const ENDPOINT_VARIABLE: &str = "HF_ENDPOINT";
/// Holds a token for it.
const TOKEN_VARIABLE: &str = "HF_TOKEN";
/// Which revision is meant unless one is named.
const MAIN: &str = "main";

pub async fn run(output: Output, config: NodeConfig, arguments: ImportArguments) -> Result<(), CommandError> {
    if let Some(repo) = arguments.source.strip_prefix(HUB_SCHEME) {
        let request = request(repo, &arguments)?;
        return from_hub(output, config, request).await;
    }
    if arguments.token_env.is_some() {
        return Err(CommandError::usage("--token-env is for imports from a hub, such as hf:ORG/MODEL"));
    }
    let origin = endpoint(&arguments)?.0;
    let local = PublishArguments {
        path: arguments.source.into(),
        name: None,
        revision: None,
        license: None,
        copy: false,
        no_sha256: false,
        include: arguments.include,
        exclude: arguments.exclude,
        mirror: Vec::new(),
        sidecar: false,
    };
    super::publish::import(output, config, local, origin).await
}

/// The hub, and whether it is the one that the environment's token is for.
fn endpoint(arguments: &ImportArguments) -> Result<(String, bool), CommandError> {
    let variable = |name: &str| match env::var(name) {
        Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(CommandError::usage(format!("environment {name}: not valid UTF-8"))),
    };
    let usual = variable(ENDPOINT_VARIABLE)?.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
    let chosen = arguments.endpoint.clone().unwrap_or_else(|| usual.clone());
    let trimmed = |text: &str| text.trim_end_matches('/').to_owned();
    let own = [trimmed(&usual), DEFAULT_ENDPOINT.to_owned()].contains(&trimmed(&chosen));
    Ok((trimmed(&chosen), own))
}

fn request(repo: &str, arguments: &ImportArguments) -> Result<ImportRequest, CommandError> {
    let (repo, revision) = repo.split_once('@').unwrap_or((repo, MAIN));
    let (endpoint, own) = endpoint(arguments)?;
    let token = match &arguments.token_env {
        Some(name) => {
            let missing = || CommandError::usage(format!("--token-env {name}: there is no such variable, or no text in it"));
            Some(env::var(name).ok().filter(|token| !token.trim().is_empty()).ok_or_else(missing)?)
        }
        // It is for the hub that it was made for, not for any server that a command line names.
        None if own => env::var(TOKEN_VARIABLE).ok().filter(|token| !token.trim().is_empty()),
        None => None,
    };
    Ok(ImportRequest {
        endpoint,
        repo: repo.to_owned(),
        revision: revision.to_owned(),
        token: token.map(Secret),
        include: arguments.include.clone(),
        exclude: arguments.exclude.clone(),
    })
}

async fn from_hub(output: Output, config: NodeConfig, request: ImportRequest) -> Result<(), CommandError> {
    let mut interrupts = Interrupts::listen()?;
    let session = Session::open(super::publish::quiet(config)).await?;
    let running = session.is_remote();
    let followed = tokio::select! {
        followed = follow(output, &session, request) => followed,
        () = interrupts.wait() => Err(CommandError::new(FailureKind::Interrupted, "stopped before all was here")
            .or_hint("what came is kept: run the same command again, and it goes on from there")),
    };
    session.close().await;
    let imported = followed?;
    if output.is_json() {
        return Ok(());
    }
    lines(&imported, running).iter().try_for_each(|line| output.line(line))
}

async fn follow(output: Output, session: &Session, request: ImportRequest) -> Result<Imported, CommandError> {
    let mut events = session.import(request).await?;
    let mut progress = ImportProgress::new(output);
    while let Some(event) = events.recv().await {
        match event {
            ImportEvent::Failed(failure) => {
                drop(progress);
                let again = matches!(failure.kind, FailureKind::Network | FailureKind::Disk);
                let error = CommandError::from(failure);
                return Err(if again {
                    error.or_hint("what came is kept: run the same command again, and it goes on from there")
                } else {
                    error
                });
            }
            event => {
                progress.event(&event)?;
                if let ImportEvent::Done(imported) = event {
                    return Ok(imported);
                }
            }
        }
    }
    Err(CommandError::internal("the node ended before the import did").or_hint("run the same command again"))
}

fn lines(imported: &Imported, running: bool) -> Vec<String> {
    let rate = size::rate(size::average_rate(imported.fetched, imported.seconds));
    let mut lines = vec![
        format!(
            "imported {}, {}, every byte as the hub lists it",
            size::count(imported.files, "file"),
            size::bytes(imported.bytes)
        ),
        format!("fetched {} in {:.1} s, {rate}", size::bytes(imported.fetched), imported.seconds),
        format!("hash  {}", imported.hash),
        format!("link  {}", imported.link),
    ];
    match (imported.withheld, running) {
        (true, _) => {
            lines.push("withheld: gated or private, so not announced nor given to others (setting share.gated)".to_owned())
        }
        (false, false) => lines.push("`p2pweights node` serves it".to_owned()),
        (false, true) => (),
    }
    lines
}
