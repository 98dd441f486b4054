//! What can be wrong with a command line, and that the answer names it.

use crate::world::World;

const PEER: &str = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";

#[test]
fn a_usage_error_names_the_part_that_is_wrong() {
    let world = World::new();
    let hash = "ab".repeat(32);
    let upper = "AB".repeat(32);
    let bad_link = format!("p2pweights:{}?name=x", "ab".repeat(31));
    let no_peer = format!("/ip4/127.0.0.1/tcp/4001/p2p/{PEER}/tcp/1");
    let with_peer = format!("/ip4/127.0.0.1/tcp/4001/p2p/{PEER}");
    let long = "n".repeat(33);
    for (arguments, parts) in [
        (vec!["fetch", "abcd"], vec!["abcd", "64 hexadecimal digits", "has 4"]),
        (vec!["fetch", &upper], vec!["'A'", "position 1"]),
        (vec!["fetch", &bad_link], vec!["the link's hash", "has 62"]),
        (vec!["fetch", "magnet:?xt=urn:btih:00"], vec!["p2pweights:"]),
        (vec!["show", "abcd"], vec!["64 hexadecimal digits"]),
        (vec!["verify", "abcd"], vec!["64 hexadecimal digits"]),
        (vec!["verify", &hash, "--all"], vec!["--all"]),
        (vec!["verify", "--peer", &with_peer], vec!["--mend"]),
        (vec!["remove", "abcd"], vec!["64 hexadecimal digits"]),
        (vec!["fetch", &hash, "--peer", "localhost:4001"], vec!["--peer", "localhost:4001"]),
        (vec!["fetch", &hash, "--peer", "/ip4/127.0.0.1/tcp/4001"], vec!["--peer", "/p2p/"]),
        (vec!["fetch", &hash, "--bootstrap", "/ip4/127.0.0.1/tcp/4001"], vec!["--bootstrap", "/p2p/"]),
        (vec!["fetch", &hash, "--bootstrap", &no_peer], vec!["--bootstrap", "/p2p/"]),
        (vec!["node", "--listen", "/ip4/300.0.0.1/tcp/0"], vec!["--listen", "/ip4/300.0.0.1/tcp/0"]),
        (vec!["node", "--network", "Main"], vec!["--network", "'M'"]),
        (vec!["node", "--network", &long], vec!["--network", "33"]),
        (vec!["node", "--api", "localhost"], vec!["--api", "localhost"]),
        (vec!["fetch", &hash, "--timeout", "0"], vec!["--timeout"]),
        (vec!["fetch", &hash, "--timeout", "soon"], vec!["--timeout", "soon"]),
        (vec!["list", "--nope"], vec!["--nope"]),
        (vec!["completions", "cmd.exe"], vec!["cmd.exe"]),
        (vec!["conjure"], vec!["conjure"]),
        (vec!["publish", "no-such-folder"], vec!["no-such-folder"]),
        (vec!["demo", "--path", "no-such-folder"], vec!["--path", "no-such-folder"]),
    ] {
        let ended = world.run("data", &arguments);
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}: {}", ended.stderr);
        let ended = ended.expect_error(&parts);
        assert!(ended.stderr.starts_with("error: "), "{arguments:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{arguments:?}");
    }
}

#[test]
fn with_json_an_error_is_a_line_on_standard_output() {
    let world = World::new();
    for arguments in [["--json", "fetch", "abcd"], ["fetch", "abcd", "--json"], ["publish", "no-such-folder", "--json"]] {
        let ended = world.run("data", &arguments).expect_code(2);
        let failed = ended.last_json();
        assert_eq!((&failed["event"], &failed["kind"]), (&"failed".into(), &"usage".into()), "{arguments:?}");
        assert_ne!(failed["message"].as_str().unwrap_or_default(), "", "{arguments:?}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    let world = World::new();
    for arguments in [vec!["--help"], vec!["--version"], vec!["fetch", "--help"], vec!["node", "--help"], vec!["help", "publish"]]
    {
        let ended = world.run("data", &arguments).expect_code(0);
        assert_ne!(ended.stdout, "", "{arguments:?}");
        assert_eq!(ended.stderr, "", "{arguments:?}");
    }
    assert!(world.run("data", &["fetch", "--help"]).stdout.contains("Examples:"));
    assert!(world.run("data", &["--help"]).stdout.contains("Exit codes:"));
}

#[test]
fn completions_are_made_for_every_shell() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ended = world.run("data", &["completions", shell]).expect_code(0);
        for word in ["p2pweights", "fetch", "bootstrap"] {
            assert!(ended.stdout.contains(word), "no {word} for {shell}");
        }
    }
}

#[test]
fn output_that_nobody_reads_ends_the_program_in_silence() {
    let world = World::new();
    let mut command = world.command("data");
    let mut child = command
        .args(["config", "show"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
