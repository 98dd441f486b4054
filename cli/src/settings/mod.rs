//! Settings, resolved: defaults < config file < environment < flags, and for each where its value came from.
//! Every source hands over texts, and one place reads them: a value means the same wherever it is written.

mod file;
mod gateway;
mod key;
mod storage;

use std::env;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use p2pweights_node::config::{self, NodeConfig};
use p2pweights_node::net::BulkPath;
use serde::{Serialize, Serializer};

use crate::failure::CommandError;
use crate::size;
use gateway::GatewaySettings;
pub use key::Key;
pub use storage::{parse_eviction, parse_quota};

/// Names the config file in the environment.
const CONFIG_VARIABLE: &str = "P2PWEIGHTS_CONFIG";
/// What stands for no value where a setting has one otherwise.
pub const OFF: &str = "off";
/// The longest network name: it stands in every protocol name.
const MAX_NETWORK_LENGTH: usize = 32;

/// Where a value came from; the later ones win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything else.
    Default,
    /// This line of a config file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// This environment variable.
    Environment(String),
    /// This flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What the flags say; empty where they say nothing.
#[derive(Debug, Default)]
pub struct Flags {
    /// `--config`
    pub config: Option<PathBuf>,
    /// Settings, with the flag that gave each.
    pub values: Vec<(Key, &'static str, Vec<String>)>,
}

/// Every setting in force.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The values.
    pub node: NodeConfig,
    /// What only a node that stays has.
    gateway: GatewaySettings,
    /// The config file, if one was read.
    pub file: Option<PathBuf>,
    origins: [Origin; Key::ALL.len()],
}

impl Settings {
    /// Reads all sources.
    pub fn resolve(flags: &Flags) -> Result<Self, CommandError> {
        let mut settings = Self {
            node: NodeConfig::new(default_data_dir()?),
            gateway: GatewaySettings::default(),
            file: None,
            origins: [const { Origin::Default }; Key::ALL.len()],
        };
        if let Some((path, required)) = config_path(flags.config.as_deref())
            && let Some(entries) = file::read(&path, required)?
        {
            for entry in entries {
                settings.set(entry.key, &entry.texts, Origin::File { path: path.clone(), line: entry.line })?;
            }
            settings.file = Some(path);
        }
        for key in Key::ALL {
            if let Some(value) = env::var_os(key.variable()).filter(|value| !value.is_empty()) {
                let origin = Origin::Environment(key.variable());
                let text = value.into_string().map_err(|_| CommandError::usage(format!("{origin}: not valid UTF-8")))?;
                let texts = if key.is_list() { text.split(',').map(|part| part.trim().to_owned()).collect() } else { vec![text] };
                settings.set(key, &texts, origin)?;
            }
        }
        for (key, flag, texts) in &flags.values {
            settings.set(*key, texts, Origin::Flag(flag))?;
        }
        storage::check(&settings)?;
        Ok(settings)
    }

    /// Where a setting's value came from.
    pub fn origin(&self, key: Key) -> &Origin {
        &self.origins[key as usize]
    }

    /// A setting's value as it could be written in a config file, one text for each item of a list.
    pub fn texts(&self, key: Key) -> Vec<String> {
        let node = &self.node;
        match key {
            Key::DataDir => vec![node.data_dir.display().to_string()],
            Key::Listen => node.listen.iter().map(ToString::to_string).collect(),
            Key::Bootstrap => node.bootstrap.iter().map(ToString::to_string).collect(),
            Key::Network => vec![node.network.clone()],
            Key::Mdns => vec![node.mdns.to_string()],
            Key::Api => vec![address_text(node.api)],
            Key::GatewayListen => vec![address_text(self.gateway.listen)],
            Key::GatewayHosts => self.gateway.config.hosts.clone(),
            Key::GatewayModels => gateway::models_texts(&self.gateway.config.models),
            Key::MetricsListen => vec![address_text(node.metrics)],
            Key::StorageReserve => vec![size_text(node.reserve_bytes)],
            Key::ScrubPeriod => {
                vec![node.scrub_period.map_or_else(|| OFF.to_owned(), |period| size::exact_duration(period.as_secs()))]
            }
            Key::ScrubRate => vec![cap_text(node.scrub_rate)],
            Key::StorageQuota => vec![node.quota_bytes.map_or_else(|| OFF.to_owned(), size_text)],
            Key::StorageEviction => vec![node.eviction.to_string()],
            Key::StorageHigh => vec![format!("{}%", node.watermarks.high)],
            Key::StorageLow => vec![format!("{}%", node.watermarks.low)],
            Key::StorageEvictLastCopy => vec![node.evict_last_copy.to_string()],
            Key::Memory => vec![size_text(node.transfer_memory_bytes)],
            Key::MaxUpload => vec![cap_text(node.max_upload.total)],
            Key::MaxDownload => vec![cap_text(node.max_download.total)],
            Key::LanMaxUpload => vec![cap_text(node.max_upload.lan)],
            Key::LanMaxDownload => vec![cap_text(node.max_download.lan)],
            Key::WanMaxUpload => vec![cap_text(node.max_upload.wan)],
            Key::WanMaxDownload => vec![cap_text(node.max_download.wan)],
            Key::ShareGated => node.share_gated.clone(),
            Key::Paths => node.paths.iter().map(ToString::to_string).collect(),
            Key::LogFlight => vec![node.flight_log.as_ref().map_or_else(|| OFF.to_owned(), |path| path.display().to_string())],
            Key::MirrorsEnabled => vec![node.manifest_mirrors.to_string()],
            Key::MirrorsAllowPrivate => vec![node.private_mirrors.to_string()],
        }
    }

    fn set(&mut self, key: Key, texts: &[String], origin: Origin) -> Result<(), CommandError> {
        self.read_value(key, texts, &origin).map_err(|why| CommandError::usage(format!("{origin}: {}: {why}", key.name())))?;
        self.origins[key as usize] = origin;
        Ok(())
    }

    fn read_value(&mut self, key: Key, texts: &[String], origin: &Origin) -> Result<(), String> {
        let node = &mut self.node;
        let single = || match texts {
            [text] => Ok(text.as_str()),
            _ => Err(format!("takes one value, not {}", texts.len())),
        };
        match key {
            Key::DataDir => node.data_dir = resolve_path(single()?, origin)?,
            Key::Listen => node.listen = texts.iter().map(|text| config::parse_listen(text)).collect::<Result<_, _>>()?,
            Key::Bootstrap => node.bootstrap = texts.iter().map(|text| config::parse_peer(text)).collect::<Result<_, _>>()?,
            Key::Network => node.network = parse_network(single()?)?,
            Key::Mdns => node.mdns = parse_switch(single()?)?,
            Key::Api => node.api = parse_api(single()?)?,
            Key::GatewayListen => self.gateway.listen = parse_gateway(single()?)?,
            Key::MetricsListen => node.metrics = parse_metrics(single()?)?,
            Key::GatewayHosts => {
                self.gateway.config.hosts = texts.iter().map(|text| gateway::parse_host(text)).collect::<Result<_, _>>()?;
            }
            Key::GatewayModels => self.gateway.config.models = gateway::parse_models(texts)?,
            Key::StorageReserve => node.reserve_bytes = size::parse(single()?)?,
            Key::ScrubPeriod => node.scrub_period = parse_period(single()?)?,
            Key::ScrubRate => node.scrub_rate = parse_scrub_rate(single()?)?,
            Key::StorageQuota => node.quota_bytes = parse_quota(single()?)?,
            Key::StorageEviction => node.eviction = single()?.parse()?,
            Key::StorageHigh => node.watermarks.high = storage::parse_percent(single()?)?,
            Key::StorageLow => node.watermarks.low = storage::parse_percent(single()?)?,
            Key::StorageEvictLastCopy => node.evict_last_copy = parse_switch(single()?)?,
            Key::Memory => node.transfer_memory_bytes = parse_memory(single()?)?,
            Key::MaxUpload => node.max_upload.total = parse_cap(single()?)?,
            Key::MaxDownload => node.max_download.total = parse_cap(single()?)?,
            Key::LanMaxUpload => node.max_upload.lan = parse_cap(single()?)?,
            Key::LanMaxDownload => node.max_download.lan = parse_cap(single()?)?,
            Key::WanMaxUpload => node.max_upload.wan = parse_cap(single()?)?,
            Key::WanMaxDownload => node.max_download.wan = parse_cap(single()?)?,
            Key::ShareGated => node.share_gated = parse_repositories(texts)?,
            Key::Paths => node.paths = parse_paths(texts)?,
            Key::LogFlight => {
                node.flight_log = if single()? == OFF { None } else { Some(resolve_path(single()?, origin)?) };
            }
            Key::MirrorsEnabled => node.manifest_mirrors = parse_switch(single()?)?,
            Key::MirrorsAllowPrivate => node.private_mirrors = parse_switch(single()?)?,
        }
        Ok(())
    }
}

/// A network name: what may stand in a protocol name without confusion.
pub fn parse_network(text: &str) -> Result<String, String> {
    if let Some(wrong) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        return Err(format!("{wrong:?} can't be in a network name; use lower-case letters, digits and '-'"));
    }
    match text.len() {
        1..=MAX_NETWORK_LENGTH => Ok(text.to_owned()),
        length => Err(format!("a network name has 1 to {MAX_NETWORK_LENGTH} characters, this one has {length}")),
    }
}

/// An address for the local API, or `off`.
pub fn parse_api(text: &str) -> Result<Option<SocketAddr>, String> {
    parse_address(text, "127.0.0.1:0")
}

/// Where the gateway listens, or `off`.
pub fn parse_gateway(text: &str) -> Result<Option<SocketAddr>, String> {
    parse_address(text, "127.0.0.1:8787")
}

/// Where metrics are served, or `off`.
pub fn parse_metrics(text: &str) -> Result<Option<SocketAddr>, String> {
    parse_address(text, "127.0.0.1:9464")
}

fn parse_address(text: &str, such_as: &str) -> Result<Option<SocketAddr>, String> {
    if text == OFF {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| format!("{text:?} is neither ADDR:PORT (such as {such_as}) nor `off`"))
}

fn address_text(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| OFF.to_owned(), |address| address.to_string())
}

/// Memory for payload on its way in.
fn parse_memory(text: &str) -> Result<u64, String> {
    match size::parse(text)? {
        bytes @ config::MIN_TRANSFER_MEMORY_BYTES.. => Ok(bytes),
        _ => {
            let least = size_text(config::MIN_TRANSFER_MEMORY_BYTES);
            Err(format!("{text:?} is too little: one fast source alone takes a third of the least there is, {least}"))
        }
    }
}

/// A cap on payload, or `off`.
pub fn parse_cap(text: &str) -> Result<Option<NonZeroU64>, String> {
    if text == OFF {
        return Ok(None);
    }
    match NonZeroU64::new(size::parse_rate(text)?) {
        Some(cap) if cap.get() >= config::MIN_RATE_BYTES_PER_S => Ok(Some(cap)),
        _ => {
            let least = size::exact_rate(config::MIN_RATE_BYTES_PER_S);
            Err(format!("{text:?} is too slow: a source that slow is taken for dead; give at least {least}, or `off` for no cap"))
        }
    }
}

/// From one reading of the store to the next, or `off`.
fn parse_period(text: &str) -> Result<Option<Duration>, String> {
    if text == OFF {
        return Ok(None);
    }
    match size::parse_duration(text)? {
        seconds if seconds >= config::MIN_SCRUB_PERIOD_S => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(format!("{text:?} is too short: the disk would never rest; give at least 1h, or `off`")),
    }
}

/// How fast the store is read for it, or `off`.
fn parse_scrub_rate(text: &str) -> Result<Option<NonZeroU64>, String> {
    if text == OFF {
        return Ok(None);
    }
    match NonZeroU64::new(size::parse_rate(text)?) {
        Some(rate) if rate.get() >= config::MIN_RATE_BYTES_PER_S => Ok(Some(rate)),
        _ => Err(format!("{text:?} is too slow; give at least 32KiB/s, or `off` for as fast as the disk allows")),
    }
}

/// Repositories of a hub.
fn parse_repositories(texts: &[String]) -> Result<Vec<String>, String> {
    let wrong = |text: &&String| text.is_empty() || text.contains(char::is_whitespace) || text.split('/').count() > 2;
    match texts.iter().find(wrong) {
        Some(text) => Err(format!("{text:?} is no repository such as org/model")),
        None => Ok(texts.to_vec()),
    }
}

fn parse_paths(texts: &[String]) -> Result<Vec<BulkPath>, String> {
    let paths: Vec<BulkPath> = texts.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    if paths.is_empty() { Err("at least one is needed".to_owned()) } else { Ok(paths) }
}

fn cap_text(cap: Option<NonZeroU64>) -> String {
    cap.map_or_else(|| OFF.to_owned(), |cap| size::exact_rate(cap.get()))
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "on" | "yes" => Ok(true),
        "false" | "0" | "off" | "no" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// A path in a config file starts from the file's folder, any other from the current one; `~/` is the home folder.
fn resolve_path(text: &str, origin: &Origin) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("the path is empty".to_owned());
    }
    let path = match text.strip_prefix("~/") {
        Some(rest) => home().ok_or("~ can't be resolved: HOME is not set")?.join(rest),
        None => PathBuf::from(text),
    };
    let path = match origin {
        Origin::File { path: file, .. } => file.parent().unwrap_or(Path::new("")).join(path),
        _ => path,
    };
    std::path::absolute(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The largest unit that gives a whole number, so that what is printed reads back as the same.
fn size_text(bytes: u64) -> String {
    let unit =
        [(30, "GiB"), (20, "MiB"), (10, "KiB")].into_iter().find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| format!("{bytes}B"), |(shift, name)| format!("{}{name}", bytes >> shift))
}

/// The config file to read, and whether it must be there.
fn config_path(flag: Option<&Path>) -> Option<(PathBuf, bool)> {
    if let Some(path) = flag {
        return Some((path.to_owned(), true));
    }
    if let Some(path) = env::var_os(CONFIG_VARIABLE).filter(|value| !value.is_empty()) {
        return Some((PathBuf::from(path), true));
    }
    let folder = absolute_variable("XDG_CONFIG_HOME").or_else(|| Some(home()?.join(".config")))?;
    Some((folder.join("p2pweights").join("config.toml"), false))
}

fn default_data_dir() -> Result<PathBuf, CommandError> {
    let folder = absolute_variable("XDG_DATA_HOME").or_else(|| Some(home()?.join(".local").join("share")));
    match folder {
        Some(folder) => Ok(folder.join("p2pweights")),
        // Without a home there may still be a --data-dir; the current folder is what is left otherwise.
        None => std::path::absolute("p2pweights-data").map_err(|error| CommandError::disk("find the current folder", &error)),
    }
}

fn home() -> Option<PathBuf> {
    absolute_variable("HOME").or_else(|| absolute_variable("USERPROFILE"))
}

/// The XDG base directory specification has relative paths ignored.
fn absolute_variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_names_are_checked() {
        assert!(parse_network("main-2").is_ok());
        assert!(parse_network("Main").unwrap_err().contains("'M'"));
        assert!(parse_network("").is_err());
        assert!(parse_network(&"a".repeat(33)).unwrap_err().contains("33"));
    }

    #[test]
    fn a_path_in_a_file_starts_from_the_file() {
        let origin = Origin::File { path: PathBuf::from("/etc/p2pweights/config.toml"), line: 1 };
        assert_eq!(resolve_path("data", &origin), Ok(PathBuf::from("/etc/p2pweights/data")));
        assert_eq!(resolve_path("/data", &origin), Ok(PathBuf::from("/data")));
    }

    #[test]
    fn a_cap_is_a_rate_fast_enough_to_work_with_or_off() {
        assert_eq!(parse_cap("off"), Ok(None));
        assert_eq!(parse_cap("20Mbit/s"), Ok(NonZeroU64::new(2_500_000)));
        assert_eq!(cap_text(parse_cap("20Mbit/s").unwrap()), "20Mbit/s");
        for slow in ["0MB/s", "31KiB/s", "1kbit/s"] {
            assert!(parse_cap(slow).unwrap_err().contains("at least 32KiB/s"), "{slow}");
        }
        assert!(parse_cap("fast").unwrap_err().contains("20Mbit/s"));
    }

    #[test]
    fn a_printed_size_reads_back() {
        for bytes in [0, 1, 1 << 20, (1 << 20) + 1, 256 << 20, 3 << 30] {
            assert_eq!(size::parse(&size_text(bytes)), Ok(bytes));
        }
    }
}
