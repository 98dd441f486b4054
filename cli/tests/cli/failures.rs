//! What goes wrong in the world, told apart by exit codes and said in words that help.

use std::net::TcpListener;

use crate::world::{World, assert_same_files, noise};

#[test]
fn a_hash_that_nobody_provides_is_not_found() {
    let world = World::new();
    let bootstrap = world.node("bootstrap", &[]);
    let hash = blake3::hash(b"nobody has this").to_hex().to_string();
    let address = bootstrap.address();
    let arguments = ["fetch", &hash, "--bootstrap", &address, "--no-mdns", "--timeout", "2", "-o", "out"];
    let ended = world.run("fetcher", &arguments).expect_code(3);
    ended.expect_error(&["error: ", "no provider found", "asked", "--bootstrap", "--peer"]);
    assert!(!world.path("out").join(&hash).exists());

    let failed = world.run("fetcher", &[&["--json"], &arguments[..]].concat()).expect_code(3).last_json();
    assert_eq!((&failed["event"], &failed["kind"]), (&"failed".into(), &"not_found".into()));
    assert!(failed["message"].as_str().unwrap().contains("no provider found"), "{failed}");
}

#[test]
fn what_is_not_in_the_store_is_not_found() {
    let world = World::new();
    let hash = blake3::hash(b"not here").to_hex().to_string();
    for verb in ["show", "remove", "verify"] {
        world.run("data", &[verb, &hash]).expect_code(3).expect_error(&["error: "]);
    }
    assert_eq!(world.run("data", &["list", "--json"]).expect_code(0).last_json(), serde_json::json!([]));
    let status = world.run("data", &["status", "--json"]).expect_code(0).last_json();
    assert_eq!((&status["running"], &status["blobs"]), (&false.into(), &0.into()));
}

#[test]
fn other_content_in_the_way_is_refused_unless_forced() {
    let world = World::new();
    let model = world.model("model", 11, &[300_000]);
    let hash = world.publish("mirror", &model, &[]);
    let mirror = world.node("mirror", &[]);
    let mine = world.write("out/config.json", "mine, and not to be lost");
    let address = mirror.address();
    let arguments = ["fetch", &hash, "--peer", &address, "--no-mdns", "-o", "out"];
    world.run("fetcher", &arguments).expect_code(4).expect_error(&["config.json", "--force"]);
    assert_eq!(std::fs::read_to_string(&mine).unwrap(), "mine, and not to be lost");
    world.run("fetcher", &[&arguments[..], &["--force"]].concat()).expect_code(0);
    assert_same_files(&model, &world.path("out"));
    // What lies there already as it should is in nobody's way.
    world.run("fetcher", &arguments).expect_code(0);
}

#[test]
fn a_data_dir_in_use_names_the_process() {
    let world = World::new();
    let data_dir = world.path("data");
    // With its API a running node answers; without, nobody can get at the data dir.
    for (api, refused) in [("127.0.0.1:0", &[&["node", "--no-mdns"][..], &["store", "rebuild"]][..]), ("off", &[&["list"][..]])] {
        let node = world.node("data", &["--api", api]);
        let pid = node.running.pid().to_string();
        for arguments in refused {
            let ended = world.run("data", arguments);
            assert!(ended.status.code().is_some_and(|code| code != 0 && code != 2), "{arguments:?}: {}", ended.stdout);
            let ended = ended.expect_error(&["error: "]);
            if arguments[0] != "store" {
                ended.expect_error(&[&pid, data_dir.to_str().unwrap()]);
            }
        }
        node.running.terminate();
        node.running.end().expect_code(0);
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let world = World::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let ended = world.run("data", &["node", "--no-mdns", "--api", &address.to_string()]).expect_code(6);
    ended.expect_error(&["error: ", &address.to_string()]);
    let listen = format!("/ip4/127.0.0.1/tcp/{}", address.port());
    let ended = world.run("data", &["node", "--no-mdns", "--listen", &listen]).expect_code(6);
    ended.expect_error(&["error: ", &address.port().to_string()]);
}

#[test]
fn ctrl_c_keeps_what_was_verified_and_says_so() {
    let world = World::new();
    let bootstrap = world.node("bootstrap", &[]);
    let hash = blake3::hash(b"nobody has this either").to_hex().to_string();
    let mut fetcher = world.start("fetcher", &["fetch", &hash, "--bootstrap", &bootstrap.address(), "--no-mdns", "-o", "out"]);
    fetcher.wait_line("a search", |line| line.contains("looking for providers"));
    fetcher.interrupt();
    fetcher.end().expect_code(130).expect_error(&["error: stopped", "kept", "run the same command again"]);
}

#[test]
fn an_index_that_is_gone_is_made_anew() {
    let world = World::new();
    let file = world.write("blob.bin", noise(12, 200_000));
    let hash = world.publish("data", &file, &["--copy"]);
    let report = world.run("data", &["store", "rebuild", "--json"]).expect_code(0).last_json();
    assert_eq!((&report["blobs"], &report["partial"]), (&1.into(), &0.into()));
    let _ = std::fs::remove_dir_all(world.path("data/index"));
    world.run("data", &["show", &hash]).expect_code(0);
    world.run("data", &["verify", &hash]).expect_code(0);
}

#[test]
fn damage_in_the_store_is_found_and_is_the_disks_fault() {
    let world = World::new();
    let file = world.write("blob.bin", noise(13, 200_000));
    let hash = world.publish("data", &file, &["--copy"]);
    let stored = world.path("data").join("blobs").join(&hash[..2]).join(format!("{hash}.data"));
    let mut bytes = std::fs::read(&stored).unwrap();
    bytes[100_000] ^= 1;
    std::fs::write(&stored, bytes).unwrap();
    world.run("data", &["verify", &hash]).expect_code(5).expect_error(&["did not prove"]);
}
