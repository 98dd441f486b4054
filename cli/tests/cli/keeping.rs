//! Room on the disk, as a user keeps it: a quota, pins, `gc`, and sizes that add up; with a node running and without.

use serde_json::Value;

use crate::world::World;

const MIB: usize = 1 << 20;

#[test]
fn a_fetch_beyond_the_quota_is_refused_before_it_begins_and_says_what_to_do() {
    let world = World::new();
    let model = world.model("model", 31, &[20 * MIB]);
    let hash = world.publish("mirror", &model, &["--name", "tests/large"]);
    let mirror = world.node("mirror", &[]);
    let address = mirror.address();
    let arguments = ["fetch", &hash, "--peer", &address, "--no-mdns", "-o", "out", "--quota", "16MiB"];
    let ended = world.run("fetcher", &arguments).expect_code(5);
    ended.expect_error(&["do not fit the quota", "raise storage.quota", "gc", "remove", "hint: "]);
    assert!(!world.path("out").join("config.json").exists());
    let failed = world.run("fetcher", &[&["--json"], &arguments[..]].concat()).expect_code(5).last_json();
    assert_eq!(failed["kind"], "disk");

    let status = world.command("fetcher").args(["status", "--json"]).env("P2PWEIGHTS_STORAGE_QUOTA", "16MiB").output().unwrap();
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["disk"]["quota"], 16 * MIB);
    assert!(status["disk"]["total"].as_u64().unwrap() < 4 * MIB as u64, "{status}");
    world.run("fetcher", &["fetch", &hash, "--peer", &address, "--no-mdns", "-o", "out"]).expect_code(0);
}

#[test]
fn pins_are_kept_and_shown_with_a_node_and_without() {
    let world = World::new();
    let model = world.model("model", 32, &[300_000]);
    let hash = world.publish("mirror", &model, &["--name", "tests/small", "--revision", "r1"]);
    let plain = world.publish("mirror", &model.join("config.json"), &[]);
    let mirror = world.node("mirror", &[]);
    let address = mirror.address();
    world.run("fetcher", &["fetch", &hash, "--peer", &address, "--no-mdns", "-o", "out", "--pin"]).expect_code(0);
    let entry = |data_dir: &str| {
        let list = world.run(data_dir, &["list", "--json"]).expect_code(0).last_json();
        list.as_array().unwrap().iter().find(|entry| entry["hash"] == hash.as_str()).expect("it is listed").clone()
    };
    assert_eq!((&entry("fetcher")["pinned"], &entry("mirror")["pinned"]), (&true.into(), &false.into()));
    assert!(entry("fetcher")["disk"].as_u64().unwrap() >= 300_000);
    world.run("fetcher", &["remove", &hash]).expect_code(4).expect_error(&["is pinned", "unpin"]);

    // `mirror` has its node running, `fetcher` has none.
    for data_dir in ["mirror", "fetcher"] {
        let changed = data_dir == "mirror";
        let pin = world.run(data_dir, &["pin", "tests/small@r1", "--json"]).expect_code(0).last_json();
        assert_eq!((&pin["hash"], &pin["pinned"], &pin["changed"]), (&hash.as_str().into(), &true.into(), &changed.into()));
        let human = world.run(data_dir, &["list"]).expect_code(0).stdout;
        assert!(human.contains("tests/small @ r1  pinned") && human.contains("index and other"), "{human}");
        let unpin = world.run(data_dir, &["unpin", &hash, "--json"]).expect_code(0).last_json();
        assert_eq!((&unpin["pinned"], &unpin["changed"]), (&false.into(), &true.into()));
        world.run(data_dir, &["pin", "tests/none"]).expect_code(3).expect_error(&["nothing here is called", "list"]);
    }
    let missing = blake3::hash(b"not here").to_hex().to_string();
    world.run("fetcher", &["pin", &missing]).expect_code(3).expect_error(&["fetch --pin"]);
    world.run("fetcher", &["pin", &plain, "--json"]).expect_code(0);
    world.run("fetcher", &["remove", &hash]).expect_code(0);
    let left = world.run("fetcher", &["list", "--json"]).expect_code(0).last_json();
    assert_eq!((left.as_array().unwrap().len(), &left[0]["hash"]), (1, &plain.as_str().into()), "{left}");
}

#[test]
fn gc_clears_away_what_a_stopped_fetch_left_and_nothing_else() {
    let world = World::new();
    let model = world.model("model", 33, &[8 * MIB, 8 * MIB]);
    let plain = world.write("notes.txt", b"wanted by itself\n");
    let (hash, plain) = (world.publish("mirror", &model, &[]), world.publish("mirror", &plain, &[]));
    let mirror = world.node("mirror", &[]);
    let address = mirror.address();
    world.run("fetcher", &["fetch", &plain, "--peer", &address, "--no-mdns", "-o", "notes"]).expect_code(0);
    let fetch = ["--json", "fetch", &hash, "--peer", &address, "--no-mdns", "-o", "out", "--max-download", "4MB/s"];
    let mut running = world.start("fetcher", &fetch);
    running.wait_line("progress", |line| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["event"] == "progress" && event["bytes"].as_u64() > Some(MIB as u64)
    });
    running.interrupt();
    running.end().expect_code(130);

    let young = world.run("fetcher", &["gc", "--json"]).expect_code(0).last_json();
    assert_eq!((&young["cleared"], &young["freed"]), (&serde_json::json!([]), &0.into()), "{young}");
    let would = world.run("fetcher", &["gc", "--dry-run", "--older-than", "0s", "--json"]).expect_code(0).last_json();
    assert!(would["freed"].as_u64() > Some(MIB as u64), "{would}");
    let human = world.run("fetcher", &["gc", "--dry-run", "--older-than", "0s"]).expect_code(0).stdout;
    assert!(human.contains("partial") && human.contains("would free"), "{human}");
    let did = world.run("fetcher", &["gc", "--older-than", "0s", "--json"]).expect_code(0).last_json();
    assert_eq!(did["cleared"], would["cleared"]);
    let left = world.run("fetcher", &["list", "--json"]).expect_code(0).last_json();
    assert_eq!((left.as_array().unwrap().len(), &left[0]["hash"]), (1, &plain.as_str().into()), "{left}");

    // What was published stays, whatever is cleared away; through the running node.
    let did = world.run("mirror", &["gc", "--older-than", "0s", "--json"]).expect_code(0).last_json();
    assert_eq!(did["cleared"], serde_json::json!([]), "{did}");
    world.run("fetcher", &["fetch", &hash, "--peer", &address, "--no-mdns", "-o", "out"]).expect_code(0);
}

#[test]
fn settings_of_the_quota_go_together() {
    let world = World::new();
    let fails = |arguments: &[&str], variables: &[(&str, &str)], parts: &[&str]| {
        world.bare(&[&["config", "show"], arguments].concat(), variables).expect_code(2).expect_error(parts);
    };
    fails(&[], &[("P2PWEIGHTS_STORAGE_QUOTA", "1MiB")], &["P2PWEIGHTS_STORAGE_QUOTA", "16MiB"]);
    fails(&[], &[("P2PWEIGHTS_STORAGE_EVICTION", "best-replicated")], &["storage.quota", "P2PWEIGHTS_STORAGE_EVICTION"]);
    fails(&[], &[("P2PWEIGHTS_STORAGE_LOW", "95%")], &["storage.low is 95%", "storage.high, 90% (default)"]);
    let file =
        world.write("p2p.toml", "[storage]\nquota = \"1TB\"\neviction = \"least-recently-served\"\nhigh = \"70%\"\nlow = 60\n");
    let shown = world.bare(&["config", "show", "--json", "--config", file.to_str().unwrap()], &[]).expect_code(0).last_json();
    let value = |key: &str| {
        let settings = shown["settings"].as_array().unwrap();
        settings.iter().find(|setting| setting["key"] == key).unwrap()["value"].clone()
    };
    assert_eq!(value("storage.quota"), 1_000_000_000_000_u64);
    assert_eq!((value("storage.high"), value("storage.low")), (70.into(), 60.into()));
    assert_eq!((value("storage.eviction"), value("storage.evict_last_copy")), ("least-recently-served".into(), false.into()));
}
