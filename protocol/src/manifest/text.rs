//! The short texts of a manifest, each parsed into a type that keeps its rules: model name, licence, term, mirror source, free text.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::path::ShardPath;

/// Longest free text: a repository's address or a revision, with room to spare.
const TEXT_BYTES: usize = 512;
/// Longest licence expression; the longest real ones join three or four ids.
const LICENSE_BYTES: usize = 256;
/// Longest term.
const TERM_BYTES: usize = 64;
/// Longest half of a model name: what Hugging Face allows.
const NAME_PART_BYTES: usize = 96;
/// Longest address of a mirror source; with a path of `limits::PATH_BYTES` it stays below what web servers accept (8 KiB).
const MIRROR_BYTES: usize = 1024;

/// The Model Openness Framework's components, as terms for [`openness`](super::Metadata::openness).
pub const COMPONENTS: [&str; 17] = [
    "data_card",
    "data_preprocessing_code",
    "datasets",
    "evaluation_code",
    "evaluation_data",
    "evaluation_results",
    "inference_code",
    "intermediate_weights",
    "model_architecture",
    "model_card",
    "model_metadata",
    "research_paper",
    "sample_outputs",
    "supporting_tools",
    "technical_report",
    "training_code",
    "weights",
];

/// The ways to come from a base model, as Hugging Face's model cards name them.
pub const RELATIONS: [&str; 4] = ["adapter", "finetune", "merge", "quantized"];

/// Why a text cannot stand in its field.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TextError {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Too long.
    #[error("it has {bytes} bytes, at most {limit} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A character that cannot stand there.
    #[error("{found:?} cannot stand there, only {allowed}")]
    Character {
        /// The character.
        found: char,
        /// What can.
        allowed: &'static str,
    },
    /// The right characters in the wrong form.
    #[error("it must be {0}")]
    Form(&'static str),
}

/// Declares a text type with a check that returns the text to keep, and all its conversions.
macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident, $error:ty, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Reads the text, or says which rule it breaks.
            pub fn parse(text: &str) -> Result<Self, $error> {
                $check(text).map(Self)
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }
    };
}
pub(super) use text_newtype;

text_newtype! {
    /// A model's name, `ORG/MODEL`. Both halves are safe as folder names.
    ModelName, TextError, model_name
}

text_newtype! {
    /// A licence: an SPDX id or expression such as `Apache-2.0` or `MIT OR Apache-2.0`. Only its characters are checked: the list of
    /// ids grows, and a manifest must stay readable when it does.
    License, TextError, license
}

text_newtype! {
    /// A lower-case word such as `training_code`, from a list that may grow: an unknown one is kept, not refused.
    Term, TextError, term
}

text_newtype! {
    /// One line of free text without control or invisible characters.
    Text, TextError, free_text
}

text_newtype! {
    /// The address of a mirror source: an HTTP(S) folder under which every shard lies at its path. A final `/` is dropped.
    MirrorUrl, TextError, mirror_url
}

impl ModelName {
    /// The part before the slash.
    pub fn org(&self) -> &str {
        self.0.split_once('/').map_or("", |(org, _)| org)
    }

    /// The part after the slash.
    pub fn model(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, model)| model)
    }
}

impl MirrorUrl {
    /// Where a shard lies: its path below the folder, percent-encoded.
    pub fn shard_url(&self, path: &ShardPath) -> String {
        let mut url = format!("{}/", self.0);
        for byte in path.as_str().bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => url.push(char::from(byte)),
                _ => url.push_str(&format!("%{byte:02X}")),
            }
        }
        url
    }
}

/// Whether a character shows nothing, or changes how its neighbours show: Unicode's default-ignorable code points, line separators and
/// annotation marks. With them two texts look alike, or one looks like another (bidi overrides).
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Not empty, not too long, and every character allowed.
fn check(text: &str, limit: usize, allowed: &'static str, allows: impl Fn(char) -> bool) -> Result<(), TextError> {
    if text.is_empty() {
        return Err(TextError::Empty);
    }
    if text.len() > limit {
        return Err(TextError::TooLong { bytes: text.len(), limit });
    }
    match text.chars().find(|&c| !allows(c)) {
        Some(found) => Err(TextError::Character { found, allowed }),
        None => Ok(()),
    }
}

fn model_name(text: &str) -> Result<String, TextError> {
    const FORM: TextError = TextError::Form("ORG/MODEL");
    let (org, model) = text.split_once('/').ok_or(FORM)?;
    for part in [org, model] {
        let allowed = "letters, digits, '.', '_' and '-'";
        check(part, NAME_PART_BYTES, allowed, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))?;
        let edge = |c| matches!(c, '.' | '-');
        if part.starts_with(edge) || part.ends_with(edge) || part.contains("..") || part.contains("--") {
            return Err(TextError::Form("ORG/MODEL, without '..' or '--', and without '.' or '-' at the start or end of a part"));
        }
    }
    ShardPath::parse(text).map_err(|_| TextError::Form("usable as a folder name on every system"))?;
    Ok(text.to_owned())
}

fn license(text: &str) -> Result<String, TextError> {
    let allowed = "letters, digits, spaces and '.', '-', '+', ':', '(', ')'";
    check(text, LICENSE_BYTES, allowed, |c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | '-' | '+' | ':' | '(' | ')'))?;
    if text.starts_with(' ') || text.ends_with(' ') || text.contains("  ") {
        return Err(TextError::Form("words separated by single spaces"));
    }
    Ok(text.to_owned())
}

fn term(text: &str) -> Result<String, TextError> {
    check(text, TERM_BYTES, "lower-case letters, digits and '_'", |c| matches!(c, 'a'..='z' | '0'..='9' | '_'))?;
    Ok(text.to_owned())
}

fn free_text(text: &str) -> Result<String, TextError> {
    check(text, TEXT_BYTES, "visible characters and spaces", |c| !c.is_control() && !is_invisible(c))?;
    Ok(text.to_owned())
}

fn mirror_url(text: &str) -> Result<String, TextError> {
    let allowed = "the characters of an address, without '?' or '#'";
    check(text, MIRROR_BYTES, allowed, |c| {
        c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}' | '?' | '#')
    })?;
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let rest = rest.ok_or(TextError::Form("an address that begins with http:// or https://"))?;
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        return Err(TextError::Form("an address without a user name or password: manifests are public"));
    }
    if host.is_empty() || host.starts_with(':') {
        return Err(TextError::Form("an address with a host"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_names_are_two_safe_parts() {
        let name = ModelName::parse("Qwen/Qwen2.5-0.5B_x").unwrap();
        assert_eq!((name.org(), name.model()), ("Qwen", "Qwen2.5-0.5B_x"));
        for bad in ["gpt2", "a/b/c", "/b", "a/", "a/..", "a/b--c", "-a/b", "a/b.", "a b/c", "CON/x", "a/aux.v1", "é/b", ""] {
            assert!(ModelName::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(ModelName::parse(&format!("a/{}", "b".repeat(97))), Err(TextError::TooLong { bytes: 97, limit: 96 }));
    }

    #[test]
    fn licences_keep_to_the_characters_of_spdx() {
        for good in ["Apache-2.0", "MIT OR (GPL-2.0+ WITH Classpath-exception-2.0)", "DocumentRef-x:LicenseRef-y"] {
            assert_eq!(License::parse(good).map(String::from).as_deref(), Ok(good));
        }
        for bad in ["", " MIT", "MIT ", "MIT  OR X", "MIT\n", "<b>", &"x".repeat(257)] {
            assert!(License::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn mirrors_are_plain_folders_on_the_web() {
        let mirror = MirrorUrl::parse("https://mirror.example/models/q//").unwrap();
        assert_eq!(mirror.as_str(), "https://mirror.example/models/q");
        let path = ShardPath::parse("a b/ü#1%.bin").unwrap();
        assert_eq!(mirror.shard_url(&path), "https://mirror.example/models/q/a%20b/%C3%BC%231%25.bin");
        for bad in [
            "ftp://x/",
            "//x",
            "https://",
            "https:///x",
            "http://:80/",
            "https://me:pw@x/",
            "https://x/?a",
            "https://x/#a",
            "https://x y/",
        ] {
            assert!(MirrorUrl::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn free_text_hides_nothing() {
        assert!(Text::parse("révision 1 / main").is_ok());
        for bad in ["", "a\nb", "a\u{202e}b", "a\u{200b}b", "\u{feff}a", &"x".repeat(513)] {
            assert!(Text::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_lists_of_terms_are_terms_in_order() {
        assert!(COMPONENTS.is_sorted() && RELATIONS.is_sorted());
        assert!(COMPONENTS.iter().chain(&RELATIONS).all(|text| Term::parse(text).is_ok()));
        assert!(Term::parse("Model Card").is_err());
    }
}
