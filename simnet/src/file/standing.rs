//! The standing scenarios: those that show the targets, in the program itself.

/// Their names and texts, in the order of the table of targets.
pub const STANDING: [(&str, &str); 20] = [
    ("01-data-centre-flash", include_str!("../../scenarios/01-data-centre-flash.toml")),
    ("02-kraken-table", include_str!("../../scenarios/02-kraken-table.toml")),
    ("03-ten-thousand", include_str!("../../scenarios/03-ten-thousand.toml")),
    ("04-hundred-thousand", include_str!("../../scenarios/04-hundred-thousand.toml")),
    ("05-homes", include_str!("../../scenarios/05-homes.toml")),
    ("06-mixed-homes", include_str!("../../scenarios/06-mixed-homes.toml")),
    ("07-seed-vanishes", include_str!("../../scenarios/07-seed-vanishes.toml")),
    ("08-leave-safe", include_str!("../../scenarios/08-leave-safe.toml")),
    ("09-endless-arrivals", include_str!("../../scenarios/09-endless-arrivals.toml")),
    ("10-free-riders", include_str!("../../scenarios/10-free-riders.toml")),
    ("11-village", include_str!("../../scenarios/11-village.toml")),
    ("12-gateway-dies", include_str!("../../scenarios/12-gateway-dies.toml")),
    ("13-behind-nats", include_str!("../../scenarios/13-behind-nats.toml")),
    ("14-isp-borders", include_str!("../../scenarios/14-isp-borders.toml")),
    ("15-poisoners", include_str!("../../scenarios/15-poisoners.toml")),
    ("15-hostile-mix", include_str!("../../scenarios/15-hostile-mix.toml")),
    ("16-partition", include_str!("../../scenarios/16-partition.toml")),
    ("17-kills", include_str!("../../scenarios/17-kills.toml")),
    ("18-stream", include_str!("../../scenarios/18-stream.toml")),
    ("19-terabyte", include_str!("../../scenarios/19-terabyte.toml")),
];

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::file::{Form, ScenarioFile};

    /// Blocks that a short form may transfer at most, for all its seeds: some seconds in a release build.
    const SHORT_TRANSFERS: u64 = 300_000;

    #[test]
    fn every_file_is_here_and_every_row_has_one() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".toml").map(str::to_owned))
            .collect();
        assert_eq!(files, STANDING.iter().map(|(name, _)| (*name).to_owned()).collect());
        let mut rows: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        for (name, text) in STANDING {
            let full = ScenarioFile::parse(name, text, Form::Full).unwrap_or_else(|error| panic!("{error}"));
            assert!(name.ends_with(&full.name), "{name} calls itself {}", full.name);
            assert!(!full.expect.is_empty() && !full.about.is_empty() && text.contains("[short]"), "{name}");
            assert!(name.starts_with(&format!("{:02}-", full.row.unwrap())), "{name}");
            rows.entry(full.row.unwrap()).or_default().push(name);
        }
        assert_eq!(rows.keys().copied().collect::<Vec<_>>(), (1..=19).collect::<Vec<_>>());
    }

    #[test]
    fn short_forms_are_short_and_files_survive_writing() {
        for (name, text) in STANDING {
            let short = ScenarioFile::parse(name, text, Form::Short).unwrap();
            let transfers = short.transfers() * short.seeds;
            assert!(transfers <= SHORT_TRANSFERS + SHORT_TRANSFERS / 10, "{name}: {transfers} transfers");
            let written = short.to_toml();
            let again = ScenarioFile::parse(name, &written, Form::Full).unwrap_or_else(|error| panic!("{error}\n{written}"));
            assert_eq!(again.to_toml(), written, "{name}");
        }
    }
}
