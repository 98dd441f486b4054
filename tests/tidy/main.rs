//! Rules of the code that a program can check. Limits only ever tighten.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CRATES: [&str; 5] = ["cli", "node", "protocol", "simnet", "tests"];
/// A longer file has a second noun.
const FILE_LINES: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Every source file of ours: its path from the root and its text.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = CRATES.iter().map(|name| root().join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(root()).expect("below the root").to_str().expect("text").to_owned();
                files.push((name, fs::read_to_string(path).expect("text")));
            }
        }
    }
    files.sort();
    assert!(files.len() > 100, "the sources were not found");
    files
}

/// The files in which a text stands, comments left out.
fn files_with(text: &str) -> Vec<String> {
    let code = |line: &&str| !line.trim_start().starts_with("//");
    let has = |(_, source): &&(String, String)| source.lines().filter(code).any(|line| line.contains(text));
    let this = |(name, _): &&(String, String)| name != "tests/tidy/main.rs";
    sources().iter().filter(this).filter(has).map(|(name, _)| name.clone()).collect()
}

/// Crates that a package of ours needs when it runs, as cargo resolves them.
fn needs(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--prefix", "none", "--format", "{p}", "--edges", "normal", "-p", package])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// Lines of a package's `[dependencies]`.
fn direct(folder: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
    let table = text.split("\n[dependencies]\n").nth(1).expect("dependencies").split("\n[").next().expect("text").to_owned();
    table.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

#[test]
fn floors_hold() {
    for (package, forbidden) in [
        ("p2pweights-protocol", &["tokio", "libp2p", "sled", "mio", "socket2", "axum", "p2pweights-node"][..]),
        ("p2pweights-simnet", &["tokio", "libp2p", "sled", "p2pweights-node"][..]),
        ("p2pweights-node", &["p2pweights-simnet", "clap"][..]),
    ] {
        let needs = needs(package);
        assert!(needs.iter().any(|name| name == "blake3"), "cargo tree of {package} was not understood: {needs:?}");
        for name in forbidden {
            assert!(!needs.iter().any(|needed| needed == name), "{package} must not know {name}");
        }
    }
    for (folder, forbidden) in [("cli", &["libp2p", "sled", "p2pweights-simnet"][..]), ("node", &["clap", "anyhow"][..])] {
        for line in direct(folder) {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            assert!(!forbidden.contains(&name), "{folder} must not depend on {name}");
        }
    }
}

/// What ships has no switch that makes it wrong: nothing but tests turns the feature on.
#[test]
fn mutants_stay_in_tests() {
    for package in ["p2pweights", "p2pweights-node", "p2pweights-simnet"] {
        let tree = |edges: &str| {
            let output = Command::new(env!("CARGO"))
                .args([
                    "tree",
                    "--locked",
                    "--offline",
                    "--prefix",
                    "none",
                    "--format",
                    "{p} features: {f}",
                    "--edges",
                    edges,
                    "-p",
                    package,
                ])
                .current_dir(root())
                .output()
                .expect("cargo runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).expect("text")
        };
        let shipped = tree("normal,build");
        assert!(shipped.contains("p2pweights-protocol v"), "cargo tree of {package} was not understood: {shipped}");
        assert!(!shipped.contains("mutants"), "{package} ships with mutants");
        assert_eq!(
            tree("normal,build,dev").contains("features: mutants"),
            package == "p2pweights-simnet",
            "its tests alone need them"
        );
    }
}

#[test]
fn dependencies_keep_their_names() {
    for folder in CRATES {
        let text = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        assert!(!text.contains("package ="), "{folder}: a renamed dependency hides an edge");
    }
}

/// Which floor of the protocol a module stands on.
fn floor(module: &str) -> Option<usize> {
    let floors: [&[&str]; 6] = [
        &["ids", "time", "geometry", "span_set", "random"],
        &["limits", "have_map", "verify"],
        &["wire", "manifest", "link"],
        &["swarm"],
        &["engine"],
        &["flight"],
    ];
    floors.iter().position(|floor| floor.contains(&module))
}

#[test]
fn the_protocol_imports_downwards_only() {
    let mut seen = 0;
    for (name, source) in sources().iter().filter(|(name, _)| name.starts_with("protocol/src/")) {
        let module = name.trim_start_matches("protocol/src/").split(['/', '.']).next().unwrap_or_default();
        let Some(here) = floor(module) else {
            assert_eq!(module, "lib", "{name} stands on no floor");
            continue;
        };
        // Limits' own tests of their relations aside, every path into the crate counts, not only `use`.
        for path in source.split("crate::").skip(1) {
            let other = path.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
            if let Some(there) = floor(other) {
                seen += 1;
                assert!(there <= here, "{name} imports {other}, which stands above it");
            }
        }
    }
    assert!(seen > 50, "no imports were found");
}

#[test]
fn one_place_knows_each_secret() {
    assert_eq!(files_with("sled::"), ["node/src/store/sled_catalog.rs"]);
    assert_eq!(files_with("Engine::new(").iter().filter(|name| name.starts_with("node/")).count(), 1);
    let swarms = files_with("Swarm<NodeBehaviour>");
    let known = ["node/src/net/host.rs", "node/src/net/tests/hostile.rs", "node/src/net/transport.rs"];
    assert_eq!(swarms, known, "who owns a swarm");
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for (name, source) in sources() {
        let lines = source.lines().count();
        assert!(lines <= FILE_LINES, "{name} has {lines} lines: find the second noun");
        assert!(source.starts_with("//!"), "{name} does not say what it is");
        let stem = Path::new(&name).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        assert!(!["utils", "misc", "helpers", "common", "types"].contains(&stem), "{name} has no noun");
    }
}

#[test]
fn habits_are_kept() {
    for forbidden in ["unbounded_channel", "mpsc::unbounded", "#[ignore", "todo!(", "unimplemented!(", "dbg!("] {
        assert_eq!(files_with(forbidden), Vec::<String>::new(), "{forbidden}");
    }
    // The node may pause; tests may not. The one exception looks again and again, until a deadline, at what another process does:
    // nothing there can be awaited.
    let sleeps = [files_with("thread::sleep"), files_with("time::sleep(")].concat();
    let tests: Vec<String> = sleeps.into_iter().filter(|name| name.contains("tests")).collect();
    assert_eq!(tests, ["cli/tests/cli/world.rs"], "a test sleeps");
}
