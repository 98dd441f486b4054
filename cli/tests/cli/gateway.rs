//! The gateway as programs meet it: models held, models found over the DHT, reading while it arrives, and bad input.

use std::fs;
use std::path::Path;

use crate::http::{Answer, Connection, ask, follow, get};
use crate::world::{World, eventually, files_below, noise};

const ON: &[&str] = &["--gateway", "127.0.0.1:0"];
const MIB: usize = 1024 * 1024;

fn encoded(path: &Path) -> String {
    path.to_str().unwrap().replace(' ', "%20")
}

/// Every file of the folder, whole, with its identity.
fn assert_serves(endpoint: &str, id: &str, folder: &Path) {
    let info = get(endpoint, &format!("/api/models/{id}")).expect(200).json();
    let commit = info["sha"].as_str().unwrap();
    let siblings: Vec<&str> = info["siblings"].as_array().unwrap().iter().filter_map(|file| file["rfilename"].as_str()).collect();
    let files = files_below(folder);
    assert_eq!(siblings.len(), files.len());
    for (path, content) in files {
        assert!(siblings.contains(&path.to_str().unwrap()), "{path:?} in {siblings:?}");
        let target = format!("/{id}/resolve/main/{}", encoded(&path));
        let head = follow(endpoint, "HEAD", &target, "").expect(200);
        assert_eq!(head.header("content-length"), content.len().to_string());
        assert_eq!((head.header("x-repo-commit"), head.header("accept-ranges")), (commit, "bytes"));
        let whole = follow(endpoint, "GET", &target, "").expect(200);
        assert!(whole.body == content && !whole.cut, "{path:?}");
        assert_eq!(whole.header("etag"), head.header("etag"));
        assert_eq!(whole.header("etag"), format!("\"{}\"", sha256(&content)));
    }
}

fn sha256(content: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_model_that_is_held_is_served_as_a_hub_would() {
    let world = World::new();
    let folder = world.model("model", 1, &[3 * MIB + 5, 100]);
    world.publish("held", &folder, &["--name", "org/m"]);
    let node = world.node("held", ON);
    let endpoint = node.gateway();
    assert_serves(&endpoint, "org/m", &folder);
    let big = "/org/m/resolve/main/model-00001-of-00002.safetensors";
    let content = fs::read(folder.join("model-00001-of-00002.safetensors")).unwrap();
    for (range, part) in [("0-0", 0..1), ("1000000-2000000", 1_000_000..2_000_001), ("-7", content.len() - 7..content.len())] {
        let answer = follow(&endpoint, "GET", big, &format!("Range: bytes={range}\r\n")).expect(206);
        assert!(answer.body == content[part], "{range}");
    }
    let beyond = follow(&endpoint, "GET", big, "Range: bytes=99999999999999999999-\r\n").expect(416);
    assert_eq!(beyond.header("content-range"), format!("bytes */{}", content.len()));
    let etag = follow(&endpoint, "HEAD", big, "").header("etag").to_owned();
    follow(&endpoint, "GET", big, &format!("If-None-Match: {etag}\r\n")).expect(304);
    let empty = follow(&endpoint, "GET", "/org/m/resolve/main/empty.txt", "Range: bytes=0-0\r\n").expect(200);
    assert_eq!(empty.header("content-range"), "bytes */0");
    let tree = get(&endpoint, "/api/models/org/m/tree/main?recursive=true").expect(200).json();
    assert_eq!(tree.as_array().unwrap().len(), 6, "five files and a folder: {tree}");
    let mut connection = Connection::open(&endpoint);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    connection.request("POST", "/api/models/org/m/paths-info/main", form, "paths=config.json&paths=nope&paths=onnx");
    assert_eq!(connection.answer("POST").expect(200).json().as_array().unwrap().len(), 2);
    let refs = get(&endpoint, "/api/models/org/m/refs").expect(200).json();
    assert_eq!(refs["branches"][0]["name"], "main");
}

#[test]
fn errors_are_those_that_clients_understand() {
    let world = World::new();
    let folder = world.model("model", 2, &[10]);
    world.publish("held", &folder, &["--name", "org/m"]);
    let node = world.node("held", ON);
    let endpoint = node.gateway();
    let code = |target: &str| {
        let answer = get(&endpoint, target);
        (answer.status, answer.header("x-error-code").to_owned(), !answer.header("x-repo-commit").is_empty())
    };
    let missing = |what: &str, commit| (404, what.to_owned(), commit);
    assert_eq!(code("/api/models/org/other"), missing("RepoNotFound", false));
    assert_eq!(code("/api/datasets/org/m"), missing("RepoNotFound", false));
    assert_eq!(code("/org/other/resolve/main/x"), missing("RepoNotFound", false));
    assert_eq!(code("/org/m/resolve/v9/config.json"), missing("RevisionNotFound", false));
    assert_eq!(code(&format!("/api/models/org/m/revision/{}", "0".repeat(40))), missing("RevisionNotFound", false));
    assert_eq!(code("/org/m/resolve/main/nope.json"), missing("EntryNotFound", true));
    assert_eq!(code("/api/models/org/m/tree/main/nope"), missing("EntryNotFound", true));
    for outside in ["..%2F..%2Fetc%2Fpasswd", "%2e%2e/%2e%2e/etc/passwd", "..%5C..%5Cx", "%2Fetc%2Fpasswd", "a%00b", "%C3%BC"] {
        assert_eq!(code(&format!("/org/m/resolve/main/{outside}")), missing("EntryNotFound", true), "{outside}");
    }
    assert_eq!(code("/api/whoami-v2").0, 404);
    assert_eq!(code("/org/m/resolve/main/%ff").0, 400);
    assert_eq!(ask(&endpoint, "DELETE", "/org/m/resolve/main/config.json", "").status, 405);
}

#[test]
fn a_model_is_found_over_the_dht_and_fetched_while_it_is_read() {
    let world = World::new();
    let folder = world.model("model", 3, &[9 * MIB, 5 * MIB + 77]);
    let hash = world.publish("seed", &folder, &["--name", "org/m"]);
    let seed = world.node("seed", &[]);
    let config = world.write("gateway.toml", format!("[gateway.models]\n\"acme/alias\" = \"{hash}\"\n"));
    let more = ["--config", config.to_str().unwrap(), "--bootstrap", &seed.address()];
    let node = world.node("empty", &[ON, &more].concat());
    let endpoint = node.gateway();
    assert_eq!(get(&endpoint, "/api/models/org/m").status, 404, "nothing of that name is known yet");
    assert_serves(&endpoint, "acme/alias", &folder);
    eventually("the model is held under its own name, too", || get(&endpoint, "/api/models/org/m").status == 200);
    // Both go by the same commit, which is made from the manifest.
    let info = get(&endpoint, "/api/models/org/m").json();
    assert_eq!(info["sha"].as_str(), Some(&hash[..40]));
}

#[test]
fn what_a_reader_waits_for_comes_first() {
    let world = World::new();
    let folder = world.path("model");
    fs::create_dir_all(&folder).unwrap();
    let content = noise(4, 48 * MIB);
    fs::write(folder.join("model.safetensors"), &content).unwrap();
    let hash = world.publish("seed", &folder, &["--name", "org/m"]);
    // Half a minute for the whole of it.
    let seed = world.node("seed", &["--max-upload", "2MiB/s"]);
    let config = world.write("gateway.toml", format!("[gateway.models]\n\"org/m\" = \"{hash}\"\n"));
    let more = ["--config", config.to_str().unwrap(), "--bootstrap", &seed.address()];
    let node = world.node("empty", &[ON, &more].concat());
    let endpoint = node.gateway();
    let target = format!("/org/m/resolve/{}/model.safetensors", commit(&endpoint));
    let held = || {
        let list = world.run("empty", &["list", "--json"]).expect_code(0).last_json();
        list.as_array().unwrap().iter().filter_map(|entry| entry["held"].as_u64()).max().unwrap_or(0)
    };
    // The end, the middle, the beginning: whoever reads there waits for little else.
    for (from, bytes, most_mib) in [(48 * MIB - 100_000, 100_000, 14), (25 * MIB, 100_000, 22), (0, MIB, 30)] {
        let range = format!("Range: bytes={from}-{}\r\n", from + bytes - 1);
        let part = ask(&endpoint, "GET", &target, &range).expect(206);
        assert!(part.body == content[from..from + bytes], "from {from}");
        let held = held();
        assert!(held < most_mib << 20, "{held} bytes are held when those from {from} on have been read");
    }
}

#[test]
fn damage_on_the_disk_is_never_served_and_fetched_again() {
    let world = World::new();
    let folder = world.path("model");
    fs::create_dir_all(&folder).unwrap();
    let content = noise(5, 4 * MIB);
    let file = folder.join("model.safetensors");
    fs::write(&file, &content).unwrap();
    let hash = world.publish("rotten", &folder, &["--name", "org/m", "--copy"]);
    let blob = files_below(&world.path("rotten")).into_iter().find(|(_, bytes)| *bytes == content).expect("the store's copy").0;
    let mut wrong = content.clone();
    wrong[3 * MIB] ^= 1;
    fs::write(world.path("rotten").join(blob), &wrong).unwrap();
    let target = format!("/org/m/resolve/{}/model.safetensors", &hash[..40]);
    let alone = world.node("rotten", ON);
    let mut reader = Connection::open(&alone.gateway());
    reader.request("GET", &target, "", "");
    let (_, length) = reader.head();
    assert_eq!(length, content.len() as u64);
    let before = reader.read(3 * MIB as u64 - 16 * 1024);
    assert!(before == content[..before.len()] && before.len() >= 2 * MIB, "what proves is sent");
    drop(alone);
    world.publish("seed", &folder, &["--name", "org/m"]);
    let seed = world.node("seed", &[]);
    let helped = world.node("rotten", &[ON, &["--bootstrap", &seed.address()]].concat());
    let whole = ask(&helped.gateway(), "GET", &target, "").expect(200);
    assert!(whole.body == content && !whole.cut, "the rest came from the other one");
}

#[test]
fn strangers_names_and_pages_from_elsewhere_are_kept_out() {
    let world = World::new();
    let folder = world.model("model", 6, &[10]);
    world.publish("held", &folder, &["--name", "org/m"]);
    let config = world.write("gateway.toml", "[gateway]\nhosts = [\"models.lan\"]\n");
    let node = world.node("held", &[ON, &["--config", config.to_str().unwrap()]].concat());
    let endpoint = node.gateway();
    let by = |host: &str| ask(&endpoint, "GET", "/api/models/org/m", &format!("Host: {host}\r\n")).status;
    assert_eq!(["127.0.0.1:1", "localhost", "models.lan:8787"].map(by), [200; 3]);
    assert_eq!(["evil.example", "localhost.evil.example", ""].map(by), [421; 3]);
    let from = |origin: &str| -> Answer { ask(&endpoint, "OPTIONS", "/api/models/org/m", &format!("Origin: {origin}\r\n")) };
    let near = from("http://localhost:3000").expect(204);
    assert_eq!(near.header("access-control-allow-origin"), "http://localhost:3000");
    assert!(near.header("access-control-expose-headers").contains("X-Repo-Commit"));
    assert_eq!(from("https://evil.example").header("access-control-allow-origin"), "");
}

#[test]
fn floods_find_bounds() {
    let world = World::new();
    let folder = world.model("model", 7, &[64 * MIB]);
    world.publish("held", &folder, &["--name", "org/m"]);
    let node = world.node("held", ON);
    let endpoint = node.gateway();
    // Ten thousand headers: refused, whether or not all of them are still taken.
    let mut headers = String::from("GET /api/models/org/m HTTP/1.1\r\nHost: localhost\r\n");
    (0..10_000).for_each(|index| headers.push_str(&format!("X-{index}: y\r\n")));
    let mut flood = Connection::open(&endpoint);
    let _ = flood.send(format!("{headers}\r\n").as_bytes());
    assert_eq!(flood.head().0.status, 431);
    // More connections than there are seats, all idle: who comes last is served, and who came first had to go.
    let mut idle: Vec<Connection> = (0..600).map(|_| Connection::open(&endpoint)).collect();
    get(&endpoint, "/api/models/org/m").expect(200);
    assert!(idle[0].is_closed());
    get(&endpoint, "/org/m/resolve/main/config.json").expect(307);
    // Readers that sleep keep little of a file in memory.
    let target = format!("/org/m/resolve/{}/model-00001-of-00001.safetensors", commit(&endpoint));
    let mut sleepers: Vec<Connection> = (0..100).map(|_| Connection::open(&endpoint)).collect();
    for sleeper in &mut sleepers {
        sleeper.request("GET", &target, "", "");
        assert_eq!(sleeper.head().0.status, 200);
    }
    let status = fs::read_to_string(format!("/proc/{}/status", node.running.pid())).unwrap_or_default();
    let rss =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).and_then(|rest| rest.trim().split(' ').next()?.parse().ok());
    assert!(rss.is_none_or(|kib: u64| kib < 200 * 1024), "{rss:?} KiB");
    drop(idle);
}

fn commit(endpoint: &str) -> String {
    get(endpoint, "/api/models/org/m").expect(200).json()["sha"].as_str().unwrap().to_owned()
}

#[test]
fn a_registry_gives_one_quantisation_out() {
    let world = World::new();
    let folder = world.path("gguf");
    fs::create_dir_all(&folder).unwrap();
    for quant in ["Q4_K_M", "Q8_0"] {
        fs::write(folder.join(format!("model-{quant}.gguf")), noise(8, 2 * MIB)).unwrap();
    }
    fs::write(folder.join("model-Q8_0.gguf"), noise(9, MIB)).unwrap();
    world.publish("held", &folder, &["--name", "org/m"]);
    let node = world.node("held", ON);
    let endpoint = node.gateway();
    get(&endpoint, "/v2/").expect(200);
    let manifest = get(&endpoint, "/v2/org/m/manifests/q8_0").expect(200);
    assert!(manifest.header("content-type").contains("distribution.manifest.v2"));
    let manifest = manifest.json();
    for part in [&manifest["config"], &manifest["layers"][0]] {
        let target = format!("/v2/org/m/blobs/{}", part["digest"].as_str().unwrap());
        let head = ask(&endpoint, "HEAD", &target, "Host: localhost:5\r\n").expect(200);
        assert_eq!(head.header("content-length"), part["size"].to_string());
        assert_eq!(head.header("location"), format!("http://localhost:5{target}"));
        let body = get(&endpoint, &target).expect(200).body;
        assert_eq!(format!("sha256:{}", sha256(&body)), part["digest"].as_str().unwrap());
    }
    assert_eq!(manifest["layers"][0]["size"].as_u64(), Some(MIB as u64));
    let latest = get(&endpoint, "/v2/org/m/manifests/latest").expect(200).json();
    assert_eq!(latest["layers"][0]["size"].as_u64(), Some(2 * MIB as u64));
    get(&endpoint, "/v2/org/m/manifests/Q2_K").expect(400);
    let named = ask(&endpoint, "GET", "/v2/org/m/manifests/latest", "User-Agent: llama-cpp\r\n").json();
    assert_eq!(named["ggufFile"]["rfilename"], "model-Q4_K_M.gguf");
}

#[test]
fn a_taken_address_is_an_error_only_if_it_was_asked_for() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    world.run("one", &["node", "--no-mdns", "--gateway", &address]).expect_code(6).expect_error(&["gateway", &address, "off"]);
    let node = world.node("two", ON);
    let status = world.run("two", &["status"]).expect_code(0);
    assert!(status.stdout.contains(&format!("HF_ENDPOINT={}", node.gateway())), "{}", status.stdout);
}
