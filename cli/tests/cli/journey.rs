//! The main job in three terminals: a bootstrap node, a mirror, a fetch that knows a hash and one address.

use std::path::Path;

use serde_json::Value;

use crate::world::{NodeUp, Running, World, assert_same_files, eventually, files_below, given_model};

const MIB: usize = 1 << 20;

/// A bootstrap node, and a mirror that serves the model.
fn serving(world: &World, model: &Path) -> (NodeUp, NodeUp, String) {
    let bootstrap = world.node("bootstrap", &[]);
    let hash = world.publish("mirror", model, &["--name", "tests/model", "--revision", "r1", "--license", "MIT"]);
    let mirror = world.node("mirror", &["--bootstrap", &bootstrap.address()]);
    (bootstrap, mirror, hash)
}

#[test]
fn a_model_travels_by_its_hash_alone() {
    let world = World::new();
    let model = given_model().unwrap_or_else(|| world.model("model", 1, &[5 * MIB, 3 * MIB + 17, 70_000]));
    let (bootstrap, mirror, hash) = serving(&world, &model);
    let target = world.path("fetched");
    let arguments = ["--json", "fetch", &hash, "--bootstrap", &bootstrap.address(), "--no-mdns", "-o", target.to_str().unwrap()];
    let ended = world.run("fetcher", &arguments).expect_code(0);

    assert_same_files(&model, &target);
    let done = ended.last_json();
    let total: u64 = files_below(&model).iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!((&done["event"], &done["hash"]), (&"done".into(), &hash.as_str().into()));
    assert_eq!(done["bytes"], total);
    assert_eq!(done["sources"][0]["peer"], mirror.peer_id());
    assert!(done["seconds"].as_f64().unwrap() > 0.0);

    // Both ends know the model by the same hashes, and these are what BLAKE3 makes of the files.
    for data_dir in ["mirror", "fetcher"] {
        let shown = world.run(data_dir, &["show", "--json", &hash]).expect_code(0).last_json();
        let files = shown["files"].as_array().expect("files is an array");
        assert_eq!(files.len(), files_below(&model).len());
        for file in files {
            let bytes = std::fs::read(target.join(file["path"].as_str().unwrap())).unwrap();
            assert_eq!(file["hash"], blake3::hash(&bytes).to_hex().as_str(), "{file}");
            assert_eq!((&file["bytes"], &file["held"]), (&bytes.len().into(), &bytes.len().into()), "{file}");
        }
    }
    let listed = world.run("fetcher", &["list", "--json"]).expect_code(0).last_json();
    assert!(listed.as_array().unwrap().iter().any(|entry| entry["hash"] == hash.as_str()), "{listed}");
    world.run("fetcher", &["verify"]).expect_code(0);
}

#[test]
fn a_link_and_a_plain_file_travel_too() {
    let world = World::new();
    let file = world.write("weights.gguf", crate::world::noise(7, 2 * MIB + 5));
    let published = world.run("mirror", &["publish", "--json", file.to_str().unwrap()]).expect_code(0).last_json();
    assert_eq!((&published["files"], &published["bytes"]), (&1.into(), &(2 * MIB + 5).into()));
    let bootstrap = world.node("bootstrap", &[]);
    let _mirror = world.node("mirror", &["--bootstrap", &bootstrap.address()]);
    assert_eq!(published["hash"], blake3::hash(&std::fs::read(&file).unwrap()).to_hex().as_str());
    let link = published["link"].as_str().unwrap();
    let address = bootstrap.address();
    world.run("fetcher", &["fetch", link, "--bootstrap", &address, "--no-mdns", "-o", "out"]).expect_code(0);
    let placed = files_below(&world.path("out"));
    assert_eq!(placed.len(), 1);
    assert!(placed[0].1 == std::fs::read(&file).unwrap());
}

#[test]
fn without_an_output_the_model_gets_a_folder_of_its_own() {
    let world = World::new();
    let model = world.model("source", 2, &[MIB]);
    let (bootstrap, _mirror, hash) = serving(&world, &model);
    std::fs::create_dir(world.path("here")).unwrap();
    let mut command = world.command("fetcher");
    command.current_dir(world.path("here")).args(["fetch", &hash, "--no-mdns", "--bootstrap", &bootstrap.address()]);
    let said = Running::spawn(command).end().expect_code(0).stdout;
    assert_same_files(&model, &world.path("here/model"));
    assert!(said.contains("every byte proved") && said.contains("here/model"), "{said}");
}

#[test]
fn a_provider_named_by_hand_needs_no_bootstrap() {
    let world = World::new();
    let model = world.model("model", 3, &[MIB]);
    let hash = world.publish("mirror", &model, &[]);
    let mirror = world.node("mirror", &[]);
    world.run("fetcher", &["fetch", &hash, "--peer", &mirror.address(), "--no-mdns", "-o", "out"]).expect_code(0);
    assert_same_files(&model, &world.path("out"));
}

#[test]
fn chosen_files_alone_are_fetched_and_a_dry_run_fetches_none() {
    let world = World::new();
    let model = world.model("model", 4, &[MIB, 2 * MIB]);
    let (bootstrap, _mirror, hash) = serving(&world, &model);
    let address = bootstrap.address();
    let chosen = ["--include", "*.safetensors", "--exclude", "*-00002-*", "--no-mdns", "--bootstrap", &address, "-o", "out"];

    let mut arguments = vec!["fetch", "--json", "--dry-run", &hash];
    arguments.extend(chosen);
    let plan = world.run("fetcher", &arguments).expect_code(0).event("plan");
    assert_eq!((&plan["bytes"], &plan["held"]), (&MIB.into(), &0.into()));
    assert_eq!(plan["files"].as_array().unwrap().len(), 1);
    assert!(!world.path("out").exists());

    let mut arguments = vec!["fetch", &hash];
    arguments.extend(chosen);
    world.run("fetcher", &arguments).expect_code(0);
    let placed = files_below(&world.path("out"));
    assert_eq!(placed.iter().map(|(path, _)| path.to_str().unwrap()).collect::<Vec<_>>(), ["model-00001-of-00002.safetensors"]);
}

#[test]
fn a_killed_fetch_goes_on_from_where_it_was() {
    let world = World::new();
    let total = 64 * MIB as u64;
    let model = world.path("model");
    for index in 0..4 {
        world.write(&format!("model/model-{index}.safetensors"), crate::world::noise(index, 16 * MIB));
    }
    let (bootstrap, _mirror, hash) = serving(&world, &model);
    let address = bootstrap.address();
    let arguments = ["--json", "fetch", &hash, "--bootstrap", &address, "--no-mdns", "-o", "out"];

    // Killed once a part is proved. Where the fetch is so fast that it ends first, or so young that nothing was durable yet, a fresh data
    // dir gives it another try.
    let mut cut = None;
    for attempt in 0..10 {
        let data_dir = format!("fetcher-{attempt}");
        let _ = std::fs::remove_dir_all(world.path("out"));
        let mut fetcher = world.start(&data_dir, &arguments);
        fetcher.wait_line("progress", |line| {
            let event: Value = serde_json::from_str(line).unwrap_or_default();
            let part = event["bytes"].as_u64().unwrap_or(0) >= total * (attempt % 5 + 1) / 8;
            event["event"] == "done" || event["event"] == "file" || (event["event"] == "progress" && part)
        });
        fetcher.kill();
        let again = world.run(&data_dir, &arguments).expect_code(0);
        let held = again.event("plan")["held"].as_u64().unwrap();
        if held > 0 && held < total {
            cut = Some(again);
            break;
        }
    }
    let ended = cut.expect("no kill left a part of the model behind");
    let (plan, done) = (ended.event("plan"), ended.event("done"));
    let (held, fetched) = (plan["held"].as_u64().unwrap(), done["fetched"].as_u64().unwrap());
    assert_eq!(done["bytes"], total);
    assert!(fetched >= total - held, "{fetched} fetched, {held} held of {total}");
    // What a piece in flight at the kill costs; what was proved is not fetched again.
    assert!(held + fetched <= total + total / 16, "{fetched} fetched although {held} of {total} were held");
    assert_same_files(&model, &world.path("out"));
}

#[test]
fn a_running_node_answers_for_its_data_dir() {
    let world = World::new();
    let model = world.model("model", 5, &[MIB]);
    let (bootstrap, mirror, hash) = serving(&world, &model);
    eventually("both nodes see each other", || {
        let peers = world.run("mirror", &["peers", "--json"]).expect_code(0).last_json();
        peers.as_array().unwrap().iter().any(|peer| peer["peer"] == bootstrap.peer_id())
    });
    let status = world.run("mirror", &["status", "--json"]).expect_code(0).last_json();
    assert_eq!((&status["peer_id"], &status["running"]), (&mirror.peer_id().into(), &true.into()));
    assert_eq!(status["network"], world.network());
    assert_eq!(status["api"], mirror.ready["api"]);
    let ending = format!("/p2p/{}", mirror.peer_id());
    assert!(status["listen"].as_array().unwrap().iter().all(|address| address.as_str().unwrap().ends_with(&ending)), "{status}");
    let listed = world.run("mirror", &["list", "--json"]).expect_code(0).last_json();
    let entry =
        &listed.as_array().unwrap().iter().find(|entry| entry["hash"] == hash.as_str()).expect("the model is listed").clone();
    assert_eq!((&entry["kind"], &entry["name"], &entry["revision"]), (&"model".into(), &"tests/model".into(), &"r1".into()));
    assert_eq!(entry["bytes"], entry["held"]);
    for verb in ["status", "list", "peers"] {
        assert_ne!(world.run("mirror", &[verb]).expect_code(0).stdout, "", "{verb}");
    }

    // Through the running node, too: publishing, fetching, removing.
    let file = world.write("late.bin", crate::world::noise(8, 300_000));
    let late = world.publish("mirror", &file, &[]);
    world.run("bootstrap", &["fetch", &late, "-o", "late", "--peer", &mirror.address()]).expect_code(0);
    assert_eq!(files_below(&world.path("late")).len(), 1);
    world.run("mirror", &["remove", &late]).expect_code(0);
    assert!(file.exists(), "a published file is the user's");
    world.run("mirror", &["show", &late]).expect_code(3);
}

#[test]
fn sigterm_ends_a_node_in_order() {
    let world = World::new();
    let node = world.node("data", &[]);
    node.running.terminate();
    node.running.end().expect_code(0);
    // The lock went with it, and the identity stayed.
    let again = world.node("data", &[]);
    assert_eq!(again.peer_id(), node.ready["peer_id"].as_str().unwrap());
    again.running.interrupt();
    again.running.end().expect_code(0);
}

#[test]
fn the_demo_ends_well_and_leaves_nothing_running() {
    let world = World::new();
    let model = world.model("model", 6, &[4 * MIB, 4 * MIB, 4 * MIB, 4 * MIB]);
    let mut command = world.command("unused");
    command.env("TMPDIR", world.path("")).args(["demo", "--json", "--path", model.to_str().unwrap()]);
    let done = Running::spawn(command).end().expect_code(0).last_json();
    assert_eq!(done["event"], "done");
    assert_eq!(done["verified"], files_below(&model).len());
    let fetched = Path::new(done["output"].as_str().unwrap());
    assert_same_files(&model, fetched);
    // The fetched model is all that is left.
    let left: Vec<_> = std::fs::read_dir(fetched.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["fetched"]);
}
