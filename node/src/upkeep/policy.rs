//! What goes when room is needed: a pure function of sizes, pins, who shares what, who else holds it, and when it was last served. Knows
//! no store, no network and no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use p2pweights_protocol::ids::BlobHash;

/// Which of what is kept goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Eviction {
    /// Nothing goes unless somebody says so.
    #[default]
    Off,
    /// What nobody has asked for the longest.
    LeastRecentlyServed,
    /// What most others hold, and of that what nobody has asked for the longest.
    BestReplicated,
}

impl Eviction {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Off, Self::LeastRecentlyServed, Self::BestReplicated];
}

impl fmt::Display for Eviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::LeastRecentlyServed => "least-recently-served",
            Self::BestReplicated => "best-replicated",
        })
    }
}

impl FromStr for Eviction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|policy| policy.to_string() == text).ok_or_else(|| {
            let names = Self::ALL.map(|policy| format!("`{policy}`")).join(", ");
            format!("{text:?} is none of {names}")
        })
    }
}

/// Something that is kept as a whole: a model, or a plain blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Of the manifest, or of the blob.
    pub hash: BlobHash,
    /// Its blobs, the manifest among them.
    pub blobs: BTreeSet<BlobHash>,
    /// Promised to stay.
    pub pinned: bool,
    /// Written to or served right now.
    pub busy: bool,
    /// When it was last served; greater is later, 0 is never.
    pub last_use: u64,
    /// How many others are known to hold all of it; `None`: nobody looked.
    pub copies: Option<usize>,
}

/// Everything that is kept.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    /// What may go, and what shares blobs with it.
    pub units: Vec<Unit>,
    /// What goes with each blob, in bytes on the disk. What is not here stays whatever happens: it is the user's own.
    pub sizes: BTreeMap<BlobHash, u64>,
}

/// How to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// What goes first.
    pub policy: Eviction,
    /// Whether what nobody else is known to hold may go.
    pub last_copies: bool,
    /// Bytes to be freed.
    pub wanted: u64,
    /// Free nothing unless all of that can be freed: half of the room is of no use to a fetch.
    pub all_or_nothing: bool,
}

/// What goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    /// Units, in the order in which they go.
    pub units: Vec<BlobHash>,
    /// Blobs that nothing uses that stays.
    pub blobs: BTreeSet<BlobHash>,
    /// Their bytes.
    pub freed: u64,
}

/// Chooses: the shortest run of units in the policy's order that frees enough, without those in it that free nothing. If nothing does,
/// all that may go, or nothing at all.
pub fn choose(picture: &Picture, rules: Rules) -> Choice {
    let mut order: Vec<&Unit> = picture.units.iter().filter(|unit| may_go(unit, rules)).collect();
    order.sort_by_key(|unit| {
        let copies = std::cmp::Reverse(unit.copies.unwrap_or(0));
        match rules.policy {
            Eviction::Off | Eviction::LeastRecentlyServed => ((std::cmp::Reverse(0), unit.last_use), copies, unit.hash),
            Eviction::BestReplicated => ((copies, unit.last_use), copies, unit.hash),
        }
    });
    let mut users: BTreeMap<BlobHash, usize> = BTreeMap::new();
    for blob in picture.units.iter().flat_map(|unit| &unit.blobs) {
        *users.entry(*blob).or_default() += 1;
    }
    let mut choice = Choice::default();
    for unit in order {
        if choice.freed >= rules.wanted {
            break;
        }
        choice.units.push(unit.hash);
        for blob in &unit.blobs {
            let left = users.get_mut(blob).expect("counted above");
            *left -= 1;
            if *left == 0
                && let Some(bytes) = picture.sizes.get(blob)
            {
                choice.blobs.insert(*blob);
                choice.freed += bytes;
            }
        }
    }
    if rules.all_or_nothing && choice.freed < rules.wanted {
        return Choice::default();
    }
    // What shares all of its blobs with something that stays was of no help.
    let helps = |hash: &BlobHash| {
        let unit = picture.units.iter().find(|unit| unit.hash == *hash);
        unit.is_some_and(|unit| unit.blobs.iter().any(|blob| choice.blobs.contains(blob) && picture.sizes[blob] > 0))
    };
    choice.units = choice.units.iter().copied().filter(helps).collect();
    let stays =
        |blob: &BlobHash| picture.units.iter().any(|unit| unit.blobs.contains(blob) && !choice.units.contains(&unit.hash));
    choice.blobs = choice.blobs.iter().copied().filter(|blob| !stays(blob)).collect();
    choice
}

fn may_go(unit: &Unit, rules: Rules) -> bool {
    let spare = rules.last_copies || unit.copies.is_some_and(|copies| copies > 0);
    rules.policy != Eviction::Off && !unit.pinned && !unit.busy && spare
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash(name: char) -> BlobHash {
        BlobHash::of(name.to_string().as_bytes())
    }

    /// Units drawn as their blobs, the oldest first. Upper case: that unit is pinned. Every blob takes 10 bytes, `z` is the user's own.
    fn picture(units: &[&str]) -> Picture {
        let unit = |(index, text): (usize, &&str)| Unit {
            hash: BlobHash::of(format!("{index}").as_bytes()),
            blobs: text.to_lowercase().chars().map(hash).collect(),
            pinned: text.chars().any(char::is_uppercase),
            busy: false,
            last_use: index as u64 + 1,
            copies: Some(1),
        };
        Picture { units: units.iter().enumerate().map(unit).collect(), sizes: ('a'..='y').map(|name| (hash(name), 10)).collect() }
    }

    fn rules(wanted: u64) -> Rules {
        Rules { policy: Eviction::LeastRecentlyServed, last_copies: false, wanted, all_or_nothing: false }
    }

    /// Which units go, as digits.
    fn chosen(picture: &Picture, rules: Rules) -> (String, u64) {
        let choice = choose(picture, rules);
        let index =
            |gone: &BlobHash| picture.units.iter().position(|unit| unit.hash == *gone).expect("of the picture").to_string();
        (choice.units.iter().map(index).collect(), choice.freed)
    }

    #[test]
    fn the_oldest_go_first_and_no_more_than_needed() {
        let all = picture(&["ab", "c", "def"]);
        for (wanted, expected) in
            [(0, ("", 0)), (1, ("0", 20)), (20, ("0", 20)), (21, ("01", 30)), (31, ("012", 60)), (99, ("012", 60))]
        {
            assert_eq!(chosen(&all, rules(wanted)), (expected.0.to_owned(), expected.1), "{wanted}");
        }
        assert_eq!(chosen(&all, Rules { all_or_nothing: true, ..rules(61) }), (String::new(), 0));
        assert_eq!(chosen(&all, Rules { policy: Eviction::Off, ..rules(1) }), (String::new(), 0));
    }

    #[test]
    fn a_shared_blob_goes_with_its_last_user() {
        assert_eq!(chosen(&picture(&["ab", "bc", "d"]), rules(15)), ("01".to_owned(), 30));
        // The first shares all it has with a pinned one: it would go for nothing.
        assert_eq!(chosen(&picture(&["ab", "ABc", "d"]), rules(5)), ("2".to_owned(), 10));
        // Each of the first two alone frees nothing.
        assert_eq!(chosen(&picture(&["a", "a", "b"]), rules(10)), ("01".to_owned(), 10));
        // The user's own stays, and counts for nothing.
        assert_eq!(chosen(&picture(&["z", "za", "b"]), rules(10)), ("1".to_owned(), 10));
    }

    #[test]
    fn pinned_and_busy_ones_and_last_copies_stay() {
        let mut all = picture(&["A", "b", "c", "d", "e"]);
        all.units[1].busy = true;
        all.units[2].copies = Some(0);
        all.units[3].copies = None;
        assert_eq!(chosen(&all, rules(99)), ("4".to_owned(), 10));
        assert_eq!(chosen(&all, Rules { last_copies: true, ..rules(99) }), ("234".to_owned(), 30));
    }

    #[test]
    fn what_most_others_hold_goes_first() {
        let mut all = picture(&["a", "b", "c"]);
        all.units[1].copies = Some(3);
        all.units[2].copies = Some(3);
        let best = Rules { policy: Eviction::BestReplicated, ..rules(30) };
        assert_eq!(chosen(&all, best).0, "120");
    }

    #[test]
    fn names_read_back() {
        for policy in Eviction::ALL {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert!("lru".parse::<Eviction>().unwrap_err().contains("`least-recently-served`"));
    }

    // The slow oracle: tries every run from the shortest on, and counts from scratch what it frees.

    fn frees(picture: &Picture, gone: &[&Unit]) -> (BTreeSet<BlobHash>, u64) {
        let stay = |blob: &BlobHash| picture.units.iter().any(|unit| unit.blobs.contains(blob) && !gone.contains(&unit));
        let blobs: BTreeSet<BlobHash> = gone
            .iter()
            .flat_map(|unit| &unit.blobs)
            .filter(|blob| !stay(blob) && picture.sizes.contains_key(blob))
            .copied()
            .collect();
        let bytes = blobs.iter().map(|blob| picture.sizes[blob]).sum();
        (blobs, bytes)
    }

    fn oracle(picture: &Picture, rules: Rules) -> Choice {
        let mut order: Vec<&Unit> = Vec::new();
        let mut left: Vec<&Unit> = picture.units.iter().filter(|unit| !unit.pinned && !unit.busy).collect();
        left.retain(|unit| rules.last_copies || unit.copies.unwrap_or(0) > 0);
        while !left.is_empty() {
            let before = |a: &Unit, b: &Unit| match (rules.policy, a.copies.unwrap_or(0), b.copies.unwrap_or(0)) {
                (Eviction::BestReplicated, one, other) if one != other => one > other,
                (_, one, other) if a.last_use == b.last_use && one != other => one > other,
                _ if a.last_use != b.last_use => a.last_use < b.last_use,
                _ => a.hash < b.hash,
            };
            let first = (0..left.len()).find(|&i| (0..left.len()).all(|j| i == j || before(left[i], left[j]))).expect("an order");
            order.push(left.remove(first));
        }
        let runs = (0..=order.len()).map(|length| &order[..length]);
        let enough = runs.clone().find(|run| frees(picture, run).1 >= rules.wanted);
        let run = match enough {
            Some(run) => run,
            None if rules.all_or_nothing => &[],
            None => &order[..],
        };
        let freed = frees(picture, run).1;
        // Of help is whoever's staying would keep something.
        let helps = |unit: &&Unit| {
            let others: Vec<&Unit> = run.iter().copied().filter(|other| other != unit).collect();
            frees(picture, &others).1 < freed
        };
        let run: Vec<&Unit> = run.iter().copied().filter(helps).collect();
        let (blobs, _) = frees(picture, &run);
        Choice { units: run.iter().map(|unit| unit.hash).collect(), blobs, freed }
    }

    fn any_unit(index: usize) -> impl Strategy<Value = Unit> {
        let blobs = prop::collection::btree_set(prop::char::range('a', 'h').prop_map(hash), 1..5);
        (blobs, 0..8_u8, 0..5_u64, prop::option::of(0..3_usize)).prop_map(move |(blobs, state, last_use, copies)| Unit {
            hash: BlobHash::of(format!("{index}").as_bytes()),
            blobs,
            pinned: state == 0,
            busy: state == 1,
            last_use,
            copies,
        })
    }

    proptest! {
        #[test]
        fn the_choice_is_the_oracles(
            units in (0..7_usize).prop_flat_map(|count| (0..count).map(any_unit).collect::<Vec<_>>()),
            sizes in prop::collection::btree_map(prop::char::range('a', 'h').prop_map(hash), 0..40_u64, 0..8),
            wanted in 0..150_u64,
            best in any::<bool>(),
            last_copies in any::<bool>(),
            all_or_nothing in any::<bool>(),
        ) {
            let picture = Picture { units, sizes };
            let policy = if best { Eviction::BestReplicated } else { Eviction::LeastRecentlyServed };
            let rules = Rules { policy, last_copies, wanted, all_or_nothing };
            let choice = choose(&picture, rules);
            prop_assert_eq!(&choice, &oracle(&picture, rules));
            for unit in picture.units.iter().filter(|unit| unit.pinned) {
                prop_assert!(!choice.units.contains(&unit.hash));
                prop_assert!(unit.blobs.is_disjoint(&choice.blobs));
            }
        }
    }
}
