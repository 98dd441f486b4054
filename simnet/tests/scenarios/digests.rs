//! The same seed makes the same world: twice in a row, and in every build. Each world's digest stands here as one constant, which the
//! builds for development and for release must both meet; so they are equal.
//!
//! A change to what engines do, or to the worlds, changes digests, and is meant to be seen. To renew them: `cargo test -p
//! p2pweights-simnet --test scenarios digests -- --nocapture` prints the new ones; then the same with `--release` must pass.

use p2pweights_simnet::{Link, MIB, Report, Scenario, Site, SiteId, Vice, World};

use super::{home, secs};

/// World, seed, digest.
const DIGESTS: [(&str, u64, u64); 3] =
    [("crowd", 1, 0xf26a498e5ebded27), ("churn", 2, 0x46dbccc13beafd6f), ("village", 3, 0x5d871c8b13706013)];

fn world(name: &str, seed: u64) -> Scenario {
    match name {
        "crowd" => Scenario::new(seed).blob(32 * MIB).seeds(1, home()).fetchers(8, home()).check_every(9),
        "churn" => {
            let mixed = Scenario::new(seed).manifest(&[9 * MIB, 100_000, 1, 0]).seeds(2, home());
            let mixed = mixed.hostile(Vice::Liar, 1, home()).hostile(Vice::Flooder, 1, home()).fetchers(4, home());
            mixed.crash(secs(1), 5, secs(2)).crash(secs(2), 0, secs(9))
        }
        _ => {
            let mut village = Scenario::new(seed).blob(8 * MIB).seeds(1, home());
            let link = Link { loss_ppm: 10_000, ..Link::mbit(8, 8, 300) };
            let outages = vec![(secs(4), secs(20))];
            village.sites.push(Site { name: name.into(), link, lan: true, metered: true, outages, quota: None });
            village.add("machines", 6, Link::mbit(1000, 1000, 0), |plan| (plan.fetches, plan.site) = (true, Some(SiteId(0))))
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_world_twice_and_in_every_build() {
    let mut digests = Vec::new();
    for (name, seed, _) in DIGESTS {
        let report = World::run(world(name, seed));
        let again: Report = World::run(world(name, seed));
        assert_eq!(report, again, "{name}: not even twice in a row");
        assert_ne!(report.digest, World::run(world(name, seed + 1)).digest, "{name}: the seed changes nothing");
        assert!(report.all_finished() && report.violations.is_empty(), "{name}: {:?}", report.violations);
        println!("(\"{name}\", {seed}, {:#018x}),", report.digest);
        digests.push((name, seed, report.digest));
    }
    assert_eq!(digests, DIGESTS, "renew them if engines or worlds were meant to change");
}
