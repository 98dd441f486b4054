//! Numbers as people read them. Each keeps the digits that matter and its unit.

/// A multiple of the bound: `1.012`, `3.24`, `41`. Cut, not rounded, as [`Report`](crate::Report) does: one thing, one figure.
pub fn ratio(ratio: f64) -> String {
    match ratio {
        // Lest a figure of three digits, which is stored a trifle too small, loses one.
        near if near < 2.0 => format!("{:.3}", (near * 1e3 + 1e-6).floor() / 1e3),
        some if some < 10.0 => format!("{:.2}", (some * 1e2 + 1e-6).floor() / 1e2),
        many => count(many as u64),
    }
}

/// A number with its thousands apart: `1,000,000`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of something: `1 peer`, `2 peers`.
pub fn counted(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A share: `97 %`, `0.02 %`.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0 => "0 %".into(),
        little if little < 0.001 => "< 0.001 %".into(),
        little if little < 0.0995 => format!("{little:.3} %"),
        some if some < 9.95 => format!("{some:.2} %"),
        most => format!("{most:.0} %"),
    }
}

/// Bytes in decimal units, as disks and links are sold: `100 GB`.
pub fn bytes(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 99.95 || (value - value.round()).abs() < 0.005 { 0 } else { 1 };
    format!("{value:.digits$} {}", units[unit])
}

/// The unit in which times up to this many seconds are shown: its name, and its length in seconds.
pub fn time_unit(longest_s: f64) -> (&'static str, f64) {
    match longest_s {
        days if days >= 4.0 * 86_400.0 => ("days", 86_400.0),
        hours if hours >= 3.0 * 3_600.0 => ("hours", 3_600.0),
        minutes if minutes >= 300.0 => ("minutes", 60.0),
        _ => ("seconds", 1.0),
    }
}

/// A time: `82.3 s`, `11.2 hours`.
pub fn time(seconds: f64) -> String {
    let (unit, length) = time_unit(seconds);
    let value = seconds / length;
    let digits = if value < 9.95 { 2 } else { 1 };
    format!("{value:.digits$} {}", if unit == "seconds" { "s" } else { unit })
}

/// A number of copies: `1.003`.
pub fn copies(copies: f64) -> String {
    if copies < 9.9995 { format!("{copies:.3}") } else { format!("{copies:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_what_matters() {
        assert_eq!([ratio(1.0129), ratio(1.013), ratio(3.249), ratio(1234.4)], ["1.012", "1.013", "3.24", "1,234"]);
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([percent(0.0), percent(0.0002), percent(0.031), percent(0.972)], ["0 %", "0.020 %", "3.10 %", "97 %"]);
        assert_eq!([bytes(512), bytes(100_000_000_000), bytes(67_108_864)], ["512 B", "100 GB", "67.1 MB"]);
        assert_eq!([time(82.31), time(40_400.0), time(0.5)], ["82.3 s", "11.2 hours", "0.50 s"]);
    }
}
