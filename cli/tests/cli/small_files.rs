//! Models of many small files: what each costs beside its bytes must not add up, and a kill must cost nothing that was proved.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::world::{World, assert_same_files, noise};

/// Enough for several batches, and more than one message tells of.
const FILES: u64 = 1500;

/// Files of no byte to 40,000, some with the same bytes, in several folders.
fn model(world: &World) -> PathBuf {
    for index in 0..FILES {
        let seed = if index % 50 == 7 { 7 } else { index };
        world.write(&format!("model/{}/{}/{index}.bin", index % 3, index % 7), noise(seed, (seed * 7919 % 40_000) as usize));
    }
    world.path("model")
}

/// Bytes of the distinct files of a folder.
fn distinct_bytes(folder: &Path) -> u64 {
    let contents: BTreeSet<Vec<u8>> = crate::world::files_below(folder).into_iter().map(|(_, bytes)| bytes).collect();
    contents.iter().map(|bytes| bytes.len() as u64).sum()
}

#[test]
fn a_model_of_many_small_files_travels_and_a_kill_costs_nothing_that_was_proved() {
    let world = World::new();
    let model = model(&world);
    let hash = world.publish("mirror", &model, &[]);
    let mirror = world.node("mirror", &[]);
    let arguments = ["--json", "fetch", &hash, "--peer", &mirror.address(), "--no-mdns", "-o", "out"];

    let mut fetcher = world.start("fetcher", &arguments);
    let mut placed = 0;
    fetcher.wait_line("a third of the files", |line| {
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        placed += u64::from(event["event"] == "file");
        placed >= FILES / 3
    });
    fetcher.kill();

    let ended = world.run("fetcher", &arguments).expect_code(0);
    let (plan, done) = (ended.event("plan"), ended.event("done"));
    let held = plan["held"].as_u64().unwrap();
    assert!(held > 0, "what was placed had been proved");
    assert!(done["fetched"].as_u64().unwrap() <= distinct_bytes(&model), "nothing is fetched twice");
    assert_same_files(&model, &world.path("out"));
    world.run("fetcher", &["verify"]).expect_code(0);

    // And once more, from the store alone.
    let mut arguments = arguments;
    arguments[arguments.len() - 1] = "again";
    let done = world.run("fetcher", &arguments).expect_code(0).event("done");
    assert_eq!(done["fetched"], 0);
    assert_same_files(&model, &world.path("again"));
}
