//! Sizes, rates, times and shares as people write them, with their unit, read without floating point: what a file says is what the world
//! is. Knows no keys.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// One, in the millionths in which shares and factors are counted.
pub const ONE: u64 = 1_000_000;

const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];
/// Rates in bits a second.
const RATES: [(&str, u64); 8] = [
    ("bit/s", 1),
    ("kbit/s", 1_000),
    ("Mbit/s", 1_000_000),
    ("Gbit/s", 1_000_000_000),
    ("B/s", 8),
    ("kB/s", 8_000),
    ("MB/s", 8_000_000),
    ("GB/s", 8_000_000_000),
];
/// Times in nanoseconds.
const TIMES: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Splits `1.5 GB` into millionths of its number and its unit.
fn split(text: &str) -> Option<(u128, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number = number.replace('_', "");
    let (whole, part) = number.split_once('.').unwrap_or((&number, ""));
    if whole.is_empty() || part.contains('.') || part.len() > 6 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    Some((u128::from(whole) * u128::from(ONE) + u128::from(part), unit.trim()))
}

/// A number with one of these units, rounded down to a whole number of the smallest.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (millionths, unit) = split(text)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    u64::try_from(millionths * u128::from(*factor) / u128::from(ONE)).ok()
}

/// In the unit that divides it and gives the smallest number.
fn in_unit(value: u64, units: &[(&str, u64)]) -> String {
    let fits = units.iter().filter(|(_, factor)| value.is_multiple_of(*factor));
    let best = fits.min_by_key(|(_, factor)| value / factor).or(units.first());
    best.map_or_else(|| value.to_string(), |(name, factor)| format!("{} {name}", value / factor))
}

/// Why a text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {noun}{negative}; write it like {examples}")]
pub struct UnitError {
    text: String,
    noun: &'static str,
    examples: &'static str,
    negative: &'static str,
}

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident($inner:ty), $noun:literal, $examples:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
        pub struct $name(pub $inner);

        impl FromStr for $name {
            type Err = UnitError;

            fn from_str(text: &str) -> Result<Self, UnitError> {
                let negative = if text.trim_start().starts_with('-') { ": it can't be negative" } else { "" };
                Self::read(text).ok_or(UnitError { text: text.into(), noun: $noun, examples: $examples, negative })
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Reader;
                impl Visitor<'_> for Reader {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, concat!("a ", $noun, " like ", $examples))
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }

                    fn visit_f64<E: de::Error>(self, number: f64) -> Result<$name, E> {
                        // The shortest text that means this number is what the file says.
                        self.visit_str(&number.to_string())
                    }
                }
                deserializer.deserialize_any(Reader)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

unit!(
    /// So many bytes.
    Size(u64), "size", r#""256 KiB" or "100 GB""#
);
unit!(
    /// So many bytes a second.
    Rate(u64), "rate", r#""20 Mbit/s" or "300 MB/s""#
);
unit!(
    /// A time.
    Time(Duration), "time", r#""600 ms", "6 h" or "30 d""#
);
unit!(
    /// A part of a whole, in millionths.
    Share(u64), "share", r#""30 %" or 0.3, between 0 and 1"#
);
unit!(
    /// A number, in millionths.
    Factor(u64), "number", r#"1.005"#
);
unit!(
    /// How often something happens: the mean time from one to the next.
    Frequency(Duration), "frequency", r#""10/s", "67/h" or "1.5/min""#
);

impl Size {
    fn read(text: &str) -> Option<Self> {
        with_unit(text, &SIZES).map(Self)
    }
}

impl Rate {
    fn read(text: &str) -> Option<Self> {
        with_unit(text, &RATES).map(|bits| Self(bits / 8))
    }
}

impl Time {
    fn read(text: &str) -> Option<Self> {
        with_unit(text, &TIMES).map(|nanos| Self(Duration::from_nanos(nanos)))
    }
}

impl Share {
    fn read(text: &str) -> Option<Self> {
        let (millionths, unit) = split(text)?;
        let share = match unit {
            "" => millionths,
            "%" => millionths / 100,
            _ => return None,
        };
        u64::try_from(share).ok().filter(|share| *share <= ONE).map(Self)
    }

    /// The same in thousandths.
    pub fn permille(self) -> u64 {
        self.0 / 1000
    }

    /// So much of a number, rounded.
    pub fn of(self, number: usize) -> usize {
        let part = (number as u128 * u128::from(self.0) + u128::from(ONE) / 2) / u128::from(ONE);
        usize::try_from(part).unwrap_or(number)
    }
}

impl Factor {
    fn read(text: &str) -> Option<Self> {
        let (millionths, unit) = split(text)?;
        u64::try_from(millionths).ok().filter(|_| unit.is_empty()).map(Self)
    }
}

impl Frequency {
    fn read(text: &str) -> Option<Self> {
        let (number, unit) = text.split_once('/')?;
        let Factor(millionths) = Factor::read(number)?;
        let (_, nanos) = TIMES.iter().find(|(name, _)| *name == unit.trim())?;
        let gap = (u128::from(*nanos) * u128::from(ONE)).checked_div(u128::from(millionths))?;
        u64::try_from(gap).ok().filter(|gap| *gap > 0).map(|gap| Self(Duration::from_nanos(gap)))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// `1.005`: millionths as a decimal number, without zeros at its end.
pub fn decimal(millionths: u64) -> String {
    let text = format!("{}.{:06}", millionths / ONE, millionths % ONE);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_unit(self.0, &SIZES))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_unit(self.0 * 8, &RATES[..4]))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_unit(nanos(self.0), &TIMES))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", decimal(self.0 * 100))
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&decimal(self.0))
    }
}

impl fmt::Display for Frequency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In the smallest unit in which six places lose nothing that matters.
        let day = 86_400_000_000_000_u128 * u128::from(ONE);
        let a_day = day / self.0.as_nanos().max(1);
        write!(f, "{}/d", decimal(u64::try_from(a_day).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_written() {
        let size = |text: &str| text.parse::<Size>().unwrap().0;
        assert_eq!([size("256 KiB"), size("1.5GB"), size("1_000 B")], [256 << 10, 1_500_000_000, 1000]);
        let rate = |text: &str| text.parse::<Rate>().unwrap().0;
        assert_eq!([rate("20 Mbit/s"), rate("300 MB/s"), rate("0.5 Mbit/s")], [2_500_000, 300_000_000, 62_500]);
        let time = |text: &str| text.parse::<Time>().unwrap().0.as_millis();
        assert_eq!([time("600 ms"), time("6 h"), time("30 d"), time("0.5 s")], [600, 21_600_000, 2_592_000_000, 500]);
        let share = |text: &str| text.parse::<Share>().unwrap().0;
        assert_eq!([share("30 %"), share("0.3"), share("0.5%")], [300_000, 300_000, 5000]);
        let gap = |text: &str| text.parse::<Frequency>().unwrap().0.as_millis();
        assert_eq!([gap("10/s"), gap("1.5/min")], [100, 40_000]);
        assert_eq!([Size(8_000_000_000).to_string(), Size(0).to_string(), Size(1001).to_string()], ["8 GB", "0 B", "1001 B"]);
        assert_eq!(
            [Share(5000).to_string(), Size(256 << 10).to_string(), Rate(2_500_000).to_string()],
            ["0.5 %", "256 KiB", "20 Mbit/s"]
        );
        assert_eq!([Time(Duration::from_millis(1500)).to_string(), Factor(1_005_000).to_string()], ["1500 ms", "1.005"]);
        assert_eq!(Frequency(Duration::from_millis(100)).to_string().parse::<Frequency>().unwrap().0, Duration::from_millis(100));
    }

    #[test]
    fn what_is_no_unit_is_refused_with_an_example() {
        let says = |error: UnitError| error.to_string();
        assert_eq!(
            says("-20 Mbit/s".parse::<Rate>().unwrap_err()),
            r#""-20 Mbit/s" is no rate: it can't be negative; write it like "20 Mbit/s" or "300 MB/s""#
        );
        for text in ["", "20", "20 Mbit", "1.2.3 Mbit/s", "x Mbit/s", "99999999999999999999 Mbit/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        assert!("130 %".parse::<Share>().is_err() && "0/s".parse::<Frequency>().is_err() && "1 s".parse::<Size>().is_err());
    }
}
