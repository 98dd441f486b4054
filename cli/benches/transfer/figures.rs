//! Figures, their ratios to yardsticks, and the targets that they are held against.

use serde::Serialize;

/// A rate in bytes of 10⁶.
pub const MB_PER_S: &str = "MB/s";
/// Memory in 10⁶ bytes.
pub const MB: &str = "MB";
/// Processor time.
pub const CPU_S: &str = "CPU-s";
/// Time.
pub const SECONDS: &str = "s";
/// A share of a whole.
pub const PERCENT: &str = "%";

/// One thing measured, as often as there were rounds.
#[derive(Debug, Serialize)]
pub struct Figure {
    bench: String,
    what: String,
    unit: &'static str,
    median: f64,
    least: f64,
    most: f64,
    values: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<Ratio>,
}

/// A figure by a yardstick, round by round: what disturbs the one is likely to disturb the other, too.
#[derive(Debug, Serialize)]
struct Ratio {
    to: String,
    median: f64,
    least: f64,
    most: f64,
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The least and the most.
fn spread(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(*value), most.max(*value)))
}

/// Ratios round by round.
pub fn ratios(values: &[f64], yardstick: &[f64]) -> Vec<f64> {
    values.iter().zip(yardstick).map(|(value, yardstick)| value / yardstick).collect()
}

/// A number with as many digits as say something.
pub fn short(value: f64) -> String {
    let digits = match value.abs() {
        0.0..1.0 => 3,
        1.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

/// What a target asks for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// As much as this, or more.
    AtLeast(f64),
    /// As much as this, or less.
    AtMost(f64),
}

/// A promise about a figure.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    /// Name of the figure.
    #[serde(skip)]
    pub key: Key,
    /// What is promised.
    pub what: &'static str,
    /// How much.
    pub bound: Bound,
    /// Of what.
    pub unit: &'static str,
    /// What was measured; nothing if the bench was left out or failed.
    pub figure: Option<f64>,
}

/// Which target a figure belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum Key {
    OneToOne,
    CpuSeconds,
    FourToOne,
    OneToFour,
    SourceShare,
    SmallFiles,
    PublishSha256,
    PublishBlake3,
    Import,
    Memory,
    IdleMemory,
    IdleCpu,
    BadSources,
    Restart,
    GatewayHeld,
    GatewayCold,
    GatewayFirst,
    GatewayMemory,
}

fn targets() -> Vec<Target> {
    use Bound::{AtLeast, AtMost};
    let plain = "× a plain TCP copy";
    [
        (Key::OneToOne, "one → one, file to file, encrypted and proved", AtLeast(1.2), plain),
        (Key::FourToOne, "four → one", AtLeast(1.2), plain),
        (Key::OneToFour, "one → four at once", AtLeast(1.0), "× four plain copies at once"),
        (Key::SourceShare, "one → four at once: share that the source sends", AtMost(60.0), "% of all bytes"),
        (Key::SmallFiles, "10,000 small files", AtLeast(0.5), "× tar over plain TCP"),
        (Key::PublishSha256, "publish with SHA-256", AtLeast(0.85), "× SHA-256 alone on one core"),
        (Key::PublishBlake3, "publish without SHA-256", AtLeast(0.8), "× BLAKE3 on all cores"),
        (Key::Import, "import from a hub, checked and durable", AtLeast(0.8), "× curl of the same files"),
        (Key::CpuSeconds, "processor time, both sides, per 2 GiB", AtMost(3.2), "CPU-seconds"),
        (Key::Memory, "peak memory, each side, all sizes and numbers of sources", AtMost(100.0), "MB"),
        (Key::IdleMemory, "idle node with 1,000 published files: memory", AtMost(40.0), "MB"),
        (Key::IdleCpu, "idle node with 1,000 published files: processor", AtMost(0.5), "% of a core"),
        (Key::Restart, "restart over 10,000 blobs with 1 TB, with and without index", AtMost(3.0), "s"),
        (Key::BadSources, "honest sources among four that stall, drip, reset, flood", AtLeast(0.85), "× the honest ones alone"),
        (Key::GatewayHeld, "gateway: one GET of a file that is held, proved", AtLeast(0.7), "× nginx"),
        (Key::GatewayCold, "gateway that holds nothing, two peers", AtLeast(0.8), "× a fetch of the same"),
        (Key::GatewayFirst, "the same: until the first byte", AtMost(2.0), "s"),
        (Key::GatewayMemory, "gateway: peak memory with 100 readers at once", AtMost(200.0), "MB"),
    ]
    .into_iter()
    .map(|(key, what, bound, unit)| Target { key, what, bound, unit, figure: None })
    .collect()
}

impl Target {
    /// How much better than promised: 1 is just met. Nothing if it was not measured.
    pub fn score(&self) -> Option<f64> {
        let figure = self.figure?;
        Some(match self.bound {
            Bound::AtLeast(least) => figure / least,
            Bound::AtMost(most) => most / figure.max(f64::MIN_POSITIVE),
        })
    }

    /// Whether it is met.
    pub fn is_met(&self) -> Option<bool> {
        self.figure.map(|figure| match self.bound {
            Bound::AtLeast(least) => figure >= least,
            Bound::AtMost(most) => figure <= most,
        })
    }

    /// The bound in words.
    pub fn promise(&self) -> String {
        match self.bound {
            Bound::AtLeast(least) => format!("≥ {least} {}", self.unit),
            Bound::AtMost(most) => format!("≤ {most} {}", self.unit),
        }
    }
}

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    figures: Vec<Figure>,
    /// What was promised.
    pub targets: Vec<Target>,
    #[serde(skip)]
    bench: String,
    /// The figure of which indented ones are parts.
    #[serde(skip)]
    whole: String,
}

impl Default for Report {
    fn default() -> Self {
        Self { figures: Vec::new(), targets: targets(), bench: String::new(), whole: String::new() }
    }
}

impl Report {
    /// From now on, figures are of this bench.
    pub fn begin(&mut self, bench: &str) {
        bench.clone_into(&mut self.bench);
        println!("\n{bench}");
    }

    /// Takes and prints a figure. One whose name is indented is a part of the last that is not.
    pub fn figure(&mut self, what: &str, unit: &'static str, values: &[f64]) {
        self.add(what, unit, values, None);
    }

    /// Takes and prints a figure, and its ratio to a yardstick of the same rounds; returns the ratio's median.
    pub fn compared(&mut self, what: &str, unit: &'static str, values: &[f64], to: &str, yardstick: &[f64]) -> f64 {
        let ratios = ratios(values, yardstick);
        let (least, most) = spread(&ratios);
        let middle = median(&ratios);
        self.add(what, unit, values, Some(Ratio { to: to.to_owned(), median: middle, least, most }));
        middle
    }

    /// Holds a figure against its target; of several, the worst counts.
    pub fn hold(&mut self, key: Key, figure: f64) {
        for target in self.targets.iter_mut().filter(|target| target.key == key) {
            let worse = |known: f64| match target.bound {
                Bound::AtLeast(_) => known.min(figure),
                Bound::AtMost(_) => known.max(figure),
            };
            target.figure = Some(target.figure.map_or(figure, worse));
        }
    }

    fn add(&mut self, what: &str, unit: &'static str, values: &[f64], ratio: Option<Ratio>) {
        let ((least, most), middle) = (spread(values), median(values));
        let behind = ratio.as_ref().map_or_else(String::new, |ratio| {
            format!("   {} × {} [{}–{}]", short(ratio.median), ratio.to, short(ratio.least), short(ratio.most))
        });
        println!("  {what:<50} {:>7} {unit:<5} [{}–{}]{behind}", short(middle), short(least), short(most));
        let what = match what.strip_prefix("  ") {
            Some(part) => format!("{}: {part}", self.whole),
            None => {
                what.clone_into(&mut self.whole);
                what.to_owned()
            }
        };
        self.figures.push(Figure {
            bench: self.bench.clone(),
            what,
            unit,
            median: middle,
            least,
            most,
            values: values.to_vec(),
            ratio,
        });
    }

    /// The table of targets, as Markdown.
    pub fn table(&self) -> String {
        let mut table = String::from("| bench | target | figure | |\n|---|---|---|---|\n");
        for target in &self.targets {
            let figure = target.figure.map_or_else(|| "not measured".to_owned(), short);
            let verdict = target.is_met().map_or("", |met| if met { "met" } else { "**missed**" });
            table.push_str(&format!("| {} | {} | {figure} | {verdict} |\n", target.what, target.promise()));
        }
        table
    }
}
