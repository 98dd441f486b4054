//! `import`: from hubs, honest ones and liars, and from caches; into the store, and from there into caches again.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::hub::{COMMIT, Hub, Manners, Vice, repository};
use crate::world::{Ended, World, assert_same_files, eventually};

const MIB: usize = 1 << 20;

/// A repository with weights of these sizes.
fn folder(world: &World, weights: &[usize]) -> PathBuf {
    let folder = world.path("repository");
    repository(&folder, weights);
    folder
}

fn import(world: &World, data_dir: &str, hub: &Hub, more: &[&str]) -> Ended {
    let mut arguments = vec!["import", "--json", "hf:org/model", "--endpoint", hub.base()];
    arguments.extend(more);
    world.run(data_dir, &arguments)
}

fn shown(world: &World, data_dir: &str, hash: &str) -> Value {
    world.run(data_dir, &["show", "--json", hash]).expect_code(0).last_json()
}

/// Nothing of it counts: no model, no blob.
#[track_caller]
fn assert_nothing(world: &World, data_dir: &str) {
    let list = world.run(data_dir, &["list", "--json"]).expect_code(0).last_json();
    assert_eq!(list, Value::Array(Vec::new()));
}

#[test]
fn a_repository_becomes_a_model_with_all_that_its_hub_says() {
    let world = World::new();
    let folder = folder(&world, &[3 * MIB + 17, 300_000]);
    let hub = Hub::start(&folder, Manners { page: 2, ..Manners::default() });
    let done = import(&world, "a", &hub, &[]).expect_code(0).last_json();
    assert_eq!((&done["event"], &done["commit"], &done["files"]), (&"done".into(), &COMMIT.into(), &6.into()));
    let hash = done["hash"].as_str().unwrap();
    let manifest = shown(&world, "a", hash)["manifest"].clone();
    assert_eq!(manifest["name"], "org/model");
    assert_eq!(manifest["revision"], "main");
    assert_eq!(manifest["license"], "Apache-2.0");
    assert_eq!(manifest["base_model"]["name"], "org/base");
    assert_eq!(manifest["source"]["repo"], format!("{}/org/model", hub.base()));
    assert_eq!(manifest["source"]["revision"], COMMIT);
    assert!(manifest.get("gated").is_none());
    for shard in manifest["shards"].as_array().unwrap() {
        let path = shard["path"].as_str().unwrap();
        let etag = shard.get("git_oid").unwrap_or(&shard["sha256"]);
        assert_eq!(*etag, hub.etag(path), "{path}");
    }
    // Bytes that are here are not asked for again, and the same commit is the same model.
    let before = hub.sent();
    let again = import(&world, "a", &hub, &[]).expect_code(0).last_json();
    assert_eq!((again["hash"].as_str(), again["fetched"].as_u64(), hub.sent()), (Some(hash), Some(0), before));
    // Whoever has it gives it to others.
    let node = world.node("a", &[]);
    world.run("b", &["fetch", hash, "--peer", &node.address(), "-o", "got"]).expect_code(0);
    assert_same_files(&folder, &world.path("got"));
}

#[test]
fn an_import_runs_in_the_node_that_owns_the_store() {
    let world = World::new();
    let hub = Hub::start(&folder(&world, &[MIB]), Manners::default());
    let node = world.node("a", &[]);
    let done = import(&world, "a", &hub, &["--include", "*.safetensors"]).expect_code(0).last_json();
    assert_eq!(done["files"], 1);
    let hash = done["hash"].as_str().unwrap();
    world.run("b", &["fetch", hash, "--peer", &node.address(), "-o", "got"]).expect_code(0);
    assert!(world.path("got/model-00001-of-00001.safetensors").is_file());
}

#[test]
fn a_hub_that_lies_is_refused_with_the_files_name_and_nothing_is_published() {
    let world = World::new();
    let folder = folder(&world, &[400_000, MIB]);
    let large = ".safetensors";
    for (index, (vice, parts)) in [
        (Vice::WrongSize, &[large, " bytes, its listing says "][..]),
        (Vice::WrongBytes, &[large, "sha256-"]),
        (Vice::WrongSmallBytes, &["git-"]),
        (Vice::MovingCommit, &[": the hub answers with commit \"999"]),
        (Vice::LoopingPages, &["circles"]),
        (Vice::Truncated, &[large, "broke off"]),
        (Vice::Html, &[large, "an HTML page of 39 bytes"]),
        (Vice::Escape, &["../outside.txt"]),
        (Vice::NoCommit, &["no commit"]),
    ]
    .into_iter()
    .enumerate()
    {
        let hub = Hub::start(&folder, Manners { vice: Some(vice), ..Manners::default() });
        let data_dir = format!("liar-{index}");
        let ended = import(&world, &data_dir, &hub, &["--exclude", "nothing"]);
        let failed = ended.last_json();
        let message = failed["message"].as_str().unwrap_or_default();
        assert_eq!(failed["event"], "failed", "{vice:?}: {failed}");
        assert!(parts.iter().all(|part| message.contains(part)), "{vice:?}: {message}");
        assert!([4, 6].contains(&ended.status.code().unwrap_or_default()), "{vice:?}: {:?}", ended.status);
        assert_nothing(&world, &data_dir);
    }
}

#[test]
fn what_hubs_do_on_ordinary_days_is_borne() {
    let world = World::new();
    let folder = folder(&world, &[400_000, 2 * MIB]);
    for (index, vice) in [Vice::Xet, Vice::Busy, Vice::Breaks, Vice::IgnoresRanges].into_iter().enumerate() {
        let hub = Hub::start(&folder, Manners { vice: Some(vice), ..Manners::default() });
        let data_dir = format!("honest-{index}");
        let done = import(&world, &data_dir, &hub, &[]).expect_code(0).last_json();
        let manifest = shown(&world, &data_dir, done["hash"].as_str().unwrap())["manifest"].clone();
        assert!(!manifest.to_string().contains("xet"), "{vice:?}");
        if vice == Vice::Breaks {
            let ranges: Vec<_> = hub.asked().into_iter().filter_map(|asked| asked.range).collect();
            assert!(ranges.iter().any(|range| range == &format!("bytes={}-", 2 * MIB * 2 / 3)), "{ranges:?}");
        }
    }
}

#[test]
fn a_token_goes_to_the_hub_and_nowhere_else() {
    let world = World::new();
    let folder = folder(&world, &[MIB]);
    let storage = Hub::start(&folder, Manners::default());
    let manners = Manners {
        token: Some("hf_secret".to_owned()),
        gated: true,
        storage: Some(storage.base().to_owned()),
        ..Manners::default()
    };
    let hub = Hub::start(&folder, manners);
    let refused = import(&world, "a", &hub, &[]).expect_code(4).last_json();
    assert!(refused["message"].as_str().unwrap().contains("--token-env"), "{refused}");
    assert_nothing(&world, "a");
    let run = |variable: &str, value: &str, more: &[&str]| {
        let mut command = world.command("a");
        command.args(["import", "--json", "hf:org/model", "--endpoint", hub.base()]).args(more).env(variable, value);
        crate::world::Running::spawn(command).end()
    };
    // The usual variable is for the usual hub.
    run("HF_TOKEN", "hf_secret", &[]).expect_code(4);
    assert!(hub.asked().iter().all(|asked| asked.token.is_none()));
    run("MY_TOKEN", "hf_wrong", &["--token-env", "MY_TOKEN"]).expect_code(4);
    run("MY_TOKEN", "hf_secret", &["--token-env", "MY_TOKEN"]).expect_code(0);
    assert!(hub.asked().iter().any(|asked| asked.token.as_deref() == Some("hf_secret")));
    assert!(!storage.asked().is_empty() && storage.asked().iter().all(|asked| asked.token.is_none()));
    assert!(storage.asked().iter().all(|asked| asked.path.ends_with("?signature=1")));
    // With this endpoint as the usual one the usual variable is enough.
    let mut command = world.command("b");
    command.args(["import", "--json", "hf:org/model"]).env("HF_ENDPOINT", hub.base()).env("HF_TOKEN", "hf_secret");
    crate::world::Running::spawn(command).end().expect_code(0);
}

/// What lies in a store of files that are on their way.
fn arrived(world: &World, data_dir: &str) -> u64 {
    let files = fs::read_dir(world.path(data_dir).join("imports")).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[test]
fn an_import_that_was_killed_goes_on_where_it_was() {
    let world = World::new();
    let folder = folder(&world, &[8 * MIB, 200_000]);
    let hub = Hub::start(&folder, Manners { holds_after: Some(5 * MIB), ..Manners::default() });
    for kill in [true, false] {
        let mut running = world.start("a", &["import", "--json", "hf:org/model", "--endpoint", hub.base()]);
        running.wait_event("plan");
        eventually("most of the file is here", || arrived(&world, "a") > 4 * MIB as u64);
        if kill {
            running.kill();
        } else {
            running.interrupt();
            let ended = running.end().expect_code(130);
            assert!(ended.last_json()["hint"].as_str().is_some_and(|hint| hint.contains("goes on from there")));
        }
        assert_nothing(&world, "a");
    }
    hub.release();
    let before = hub.sent();
    let done = import(&world, "a", &hub, &[]).expect_code(0).last_json();
    let fetched = done["fetched"].as_u64().unwrap();
    assert!(fetched < 4 * MIB as u64, "{fetched} bytes came again");
    assert!(hub.sent() - before < 5 * MIB);
    assert!(hub.asked().iter().any(|asked| asked.range.is_some()));
    assert_eq!(arrived(&world, "a"), 0, "nothing is left behind");
    // Half an import of which nobody wants the rest is cleared away.
    let hub = Hub::start(&folder, Manners { holds_after: Some(5 * MIB), ..Manners::default() });
    let running = world.start("b", &["import", "--json", "hf:org/model", "--endpoint", hub.base()]);
    eventually("most of the file is here", || arrived(&world, "b") > 4 * MIB as u64);
    running.kill();
    world.run("b", &["gc", "--json"]).expect_code(0);
    assert!(arrived(&world, "b") > 0, "it is young");
    let report = world.run("b", &["gc", "--json", "--older-than", "0s"]).expect_code(0).last_json();
    assert_eq!(report["cleared"][0]["kind"], "import");
    assert_eq!(arrived(&world, "b"), 0);
}

/// Has a node with this model serve, and says whether another one can fetch it.
fn can_be_had(world: &World, data_dir: &str, hash: &str, settings: &[(&str, &str)], into: &str) -> bool {
    let mut command = world.command(data_dir);
    command.args(["node", "--json", "--no-mdns", "--stop-with-stdin"]).envs(settings.iter().copied());
    let mut running = crate::world::Running::spawn(command);
    let ready = running.wait_event("ready");
    let node = crate::world::NodeUp { running, ready };
    let fetch = world.run(into, &["fetch", "--json", hash, "--peer", &node.address(), "-o", into, "--timeout", "4"]);
    match fetch.status.code() {
        Some(0) => true,
        Some(3 | 7) => false,
        other => panic!("{other:?}: {}{}", fetch.stdout, fetch.stderr),
    }
}

#[test]
fn what_is_gated_or_private_is_not_given_to_others_unless_the_owner_says_so() {
    let world = World::new();
    let folder = folder(&world, &[300_000]);
    let mut others = 0;
    for (kind, gated, private) in [("gated", true, false), ("private", false, true)] {
        let hub = Hub::start(&folder, Manners { gated, private, ..Manners::default() });
        let done = import(&world, kind, &hub, &[]).expect_code(0).last_json();
        assert_eq!(done["withheld"], true, "{done}");
        let hash = done["hash"].as_str().unwrap();
        let report = shown(&world, kind, hash);
        assert_eq!((&report["withheld"], report["manifest"].get("gated").is_some()), (&true.into(), gated));
        world.run(kind, &["store", "rebuild"]).expect_code(0);
        let list = world.run(kind, &["list", "--json"]).expect_code(0).last_json();
        assert_eq!(list[0]["withheld"], true);
        let mut had = |settings: &[(&str, &str)]| {
            others += 1;
            can_be_had(&world, kind, hash, settings, &format!("other-{others}"))
        };
        assert!(!had(&[]), "{kind}");
        assert!(!had(&[("P2PWEIGHTS_SHARE_GATED", "org/another")]), "{kind}");
        assert!(had(&[("P2PWEIGHTS_SHARE_GATED", "org/another,Org/Model")]), "{kind}");
        // The same bytes, published by their owner, are not the hub's any more.
        let published = world.publish(kind, &folder, &[]);
        assert!(can_be_had(&world, kind, &published, &[], &format!("published-{kind}")));
        world.run(kind, &["remove", &published]).expect_code(0);
        assert!(!had(&[]), "{kind}: what is left is the hub's");
    }
}

#[test]
fn a_running_node_keeps_back_what_it_imports() {
    let world = World::new();
    let folder = folder(&world, &[300_000]);
    let hub = Hub::start(&folder, Manners { gated: true, ..Manners::default() });
    let node = world.node("a", &[]);
    let done = import(&world, "a", &hub, &[]).expect_code(0).last_json();
    let hash = done["hash"].as_str().unwrap();
    let fetch = |into: &str| {
        world.run(into, &["fetch", "--json", hash, "--peer", &node.address(), "-o", into, "--timeout", "4"]).status.code()
    };
    assert_eq!(fetch("b"), Some(3));
    let published = world.publish("a", &folder, &[]);
    world.run("c", &["fetch", &published, "--peer", &node.address(), "-o", "c-files"]).expect_code(0);
    world.run("a", &["remove", &published]).expect_code(0);
    let again = world.run("d", &["fetch", "--json", &published, "--peer", &node.address(), "-o", "d", "--timeout", "4"]);
    assert_eq!(again.status.code(), Some(3));
}

#[test]
fn what_becomes_private_is_taken_back_at_once() {
    let world = World::new();
    let folder = folder(&world, &[300_000]);
    let hub = Hub::start(&folder, Manners::default());
    let node = world.node("a", &[]);
    let hash = || import(&world, "a", &hub, &[]).expect_code(0).last_json()["hash"].as_str().unwrap().to_owned();
    let fetch = |hash: &str, into: &str| {
        world.run(into, &["fetch", "--json", hash, "--peer", &node.address(), "-o", into, "--timeout", "4"]).status.code()
    };
    let public = hash();
    assert_eq!(fetch(&public, "b"), Some(0));
    hub.make_private();
    assert_eq!(hash(), public, "a manifest does not say that its hub is private");
    assert_eq!(fetch(&public, "c"), Some(3));
}

/// A cache of Hugging Face's client with one model, as that writes it.
fn cache(world: &World, hub: &Hub, folder: &Path) -> PathBuf {
    let model = world.path("hub").join("models--org--model");
    for (path, bytes) in crate::world::files_below(folder) {
        let (name, etag) = (path.to_str().unwrap(), hub.etag(path.to_str().unwrap()));
        let link = model.join("snapshots").join(COMMIT).join(&path);
        fs::create_dir_all(model.join("blobs")).unwrap();
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        fs::write(model.join("blobs").join(&etag), bytes).unwrap();
        let up = "../".repeat(2 + name.matches('/').count());
        std::os::unix::fs::symlink(format!("{up}blobs/{etag}"), link).unwrap();
    }
    fs::create_dir_all(model.join("refs")).unwrap();
    fs::write(model.join("refs").join("main"), COMMIT).unwrap();
    fs::write(model.join("blobs").join(format!("{}.incomplete", "a".repeat(64))), b"half").unwrap();
    model
}

#[test]
fn a_cache_is_imported_where_it_lies_and_is_the_same_model() {
    let world = World::new();
    let folder = folder(&world, &[2 * MIB]);
    let hub = Hub::start(&folder, Manners::default());
    let model = cache(&world, &hub, &folder);
    let from_hub = import(&world, "a", &hub, &[]).expect_code(0).last_json();
    let path = model.to_str().unwrap();
    let from_cache = world.run("b", &["import", "--json", path, "--endpoint", hub.base()]).expect_code(0).last_json();
    assert_eq!(from_cache["hash"], from_hub["hash"]);
    let status = world.run("b", &["status", "--json"]).expect_code(0).last_json();
    assert!(status["disk"]["listed"].as_u64().unwrap() < MIB as u64, "no second copy: {status}");
    // A blob that is not what its name says.
    let weights = model.join("blobs").join(hub.etag("model-00001-of-00001.safetensors"));
    fs::write(&weights, vec![0; 2 * MIB]).unwrap();
    let wrong = world.run("c", &["import", "--json", path]).expect_code(4).last_json();
    assert!(wrong["message"].as_str().unwrap().contains("model-00001-of-00001.safetensors"), "{wrong}");
    assert_nothing(&world, "c");
}

#[test]
fn a_fetch_fills_the_cache_of_hugging_faces_client() {
    let world = World::new();
    let folder = folder(&world, &[MIB, 300_000]);
    let hub = Hub::start(&folder, Manners::default());
    let expected = cache(&world, &hub, &folder);
    fs::remove_file(expected.join("blobs").join(format!("{}.incomplete", "a".repeat(64)))).unwrap();
    let hash = import(&world, "a", &hub, &[]).expect_code(0).last_json()["hash"].as_str().unwrap().to_owned();
    let node = world.node("a", &[]);
    let mut command = world.command("b");
    command
        .args(["fetch", "--json", &hash, "--peer", &node.address(), "--to", "hf-cache"])
        .env("HF_HUB_CACHE", world.path("written"));
    let ended = crate::world::Running::spawn(command).end().expect_code(0);
    let model = world.path("written").join("models--org--model");
    assert_eq!(ended.last_json()["output"], model.join("snapshots").join(COMMIT).to_str().unwrap());
    for part in ["blobs", "refs", "snapshots"] {
        assert_same_files(&expected.join(part), &model.join(part));
    }
    let link = model.join("snapshots").join(COMMIT).join("onnx/notes with spaces.txt");
    let target = fs::read_link(&link).unwrap();
    assert_eq!(target, Path::new("../../../blobs").join(hub.etag("onnx/notes with spaces.txt")));
    let tree: Value = serde_json::from_slice(&fs::read(model.join("trees").join(format!("{COMMIT}.json"))).unwrap()).unwrap();
    assert_eq!(tree["files"].as_object().unwrap().len(), 6);
    assert!(
        fs::read_to_string(world.path("written/CACHEDIR.TAG"))
            .unwrap()
            .starts_with("Signature: 8a477f597d28d172789f06886806bc55")
    );
    // What is there already stays, and is not fetched; a file of a client's own beside it is left alone.
    fs::write(model.join("blobs").join("theirs.incomplete"), b"half").unwrap();
    fs::remove_file(&link).unwrap();
    // As newer clients do: the blob itself lies elsewhere in the cache.
    let weights = model.join("blobs").join(hub.etag("model-00001-of-00002.safetensors"));
    fs::create_dir_all(world.path("written/blobs/ab")).unwrap();
    fs::rename(&weights, world.path("written/blobs/ab/abc")).unwrap();
    std::os::unix::fs::symlink("../../blobs/ab/abc", &weights).unwrap();
    let target = format!("hf-cache={}", world.path("written").display());
    let again = world.run("c", &["fetch", "--json", &hash, "--peer", &node.address(), "--to", &target]).expect_code(0);
    assert!(again.event("done")["fetched"].as_u64().unwrap() < 10_000, "{}", again.last_json());
    assert_eq!(fs::read_to_string(&link).unwrap(), "below\n");
    assert!(model.join("blobs").join("theirs.incomplete").exists());
    assert!(weights.is_symlink());
}

/// A hub that others wrote: a script that prints `READY <address>`, named by the variable or beside the repository's folder.
fn other_hub() -> Option<PathBuf> {
    let named = std::env::var_os("P2PWEIGHTS_TEST_HUB").map(PathBuf::from);
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/tools/hf_ref_server.py");
    let script = named.unwrap_or_else(beside);
    let python = std::process::Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    (script.is_file() && python).then_some(script)
}

#[test]
fn a_hub_that_others_wrote_is_imported_from() {
    let Some(script) = other_hub() else {
        eprintln!("passed over: there is no other hub here, or no python3");
        return;
    };
    let world = World::new();
    let root = world.path("hub-root");
    repository(&root.join("org").join("model"), &[2 * MIB, 100]);
    repository(&root.join("org").join("model@v1"), &[2 * MIB]);
    for (index, (more, good)) in [
        (&["--page-size", "2", "--pin"][..], true),
        (&["--all-lfs"], true),
        (&["--break", "xet"], true),
        (&["--break", "no-length"], true),
        (&["--break", "corrupt"], false),
        (&["--break", "wrong-git-oid"], false),
        (&["--break", "other-file"], false),
    ]
    .into_iter()
    .enumerate()
    {
        let mut command = std::process::Command::new("python3");
        command.arg(&script).arg("--root").arg(&root).arg("--quiet").args(more);
        let mut server = crate::world::Running::spawn(command);
        let ready = server.wait_line("READY", |line| line.starts_with("READY "));
        let data_dir = format!("other-{index}");
        let endpoint = ready.trim_start_matches("READY ");
        let run = |source| world.run(&data_dir, &["import", "--json", source, "--endpoint", endpoint]);
        let ended = run("hf:org/model@v1");
        assert_eq!(ended.status.success(), good, "{more:?}: {}{}", ended.stdout, ended.stderr);
        if !good {
            assert_nothing(&world, &data_dir);
            continue;
        }
        let first = ended.last_json();
        world.run(&data_dir, &["fetch", first["hash"].as_str().unwrap(), "-o", &format!("got-{index}")]).expect_code(0);
        assert_same_files(&root.join("org").join("model@v1"), &world.path(&format!("got-{index}")));
        // The other branch shares most of its bytes.
        let second = run("hf:org/model").expect_code(0).last_json();
        assert!(second["fetched"].as_u64().unwrap() < MIB as u64, "{second}");
        assert_ne!(first["commit"], second["commit"]);
    }
}

#[test]
fn a_model_of_ollamas_is_imported_where_it_lies() {
    use sha2::Digest;
    let world = World::new();
    let digest = |content: &[u8]| -> String { sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect() };
    let (weights, config) = (crate::world::noise(5, MIB), b"{}".to_vec());
    for content in [&weights, &config] {
        world.write(&format!("ollama/blobs/sha256-{}", digest(content)), content);
    }
    let layer = |kind: &str, content: &[u8]| serde_json::json!({"mediaType": format!("application/vnd.ollama.image.{kind}"), "digest": format!("sha256:{}", digest(content)), "size": content.len()});
    let manifest =
        serde_json::json!({"schemaVersion": 2, "config": layer("config", &config), "layers": [layer("model", &weights)]});
    let tag = world.write("ollama/manifests/registry.ollama.ai/library/tiny/1b", manifest.to_string());
    let done = world.run("a", &["import", "--json", tag.to_str().unwrap()]).expect_code(0).last_json();
    world.run("a", &["fetch", done["hash"].as_str().unwrap(), "-o", "got"]).expect_code(0);
    assert!(fs::read(world.path("got/model.gguf")).unwrap() == weights);
    assert_eq!(shown(&world, "a", done["hash"].as_str().unwrap())["manifest"]["revision"], "1b");
    world.write(&format!("ollama/blobs/sha256-{}", digest(&weights)), vec![0; MIB]);
    let wrong = world.run("b", &["import", "--json", tag.to_str().unwrap()]).expect_code(4).last_json();
    assert!(wrong["message"].as_str().unwrap().contains("model.gguf"), "{wrong}");
    assert_nothing(&world, "b");
}
