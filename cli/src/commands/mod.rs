//! One file for each verb. This one resolves the settings and dispatches, no more.

mod completions;
mod config;
mod demo;
mod fetch;
mod gc;
mod import;
mod list;
mod node;
mod peers;
mod pin;
mod publish;
mod remove;
mod show;
mod status;
mod store;
mod verify;

use std::path::Path;

use p2pweights_node::config::NodeConfig;

use crate::args::{
    Arguments, ConfigVerb, GlobalArguments, NetworkArguments, PayloadArguments, StorageArguments, StoreVerb, Verb,
};
use crate::failure::CommandError;
use crate::output::Output;
use crate::settings::{Flags, Key, Settings};

/// Runs the verb.
pub async fn run(arguments: Arguments, output: Output) -> Result<(), CommandError> {
    let mut flags = global_flags(&arguments.global)?;
    match arguments.verb {
        // These two need no settings: a broken config file must not be in their way.
        Verb::Completions(verb) => completions::run(&verb),
        Verb::Demo(verb) => demo::run(output, verb).await,
        Verb::Node(verb) => {
            add_network(&mut flags, &verb.network);
            add_payload(&mut flags, &verb.payload)?;
            add_storage(&mut flags, &verb.storage);
            add(&mut flags, Key::Listen, "--listen", verb.listen.clone());
            add(&mut flags, Key::Api, "--api", verb.api.iter().cloned().collect());
            add(&mut flags, Key::GatewayListen, "--gateway", verb.gateway.iter().cloned().collect());
            add(&mut flags, Key::MetricsListen, "--metrics", verb.metrics.iter().cloned().collect());
            node::run(output, Settings::resolve(&flags)?, verb.stop_with_stdin).await
        }
        Verb::Fetch(verb) => {
            add_network(&mut flags, &verb.network);
            add_payload(&mut flags, &verb.payload)?;
            add_storage(&mut flags, &verb.storage);
            if verb.allow_private_mirrors {
                add(&mut flags, Key::MirrorsAllowPrivate, "--allow-private-mirrors", vec!["true".to_owned()]);
            }
            fetch::run(output, Settings::resolve(&flags)?, verb).await
        }
        Verb::Config(ConfigVerb::Show) => config::show(output, &Settings::resolve(&flags)?),
        Verb::Import(verb) => import::run(output, resolve(&flags)?, verb).await,
        Verb::Publish(verb) => publish::run(output, resolve(&flags)?, verb).await,
        Verb::Show(verb) => show::run(output, resolve(&flags)?, verb).await,
        Verb::List => list::run(output, resolve(&flags)?).await,
        Verb::Status => status::run(output, resolve(&flags)?).await,
        Verb::Peers => peers::run(output, resolve(&flags)?).await,
        Verb::Verify(verb) => {
            add_network(&mut flags, &verb.network);
            verify::run(output, resolve(&flags)?, verb).await
        }
        Verb::Remove(verb) => remove::run(output, resolve(&flags)?, verb).await,
        Verb::Pin(verb) => pin::run(output, resolve(&flags)?, verb, true).await,
        Verb::Unpin(verb) => pin::run(output, resolve(&flags)?, verb, false).await,
        Verb::Gc(verb) => gc::run(output, resolve(&flags)?, verb).await,
        Verb::Store(StoreVerb::Rebuild) => store::rebuild(output, resolve(&flags)?).await,
    }
}

fn resolve(flags: &Flags) -> Result<NodeConfig, CommandError> {
    Settings::resolve(flags).map(|settings| settings.node)
}

fn global_flags(arguments: &GlobalArguments) -> Result<Flags, CommandError> {
    let mut flags = Flags { config: arguments.config.clone(), values: Vec::new() };
    if let Some(path) = &arguments.data_dir {
        add(&mut flags, Key::DataDir, "--data-dir", vec![utf8(path)?]);
    }
    Ok(flags)
}

/// Settings are texts, and so is what the local API carries.
fn utf8(path: &Path) -> Result<String, CommandError> {
    path.to_str().map(ToOwned::to_owned).ok_or_else(|| CommandError::usage(format!("path {} is not valid UTF-8", path.display())))
}

fn add_network(flags: &mut Flags, arguments: &NetworkArguments) {
    add(flags, Key::Bootstrap, "--bootstrap", arguments.bootstrap.clone());
    add(flags, Key::Network, "--network", arguments.network.iter().cloned().collect());
    if arguments.no_mdns {
        add(flags, Key::Mdns, "--no-mdns", vec!["false".to_owned()]);
    }
}

fn add_payload(flags: &mut Flags, arguments: &PayloadArguments) -> Result<(), CommandError> {
    add(flags, Key::MaxUpload, "--max-upload", arguments.max_upload.iter().cloned().collect());
    add(flags, Key::MaxDownload, "--max-download", arguments.max_download.iter().cloned().collect());
    if let Some(path) = &arguments.flight_log {
        add(flags, Key::LogFlight, "--flight-log", vec![utf8(path)?]);
    }
    Ok(())
}

fn add_storage(flags: &mut Flags, arguments: &StorageArguments) {
    add(flags, Key::StorageQuota, "--quota", arguments.quota.iter().cloned().collect());
    add(flags, Key::StorageEviction, "--eviction", arguments.eviction.iter().cloned().collect());
}

fn add(flags: &mut Flags, key: Key, flag: &'static str, texts: Vec<String>) {
    if !texts.is_empty() {
        flags.values.push((key, flag, texts));
    }
}
