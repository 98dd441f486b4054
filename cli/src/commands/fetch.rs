//! `fetch`: gets a model or blob from whoever provides it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use p2pweights_node::config::NodeConfig;
use p2pweights_node::report::{FailureKind, FetchEvent, FetchRequest};
use p2pweights_node::session::Session;

use crate::args::{FetchArguments, Place};
use crate::failure::CommandError;
use crate::interrupts::Interrupts;
use crate::output::Output;
use crate::progress::FetchProgress;
use crate::settings::{Key, Origin, Settings};

pub async fn run(output: Output, settings: Settings, arguments: FetchArguments) -> Result<(), CommandError> {
    let mut interrupts = Interrupts::listen()?;
    let request = request(&settings, arguments)?;
    let opened = tokio::select! {
        opened = Session::open(embedded(settings.node.clone())) => opened?,
        () = interrupts.wait() => return Err(stopped()),
    };
    let result = tokio::select! {
        result = fetch(output, &opened, &settings, request) => result,
        // Dropping the order cancels it.
        () = interrupts.wait() => Err(stopped()),
    };
    opened.close().await;
    result
}

fn stopped() -> CommandError {
    CommandError::new(FailureKind::Interrupted, "stopped; what was verified is kept")
        .or_hint("run the same command again: it goes on from there")
}

/// An embedded node takes a free port for its API: the configured one belongs to the node that stays.
fn embedded(mut config: NodeConfig) -> NodeConfig {
    config.api = config.api.map(|_| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
    config
}

fn request(settings: &Settings, arguments: FetchArguments) -> Result<FetchRequest, CommandError> {
    let cache = match &arguments.to {
        Some(Place::HfCache(folder)) => Some(folder.clone().map_or_else(hf_cache, Ok)?),
        None => None,
    };
    let given = cache.as_ref().or(arguments.output.as_ref());
    let folder = given.map_or(Path::new("."), PathBuf::as_path);
    let output = match std::env::current_dir() {
        Ok(current) if given.is_none() => current,
        _ => std::path::absolute(folder).map_err(|error| CommandError::usage(format!("{}: {error}", folder.display())))?,
    };
    Ok(FetchRequest {
        target: arguments.target,
        output: Some(output),
        own_folder: given.is_none(),
        hf_cache: cache.is_some(),
        include: arguments.include,
        exclude: arguments.exclude,
        peers: arguments.peer,
        bootstrap: settings.texts(Key::Bootstrap),
        timeout_s: arguments.timeout,
        dry_run: arguments.dry_run,
        force: arguments.force,
        in_order: arguments.in_order,
        pin: arguments.pin,
        mirrors: arguments.mirror,
    })
}

/// Where Hugging Face's clients keep their cache: the same variables, in the same order.
fn hf_cache() -> Result<PathBuf, CommandError> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let below = |name: &str, rest: &str| variable(name).map(|folder| folder.join(rest));
    variable("HF_HUB_CACHE")
        .or_else(|| below("HF_HOME", "hub"))
        .or_else(|| below("XDG_CACHE_HOME", "huggingface/hub"))
        .or_else(|| below("HOME", ".cache/huggingface/hub"))
        .ok_or_else(|| CommandError::usage("HOME is not set").or_hint("say where the cache is: --to hf-cache=DIR"))
}

/// Flags that shape a node say nothing to one that runs already; better to refuse than to search the wrong network.
async fn check_flags(session: &Session, settings: &Settings) -> Result<(), CommandError> {
    if !session.is_remote() {
        return Ok(());
    }
    let of_a_node =
        [Key::MaxUpload, Key::MaxDownload, Key::LogFlight, Key::StorageQuota, Key::StorageEviction, Key::MirrorsAllowPrivate];
    for key in of_a_node {
        if let Origin::Flag(flag) = settings.origin(key) {
            return Err(CommandError::usage(format!("a node runs over this data dir already; {flag} says nothing to it"))
                .or_hint(format!("leave out {flag} and start that node with it, or use another --data-dir")));
        }
    }
    if matches!(settings.origin(Key::Network), Origin::Flag(_)) {
        let running = session.status().await?.network;
        if running != settings.node.network {
            let wanted = &settings.node.network;
            return Err(CommandError::usage(format!("the running node is in network `{running}`, not `{wanted}`"))
                .or_hint("leave out --network, or use another --data-dir"));
        }
    }
    Ok(())
}

async fn fetch(output: Output, session: &Session, settings: &Settings, request: FetchRequest) -> Result<(), CommandError> {
    check_flags(session, settings).await?;
    let dry_run = request.dry_run;
    let mut progress = FetchProgress::new(output, dry_run);
    let mut events = session.fetch(request).await?;
    let mut peers = 0;
    while let Some(event) = events.recv().await {
        if let FetchEvent::Searching { connected, .. } = &event {
            peers = *connected;
        }
        let last = matches!(event, FetchEvent::Done { .. });
        match event {
            FetchEvent::Failed(failure) => {
                drop(progress);
                let hint = hint(failure.kind, peers);
                let error = CommandError::from(failure);
                return Err(match hint {
                    Some(hint) => error.or_hint(hint),
                    None => error,
                });
            }
            event => progress.event(&event)?,
        }
        if last {
            return Ok(());
        }
    }
    Err(CommandError::internal("the node ended before the fetch did")
        .or_hint("run the same command again: it goes on from there"))
}

fn hint(kind: FailureKind, connected: usize) -> Option<String> {
    match kind {
        FailureKind::NotFound => {
            let advice = if connected == 0 {
                "no peer is connected: name one of the network with --bootstrap, or a provider with --peer"
            } else {
                "check the hash and --network; name a peer of the network with --bootstrap, a provider with --peer, or wait \
                 longer with --timeout"
            };
            Some(advice.to_owned())
        }
        FailureKind::Incomplete => {
            Some("what was verified is kept: run the same command again when more providers are there".to_owned())
        }
        FailureKind::Disk => Some("what was verified is kept: make room and run the same command again".to_owned()),
        _ => None,
    }
}
