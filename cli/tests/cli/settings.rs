//! Config file < environment < flags, and that `config show` knows where each value came from.

use serde_json::Value;

use crate::world::World;

fn shown(world: &World, arguments: &[&str], variables: &[(&str, &str)]) -> Value {
    let mut all = vec!["config", "show", "--json"];
    all.extend(arguments);
    world.bare(&all, variables).expect_code(0).last_json()
}

fn setting(report: &Value, key: &str) -> (Value, String) {
    let settings = report["settings"].as_array().expect("settings is an array");
    let found = settings.iter().find(|setting| setting["key"] == key).unwrap_or_else(|| panic!("no {key} in {report}"));
    (found["value"].clone(), found["origin"].as_str().expect("origin is a text").to_owned())
}

#[test]
fn without_any_setting_the_defaults_are_in_force() {
    let world = World::new();
    let report = shown(&world, &[], &[]);
    assert_eq!(setting(&report, "network"), ("main".into(), "default".to_owned()));
    assert_eq!(setting(&report, "mdns"), (true.into(), "default".to_owned()));
    assert_eq!(setting(&report, "storage.reserve"), ((256 << 20).into(), "default".to_owned()));
    let home = world.path("home").join(".local/share/p2pweights");
    assert_eq!(setting(&report, "data_dir").0, home.to_str().unwrap());
    assert_eq!(report["file"], Value::Null);
}

#[test]
fn the_scrub_is_set_by_file_and_environment() {
    let world = World::new();
    let report = shown(&world, &[], &[]);
    assert_eq!(setting(&report, "storage.scrub_period"), (2_592_000.into(), "default".to_owned()));
    assert_eq!(setting(&report, "storage.scrub_rate"), ((32 << 20).into(), "default".to_owned()));
    let file = world.write("p2p.toml", "[storage]\nscrub_period = \"2w\"\nscrub_rate = \"5MB/s\"\n");
    let file = file.to_str().unwrap();
    let report = shown(&world, &["--config", file], &[("P2PWEIGHTS_STORAGE_SCRUB_RATE", "off")]);
    assert_eq!(setting(&report, "storage.scrub_period"), (1_209_600.into(), format!("{file}:2")));
    assert_eq!(setting(&report, "storage.scrub_rate"), (Value::Null, "environment P2PWEIGHTS_STORAGE_SCRUB_RATE".to_owned()));
    let off = shown(&world, &[], &[("P2PWEIGHTS_STORAGE_SCRUB_PERIOD", "off")]);
    assert_eq!(setting(&off, "storage.scrub_period").0, Value::Null);
    for (variable, wrong, part) in [
        ("P2PWEIGHTS_STORAGE_SCRUB_PERIOD", "59min", "at least 1h"),
        ("P2PWEIGHTS_STORAGE_SCRUB_PERIOD", "soon", "30d"),
        ("P2PWEIGHTS_STORAGE_SCRUB_RATE", "1kB/s", "at least"),
    ] {
        world.bare(&["config", "show"], &[(variable, wrong)]).expect_code(2).expect_error(&[variable, part]);
    }
}

#[test]
fn file_then_environment_then_flag_has_the_last_word() {
    let world = World::new();
    let file = world
        .write("p2p.toml", "network = \"from-file\"\nmdns = false\ndata_dir = \"file-data\"\n\n[storage]\nreserve = \"1GiB\"\n");
    let file = file.to_str().unwrap();
    let report = shown(
        &world,
        &["--config", file, "--data-dir", "flag-data"],
        &[("P2PWEIGHTS_NETWORK", "from-env"), ("P2PWEIGHTS_DATA_DIR", "env-data")],
    );
    assert_eq!(setting(&report, "network"), ("from-env".into(), "environment P2PWEIGHTS_NETWORK".to_owned()));
    assert_eq!(setting(&report, "mdns"), (false.into(), format!("{file}:2")));
    assert_eq!(setting(&report, "storage.reserve"), ((1 << 30).into(), format!("{file}:6")));
    let (data_dir, origin) = setting(&report, "data_dir");
    assert_eq!(origin, "flag --data-dir");
    assert!(data_dir.as_str().unwrap().ends_with("/flag-data"), "{data_dir}");

    let people = world.bare(&["config", "show", "--config", file], &[]).expect_code(0).stdout;
    let line = people.lines().find(|line| line.starts_with("network")).expect("a line for network");
    assert!(line.contains("from-file") && line.contains(&format!("{file}:1")), "{line}");
}

#[test]
fn caps_and_the_flight_log_are_settings_like_others() {
    let world = World::new();
    assert_eq!(setting(&shown(&world, &[], &[]), "limits.max_upload"), (Value::Null, "default".to_owned()));
    let limits = "[limits]\nmax_upload = \"20Mbit/s\"\nmax_download = \"2MB/s\"\nwan.max_upload = \"8Mbit/s\"\n";
    let text = format!("{limits}\n[limits.lan]\nmax_download = \"1Gbit/s\"\n\n[log]\nflight = \"p2p.flight\"\n");
    let file = world.write("etc/p2p.toml", &text);
    let file = file.to_str().unwrap();
    let from_environment = [("P2PWEIGHTS_LIMITS_MAX_DOWNLOAD", "off"), ("P2PWEIGHTS_LIMITS_WAN_MAX_DOWNLOAD", "512KiB/s")];
    let report = shown(&world, &["--config", file], &from_environment);
    assert_eq!(setting(&report, "limits.max_upload"), (2_500_000.into(), format!("{file}:2")));
    assert_eq!(setting(&report, "limits.max_download").0, Value::Null);
    assert_eq!(setting(&report, "limits.wan.max_upload"), (1_000_000.into(), format!("{file}:4")));
    assert_eq!(setting(&report, "limits.lan.max_download"), (125_000_000.into(), format!("{file}:7")));
    assert_eq!(setting(&report, "limits.wan.max_download").0, 512 * 1024);
    assert_eq!(setting(&report, "limits.lan.max_upload").0, Value::Null);
    assert_eq!(setting(&report, "log.flight").0, world.path("etc/p2p.flight").to_str().unwrap());
    let people = world.bare(&["config", "show", "--config", file], &[]).expect_code(0).stdout;
    let line = people.lines().find(|line| line.starts_with("limits.max_upload")).expect("a line for the cap");
    assert!(line.contains("20Mbit/s"), "{line}");

    world
        .bare(&["node", "--max-upload", "fast"], &[])
        .expect_code(2)
        .expect_error(&["--max-upload", "20Mbit/s, 2MB/s or 512KiB/s"]);
    let letter = world.write("letter.txt", "dear node");
    let ended = world.bare(&["node", "--no-mdns", "--flight-log", letter.to_str().unwrap()], &[]).expect_code(4);
    ended.expect_error(&["letter.txt", "no flight log"]);
    assert_eq!(std::fs::read_to_string(letter).unwrap(), "dear node");
}

#[test]
fn a_path_in_the_file_starts_from_its_folder() {
    let world = World::new();
    let file = world.write("etc/p2p.toml", "data_dir = \"data\"\n");
    let report = shown(&world, &["--config", file.to_str().unwrap()], &[]);
    assert_eq!(setting(&report, "data_dir").0, world.path("etc/data").to_str().unwrap());
}

#[test]
fn the_default_file_is_found_by_xdg_and_in_the_home() {
    let world = World::new();
    world.write("home/.config/p2pweights/config.toml", "network = \"home\"\n");
    world.write("xdg/p2pweights/config.toml", "network = \"xdg\"\n");
    assert_eq!(setting(&shown(&world, &[], &[]), "network").0, "home");
    let xdg = world.path("xdg");
    assert_eq!(setting(&shown(&world, &[], &[("XDG_CONFIG_HOME", xdg.to_str().unwrap())]), "network").0, "xdg");
}

#[test]
fn a_wrong_setting_names_its_place() {
    let world = World::new();
    let fails = |content: &str, parts: &[&str]| {
        let file = world.write("bad.toml", content);
        let ended = world.bare(&["list", "--config", file.to_str().unwrap()], &[]).expect_code(2);
        ended.expect_error(&["bad.toml"]).expect_error(parts);
    };
    fails("mdns = true\n\nbootstraps = []\n", &["line 3", "`bootstraps`", "`bootstrap`"]);
    fails("[storage]\nreserved = \"1GiB\"\n", &["line 2", "`storage.reserved`", "`storage.reserve`"]);
    fails("[listen]\nx = 1\n", &["line 1", "`listen`"]);
    fails("network = \n", &["line 1"]);
    fails("\nnetwork = \"Upper\"\n", &["bad.toml:2", "network", "'U'"]);
    fails("mdns = \"perhaps\"\n", &["bad.toml:1", "mdns", "perhaps"]);
    fails("[storage]\nreserve = \"1 parsec\"\n", &["bad.toml:2", "storage.reserve", "parsec"]);
    fails("[limits]\nmax_upload = \"20Mbit\"\n", &["bad.toml:2", "limits.max_upload", "20Mbit/s", "512KiB/s"]);
    fails("[limits]\nmax_download = \"0MB/s\"\n", &["bad.toml:2", "at least 32KiB/s", "`off`"]);
    fails("bootstrap = [\"/ip4/127.0.0.1/tcp/1\"]\n", &["bad.toml:1", "bootstrap", "/p2p/"]);
    let ended = world.bare(&["list"], &[("P2PWEIGHTS_API", "somewhere")]).expect_code(2);
    ended.expect_error(&["P2PWEIGHTS_API", "somewhere"]);
}

#[test]
fn a_config_file_that_was_named_must_be_there() {
    let world = World::new();
    world.bare(&["list", "--config", "gone.toml"], &[]).expect_code(2).expect_error(&["gone.toml"]);
    world.bare(&["list"], &[("P2PWEIGHTS_CONFIG", "gone.toml")]).expect_code(2).expect_error(&["gone.toml"]);
    let folder = world.path("home");
    std::fs::create_dir_all(&folder).unwrap();
    world.bare(&["list", "--config", folder.to_str().unwrap()], &[]).expect_code(2).expect_error(&["home"]);
}
