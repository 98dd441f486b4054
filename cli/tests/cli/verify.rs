//! `verify` and the background scrub, as a user meets them: what is said, what is mended, what an end before its time costs.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::world::{World, eventually, noise};

/// The file in which a store keeps a blob's bytes.
fn stored(world: &World, data_dir: &str, bytes: &[u8]) -> PathBuf {
    let hash = blake3::hash(bytes).to_hex().to_string();
    world.path(data_dir).join("blobs").join(&hash[..2]).join(format!("{hash}.data"))
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn verdicts(events: &[Value]) -> Vec<&str> {
    let blobs = events.iter().filter(|event| event["event"] == "blob");
    let mut verdicts: Vec<&str> = blobs.map(|event| event["verdict"].as_str().expect("a text")).collect();
    verdicts.sort_unstable();
    verdicts
}

#[test]
fn damage_is_told_of_offline_and_mended_with_a_node_and_without() {
    let world = World::new();
    let model = world.model("model", 3, &[500_000, 300_000]);
    let hash = world.publish("data", &model, &["--copy"]);
    world.publish("origin", &model, &[]);
    let origin = world.node("origin", &[]);
    let (first, second) = (stored(&world, "data", &noise(3, 500_000)), stored(&world, "data", &noise(4, 300_000)));

    // Without a node. Every line is an event, and the last but the failure has the whole result.
    flip(&first, 100_000);
    let ended = world.run("data", &["verify", "--json", "--all"]).expect_code(5);
    assert_eq!(verdicts(&ended.events()), ["damaged", "ok", "ok", "ok", "ok", "ok"]);
    let done = ended.event("done");
    assert_eq!((&done["ok"], done["entries"].as_array().map(Vec::len)), (&false.into(), Some(6)));
    assert_eq!(ended.last_json()["kind"], "disk");
    let status = world.run("data", &["status", "--json"]).expect_code(0).last_json();
    assert_eq!((&status["repairs"][0]["bytes"], &status["repairs"][0]["trying"]), (&16384.into(), &false.into()));
    let people = world.run("data", &["verify", &hash]).expect_code(5).expect_error(&["1 of 6 blobs", "--mend"]);
    assert!(people.stdout.contains("damage found earlier is not mended yet"), "{}", people.stdout);

    // A node of its own, for as long as that takes.
    let address = origin.address();
    let arguments = ["verify", "--mend", "--peer", &address, "--json"];
    let ended = world.run("data", &arguments).expect_code(0);
    assert_eq!((&ended.event("done")["ok"], &ended.event("done")["entries"].as_array().map(Vec::len)), (&true.into(), &Some(6)));
    assert!(ended.events().iter().any(|event| event["verdict"] == "mended"), "{}", ended.stdout);
    world.run("data", &["verify", &hash]).expect_code(0);

    // A running node mends by itself what a verify finds.
    let node = world.node("data", &["--bootstrap", &address]);
    flip(&second, 5);
    world.run("data", &["verify", &hash]).expect_code(5).expect_error(&["the running node fetches them again"]);
    eventually("it is mended", || {
        let status = world.run("data", &["status", "--json"]).expect_code(0).last_json();
        status["repairs"].as_array().is_some_and(Vec::is_empty) && status["scrub"]["ever"]["mended"] == 2 * 16384
    });
    world.run("data", &["verify"]).expect_code(0);
    let people = world.run("data", &["status"]).expect_code(0).stdout;
    assert!(people.contains("found damaged ever") && people.contains("mended"), "{people}");
    drop((node, origin));
    world.run("data", &["verify"]).expect_code(0);
}

#[test]
fn a_node_scrubs_in_the_background_and_goes_on_where_it_was() {
    let world = World::new();
    let model = world.model("model", 3, &[500_000]);
    world.publish("data", &model, &["--copy"]);
    let node = world.node("data", &[]);
    let read = || world.run("data", &["status", "--json"]).expect_code(0).last_json()["scrub"].clone();
    eventually("all is read", || read()["last_cycle_s"].is_u64());
    let scrub = read();
    assert_eq!((&scrub["enabled"], &scrub["period_s"]), (&true.into(), &(30 * 86_400).into()));
    assert!(scrub["next_cycle_s"].as_u64() > scrub["last_cycle_s"].as_u64(), "{scrub}");
    node.running.terminate();
    node.running.end().expect_code(0);
    // It is remembered, and shown without a node, too.
    assert_eq!(read()["last_cycle_s"], scrub["last_cycle_s"]);
    let people = world.run("data", &["status"]).expect_code(0).stdout;
    assert!(people.contains("all read "), "{people}");
}

#[test]
fn a_verify_that_is_stopped_says_so_and_keeps_what_it_found() {
    let world = World::new();
    // Two blobs: the damaged one is small, the other takes seconds.
    let small = world.write("small.bin", noise(1, 300_000));
    let large = world.path("large.bin");
    fs::File::create(&large).unwrap().set_len(6 << 30).unwrap();
    world.publish("data", &small, &["--copy"]);
    world.publish("data", &large, &["--no-sha256"]);
    flip(&stored(&world, "data", &noise(1, 300_000)), 9);
    let mut running = world.start("data", &["verify", "--json"]);
    running.wait_event("progress");
    running.interrupt();
    let ended = running.end().expect_code(130);
    assert_eq!(ended.last_json()["kind"], "interrupted");
    let told = verdicts(&ended.events()).contains(&"damaged");
    let status = world.run("data", &["status", "--json"]).expect_code(0).last_json();
    assert!(!told || status["repairs"].as_array().map(Vec::len) == Some(1), "{status}");
}

#[test]
fn a_published_file_that_changed_is_withdrawn_and_not_mended() {
    let world = World::new();
    let model = world.model("model", 3, &[500_000]);
    world.publish("data", &model, &[]);
    let path = model.join("model-00001-of-00001.safetensors");
    world.write("model/model-00001-of-00001.safetensors", noise(9, 500_000));
    let ended = world.run("data", &["verify", "--json"]).expect_code(5);
    assert!(verdicts(&ended.events()).contains(&"withdrawn"), "{}", ended.stdout);
    let ended = world.run("data", &["verify", "--mend", "--timeout", "1"]).expect_code(5);
    ended.expect_error(&["`publish` it again"]);
    assert!(fs::read(path).unwrap() == noise(9, 500_000), "the user's file was touched");
    // Back as it was, and published again.
    world.write("model/model-00001-of-00001.safetensors", noise(3, 500_000));
    world.publish("data", &model, &[]);
    world.run("data", &["verify"]).expect_code(0);
}
