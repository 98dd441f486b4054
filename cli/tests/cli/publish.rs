//! `publish`: what it tells, what it leaves out, and what an end before its time costs.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::world::World;

const MIB: u64 = 1 << 20;

/// A folder with one file that takes a second or more to hash, and many that take none.
fn long_publish(world: &World) -> PathBuf {
    let folder = world.path("model");
    for number in 0..20 {
        world.write(&format!("model/small-{number:02}.bin"), vec![number; 50_000]);
    }
    File::create(folder.join("large.bin")).unwrap().set_len(2048 * MIB).unwrap();
    folder
}

fn files(events: &[Value]) -> impl Iterator<Item = &Value> {
    events.iter().filter(|event| event["event"] == "file")
}

/// Publishes to the end; what was told of before is not read again.
fn assert_goes_on(world: &World, data_dir: &str, folder: &Path, before: &[Value]) {
    let again = world.run(data_dir, &["publish", "--json", folder.to_str().unwrap()]).expect_code(0);
    let events = again.events();
    assert_eq!(files(&events).count(), 21);
    for old in files(before) {
        let new = files(&events).find(|new| new["path"] == old["path"]).expect("the same files");
        assert_eq!((&new["read"], &new["hash"]), (&Value::Bool(false), &old["hash"]), "{new}");
    }
}

#[test]
fn what_was_hashed_before_a_stop_is_kept() {
    let world = World::new();
    let folder = long_publish(&world);
    let mut running = world.start("stopped", &["publish", "--json", folder.to_str().unwrap()]);
    running.wait_event("progress");
    running.interrupt();
    let ended = running.end().expect_code(130);
    let failed = ended.last_json();
    assert_eq!(failed["kind"], "interrupted");
    assert!(failed["hint"].as_str().is_some_and(|hint| hint.contains("goes on from there")), "{failed}");
    assert_goes_on(&world, "stopped", &folder, &ended.events());
}

#[test]
fn what_was_hashed_before_a_kill_is_kept() {
    let world = World::new();
    let folder = long_publish(&world);
    let mut running = world.start("killed", &["publish", "--json", folder.to_str().unwrap()]);
    let told = running.wait_event("file");
    running.kill();
    assert_goes_on(&world, "killed", &folder, &[told]);
}

#[test]
fn each_line_is_an_event_and_sha256_can_be_left_out() {
    let world = World::new();
    let folder = world.model("model", 1, &[3 * MIB as usize + 1, 70_000]);
    let publish = |more: &[&str]| {
        let mut arguments = vec!["publish", "--json", folder.to_str().unwrap()];
        arguments.extend(more);
        let ended = world.run("data", &arguments).expect_code(0);
        let done = ended.last_json();
        assert_eq!((&done["event"], &done["files"]), (&"done".into(), &5.into()));
        (ended.events(), done["hash"].clone())
    };
    let (events, with) = publish(&[]);
    assert!(files(&events).all(|file| file["read"] == true && file["sha256"].as_str().is_some_and(|text| text.len() == 64)));
    assert_eq!(files(&events).map(|file| file["bytes"].as_u64().unwrap()).sum::<u64>(), events.last().unwrap()["bytes"]);
    // The same folder and the same flags give the same hash, whatever was published before.
    let (events, without) = publish(&["--no-sha256"]);
    assert!(files(&events).all(|file| file["read"] == false && file["sha256"].is_null()));
    assert_ne!(without, with);
    assert_eq!(publish(&["--no-sha256"]).1, without);
    assert_eq!(publish(&[]).1, with);
    let fresh = world.run("fresh", &["publish", "--json", "--no-sha256", folder.to_str().unwrap()]).expect_code(0);
    assert_eq!(fresh.last_json()["hash"], without);
}
