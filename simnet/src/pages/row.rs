//! One scenario with all the seeds it was run with, and its worst.

use super::record::{Expectation, RunRecord};

/// Whether a scenario did what was asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// In every seed.
    Met,
    /// Not in some.
    Missed,
    /// Nothing was asked.
    NoTarget,
}

impl Verdict {
    /// In one or two words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::NoTarget => "no target",
        }
    }
}

/// All runs of one scenario at one size, by seed.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    /// The runs; never empty.
    pub runs: Vec<&'a RunRecord>,
    /// A name for files and anchors, unlike that of any other row.
    pub slug: String,
}

impl<'a> Row<'a> {
    /// Sorts runs into rows: by number, then by name, numbered ones first.
    pub fn of(records: &'a [RunRecord]) -> Vec<Self> {
        let key = |run: &&'a RunRecord| (run.row.unwrap_or(u32::MAX), run.name.as_str(), !run.full);
        let mut sorted: Vec<&RunRecord> = records.iter().collect();
        sorted.sort_by(|a, b| (key(a), a.seed, &a.digest).cmp(&(key(b), b.seed, &b.digest)));
        let mut rows: Vec<Self> = Vec::new();
        for runs in sorted.chunk_by(|a, b| key(a) == key(b)) {
            let plain = slug(runs[0]);
            let taken = |slug: &str| rows.iter().any(|row| row.slug == slug);
            let numbered = (2..).map(|number| format!("{plain}-{number}"));
            let slug = std::iter::once(plain.clone()).chain(numbered).find(|slug| !taken(slug)).unwrap_or_default();
            rows.push(Self { runs: runs.to_vec(), slug });
        }
        rows
    }

    /// The run to show: one that missed before one that did not, then the one whose last fetcher was latest.
    pub fn worst(&self) -> &'a RunRecord {
        let badness = |run: &&&RunRecord| (!run.passed(), run.last_ratio().unwrap_or(f64::INFINITY));
        let order = |a: &(bool, f64), b: &(bool, f64)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1));
        // Of equals the first: seeds are in ascending order.
        self.runs.iter().rev().max_by(|a, b| order(&badness(a), &badness(b))).expect("a row has runs")
    }

    /// All runs but the worst.
    pub fn others(&self) -> Vec<&'a RunRecord> {
        let worst = self.worst();
        self.runs.iter().copied().filter(|run| !std::ptr::eq(*run, worst)).collect()
    }

    /// The file that holds a run's record.
    pub fn file_of(&self, run: &RunRecord) -> String {
        format!("{}-seed-{}.json", self.slug, run.seed)
    }

    /// Whether all seeds did what was asked.
    pub fn verdict(&self) -> Verdict {
        if self.runs.iter().any(|run| !run.passed()) {
            Verdict::Missed
        } else if self.runs.iter().all(|run| run.expectations.is_empty()) {
            Verdict::NoTarget
        } else {
            Verdict::Met
        }
    }

    /// How many seeds did what was asked.
    pub fn passed(&self) -> usize {
        self.runs.iter().filter(|run| run.passed()).count()
    }

    /// What was asked, each with the worst that came out and the seed it came out with.
    pub fn expectations(&self) -> Vec<(&'a Expectation, u64)> {
        let mut worst: Vec<(&Expectation, u64)> = Vec::new();
        for run in std::iter::once(self.worst()).chain(self.others()) {
            for expectation in &run.expectations {
                let key = |expectation: &Expectation| (!expectation.passed, expectation.badness);
                match worst.iter_mut().find(|(known, _)| known.name == expectation.name && known.target == expectation.target) {
                    None => worst.push((expectation, run.seed)),
                    Some(known) if key(expectation) > key(known.0) => *known = (expectation, run.seed),
                    Some(_) => {}
                }
            }
        }
        worst
    }
}

/// Letters, digits and dashes only: the row's number, the scenario's name, and its size if it is not the full one.
fn slug(run: &RunRecord) -> String {
    let plain = |text: char| if text.is_ascii_alphanumeric() { text.to_ascii_lowercase() } else { '-' };
    let name: String = run.name.chars().take(60).map(plain).collect();
    let words: Vec<&str> = name.split('-').filter(|word| !word.is_empty()).collect();
    let number = run.row.map(|row| format!("{row:02}"));
    let size = (!run.full).then(|| "short".to_owned());
    let name = if words.is_empty() { "run".to_owned() } else { words.join("-") };
    number.into_iter().chain([name]).chain(size).collect::<Vec<String>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, row: Option<u32>, seed: u64, passed: bool, badness: u64) -> RunRecord {
        let expectation = Expectation {
            name: "last".into(),
            target: "≤ 1.03".into(),
            result: badness.to_string(),
            passed,
            limit_permille: Some(1030),
            badness: Some(badness),
        };
        RunRecord { name: name.into(), row, seed, full: true, expectations: vec![expectation], ..RunRecord::default() }
    }

    #[test]
    fn a_row_shows_its_worst_seed() {
        let runs = [run("b", Some(2), 1, true, 1010), run("b", Some(2), 3, false, 1050), run("b", Some(2), 2, false, 1040)];
        let rows = Row::of(&runs);
        assert_eq!((rows.len(), rows[0].verdict(), rows[0].passed()), (1, Verdict::Missed, 1));
        let expectations = rows[0].expectations();
        assert_eq!((expectations.len(), expectations[0].0.badness, expectations[0].1), (1, Some(1050), 3));
        assert!(!rows[0].worst().passed());
    }

    #[test]
    fn slugs_are_plain_and_differ() {
        let runs = [run("../../<b>", None, 1, true, 1), run("<B>", None, 1, true, 1), run("", Some(7), 1, true, 1)];
        let slugs: Vec<String> = Row::of(&runs).into_iter().map(|row| row.slug).collect();
        assert_eq!(slugs, ["07-run", "b", "b-2"]);
    }
}
