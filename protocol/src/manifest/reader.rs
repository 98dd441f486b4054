//! Reads JSON text into values within bounds: sorted keys, exact integers, limited depth and count. Knows no field by name.
//!
//! It accepts other white space and escapes than the canonical ones, so that an error can say which; the caller re-encodes and compares.

use super::error::ManifestError;
use super::path::excerpt;
use super::value::{Fields, Integer, Value};
use super::{DEPTH, VALUES};

/// A position in JSON text.
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    depth: usize,
    values: usize,
}

/// The line, counted from 1, on which a byte lies.
pub(super) fn line_at(bytes: &[u8], at: usize) -> usize {
    1 + bytes.iter().take(at).filter(|&&byte| byte == b'\n').count()
}

impl<'a> Reader<'a> {
    /// Starts at the beginning.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, ManifestError> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| ManifestError::NotJson { line: line_at(bytes, error.valid_up_to()), problem: "it is not UTF-8" })?;
        Ok(Self { text, at: 0, line: 1, depth: 0, values: 0 })
    }

    /// The line of the next value.
    pub(super) fn line(&mut self) -> usize {
        self.skip_space();
        self.line
    }

    /// Reads an object: for each member, `each` gets the key and must read the value.
    pub(super) fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, String) -> Result<(), ManifestError>,
    ) -> Result<(), ManifestError> {
        self.expect(b'{', "an object should begin here")?;
        self.enter()?;
        let mut last: Option<String> = None;
        if !self.eat(b'}') {
            loop {
                self.skip_space();
                let key = self.string()?;
                if let Some(last) = last.as_ref().filter(|last| **last >= key) {
                    let line = self.line;
                    return Err(if *last == key {
                        ManifestError::DuplicateKey { line, key: excerpt(&key) }
                    } else {
                        ManifestError::NotCanonical { line, problem: "keys are sorted by their bytes" }
                    });
                }
                self.expect(b':', "a ':' should follow the key")?;
                last = Some(key.clone());
                each(self, key)?;
                if self.eat(b'}') {
                    break;
                }
                self.expect(b',', "a ',' or '}' should follow the value")?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads an array: `each` must read one value.
    pub(super) fn list(&mut self, mut each: impl FnMut(&mut Self) -> Result<(), ManifestError>) -> Result<(), ManifestError> {
        self.expect(b'[', "a list should begin here")?;
        self.enter()?;
        if !self.eat(b']') {
            loop {
                each(self)?;
                if self.eat(b']') {
                    break;
                }
                self.expect(b',', "a ',' or ']' should follow the value")?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads any value.
    pub(super) fn value(&mut self) -> Result<Value, ManifestError> {
        match self.next_byte() {
            Some(b'{') => {
                let mut fields = Fields::new();
                self.object(|reader, key| {
                    let value = reader.value()?;
                    fields.push(key, value);
                    Ok(())
                })?;
                fields.shrink();
                Ok(Value::Object(fields))
            }
            Some(b'[') => {
                let mut list = Vec::new();
                self.list(|reader| {
                    list.push(reader.value()?);
                    Ok(())
                })?;
                list.shrink_to_fit();
                Ok(Value::List(list))
            }
            Some(b'"') => {
                self.count()?;
                self.string().map(Value::Text)
            }
            Some(b'-' | b'0'..=b'9') => {
                self.count()?;
                self.integer().map(Value::Integer)
            }
            _ => {
                self.count()?;
                for (word, value) in [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))] {
                    if self.rest().starts_with(word) {
                        self.at += word.len();
                        return Ok(value);
                    }
                }
                Err(self.not_json("a value should stand here"))
            }
        }
    }

    /// Checks that nothing follows but the one newline (whose absence the comparison finds).
    pub(super) fn end(&mut self) -> Result<(), ManifestError> {
        match self.rest() {
            "" | "\n" => Ok(()),
            _ => Err(ManifestError::TrailingBytes { line: self.line }),
        }
    }

    /// The first byte after white space.
    pub(super) fn next_byte(&mut self) -> Option<u8> {
        self.skip_space();
        self.peek()
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            // A raw newline stands nowhere else in JSON, so counting here is enough.
            self.line += usize::from(self.peek() == Some(b'\n'));
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.next_byte() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, problem: &'static str) -> Result<(), ManifestError> {
        if self.eat(byte) { Ok(()) } else { Err(self.not_json(problem)) }
    }

    fn not_json(&self, problem: &'static str) -> ManifestError {
        ManifestError::NotJson { line: self.line, problem }
    }

    fn enter(&mut self) -> Result<(), ManifestError> {
        self.depth += 1;
        if self.depth > DEPTH { Err(ManifestError::TooDeep) } else { self.count() }
    }

    fn count(&mut self) -> Result<(), ManifestError> {
        self.values += 1;
        if self.values > VALUES { Err(ManifestError::TooManyValues) } else { Ok(()) }
    }

    fn string(&mut self) -> Result<String, ManifestError> {
        self.expect(b'"', "a text in quotes should stand here")?;
        let mut text = String::new();
        loop {
            let run = self.rest().bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(self.rest().len());
            text.push_str(&self.rest()[..run]);
            self.at += run;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                Some(_) => return Err(self.not_json("a control character in a text must be escaped")),
                None => return Err(self.not_json("a text has no end")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, ManifestError> {
        let letter = self.peek();
        self.at += usize::from(letter.is_some_and(|byte| byte.is_ascii()));
        Ok(match letter {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let mut unit = self.code_unit()?;
                if (0xd800..0xdc00).contains(&unit) && self.rest().starts_with("\\u") {
                    self.at += 2;
                    let low = self.code_unit()?;
                    if (0xdc00..0xe000).contains(&low) {
                        unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                    }
                }
                char::from_u32(unit).ok_or_else(|| self.not_json("a \\u escape is half of a character"))?
            }
            _ => return Err(self.not_json("an unknown escape")),
        })
    }

    fn code_unit(&mut self) -> Result<u32, ManifestError> {
        let digits = self.rest().get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or_else(|| self.not_json("four hexadecimal digits should follow \\u"))?;
        self.at += 4;
        Ok(unit)
    }

    fn integer(&mut self) -> Result<Integer, ManifestError> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let digits = self.digits();
        if digits == 0 || (digits > 1 && self.text.as_bytes()[self.at - digits] == b'0') {
            return Err(self.not_json("a number has digits, and none begins with 0"));
        }
        let whole = &self.text[start..self.at];
        if matches!(self.peek(), Some(b'.' | b'e' | b'E')) || whole == "-0" {
            let line = self.line;
            return Err(ManifestError::NotCanonical {
                line,
                problem: "numbers are plain integers, without fraction or exponent",
            });
        }
        whole.parse().ok().and_then(Integer::new).ok_or(ManifestError::NumberTooLarge { line: self.line })
    }

    fn digits(&mut self) -> usize {
        let count = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        self.at += count;
        count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Value, ManifestError> {
        let mut reader = Reader::new(text.as_bytes())?;
        let value = reader.value()?;
        reader.end()?;
        Ok(value)
    }

    /// The same value as another JSON library holds it.
    fn plain(value: &Value) -> serde_json::Value {
        match value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => (*flag).into(),
            Value::Integer(number) => number.value().into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(list) => list.iter().map(plain).collect(),
            Value::Object(fields) => fields.iter().map(|(key, value)| (key.to_owned(), plain(value))).collect(),
        }
    }

    #[test]
    fn broken_text_is_refused_with_its_line() {
        for (text, line) in [
            ("{", 1),
            ("{\n\"a\"", 2),
            ("[1,\n]", 2),
            ("[1 2]", 1),
            ("\"a", 1),
            ("\"a\nb\"", 1),
            ("\"\\x\"", 1),
            ("\"\\é\"", 1),
            ("\"\\u12é\"", 1),
            ("\"\\ud800\"", 1),
            ("\"\\ud800\\u0041\"", 1),
            ("01", 1),
            ("-", 1),
            ("+1", 1),
            ("nul", 1),
            ("\n\nNaN", 3),
            ("'a'", 1),
            ("\u{feff}1", 1),
            ("", 1),
        ] {
            let error = read(text).unwrap_err();
            assert!(matches!(error, ManifestError::NotJson { line: found, .. } if found == line), "{text:?}: {error:?}");
        }
        assert_eq!(Reader::new(b"\n\xff").err(), Some(ManifestError::NotJson { line: 2, problem: "it is not UTF-8" }));
    }

    #[test]
    fn escapes_are_understood() {
        let text = r#""\"\\\/\b\f\n\r\t\u00e9\uD83D\ude00""#;
        assert_eq!(read(text), Ok(Value::Text("\"\\/\u{8}\u{c}\n\r\té😀".to_owned())));
    }

    #[test]
    fn numbers_are_exact_or_refused() {
        assert_eq!(read("-9007199254740992").map(|value| plain(&value)), Ok((-9_007_199_254_740_992_i64).into()));
        for text in ["9007199254740993", "18446744073709551616", "-99999999999999999999999999"] {
            assert_eq!(read(text), Err(ManifestError::NumberTooLarge { line: 1 }), "{text}");
        }
        for text in ["1.0", "1e3", "1E3", "-0", "0.5"] {
            assert!(matches!(read(text), Err(ManifestError::NotCanonical { .. })), "{text}");
        }
    }

    #[test]
    fn depth_and_count_are_bounded() {
        assert!(read(&format!("{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH))).is_ok());
        assert_eq!(read(&format!("{}{}", "[".repeat(DEPTH + 1), "]".repeat(DEPTH + 1))), Err(ManifestError::TooDeep));
        assert_eq!(read(&"[".repeat(1_000_000)), Err(ManifestError::TooDeep));
        assert_eq!(read(&"{\"a\":".repeat(1_000_000)), Err(ManifestError::TooDeep));
        assert_eq!(read(&format!("[{}0]", "0,".repeat(VALUES))), Err(ManifestError::TooManyValues));
    }

    #[test]
    fn keys_are_sorted_and_unique() {
        assert!(matches!(read("{\"a\":1,\n\"a\":2}"), Err(ManifestError::DuplicateKey { line: 2, key }) if key == "a"));
        assert!(matches!(read("{\"a\":1,\"\\u0061\":2}"), Err(ManifestError::DuplicateKey { .. })));
        assert!(matches!(read("{\"b\":1,\"a\":2}"), Err(ManifestError::NotCanonical { .. })));
    }

    proptest! {
        /// The slow oracle: whatever is accepted, another JSON library reads in the same way.
        #[test]
        fn agrees_with_another_library(text in r#"([\[\]{}:, \n]|"[ab\\n"é]{0,2}"|-?[0-9]{1,3}|true|null|\\u00e9|"\\u[0-9d][8c-e][0-9]{2}"){0,12}"#) {
            if let Ok(value) = read(&text) {
                prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).ok(), Some(plain(&value)), "{}", text);
            }
        }

        #[test]
        fn any_text_is_answered(text in any::<String>()) {
            let _ = read(&text);
        }
    }
}
