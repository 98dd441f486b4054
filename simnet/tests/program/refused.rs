//! Scenario files that make no sense: each is refused with its line, its key and what to do.

use p2pweights_simnet::expect::METRICS;
use p2pweights_simnet::file::{Form, ScenarioFile};

/// The line is counted by hand below: keep one key a line.
const GOOD: &str = r#"name = "good"
[[blob]]
size = "4 MiB"
[[site]]
name = "village"
up = "2 Mbit/s"
down = "2 Mbit/s"
delay = "300 ms"
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
site = "village"
fetches = true
[[fault]]
kind = "crash"
at = "1 s"
who = "homes"
[expect]
last_ratio = "<= 1.5"
[short]
until = "1 min"
[[short.group]]
name = "homes"
count = 2
"#;

/// What is replaced, by what, and the line, key and words of the error.
const BAD: [(&str, &str, usize, &str, &str); 36] = [
    ("name = \"good\"", "nmae = \"good\"", 1, "nmae", "unknown key `nmae`; did you mean `name`?"),
    ("name = \"good\"", "name = \"Good one\"", 1, "name", "small letters, digits and dashes"),
    ("name = \"good\"", "name = \"good\"\nrow = 20", 2, "row", "rows 1 to 19"),
    ("name = \"good\"", "name = \"good", 1, "", "string"),
    ("size = \"4 MiB\"", "size = \"4 parsec\"", 3, "blob.size", "\"4 parsec\" is no size; write it like \"256 KiB\""),
    ("size = \"4 MiB\"", "size = \"0 B\"", 2, "blob", "is empty"),
    ("size = \"4 MiB\"", "", 2, "blob", "either `size` or `files`"),
    ("up = \"2 Mbit/s\"", "up = \"-2 Mbit/s\"", 6, "site.up", "it can't be negative"),
    ("delay = \"300 ms\"", "delay = 300", 8, "site.delay", "\"300\" is no time; write it like \"600 ms\""),
    ("delay = \"300 ms\"", "delay = \"300 ms\"\nloss = \"130 %\"", 9, "site.loss", "between 0 and 1"),
    ("delay = \"300 ms\"", "delay = \"300 ms\"\nlasts = 1", 9, "site.lasts", "unknown key `lasts`"),
    (
        "delay = \"300 ms\"",
        "delay = \"300 ms\"\noutages = { every = \"1 h\", lasts = \"2 h\" }",
        9,
        "site.outages.lasts",
        "the link would never be up",
    ),
    ("count = 1\n", "count = 0\n", 11, "group.count", "must be at least 1"),
    ("count = 1\n", "", 10, "group.name", "how many are \"source\"? Add `count`"),
    ("holds = \"all\"", "holds = \"al\"", 15, "group.holds", "write \"all\", \"nothing\", or a drawing"),
    ("holds = \"all\"", "", 23, "group.fetches", "nobody holds what this group fetches"),
    ("holds = \"all\"", "holds = \"all\"\nvice = \"lair\"", 16, "group.vice", "unknown word `lair`; did you mean `liar`?"),
    ("holds = \"all\"", "holds = \"all\"\nvice = \"liar\"", 24, "group.fetches", "nobody holds what this group fetches"),
    ("holds = \"all\"", "holds = \"all\"\nstay = { sent = 1, after = \"1 s\" }", 16, "group.stay", "needs one of"),
    ("holds = \"all\"", "holds = \"all\"\nstarts = { poisson = \"1/s\" }\nswarms = [1]", 17, "group.swarms", "no swarm 1"),
    ("name = \"homes\"\ncount = 3", "name = \"source\"\ncount = 3", 17, "group.name", "\"source\" is taken"),
    ("name = \"homes\"\ncount = 3", "name = \"homes\"\nstarts = { poisson = \"1/s\" }", 18, "group.starts", "goes on for ever"),
    ("name = \"homes\"\ncount = 3", "name = \"homes\"\ncount = 3\nstarts = \"now\"", 19, "group.starts", "\"now\" is no time"),
    (
        "down = \"20 Mbit/s\"\ndelay = \"5 ms\"\nsite",
        "down = \"0 Mbit/s\"\ndelay = \"5 ms\"\nsite",
        20,
        "group.down",
        "can never finish",
    ),
    ("site = \"village\"", "site = \"vilage\"", 22, "group.site", "there is no site \"vilage\"; did you mean \"village\"?"),
    ("kind = \"crash\"", "kind = \"crush\"", 25, "fault.kind", "did you mean `crash`?"),
    ("at = \"1 s\"", "", 25, "fault.kind", "when? Add `at`"),
    ("at = \"1 s\"", "at = \"1 s\"\ntimes = 3", 27, "fault.times", "goes with `every`"),
    ("kind = \"crash\"", "kind = \"sleep\"", 25, "fault.kind", "for how long? Add `for`"),
    ("who = \"homes\"", "who = \"horses\"", 27, "fault.who", "there is no group \"horses\""),
    ("who = \"homes\"", "who = { group = \"homes\", hosts = [3] }", 27, "fault.who.hosts", "there is no host 3 among"),
    ("last_ratio = \"<= 1.5\"", "last_ration = \"<= 1.5\"", 29, "expect.last_ration", "did you mean `last_ratio`?"),
    (
        "last_ratio = \"<= 1.5\"",
        "last_ratio = \"1.5\"",
        29,
        "expect.last_ratio",
        "\"1.5\" is no bound; write it like \"<= 1.03\"",
    ),
    ("last_ratio = \"<= 1.5\"", "last_ratio = \"<= 2 MiB\"", 29, "expect.last_ratio", "is in another unit"),
    ("last_ratio = \"<= 1.5\"", "sent_copies.sauce = \"<= 2\"", 29, "expect.sent_copies.sauce", "did you mean \"source\"?"),
    ("until = \"1 min\"", "untill = \"1 min\"", 31, "untill", "did you mean `until`?"),
];

#[test]
fn bad_files_are_refused_with_line_key_and_advice() {
    ScenarioFile::parse("good.toml", GOOD, Form::Short).unwrap_or_else(|error| panic!("{error}"));
    let mut wrong = Vec::new();
    for (good, bad, line, key, words) in BAD {
        assert!(GOOD.contains(good), "{good}");
        // The last of several alike.
        let text = if good.starts_with("count = 1") || good.contains("blob") {
            GOOD.replacen(good, bad, 1)
        } else {
            replace_last(good, bad)
        };
        match ScenarioFile::parse("bad.toml", &text, Form::Full) {
            Ok(_) => wrong.push(format!("{bad:?} is taken for good")),
            Err(error) if (error.line, error.key.as_str()) != (line, key) || !error.message.contains(words) => {
                wrong.push(format!("{bad:?}: line {line}, `{key}`, {words:?} expected, but: {error}"));
            }
            Err(_) => (),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn replace_last(good: &str, bad: &str) -> String {
    let at = GOOD.rfind(good).expect("it is there");
    format!("{}{bad}{}", &GOOD[..at], &GOOD[at + good.len()..])
}

#[test]
fn worlds_that_cannot_work_are_refused() {
    let says = |text: &str| ScenarioFile::parse("bad.toml", text, Form::Full).unwrap_err().to_string();
    let nats = GOOD.replace("holds = \"all\"", "holds = \"all\"\nnat = \"cone\"").replace("site = \"village\"", "nat = \"cone\"");
    assert_eq!(
        says(&nats),
        "bad.toml, line 23: `group.nat`: everybody is behind a NAT and nobody can help them to meet; add a `relay`, or a group with \
         `nat = \"open\"`"
    );
    assert!(
        ScenarioFile::parse(
            "good.toml",
            &format!("relay = {{ up = \"1 Mbit/s\", down = \"1 Mbit/s\", delay = \"1 ms\" }}\n{nats}"),
            Form::Full
        )
        .is_ok()
    );
    let nobody = "name = \"empty\"\n[[blob]]\nsize = \"1 MiB\"\n";
    assert_eq!(says(nobody), "bad.toml, line 1: nobody is there; add a [[group]] that holds something and one that fetches it");
    let nothing = "name = \"empty\"\n";
    assert_eq!(says(nothing), "bad.toml, line 1: there is nothing to fetch; add a [[blob]] with a size");
}

#[test]
fn the_documentation_is_true() {
    let text = include_str!("../../../docs/simnet.md");
    let example = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    for form in [Form::Full, Form::Short] {
        ScenarioFile::parse("docs/simnet.md's example", example, form).unwrap_or_else(|error| panic!("{error}"));
    }
    for metric in &METRICS {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{}", metric.name)));
        assert!(row.is_some_and(|row| row.contains(metric.about)), "{}: {}", metric.name, metric.about);
    }
}

#[test]
fn the_short_form_is_laid_over_the_full_one() {
    let form = |form| ScenarioFile::parse("good.toml", GOOD, form).unwrap();
    let (full, short) = (form(Form::Full), form(Form::Short));
    let count = |file: &ScenarioFile| file.group.iter().map(|group| group.count.unwrap()).collect::<Vec<_>>();
    assert_eq!((count(&full), count(&short)), (vec![1, 3], vec![1, 2]));
    assert_eq!((full.until, short.until), (None, Some("1 min".parse().unwrap())));
    assert_eq!(short.group[1].up, full.group[1].up, "what is not said again stays");
    let error = ScenarioFile::parse("bad.toml", &GOOD.replace("count = 2", "count = 0"), Form::Full).unwrap_err();
    assert_eq!((error.line, error.key.as_str()), (34, "group.count"), "the short form is checked whichever is wanted");
}

#[test]
fn chance_follows_from_the_seed_and_from_nothing_else() {
    let text = GOOD
        .replace("count = 3", "count = 40\nstarts = { uniform = \"10 s\" }")
        .replace("who = \"homes\"", "who = { group = \"homes\", share = \"50 %\" }\nwithin = \"1 min\"");
    let file = ScenarioFile::parse("good.toml", &text, Form::Full).unwrap();
    let (one, again, other) = (file.scenario(1).unwrap(), file.scenario(1).unwrap(), file.scenario(2).unwrap());
    assert_eq!((&one.hosts, &one.faults), (&again.hosts, &again.faults));
    assert_ne!(one.hosts, other.hosts);
    assert_ne!(one.faults, other.faults);
    assert_eq!(one.faults.len(), 20);
    let single = file.with_single_faults(1).unwrap();
    assert_eq!(single.fault.len(), 20);
    assert_eq!(single.scenario(1).unwrap().faults, one.faults, "written down one by one they are the same");
}
