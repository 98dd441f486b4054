//! Sizes, rates and times as people write and read them.

/// Units a size may be written in, longest spelling first within each family.
const UNITS: [(&str, u64); 13] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("B", 1),
];

/// Reads `256MiB`, `1.5 GB`, `1024`.
pub fn parse(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let factor = match unit.trim() {
        "" => 1,
        unit => UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, factor)| *factor)
            .ok_or_else(|| format!("{unit:?} is no unit of size; write it like 256MiB or 2GB"))?,
    };
    let number = number.replace('_', "");
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(|| format!("{text:?} is too large"));
    }
    let value: f64 = number.parse().map_err(|_| format!("{text:?} is no size; write it like 256MiB or 2GB"))?;
    let bytes = value * factor as f64;
    if bytes < 0.0 || bytes >= u64::MAX as f64 {
        return Err(format!("{text:?} is too large"));
    }
    Ok(bytes as u64)
}

/// Units a rate may be written in; bits of networks are counted in thousands.
const RATE_UNITS: [(&str, u64); 9] = [
    ("GiB/s", 8 << 30),
    ("MiB/s", 8 << 20),
    ("KiB/s", 8 << 10),
    ("GB/s", 8_000_000_000),
    ("MB/s", 8_000_000),
    ("kB/s", 8_000),
    ("Gbit/s", 1_000_000_000),
    ("Mbit/s", 1_000_000),
    ("kbit/s", 1_000),
];

/// Reads `20Mbit/s`, `2.5 MB/s`, `512KiB/s` as bytes a second.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no rate; write it like 20Mbit/s, 2MB/s or 512KiB/s");
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let (_, unit_bits) = RATE_UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(wrong)?;
    let number = number.replace('_', "");
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(*unit_bits).map(|bits| bits / 8).ok_or_else(|| format!("{text:?} is too large"));
    }
    let value: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = value * *unit_bits as f64 / 8.0;
    if bytes >= u64::MAX as f64 { Err(format!("{text:?} is too large")) } else { Ok(bytes.round() as u64) }
}

/// A rate that reads back as the same: the unit that gives the shortest whole number, `20Mbit/s`.
pub fn exact_rate(bytes_per_s: u64) -> String {
    let bits = u128::from(bytes_per_s) * 8;
    let whole = RATE_UNITS.iter().filter(|(_, unit)| bits.is_multiple_of(u128::from(*unit)));
    let shortest = whole.map(|(name, unit)| (bits / u128::from(*unit), name)).min_by_key(|(number, name)| (*number, name.len()));
    match shortest {
        Some((number, name)) => format!("{number}{name}"),
        None => format!("{}.{:03}kbit/s", bits / 1000, bits % 1000),
    }
}

/// `91.2 MiB`.
pub fn bytes(count: u64) -> String {
    if count < 1 << 10 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    for unit in ["KiB", "MiB", "GiB"] {
        if value < 1023.95 {
            return format!("{value:.1} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// `91.2 MiB/s`.
pub fn rate(bytes_per_s: u64) -> String {
    format!("{}/s", bytes(bytes_per_s))
}

/// The average rate of so many bytes in so many seconds, 0 where none can be told.
pub fn average_rate(count: u64, seconds: f64) -> u64 {
    if seconds > 0.0 { (count as f64 / seconds) as u64 } else { 0 }
}

/// `3 %`, of a whole that may be 0.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "100 %".to_owned();
    }
    // Rounded down: 100 % is said of what is complete, and of nothing else.
    format!("{} %", u128::from(part) * 100 / u128::from(whole))
}

/// `42 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Units a time may be written in, longest first.
const TIME_UNITS: [(&str, u64); 5] = [("w", 7 * 86_400), ("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];

/// Reads `30d`, `12 h`, `90min` as seconds.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no time; write it like 30d, 12h or 90min");
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = trimmed.split_at(split);
    let (_, factor) = TIME_UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(*factor).filter(|seconds| *seconds <= u64::from(u32::MAX)).ok_or_else(|| format!("{text:?} is too long"))
}

/// A time that reads back as the same: `30d`.
pub fn exact_duration(seconds: u64) -> String {
    let (name, unit) = TIME_UNITS[1..].iter().find(|(_, unit)| seconds > 0 && seconds.is_multiple_of(*unit)).unwrap_or(&("s", 1));
    format!("{}{name}", seconds / unit)
}

/// `1 file`, `2 files`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, expected) in [("256MiB", 256 << 20), ("2 GB", 2_000_000_000), ("1.5KiB", 1536), ("0", 0), ("1_000B", 1000)] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        assert!(parse("12 parsecs").unwrap_err().contains("parsecs"));
        for text in ["", "MiB", "-1", "1..2", "99999999999TiB"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn rates_are_read_with_their_units_and_read_back() {
        for (text, expected) in [
            ("20Mbit/s", 2_500_000),
            ("2MB/s", 2_000_000),
            ("512KiB/s", 512 << 10),
            ("1.5 Gbit/s", 187_500_000),
            ("1_000 kbit/s", 125_000),
        ] {
            assert_eq!(parse_rate(text), Ok(expected), "{text}");
        }
        for text in ["", "20", "20Mbit", "20 Mb/s", "Mbit/s", "-1MB/s", "1..2MB/s", "1 parsec/s"] {
            assert!(parse_rate(text).unwrap_err().contains("20Mbit/s"), "{text:?}");
        }
        assert!(parse_rate("99999999999GiB/s").unwrap_err().contains("too large"));
        for (rate, text) in [(2_500_000, "20Mbit/s"), (2_000_000, "2MB/s"), (512 << 10, "512KiB/s"), (1001, "8.008kbit/s")] {
            assert_eq!(exact_rate(rate), text);
            assert_eq!(parse_rate(text), Ok(rate));
        }
    }

    #[test]
    fn times_are_read_with_their_units_and_read_back() {
        for (text, seconds) in [("30d", 2_592_000), ("12 h", 43_200), ("90min", 5400), ("2w", 1_209_600), ("1s", 1)] {
            assert_eq!(parse_duration(text), Ok(seconds), "{text}");
            assert_eq!(parse_duration(&exact_duration(seconds)), Ok(seconds), "{text}");
        }
        assert_eq!(exact_duration(2_592_000), "30d");
        for text in ["", "d", "30", "1.5d", "-1d", "30 parsecs", "99999999999999999999d", "999999999w"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_read_well() {
        for (count, expected) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), ((1 << 20) - 1, "1.0 MiB"), (96 << 20, "96.0 MiB")]
        {
            assert_eq!(bytes(count), expected);
        }
        assert_eq!(duration(3905), "1 h 05 min");
        assert_eq!(percent(999, 1000), "99 %");
        assert_eq!(percent(0, 0), "100 %");
    }
}
