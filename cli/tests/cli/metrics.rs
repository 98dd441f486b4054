//! Figures for monitoring: what a scraper reads while a node serves, finds damage, loses a published file.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::clients::Clients;
use crate::http::{ask, get};
use crate::world::{NodeUp, Running, World, eventually, noise};

/// Bytes of the shards; no other file of the model has any payload to speak of.
const SHARDS: [usize; 2] = [400_000, 300_000];

/// Where a node serves its figures, without the path.
fn listener(node: &NodeUp) -> String {
    node.ready["metrics"].as_str().and_then(|address| address.strip_suffix("/metrics")).expect("it says where").to_owned()
}

/// Samples by name and labels.
fn scrape(endpoint: &str) -> BTreeMap<String, f64> {
    let answer = get(endpoint, "/metrics").expect(200);
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let sample = |line: &str| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().expect("a number")));
    text.lines().filter(|line| !line.starts_with('#')).map(|line| sample(line).expect("a name and a value")).collect()
}

#[test]
fn a_scraper_sees_what_the_node_does() {
    let world = World::new();
    let model = world.model("model", 3, &SHARDS);
    let hash = world.publish("data", &model, &["--copy"]);
    let beside = world.write("beside.bin", noise(9, 20_000));
    world.publish("data", &beside, &[]);
    let node = world.node("data", &["--metrics", "127.0.0.1:0"]);
    let endpoint = listener(&node);
    let before = scrape(&endpoint);
    let at = |figures: &BTreeMap<String, f64>, name: &str| figures[&format!("p2pweights_{name}")];
    assert_eq!([at(&before, "sent_bytes_total"), at(&before, "damaged_bytes_total"), at(&before, "store_paused")], [0.0; 3]);
    assert!(at(&before, "store_held_bytes") > (SHARDS[0] + SHARDS[1] + 20_000) as f64);
    let status = world.run("data", &["status", "--json"]).expect_code(0).last_json();
    assert_eq!(status["blobs"].as_f64(), Some(at(&before, "store_blobs")));
    assert_eq!(status["metrics"].as_str(), endpoint.strip_prefix("http://"));

    world.run("other", &["fetch", &hash, "--peer", &node.address(), "-o", "out"]).expect_code(0);
    let payload: u64 = fs::read_dir(world.path("out")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(payload >= (SHARDS[0] + SHARDS[1]) as u64);
    eventually("what was sent is counted", || at(&scrape(&endpoint), "sent_bytes_total") >= (SHARDS[0] + SHARDS[1]) as f64);

    let shard = blake3::hash(&noise(3, SHARDS[0])).to_hex().to_string();
    let stored = world.path("data").join("blobs").join(&shard[..2]).join(format!("{shard}.data"));
    let mut bytes = fs::read(&stored).unwrap();
    bytes[100_000] ^= 1;
    fs::write(&stored, bytes).unwrap();
    fs::write(&beside, "something else").unwrap();
    world.run("data", &["verify", "--all"]).expect_code(5);
    eventually("damage is counted", || {
        let figures = scrape(&endpoint);
        let found = ["damaged_bytes_total", "repair_blobs", "repair_bytes", "withdrawn_files"].map(|name| at(&figures, name));
        found == [16384.0, 1.0, 16384.0, 1.0]
    });
}

#[test]
fn nothing_else_is_answered_and_nothing_at_all_unless_asked_for() {
    let world = World::new();
    let node = world.node("data", &["--metrics", "127.0.0.1:0"]);
    let endpoint = listener(&node);
    assert_eq!(get(&endpoint, "/").expect(404).body, b"the figures are at /metrics\n");
    assert_eq!(ask(&endpoint, "POST", "/metrics", "").expect(405).header("allow"), "GET, HEAD");
    let head = ask(&endpoint, "HEAD", "/metrics", "").expect(200);
    assert!(head.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"), "{head:?}");
    let taken = endpoint.trim_start_matches("http://");
    world.run("second", &["node", "--metrics", taken]).expect_code(6).expect_error(&["metrics cannot be served", "--metrics"]);
    // A node that lives for one command has no figures.
    let model = world.model("model", 3, &[1000]);
    let mut command = world.command("fourth");
    command.env("P2PWEIGHTS_METRICS_LISTEN", taken).args(["publish", model.to_str().unwrap()]);
    Running::spawn(command).end().expect_code(0);
    let quiet = world.node("third", &[]);
    assert!(quiet.ready["metrics"].is_null());
}

/// The parser that Prometheus's own client library has for what it scrapes.
#[test]
fn the_official_parser_reads_it() {
    let Some(clients) = Clients::given() else { return };
    let world = World::new();
    world.publish("data", &world.model("model", 3, &SHARDS), &[]);
    let node = world.node("data", &["--metrics", "127.0.0.1:0", "--quota", "1GiB"]);
    let text = get(&listener(&node), "/metrics").expect(200).body;
    let script = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
families = list(text_string_to_metric_families(sys.stdin.read()))
for family in families:
    assert family.name.startswith('p2pweights_') and family.documentation and family.samples, family
    assert not family.unit or family.name.endswith('_' + family.unit), family
print(len(families), next(family.samples[0].value for family in families if family.name == 'p2pweights_store_quota_bytes'))
";
    let mut command = Command::new(clients.python("newest"));
    let mut parser = command.arg("-c").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    parser.stdin.take().expect("it is piped").write_all(&text).unwrap();
    let read = parser.wait_with_output().unwrap();
    assert!(read.status.success());
    let families = text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"# TYPE")).count();
    assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), format!("{families} {}", 1 << 30));
}
