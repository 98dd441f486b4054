//! The `simnet` program as a black box, and what scenario files are refused for.

mod refused;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// One source and three fetchers: some tens of transfers.
const TINY: &str = r#"
name = "tiny"
until = "5 min"
seeds = 2
[[blob]]
size = "4 MiB"
[[group]]
name = "source"
count = 1
up = "20 Mbit/s"
down = "20 Mbit/s"
delay = "5 ms"
holds = "all"
[[group]]
name = "homes"
count = 3
up = "20 Mbit/s"
down = "20 Mbit/s"
delay = "5 ms"
fetches = true
"#;

struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// A folder of its own, and the program in it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("a writable folder");
        path
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn simnet(&self, arguments: &[&str]) -> Ran {
        let output =
            Command::new(env!("CARGO_BIN_EXE_simnet")).args(arguments).current_dir(self.path()).output().expect("the program");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Ran { code: output.status.code().expect("an exit code"), out: text(output.stdout), err: text(output.stderr) }
    }
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn the_standing_scenarios_are_listed() {
    let ran = Place::new().simnet(&["list"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for name in ["01-data-centre-flash", "15-poisoners", "19-terabyte"] {
        assert!(ran.out.contains(name), "{}", ran.out);
    }
    let ran = Place::new().simnet(&["list", "--json"]);
    assert_eq!(ran.out.lines().map(|line| json(line)["row"].as_u64().unwrap()).max(), Some(19));
}

#[test]
fn a_run_prints_target_and_result_of_the_worst_seed() {
    let place = Place::new();
    place.file("tiny.toml", &format!("{TINY}[expect]\nlast_ratio = \"<= 20\"\nsent_copies.source = \">= 1\"\n"));
    let ran = place.simnet(&["run", "tiny.toml"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.err.starts_with("tiny seed "), "each seed is told of when it has ended: {}", ran.err);
    let line = ran.out.lines().find(|line| line.contains("last_ratio")).unwrap();
    assert!(line.contains("<= 20") && line.contains("ok"), "{line}");
    assert!(ran.out.contains("sent_copies.source"), "{}", ran.out);
}

#[test]
fn a_bound_that_is_missed_fails_the_run() {
    let place = Place::new();
    place.file("tiny.toml", &format!("{TINY}[expect]\nlast_ratio = \"<= 0.5\"\n"));
    let ran = place.simnet(&["run", "tiny.toml", "--seed", "7"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    let line = ran.out.lines().find(|line| line.contains("last_ratio")).unwrap();
    assert!(line.contains("<= 0.5") && line.contains("MISSED"), "{line}");
    assert!(ran.out.contains("again: simnet replay tiny.toml --seed 7"), "{}", ran.out);
    assert_eq!(ran.err.lines().last(), Some("error: not as it should be: tiny"));
    let ran = place.simnet(&["replay", "tiny.toml", "--seed", "7", "--lines", "5"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines[0].starts_with("t+") && lines[5].is_empty(), "{lines:?}");
    assert!(lines[6].starts_with("last_ratio is ") && lines[6].ends_with("and should be <= 0.5"), "{lines:?}");
}

#[test]
fn the_same_seeds_give_the_same_digests_however_many_run_at_a_time() {
    let place = Place::new();
    place.file("tiny.toml", TINY);
    let digests = |jobs: &str| -> Vec<String> {
        let ran = place.simnet(&["run", "tiny.toml", "--seeds", "3..=6", "--json", "--jobs", jobs, "--report", "out"]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        let events: Vec<Value> = ran.out.lines().map(json).collect();
        assert!(events.len() == 5 && events[..4].iter().all(|event| event["event"] == "seed"), "{}", ran.out);
        let summary = &events[4];
        assert_eq!(summary["passed"], true);
        let seeds = summary["seeds"].as_array().unwrap();
        assert_eq!(seeds.iter().map(|seed| seed["seed"].as_u64().unwrap()).collect::<Vec<_>>(), [3, 4, 5, 6]);
        seeds.iter().map(|seed| seed["digest"].as_str().unwrap().to_owned()).collect()
    };
    let once = digests("4");
    assert_eq!(once, digests("1"));
    assert_ne!(once[0], once[1]);
    let page = fs::read_to_string(place.path().join("out/index.html")).unwrap();
    assert!(page.contains("tiny"), "{page}");
    let records: Vec<_> = fs::read_dir(place.path().join("out/runs")).unwrap().collect();
    assert_eq!(records.len(), 4);
}

#[test]
fn bytes_that_are_gone_are_named() {
    let place = Place::new();
    let half = TINY.replace("holds = \"all\"", "holds = \"#.\"");
    place.file("half.toml", &format!("{half}[expect]\nfinished_share = \"= 100 %\"\n"));
    let ran = place.simnet(&["run", "half.toml", "--seed", "1"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.out.contains("bytes are gone for good: piece 8 of "), "{}", ran.out);
    assert!(ran.out.contains("3 of 3 never finished"), "{}", ran.out);
}

#[test]
fn minimising_finds_the_one_guilty_fault() {
    let place = Place::new();
    // The source dies for good before anybody has a copy; all else is noise.
    let faults = "\
[[fault]]\nkind = \"crash\"\nevery = \"200 ms\"\ntimes = 6\nwho = { group = \"homes\", count = 1 }\nfor = \"1 s\"\n\
[[fault]]\nkind = \"crash\"\nat = \"500 ms\"\nwho = \"source\"\n\
[[fault]]\nkind = \"slow\"\nat = \"1 s\"\nleft = \"50 %\"\nfor = \"1 s\"\nwho = { group = \"homes\", share = \"50 %\" }\n";
    place.file("guilty.toml", &format!("{TINY}{faults}[expect]\nfinished_share = \"= 100 %\"\n"));
    let ran = place.simnet(&["minimise", "guilty.toml", "--output", "small.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.starts_with("finished_share misses its bound: 1 fault, 2 hosts, "), "{}", ran.out);
    let small = fs::read_to_string(place.path().join("small.toml")).unwrap();
    assert_eq!(small.matches("[[fault]]").count(), 1, "{small}");
    assert!(small.contains("group = \"source\"") && small.contains("kind = \"crash\""), "{small}");
    let ran = place.simnet(&["run", "small.toml"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    let ran = place.simnet(&["minimise", "small.toml", "--seed", "1", "--runs", "0"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn minimising_what_does_not_fail_is_refused() {
    let place = Place::new();
    place.file("tiny.toml", TINY);
    let ran = place.simnet(&["minimise", "tiny.toml"]);
    assert_eq!((ran.code, ran.err.lines().last()), (2, Some("error: nothing goes wrong with seed 1; give a seed that fails")));
}

#[test]
fn orders_that_make_no_sense_say_what_to_do() {
    let place = Place::new();
    place.file("bad.toml", &TINY.replace("count = 3", "cuont = 3"));
    let ran = place.simnet(&["run", "bad.toml"]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(
        ran.err.starts_with("error: bad.toml, line 16: `group.cuont`: unknown key `cuont`; did you mean `count`?"),
        "{}",
        ran.err
    );
    let ran = place.simnet(&["run", "nowhere.toml"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("nowhere.toml") && ran.err.contains("simnet list"), "{}", ran.err);
    let ran = place.simnet(&["run", "bad.toml", "--seeds", "9..1"]);
    assert!(ran.code == 2 && ran.err.contains("has no seed in it"), "{}", ran.err);
    let ran = place.simnet(&["run", "bad.toml", "--json"]);
    assert_eq!((ran.code, json(ran.out.trim())["event"].as_str()), (2, Some("failed")));
    assert_eq!(place.simnet(&["run"]).code, 2);
}

#[test]
fn a_comparison_begins_with_our_own_engine() {
    let place = Place::new();
    place.file("tiny.toml", TINY);
    let ran = place.simnet(&["compare", "tiny.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.lines().any(|line| line.starts_with("p2pweights ")), "{}", ran.out);
    assert!(ran.out.contains("our model of classic BitTorrent") && ran.out.contains("not to be compared"), "{}", ran.out);
}

#[test]
fn a_flight_log_is_told_from_a_scenario() {
    let place = Place::new();
    place.file("node.flight", "{\"flight\":{\"version\":1}}\n");
    let ran = place.simnet(&["replay", "node.flight"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.starts_with("error: node.flight: line 1 cannot be understood: "), "{}", ran.err);
}
