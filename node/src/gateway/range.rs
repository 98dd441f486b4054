//! Which bytes of a file a request asks for (RFC 9110, section 14). Pure.

use std::ops::Range;

/// What a `Range` header asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// All of it: there is no header, or none that has to be understood.
    Whole,
    /// These bytes, at least one.
    Part(Range<u64>),
    /// Bytes of which the file has none.
    Nothing,
}

/// Reads a `Range` header for a file of this size. Several ranges and malformed ones count as none; an end beyond the file is cut off:
/// some clients ask one byte too far.
pub fn asked(header: Option<&str>, size: u64) -> Asked {
    let Some(spec) = header.and_then(|text| text.trim().strip_prefix("bytes")).and_then(|text| text.trim().strip_prefix('='))
    else {
        return Asked::Whole;
    };
    let Some((first, last)) = spec.split_once('-') else { return Asked::Whole };
    match (number(first), number(last)) {
        (Some(Number::Is(first)), Some(Number::None)) => part(first, size, size),
        (Some(Number::Is(first)), Some(Number::Is(last))) if last >= first => part(first, last.saturating_add(1).min(size), size),
        (Some(Number::None), Some(Number::Is(count))) => part(size - count.min(size), size, size),
        _ => Asked::Whole,
    }
}

fn part(first: u64, end: u64, size: u64) -> Asked {
    if first < size && first < end { Asked::Part(first..end) } else { Asked::Nothing }
}

enum Number {
    None,
    Is(u64),
}

/// Digits and nothing else; more than fit are as good as the largest that do.
fn number(text: &str) -> Option<Number> {
    let text = text.trim();
    match text {
        "" => Some(Number::None),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => Some(Number::Is(text.parse().unwrap_or(u64::MAX))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_in_each_of_its_forms() {
        let part = |header, bytes: Range<u64>| assert_eq!(asked(Some(header), 100), Asked::Part(bytes), "{header}");
        part("bytes=0-0", 0..1);
        part("bytes=7-9", 7..10);
        part("bytes=40-", 40..100);
        part("bytes=-7", 93..100);
        part("bytes=-700", 0..100);
        part("bytes=0-100", 0..100);
        part("bytes=99-18446744073709551615", 99..100);
        part("bytes=99-99999999999999999999999999", 99..100);
        part(" bytes = 3 - 4 ", 3..5);
    }

    #[test]
    fn beyond_the_end_is_nothing() {
        for header in ["bytes=100-", "bytes=100-200", "bytes=99999999999999999999999999-", "bytes=-0"] {
            assert_eq!(asked(Some(header), 100), Asked::Nothing, "{header}");
        }
        for header in ["bytes=0-0", "bytes=0-", "bytes=-1"] {
            assert_eq!(asked(Some(header), 0), Asked::Nothing, "{header} of an empty file");
        }
    }

    #[test]
    fn what_is_not_understood_is_ignored() {
        assert_eq!(asked(None, 100), Asked::Whole);
        for header in
            ["", "bytes", "bytes=", "bytes=-", "bytes=5-2", "bytes=1-2,4-5", "bytes=a-b", "bytes=+1-2", "lines=1-2", "bytes=1"]
        {
            assert_eq!(asked(Some(header), 100), Asked::Whole, "{header}");
        }
    }
}
