//! The command line as clap reads it: verbs, flags, their help. Knows spellings and what can be checked on the text alone.
// The documentation of each flag is its help text: plain text, where `<peer id>` is no HTML and an address no link.
#![allow(rustdoc::bare_urls, rustdoc::invalid_html_tags)]

mod import;
mod place;
mod publish;

use std::fmt::Display;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use p2pweights_node::config;
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::manifest::MirrorUrl;

pub use self::import::ImportArguments;
pub use self::place::Place;
pub use self::publish::PublishArguments;
use crate::settings::{parse_api, parse_cap, parse_eviction, parse_gateway, parse_metrics, parse_network, parse_quota};

/// What a link begins with.
const LINK_SCHEME: &str = "p2pweights:";

const EXAMPLES: &str = "\
Examples:
  p2pweights demo                                   four nodes and a fetch on this machine, nothing else needed
  p2pweights publish ./my-model --name org/my-model  hash a folder where it lies; prints its hash and link
  p2pweights node --bootstrap /ip4/…/tcp/…/p2p/…     serve what is in the store until Ctrl-C
  p2pweights fetch HASH -o ./my-model                get a model from whoever has it, every byte proved

Exit codes: 0 ok, 1 internal, 2 usage, 3 not found, 4 refused, 5 disk, 6 network, 7 incomplete, 130 interrupted.
Settings: config file < environment P2PWEIGHTS_* < flags; `p2pweights config show` prints what is in force.";

const NODE_EXAMPLES: &str = "\
Examples:
  p2pweights node
  p2pweights node --listen /ip4/0.0.0.0/tcp/4001 --listen /ip4/0.0.0.0/udp/4001/quic-v1
  p2pweights node --bootstrap /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…

Prints its peer id, addresses and `ready` when it serves; Ctrl-C or SIGTERM ends it in order, a second one at once.";

const FETCH_EXAMPLES: &str = "\
Examples:
  p2pweights fetch HASH                              into ./<model>, found over the DHT and the local network
  p2pweights fetch HASH -o ./model --include '*.safetensors' --include '*.json'
  p2pweights fetch HASH --peer /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW…
  p2pweights fetch HASH --dry-run                    only say what would be fetched

Interrupted or out of disk? Run the same command again: what was verified is not fetched twice.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  p2pweights verify                                  everything in the store, with a node running or without
  p2pweights verify HASH                             one model or blob
  p2pweights verify --mend                           and fetch again what is damaged

What is damaged is not served any more from the moment it is found; Ctrl-C loses nothing of that. A running node fetches it
again by itself, and reads everything again in the background: `p2pweights status` shows both.";

const GC_EXAMPLES: &str = "\
Examples:
  p2pweights gc --dry-run                            what would go, and how much it takes
  p2pweights gc --older-than 0s                      also what was cancelled just now

Stays whatever happens: what is pinned, what you published, what is being fetched or served, and (unless
storage.evict_last_copy is set) what nobody else is known to hold.";

/// Mirror and fetch open model weights from each other, every byte proved.
#[derive(Debug, Parser)]
#[command(name = "p2pweights", version, after_help = EXAMPLES, max_term_width = 120, arg_required_else_help = true)]
pub struct Arguments {
    /// Flags that every verb takes, before or after it.
    #[command(flatten)]
    pub global: GlobalArguments,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

impl Arguments {
    /// Reads the process's arguments.
    pub fn read() -> Result<Self, clap::Error> {
        Self::try_parse()
    }
}

/// Flags that every verb takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArguments {
    /// Where identity and store live [default: $XDG_DATA_HOME/p2pweights or ~/.local/share/p2pweights]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub data_dir: Option<PathBuf>,
    /// Config file [default: $XDG_CONFIG_HOME/p2pweights/config.toml or ~/.config/p2pweights/config.toml, if there]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Log more to standard error; repeat for more still
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Print JSON lines on standard output
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a node: serve what is in the store until stopped
    #[command(after_help = NODE_EXAMPLES)]
    Node(NodeArguments),
    /// Hash a file or folder and make it available; prints its hash and link
    #[command(after_help = publish::EXAMPLES)]
    Publish(PublishArguments),
    /// Bring a model in from a hub, or from another program's cache; prints its hash and link
    #[command(after_help = import::EXAMPLES)]
    Import(ImportArguments),
    /// Get a model or blob by its hash or link
    #[command(after_help = FETCH_EXAMPLES)]
    Fetch(FetchArguments),
    /// Show a model or blob of the store in full
    Show(ShowArguments),
    /// List the models and blobs in the store
    List,
    /// Show the state of the node
    Status,
    /// Show the peers connected to the running node
    Peers,
    /// Read the store again and prove every byte
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyArguments),
    /// Remove a model or blob from the store; published files themselves stay
    Remove(RemoveArguments),
    /// Promise to keep a model or blob: it is never evicted
    Pin(PinArguments),
    /// Take that promise back
    Unpin(PinArguments),
    /// Clear away what nothing keeps and, over the low watermark, evict
    #[command(after_help = GC_EXAMPLES)]
    Gc(GcArguments),
    /// Look after the store
    #[command(subcommand)]
    Store(StoreVerb),
    /// Look at the settings
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Show the whole thing on this machine: real nodes, a fetch by hash, a summary
    Demo(DemoArguments),
    /// Print a completion script
    Completions(CompletionsArguments),
}

/// `store …`
#[derive(Debug, Subcommand)]
pub enum StoreVerb {
    /// Make the index anew from the files; no node may be running
    Rebuild,
}

/// `config …`
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Print each setting in force and where it came from
    Show,
}

/// Flags of the verbs that join a network.
#[derive(Debug, Default, Args)]
pub struct NetworkArguments {
    /// Peer to join the DHT through, ending in /p2p/<peer id>; may be repeated
    #[arg(long, value_name = "MULTIADDR", value_parser = checked(config::parse_peer))]
    pub bootstrap: Vec<String>,
    /// Network to join: lower-case letters, digits and '-' [default: main]
    #[arg(long, value_name = "NAME", value_parser = parse_network)]
    pub network: Option<String>,
    /// Do not look for peers on the local network
    #[arg(long)]
    pub no_mdns: bool,
}

/// Flags of the verbs that move payload.
#[derive(Debug, Default, Args)]
pub struct PayloadArguments {
    /// Most payload that goes out, such as 20Mbit/s, 2MB/s or 512KiB/s [default: off, as the link allows]
    #[arg(long, value_name = "RATE", value_parser = checked(parse_cap))]
    pub max_upload: Option<String>,
    /// Most payload that comes in, likewise
    #[arg(long, value_name = "RATE", value_parser = checked(parse_cap))]
    pub max_download: Option<String>,
    /// File to write everything into that the node is told and decides, for a report of a fault [default: off]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub flight_log: Option<PathBuf>,
}

/// Flags of the verbs that may fill the disk for long.
#[derive(Debug, Default, Args)]
pub struct StorageArguments {
    /// Most disk that the data dir takes, such as 500GiB [default: off, as the disk allows]
    #[arg(long, value_name = "SIZE", value_parser = checked(parse_quota))]
    pub quota: Option<String>,
    /// What goes when the quota is full: off, least-recently-served or best-replicated [default: off]
    #[arg(long, value_name = "POLICY", value_parser = checked(parse_eviction))]
    pub eviction: Option<String>,
}

/// `node`
#[derive(Debug, Args)]
pub struct NodeArguments {
    /// Address to listen on, port 0 for a free one; may be repeated [default: all interfaces, TCP and QUIC, free ports]
    #[arg(long, value_name = "MULTIADDR", value_parser = checked(config::parse_listen))]
    pub listen: Vec<String>,
    /// Network flags.
    #[command(flatten)]
    pub network: NetworkArguments,
    /// Payload flags.
    #[command(flatten)]
    pub payload: PayloadArguments,
    /// Storage flags.
    #[command(flatten)]
    pub storage: StorageArguments,
    /// Where the local API listens, or `off` [default: 127.0.0.1:0, a free port]
    #[arg(long, value_name = "ADDR:PORT", value_parser = checked(parse_api))]
    pub api: Option<String>,
    /// Where the Hugging Face endpoint for programs on this machine listens, or `off` [default: 127.0.0.1:8787, if free]
    #[arg(long, value_name = "ADDR:PORT", value_parser = checked(parse_gateway))]
    pub gateway: Option<String>,
    /// Where figures for Prometheus are served, at /metrics, or `off` [default: off]
    #[arg(long, value_name = "ADDR:PORT", value_parser = checked(parse_metrics))]
    pub metrics: Option<String>,
    /// Also stop when standard input ends: such a node can't outlive the program that started it
    #[arg(long, hide = true)]
    pub stop_with_stdin: bool,
}

/// `fetch`
#[derive(Debug, Args)]
pub struct FetchArguments {
    /// Hash (64 hexadecimal digits) or link (p2pweights:…)
    #[arg(value_name = "HASH|LINK", value_parser = checked_target)]
    pub target: String,
    /// Folder to put the files into [default: ./<model>]
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub output: Option<PathBuf>,
    /// Put it where a program's cache has it: hf-cache, that of Hugging Face's clients, which then load the model offline
    #[arg(long, value_name = "hf-cache[=DIR]", value_parser = place::parse, conflicts_with = "output")]
    pub to: Option<Place>,
    /// Only files that match; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// No file that matches; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Provider to ask besides those found, ending in /p2p/<peer id>; may be repeated
    #[arg(long, value_name = "MULTIADDR", value_parser = checked(config::parse_peer))]
    pub peer: Vec<String>,
    /// Web folder below which the model's files lie, asked for what peers do not bring; may be repeated
    #[arg(long, value_name = "URL", value_parser = checked(MirrorUrl::parse))]
    pub mirror: Vec<String>,
    /// Let mirrors lie within this machine or its network
    #[arg(long)]
    pub allow_private_mirrors: bool,
    /// Network flags.
    #[command(flatten)]
    pub network: NetworkArguments,
    /// Payload flags.
    #[command(flatten)]
    pub payload: PayloadArguments,
    /// Storage flags.
    #[command(flatten)]
    pub storage: StorageArguments,
    /// Give up when nothing has arrived for this long
    #[arg(long, value_name = "SECS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// Only say what would be fetched
    #[arg(long)]
    pub dry_run: bool,
    /// Replace files that are in the way
    #[arg(long)]
    pub force: bool,
    /// Files one after the other, from front to back, to load them meanwhile; costs the swarm some speed
    #[arg(long)]
    pub in_order: bool,
    /// Pin it when it is here: it is never evicted
    #[arg(long)]
    pub pin: bool,
}

/// `show`
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// Hash or link
    #[arg(value_name = "HASH|LINK", value_parser = checked_target)]
    pub target: String,
}

/// `verify`
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// Hash of a model or blob; everything if left out
    #[arg(value_name = "HASH", value_parser = checked_hash, conflicts_with = "all")]
    pub hash: Option<String>,
    /// Everything: the same as no hash
    #[arg(long)]
    pub all: bool,
    /// Fetch again what is damaged, and wait for it
    #[arg(long)]
    pub mend: bool,
    /// Provider to ask besides those found, ending in /p2p/<peer id>; may be repeated
    #[arg(long, value_name = "MULTIADDR", value_parser = checked(config::parse_peer), requires = "mend")]
    pub peer: Vec<String>,
    /// Network flags, for --mend where no node runs.
    #[command(flatten)]
    pub network: NetworkArguments,
    /// Give up mending a blob when nothing has arrived for this long
    #[arg(long, value_name = "SECS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
}

/// `remove`
#[derive(Debug, Args)]
pub struct RemoveArguments {
    /// Hash of a model or blob
    #[arg(value_name = "HASH", value_parser = checked_hash)]
    pub hash: String,
}

/// `pin`, `unpin`
#[derive(Debug, Args)]
pub struct PinArguments {
    /// Hash, link or the name of a model
    #[arg(value_name = "HASH|LINK|NAME")]
    pub target: String,
}

/// `gc`
#[derive(Debug, Args)]
pub struct GcArguments {
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
    /// Clear away what no fetch has touched for so long, such as 12h, 7d or 0s
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = parse_age)]
    pub older_than: std::time::Duration,
}

/// `demo`
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Folder with a model of your own [default: a small model is made]
    #[arg(long, value_name = "MODEL_DIR", value_hint = ValueHint::DirPath)]
    pub path: Option<PathBuf>,
}

/// `completions`
#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// Shell to print it for
    pub shell: Shell,
}

/// Checks a text that is read later, where it is needed.
fn checked<T, E: Display>(parse: fn(&str) -> Result<T, E>) -> impl Fn(&str) -> Result<String, String> + Clone {
    move |text| parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn checked_hash(text: &str) -> Result<String, String> {
    text.parse::<BlobHash>().map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// A link's parameters are the node's to read; its hash is checked here, before anything is started.
fn checked_target(text: &str) -> Result<String, String> {
    match text.strip_prefix(LINK_SCHEME) {
        Some(rest) => {
            let hash = rest.split_once('?').map_or(rest, |(hash, _)| hash);
            checked_hash(hash).map_err(|error| format!("the link's hash is wrong: {error}"))?;
            Ok(text.to_owned())
        }
        None if text.contains(':') => Err(format!("a link begins with {LINK_SCHEME}")),
        None => checked_hash(text),
    }
}

/// A time in seconds, minutes, hours or days.
fn parse_age(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || format!("{text:?} is no time such as 30m, 12h or 7d");
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(std::time::Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn read(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_or_after_the_verb() {
        for line in ["p2pweights --json --data-dir /d list", "p2pweights list --json --data-dir /d"] {
            let arguments = read(line).unwrap();
            assert!(arguments.global.json, "{line}");
            assert_eq!(arguments.global.data_dir, Some(PathBuf::from("/d")), "{line}");
        }
    }

    #[test]
    fn ages_have_units() {
        assert_eq!(parse_age("90m").map(|age| age.as_secs()), Ok(5400));
        assert_eq!(parse_age("0s").map(|age| age.as_secs()), Ok(0));
        for wrong in ["", "7", "d", "1.5h", "1w", "99999999999999999999d"] {
            assert!(parse_age(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_target_is_a_hash_or_a_link() {
        let hash = BlobHash::of(b"weights").to_string();
        assert!(checked_target(&hash).is_ok());
        assert!(checked_target(&format!("p2pweights:{hash}?name=org%2Fmodel")).is_ok());
        assert!(checked_target("p2pweights:12?name=x").unwrap_err().contains("the link's hash"));
        assert!(checked_target("magnet:?xt=1").unwrap_err().contains("a link begins with p2pweights:"));
        assert!(checked_target(&hash.replace(&hash[..1], "Z")).unwrap_err().contains("position"));
    }
}
