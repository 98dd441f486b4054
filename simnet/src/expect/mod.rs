//! What a run is judged by: figures with a name, computed from its report, and the bounds that a scenario file sets for them. Everything
//! is counted in whole millionths; a figure that is not there (nobody finished, nothing was measured) meets no bound.

mod figures;

use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::report::Report;
use crate::scenario::Scenario;
use crate::units::{ONE, Share, Size, Time, decimal};
use crate::world::World;

pub use figures::METRICS;
pub(crate) use figures::is_copy;

/// What a figure is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number.
    Number,
    /// A part of a whole.
    Share,
    /// Bytes.
    Bytes,
    /// Time.
    Time,
}

impl Unit {
    /// A figure of this unit, in millionths, as text.
    pub fn show(self, millionths: u64) -> String {
        match self {
            // Four places tell a miss by one in a thousand; what is smaller is noise.
            Self::Number => decimal(millionths / 100 * 100),
            Self::Share => format!("{} %", decimal(millionths * 100 / 1000 * 1000)),
            Self::Bytes => in_bytes(millionths / ONE),
            Self::Time if millionths < 60 * ONE => format!("{} s", decimal(millionths / 1000 * 1000)),
            Self::Time => format!("{} min", decimal(millionths / 60 / 100_000 * 100_000)),
        }
    }
}

fn in_bytes(bytes: u64) -> String {
    let units = [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, factor)| bytes >= *factor) {
        Some((name, factor)) => format!("{} {name}", decimal(bytes / (factor / 1024) * ONE / 1024 / 10_000 * 10_000)),
        None => format!("{bytes} B"),
    }
}

/// Whom a figure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// The whole world.
    World,
    /// A group, named after a dot.
    Group,
    /// A site, or the worst of its copies, named after a dot.
    Site,
}

/// A figure with a name.
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is, in half a sentence.
    pub about: &'static str,
    /// What it is counted in.
    pub unit: Unit,
    /// Whom it is about.
    pub of: Of,
    /// Its value in millionths, given the name of the group or site.
    read: fn(&Evidence<'_>, &str) -> Option<u64>,
}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Metric {
    /// The figure of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        METRICS.iter().find(|metric| metric.name == name)
    }

    /// Whether it is a time at which so many have finished, as a multiple of the bound.
    pub fn is_completion(&self) -> bool {
        matches!(self.name, "last_ratio" | "honest_last_ratio" | "p50_ratio" | "p99_ratio" | "p999_ratio")
    }
}

/// What the program that ran a world measured of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// How long it took.
    pub wall: Duration,
    /// Most memory that the process has held so far, in bytes; 0 where it can't be told.
    pub peak_bytes: u64,
}

/// All that figures are computed from.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// What happened.
    pub report: &'a Report,
    /// What it is compared with.
    pub yardstick: Yardstick,
    /// What it took, if somebody measured.
    pub cost: Option<Cost>,
}

/// What a run is compared with and its report does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Yardstick {
    /// The bound if no site's link were ever down.
    pub bound_while_up: Duration,
    /// When a lone reader, with nobody but the sources around, holds its first bytes, from its start.
    pub lone_first_bytes: Option<Duration>,
}

impl Yardstick {
    /// That of a scenario, for what is wanted. A lone reader's time is had from a second, smaller world.
    pub fn of(scenario: &Scenario, wanted: &[Wanted]) -> Self {
        let mut up = scenario.clone();
        up.sites.iter_mut().for_each(|site| site.outages.clear());
        let lone = wanted.iter().any(|wanted| wanted.metric.name == "first_byte_ratio").then(|| lone_first_bytes(scenario));
        Self { bound_while_up: up.bound(), lone_first_bytes: lone.flatten() }
    }
}

fn lone_first_bytes(scenario: &Scenario) -> Option<Duration> {
    let mut lone = scenario.clone();
    let mut readers = 0;
    lone.hosts.retain(|plan| {
        let reads = plan.fetches && plan.vice.is_none();
        readers += usize::from(reads);
        !reads || readers == 1
    });
    lone.hosts.iter_mut().for_each(|plan| plan.starts_at = Duration::ZERO);
    (lone.faults, lone.keep_lines) = (Vec::new(), 0);
    // Nothing else is asked of it than when there is something to read.
    let report = World::run_with(lone, &mut |progress| {
        if progress.received > 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let reader = report.fetchers.first()?;
    let host = &report.hosts[reader.0];
    Some(host.first_bytes_at? - host.began_at?)
}

/// How a figure and its bound compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    AtMost,
    AtLeast,
    Exactly,
}

/// A bound for a figure: `<= 1.03`, `>= 2`, `= 0`, and in how many of all seeds it must hold: `<= 1.06 in 99 % of seeds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expectation {
    relation: Relation,
    bound: u64,
    unit: Unit,
    seeds: Share,
}

/// Text that expects nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no bound; write it like \"<= 1.03\", \">= 2\", \"= 0\", \"<= 0.5 %\", \"<= 64 MiB\" or \"<= 1.06 in 99 % of seeds\""
)]
pub struct ExpectationError(String);

impl FromStr for Expectation {
    type Err = ExpectationError;

    fn from_str(text: &str) -> Result<Self, ExpectationError> {
        Self::read(text).ok_or_else(|| ExpectationError(text.into()))
    }
}

impl TryFrom<String> for Expectation {
    type Error = ExpectationError;

    fn try_from(text: String) -> Result<Self, ExpectationError> {
        text.parse()
    }
}

impl From<Expectation> for String {
    fn from(expectation: Expectation) -> Self {
        expectation.to_string()
    }
}

impl Expectation {
    fn read(text: &str) -> Option<Self> {
        let signs = [
            ("<=", Relation::AtMost),
            ("≤", Relation::AtMost),
            (">=", Relation::AtLeast),
            ("≥", Relation::AtLeast),
            ("=", Relation::Exactly),
        ];
        let text = text.trim();
        let (rest, relation) = signs.iter().find_map(|(sign, relation)| Some((text.strip_prefix(sign)?.trim(), *relation)))?;
        let (amount, seeds) = match rest.split_once(" in ") {
            Some((amount, seeds)) => (amount.trim(), seeds.trim().strip_suffix("of seeds")?.parse().ok()?),
            None => (rest, Share(ONE)),
        };
        let (bound, unit) = amount_of(amount)?;
        Some(Self { relation, bound, unit, seeds })
    }

    /// Whether a figure in this unit can be compared with the bound.
    pub fn fits(&self, unit: Unit) -> bool {
        match unit {
            Unit::Number | Unit::Share => matches!(self.unit, Unit::Number | Unit::Share),
            other => self.unit == other,
        }
    }

    /// Whether a figure meets the bound.
    pub fn is_met(&self, value: Option<u64>) -> bool {
        value.is_some_and(|value| match self.relation {
            Relation::AtMost => value <= self.bound,
            Relation::AtLeast => value >= self.bound,
            Relation::Exactly => value == self.bound,
        })
    }

    /// The bound, if the figure must not be above it.
    pub fn at_most(&self) -> Option<u64> {
        (self.relation == Relation::AtMost).then_some(self.bound)
    }

    /// How bad a figure is: the larger, the worse.
    pub fn badness(&self, value: u64) -> u64 {
        match self.relation {
            Relation::AtMost => value,
            Relation::AtLeast => u64::MAX - value,
            Relation::Exactly => value.abs_diff(self.bound),
        }
    }

    /// Whether enough seeds meet the bound, given how many did and how many there are.
    pub fn is_met_by(&self, met: usize, all: usize) -> bool {
        met as u128 * u128::from(ONE) >= all as u128 * u128::from(self.seeds.0)
    }

    /// The worse of two figures: the one that misses by more.
    pub fn worse(&self, one: Option<u64>, other: Option<u64>) -> Option<u64> {
        let (Some(a), Some(b)) = (one, other) else { return None };
        Some(match self.relation {
            Relation::AtMost => a.max(b),
            Relation::AtLeast => a.min(b),
            Relation::Exactly => std::cmp::max_by_key(a, b, |value| value.abs_diff(self.bound)),
        })
    }
}

fn amount_of(text: &str) -> Option<(u64, Unit)> {
    if let Some(percent) = text.strip_suffix('%') {
        let crate::units::Factor(hundredths) = percent.trim().parse().ok()?;
        return Some((hundredths / 100, Unit::Share));
    }
    if let Ok(crate::units::Factor(number)) = text.parse() {
        return Some((number, Unit::Number));
    }
    if let Ok(Size(bytes)) = text.parse() {
        return Some((bytes.checked_mul(ONE)?, Unit::Bytes));
    }
    let Time(time) = text.parse().ok()?;
    Some((u64::try_from(time.as_micros()).ok()?, Unit::Time))
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.relation {
            Relation::AtMost => "<=",
            Relation::AtLeast => ">=",
            Relation::Exactly => "=",
        };
        let bound = match self.unit {
            Unit::Number => decimal(self.bound),
            Unit::Share => format!("{} %", decimal(self.bound * 100)),
            Unit::Bytes => Size(self.bound / ONE).to_string(),
            Unit::Time => Time(Duration::from_micros(self.bound)).to_string(),
        };
        write!(f, "{sign} {bound}")?;
        if self.seeds.0 < ONE { write!(f, " in {} of seeds", self.seeds) } else { Ok(()) }
    }
}

/// A figure and the bound that a scenario sets for it.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Which figure.
    pub metric: &'static Metric,
    /// Of which group or site; empty for the world.
    pub of: String,
    /// The bound.
    pub expectation: Expectation,
}

impl Wanted {
    /// The figure as the file names it.
    pub fn name(&self) -> String {
        if self.of.is_empty() { self.metric.name.into() } else { format!("{}.{}", self.metric.name, self.of) }
    }

    /// The figure of a run, in millionths.
    pub fn value(&self, evidence: &Evidence<'_>) -> Option<u64> {
        (self.metric.read)(evidence, &self.of)
    }

    /// A value of this figure as text.
    pub fn show(&self, value: Option<u64>) -> String {
        value.map_or_else(|| "none".to_owned(), |value| self.metric.unit.show(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_compared_and_written() {
        let read = |text: &str| text.parse::<Expectation>().unwrap();
        for text in ["<= 1.03", ">= 2", "= 0", "<= 0.5 %", "<= 64 MiB", "<= 10 min", "<= 1.06 in 99 % of seeds"] {
            assert_eq!(read(text).to_string(), text);
        }
        assert_eq!(read("≤ 1.005"), read("<= 1.005"));
        for text in ["1.03", "< 1", "<= x", "<= 1 in most seeds", "<="] {
            assert!(text.parse::<Expectation>().is_err(), "{text}");
        }
        let last = read("<= 1.03");
        assert!(last.is_met(Some(1_030_000)) && !last.is_met(Some(1_030_001)) && !last.is_met(None));
        assert_eq!(last.worse(Some(1), Some(2)), Some(2));
        assert_eq!(read(">= 2").worse(Some(1), Some(2)), Some(1));
        assert_eq!(last.worse(Some(1), None), None);
        assert!(read("<= 1 in 99 % of seeds").is_met_by(99, 100) && !last.is_met_by(99, 100));
        assert!(read("<= 0.5 %").fits(Unit::Number) && !read("<= 64 MiB").fits(Unit::Share));
    }

    #[test]
    fn figures_are_shown_with_their_unit() {
        assert_eq!(Unit::Number.show(1_234_567), "1.2345");
        assert_eq!(Unit::Share.show(5_000), "0.5 %");
        assert_eq!(Unit::Bytes.show(1_572_864 * ONE), "1.5 MiB");
        assert_eq!([Unit::Time.show(1_500_000), Unit::Time.show(90 * ONE)], ["1.5 s", "1.5 min"]);
    }
}
