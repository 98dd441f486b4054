//! Hostile manifests, published by hand as blobs: refused with the reason, before one byte of payload is asked for.

use p2pweights_node::report::FailureKind;
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::limits;
use p2pweights_tests::content::{MIB, noise};
use p2pweights_tests::nodes::{World, request};

/// Payload that the publisher really holds, so that it could be asked for.
const PAYLOAD: usize = MIB;

fn payload() -> Vec<u8> {
    noise(5, PAYLOAD)
}

/// A shard as canonical text.
fn shard(path: &str, size: &str) -> String {
    let path = serde_json::Value::from(path);
    format!(
        "    {{\n      \"blake3\": \"{}\",\n      \"path\": {path},\n      \"size\": {size}\n    }}",
        BlobHash::of(&payload())
    )
}

fn manifest(shards: &[String]) -> String {
    format!("{{\n  \"!format\": \"p2pweights-manifest/1\",\n  \"shards\": [\n{}\n  ]\n}}\n", shards.join(",\n"))
}

fn of_paths(paths: &[&str]) -> String {
    manifest(&paths.iter().map(|path| shard(path, &PAYLOAD.to_string())).collect::<Vec<_>>())
}

/// Publishes these bytes and their payload by hand, fetches the hash, and looks for this in the refusal.
async fn assert_refused(cases: &[(String, &str)]) {
    let world = World::new();
    world.put("publisher", &payload());
    let hashes: Vec<String> = cases.iter().map(|(text, _)| world.put("publisher", text.as_bytes())).collect();
    let publisher = world.node("publisher", &[]).await;
    let fetcher = world.node("fetcher", &[&publisher.address]).await;
    for ((text, reason), hash) in cases.iter().zip(&hashes) {
        let before = publisher.status().await.sent_bytes;
        let failure = fetcher.start_fetch(request(hash, Some(world.path("out")))).failure().await;
        assert_eq!(failure.kind, FailureKind::Refused, "{failure:?} for {reason:?}");
        assert!(failure.message.contains(reason), "{failure:?} does not say {reason:?}");
        // The manifest itself, and its last group for the proof of its size.
        let sent = publisher.status().await.sent_bytes - before;
        assert!(sent < text.len() as u64 + PAYLOAD as u64 / 2, "{sent} bytes were sent for a manifest of {}", text.len());
    }
    let payload = BlobHash::of(&payload()).to_string();
    let listed = fetcher.node.core().list().await.expect("a list");
    assert!(listed.iter().all(|entry| entry.hash != payload), "payload was asked for: {listed:?}");
    assert!(!world.path("out").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_manifest_by_hand_is_taken() {
    // Shows that the ones below are refused for what is wrong with them, not for how they were made.
    let world = World::new();
    world.put("publisher", &payload());
    let hash = world.put("publisher", of_paths(&["a", "folder/b"]).as_bytes());
    let publisher = world.node("publisher", &[]).await;
    let fetcher = world.node("fetcher", &[&publisher.address]).await;
    let fetched = fetcher.fetch(request(&hash, Some(world.path("out")))).await;
    assert_eq!(fetched.bytes, 2 * PAYLOAD as u64);
    assert!(std::fs::read(world.path("out/folder/b")).expect("it is placed") == payload());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_that_leave_the_folder_are_refused() {
    assert_refused(&[
        (of_paths(&["../escape"]), "'..'"),
        (of_paths(&["a/../../escape"]), "'..'"),
        (of_paths(&["/etc/escape"]), "absolute"),
        (of_paths(&["C:/escape"]), "drive letter"),
        (of_paths(&["..\\escape"]), "backslash"),
        (of_paths(&["./a"]), "'.'"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn device_and_unseen_names_are_refused() {
    assert_refused(&[
        (of_paths(&["NUL"]), "device"),
        (of_paths(&["sub/con.safetensors"]), "device"),
        (of_paths(&["COM1"]), "device"),
        (of_paths(&["a\u{0}b"]), "control character"),
        (of_paths(&["a\u{202e}b"]), "invisible character"),
        (of_paths(&["trailing."]), "ends with a dot"),
        (of_paths(&[&"x".repeat(limits::PATH_COMPONENT_BYTES + 1)]), "component of more than"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_collide_are_refused() {
    assert_refused(&[
        (of_paths(&["same", "same"]), "two shards have the path"),
        (of_paths(&["README.md", "readme.md"]), "differ only in case"),
        (of_paths(&["a", "a/b"]), "is a file"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_that_overflow_are_refused() {
    let largest: Vec<String> = (0..=limits::MANIFEST_TOTAL_BYTES / limits::BLOB_BYTES)
        .map(|index| shard(&format!("{index:04}"), &limits::BLOB_BYTES.to_string()))
        .collect();
    assert_refused(&[
        (manifest(&[shard("a", "18446744073709551616")]), "number above 2^53"),
        (manifest(&[shard("a", "9007199254740993")]), "number above 2^53"),
        (manifest(&[shard("a", &(limits::BLOB_BYTES + 1).to_string())]), "a blob has at most"),
        (manifest(&[shard("a", "-1")]), "a number of bytes"),
        (manifest(&largest), "add up to more"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_files_than_allowed_are_refused() {
    let size = PAYLOAD.to_string();
    let shards: Vec<String> = (0..=limits::MANIFEST_FILES).map(|index| shard(&format!("{index:07}"), &size)).collect();
    assert_refused(&[(manifest(&shards), "shards"), (manifest(&[]), "at least one shard")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_canonical_is_refused() {
    let good = of_paths(&["a", "b"]);
    assert_refused(&[
        (format!("{good}{{}}"), "bytes follow the end"),
        (format!("{good}\0"), "bytes follow the end"),
        (good.replace("\n    {", "\n     {"), "not canonical"),
        (of_paths(&["b", "a"]), "not canonical"),
        (good.replace("\"!format\": \"p2pweights-manifest/1\"", "\"!format\": \"p2pweights-manifest/999\""), "newer p2pweights"),
        (good[..good.len() - 3].to_owned(), "line"),
    ])
    .await;
}
