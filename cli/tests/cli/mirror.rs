//! A model that lies on a plain web server and nowhere else: published with a sidecar, fetched by its hash.

use serde_json::Value;

use crate::web;
use crate::world::{World, assert_same_files};

const MIB: usize = 1 << 20;

#[test]
fn a_web_server_over_a_published_folder_is_a_mirror_with_proofs() {
    let world = World::new();
    let folder = world.model("model", 1, &[3 * MIB + 1, 70_000]);
    let hash = world.publish("publisher", &folder, &["--sidecar", "--mirror", "https://mirror.example/model/"]);
    assert!(folder.join(".p2pweights").join(format!("{hash}.json")).is_file());
    let manifest = world.run("publisher", &["show", "--json", &hash]).expect_code(0).last_json();
    assert_eq!(manifest["manifest"]["mirrors"], serde_json::json!(["https://mirror.example/model"]));

    let url = web::serve(&folder);
    let out = world.path("out");
    let fetch = |more: &[&str]| {
        let mut arguments = vec!["fetch", &hash, "--mirror", &url, "-o", out.to_str().unwrap()];
        arguments.extend(more);
        world.run("fetcher", &arguments)
    };
    let refused = fetch(&[]).expect_code(2);
    refused.expect_error(&["within this machine", "--allow-private-mirrors"]);
    let done = fetch(&["--json", "--allow-private-mirrors"]).expect_code(0).event("done");
    assert_eq!(done["sources"], Value::Array(Vec::new()), "{done}");
    assert_eq!(done["mirrors"][0]["url"], url.as_str(), "{done}");
    assert_eq!(done["mirrors"][0]["bytes"], done["bytes"], "{done}");
    std::fs::remove_dir_all(folder.join(".p2pweights")).unwrap();
    assert_same_files(&folder, &out);
}

#[test]
fn the_summary_names_the_mirror() {
    let world = World::new();
    let folder = world.model("model", 1, &[MIB, 70_000]);
    let hash = world.publish("publisher", &folder, &["--sidecar"]);
    let url = web::serve(&folder);
    let out = world.path("out");
    let arguments = ["fetch", &hash, "--mirror", &url, "--allow-private-mirrors", "-o", out.to_str().unwrap()];
    let ended = world.run("fetcher", &arguments).expect_code(0);
    assert!(ended.stdout.contains(&format!("mirror {url}")), "{}", ended.stdout);
}

#[test]
fn mirrors_are_addresses_of_folders() {
    let world = World::new();
    let hash = "a".repeat(64);
    world.run("data", &["fetch", &hash, "--mirror", "ftp://mirror.example"]).expect_code(2).expect_error(&["http://"]);
    let file = world.path("file");
    std::fs::write(&file, b"weights").unwrap();
    let ended = world.run("data", &["publish", file.to_str().unwrap(), "--sidecar"]).expect_code(2);
    ended.expect_error(&["--sidecar", "folder"]);
}
