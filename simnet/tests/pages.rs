//! Pages of runs that were and of runs that never were: they are well-formed, say what the records say, and are the same bytes each time.

#[path = "pages/made.rs"]
mod made;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use p2pweights_simnet::pages::{self, Facts, Kind, Options, Plot, RunRecord, Shape};
use p2pweights_simnet::{Link, MIB, Report, Scenario, Site, SiteId, World};

/// A small world that really ran.
fn real() -> (Report, RunRecord) {
    static REPORT: LazyLock<Report> = LazyLock::new(|| {
        World::run(Scenario::new(1).blob(32 * MIB).seeds(1, Link::mbit(100, 100, 5)).fetchers(10, Link::mbit(100, 100, 5)))
    });
    let report = REPORT.clone();
    let facts = Facts { name: "Ten fetchers".into(), about: "A small world.".into(), seed: 1, ..Facts::default() };
    let record = RunRecord::of(facts, &report, Vec::new());
    (report, record)
}

/// A world with a site and two kinds of fetchers, which really ran.
fn real_village(seed: u64) -> RunRecord {
    let mut scenario = Scenario::new(seed).blob(16 * MIB);
    let link = Link::mbit(20, 20, 50);
    let outages = vec![(Duration::from_secs(2), Duration::from_secs(3))];
    scenario.sites.push(Site { name: "village".into(), link, lan: true, metered: true, outages, quota: None });
    let scenario = scenario.seeds(1, Link::mbit(100, 100, 5)).fetchers(5, Link::mbit(10, 50, 20)).add(
        "laptops of the village",
        6,
        Link::mbit(100, 100, 1),
        |plan| (plan.fetches, plan.site) = (true, Some(SiteId(0))),
    );
    let facts = Facts { name: "A site".into(), about: "Real, and small.".into(), seed, ..Facts::default() };
    RunRecord::of(facts, &World::run(scenario), Vec::new())
}

/// The whole page as XML: it is written so that it is both.
fn parse(page: &str) -> roxmltree::Document<'_> {
    let body = page.strip_prefix("<!doctype html>\n").expect("it says what it is");
    roxmltree::Document::parse(body).unwrap_or_else(|error| panic!("{error}"))
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages").join(name);
    let _ = fs::remove_dir_all(&folder);
    folder
}

fn every_plot(run: &RunRecord) -> Vec<String> {
    let shapes = [Shape::Wide, Shape::Narrow];
    let plots = Kind::ALL.into_iter().flat_map(|kind| shapes.map(|shape| Plot::of(kind, run, &[run], shape)));
    plots.flatten().map(|plot| plot.svg()).collect()
}

#[test]
fn a_run_is_kept_and_read_back() {
    let (report, record) = real();
    let record = record.with_baseline("half", &[Some(Duration::from_millis(12_345)), None]);
    assert_eq!(record.finished(), 10);
    assert_eq!(record.last_ratio().map(|last| (last * 1e3) as u64), report.ratio_permille());
    assert_eq!(record.digest, format!("{:016x}", report.digest));
    assert!(RunRecord::from_json(&record.to_json()).unwrap() == record);
    for run in made::standing() {
        assert!(RunRecord::from_json(&run.to_json()).unwrap() == run, "{}", run.name);
    }
}

#[test]
fn a_page_is_well_formed_and_shows_misses() {
    let folder = folder("standing");
    let mut records = made::standing();
    records.push(real().1);
    records.extend((1..=3).map(real_village));
    pages::write(&folder, &records, Options { png: true }).unwrap();
    let page = fs::read_to_string(folder.join("index.html")).unwrap();
    let document = parse(&page);
    let count = |tag: &str| document.descendants().filter(|node| node.has_tag_name(tag)).count();
    assert_eq!(count("section"), 8);
    assert!(document.descendants().any(|node| node.attribute("class") == Some("missed")));
    assert!(page.contains("3 of 5 scenarios met their targets in every seed"), "a miss in one seed of eight is a miss");
    let links = document.descendants().filter_map(|node| node.attribute("href").or(node.attribute("src")));
    assert!(links.clone().all(|link| link.starts_with('#')), "nothing comes from outside");
    let ids: Vec<&str> = document.descendants().filter_map(|node| node.attribute("id")).collect();
    assert!(links.into_iter().all(|link| ids.contains(&&link[1..])), "every link leads somewhere");
    for name in [
        "plots/01-data-centre-everybody-at-once-completion.svg",
        "plots/11-village-behind-a-satellite-links.png",
        "plots/a-site-short-links.svg",
    ] {
        assert!(folder.join(name).is_file(), "{name}");
    }
    let kept = fs::read_to_string(folder.join("runs/06-mixed-homes-seed-5.json")).unwrap();
    assert!(!RunRecord::from_json(&kept).unwrap().passed());
}

#[test]
fn names_stay_text() {
    let hostile = "</title></svg><script>alert(1)</script>\"'&\u{0}\u{1b}\u{ffff}".to_owned();
    let mut run = made::standing().swap_remove(16);
    assert!(!run.links.is_empty());
    for text in [&mut run.name, &mut run.about, &mut run.command, &mut run.digest, &mut run.engine] {
        text.clone_from(&hostile);
    }
    run.groups.iter_mut().for_each(|group| group.name.clone_from(&hostile));
    run.groups.push(run.groups[1].clone());
    run.links.iter_mut().for_each(|link| link.name.clone_from(&hostile));
    run.violations.push(hostile.clone());
    for expectation in &mut run.expectations {
        (expectation.name, expectation.target, expectation.result) = (hostile.clone(), hostile.clone(), hostile.clone());
    }
    let run = run.with_baseline(&hostile, &[Some(Duration::from_secs(500_000))]);
    let folder = folder("hostile");
    pages::write(&folder, std::slice::from_ref(&run), Options::default()).unwrap();
    let page = fs::read_to_string(folder.join("index.html")).unwrap();
    assert!(!parse(&page).descendants().any(|node| node.tag_name().name() == "script"));
    let plots = every_plot(&run);
    assert_eq!(plots.len(), 10);
    plots.iter().for_each(|plot| assert!(roxmltree::Document::parse(plot).is_ok(), "{plot}"));
}

#[test]
fn worlds_of_every_size_can_be_drawn() {
    let draw = |fetchers: usize, finish: usize, bound_s: f64| {
        let mut dice = made::Dice::new(5);
        let mut groups =
            vec![made::group(&mut dice, "some", fetchers, 10.0, 0.5, 40.0), made::group(&mut dice, "one", 1, 10.0, 1.0, 1.0)];
        groups.iter_mut().for_each(|group| {
            group.finished_s.truncate(finish);
            group.slowdowns.truncate(finish);
        });
        let run = made::run("Sizes", 3, 1, 1000, bound_s, groups, |_| false);
        let plots = every_plot(&run);
        plots.iter().for_each(|plot| assert!(roxmltree::Document::parse(plot).is_ok()));
        plots.iter().map(String::len).max().unwrap_or(0)
    };
    for (fetchers, finish) in [(0, 0), (1, 1), (1, 0), (2, 1), (300, 0), (300, 299)] {
        draw(fetchers, finish, 10.0);
    }
    draw(3, 3, 0.0);
    assert!(draw(30_000, 30_000, 10.0) < 80_000, "a plot grows with its size, not with the world's");
    let nothing = RunRecord::default();
    assert_eq!(every_plot(&nothing).len(), 2);
    pages::write(&folder("nothing"), &[nothing], Options { png: true }).unwrap();
    pages::write(&folder("none"), &[], Options::default()).unwrap();
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let (one, two) = (folder("one"), folder("two"));
    let records = || vec![real().1, made::standing().swap_remove(0)];
    let mut reversed = records();
    reversed.reverse();
    pages::write(&one, &records(), Options { png: true }).unwrap();
    pages::write(&two, &reversed, Options { png: true }).unwrap();
    let mut compared = 0;
    for part in ["", "plots", "runs"] {
        for entry in fs::read_dir(one.join(part)).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
            assert!(fs::read(entry.path()).unwrap() == fs::read(two.join(part).join(entry.file_name())).unwrap(), "{entry:?}");
            compared += 1;
        }
    }
    assert!(compared >= 7, "{compared}");
}
