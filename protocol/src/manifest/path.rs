//! Paths of shards: parsed into a type that cannot leave its folder and means the same file on every system. Touches no disk.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::text::{is_invisible, text_newtype};
use crate::limits;

/// Names that Windows gives to devices, in any case and with any extension.
const RESERVED: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];
/// Characters of a path shown in an error: a hostile path can be as long as the manifest.
const EXCERPT_CHARS: usize = 200;

/// A path that no manifest may hold, and why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the path {path:?} {problem}")]
pub struct PathError {
    /// The path, shortened if very long.
    pub path: String,
    /// What is wrong with it.
    pub problem: PathProblem,
}

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PathProblem {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// Too many bytes.
    #[error("has more than {} bytes", limits::PATH_BYTES)]
    TooLong,
    /// Too many bytes between two slashes.
    #[error("has a component of more than {} bytes", limits::PATH_COMPONENT_BYTES)]
    ComponentTooLong,
    /// Begins with a slash.
    #[error("is absolute; it must be relative to the model's folder")]
    Absolute,
    /// Begins with a drive letter.
    #[error("begins with a drive letter")]
    Drive,
    /// A backslash, which Windows takes for a separator.
    #[error("has a backslash; components are separated by '/'")]
    Backslash,
    /// Two slashes in a row, or one at the end.
    #[error("has an empty component")]
    EmptyComponent,
    /// A component `.`.
    #[error("has a component '.'")]
    Dot,
    /// A component `..`.
    #[error("has a component '..', which leaves the folder")]
    DotDot,
    /// A control character.
    #[error("has the control character {0:?}")]
    Control(char),
    /// A character that is not seen, or changes how others are seen.
    #[error("has the invisible character {0:?}")]
    Invisible(char),
    /// A character that some file system refuses or reads in its own way.
    #[error("has the character {0:?}, which some systems cannot store")]
    Character(char),
    /// A dot or space at the end of a component, which Windows drops.
    #[error("has a component that ends with a dot or a space")]
    TrailingDotOrSpace,
    /// A device name of Windows.
    #[error("has a component that Windows reserves for a device")]
    Reserved,
    /// Not in Unicode's composed form.
    #[error("is not in Unicode normalisation form C; two spellings of one name would collide")]
    NotNormalised,
}

text_newtype! {
    /// The path of a shard: relative, separated by `/`, in NFC, and safe to join to any folder on any system.
    ShardPath, PathError, checked
}

impl ShardPath {
    /// The names between the slashes; at least one.
    pub fn components(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.split('/')
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// What remains when case and normalisation are ignored: two paths with one key can be one file on some disk. Folding through upper
    /// case catches what plain lower case misses (`ß` and `SS`, `ſ` and `s`, both small sigmas).
    pub fn collision_key(&self) -> String {
        folded(&self.0)
    }
}

/// How the paths of two shards get in each other's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collision {
    /// They are the same.
    Same,
    /// They, or two folders in them, differ only in case.
    Twins,
    /// The first is a file where the second needs a folder.
    FileAndFolder,
}

/// Looks for a pair of paths that cannot lie in one folder on every disk; `paths` in any order. Gives their indices.
pub(super) fn collision(paths: &[&ShardPath]) -> Option<(usize, usize, Collision)> {
    // With '/' below every other character, all that lies in a folder follows it directly, so neighbours tell everything.
    let mut keyed: Vec<(String, usize)> =
        paths.iter().enumerate().map(|(index, path)| (path.collision_key().replace('/', "\0"), index)).collect();
    keyed.sort_unstable();
    keyed.windows(2).find_map(|pair| {
        let (first, second) = (pair[0].1, pair[1].1);
        between(paths[first], paths[second]).map(|collision| (first, second, collision))
    })
}

fn between(first: &ShardPath, second: &ShardPath) -> Option<Collision> {
    let (mut left, mut right) = (first.components(), second.components());
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Some(Collision::Same),
            (None, Some(_)) => return Some(Collision::FileAndFolder),
            // In key order the shorter of two nested paths comes first.
            (Some(_), None) => return None,
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) if folded(a) == folded(b) => {
                let nested = left.clone().next().is_none() != right.clone().next().is_none();
                return Some(if nested { Collision::FileAndFolder } else { Collision::Twins });
            }
            (Some(_), Some(_)) => return None,
        }
    }
}

fn folded(text: &str) -> String {
    // Nearly every path is ASCII, where the long way gives the same.
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.nfd().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfc().collect()
}

fn checked(text: &str) -> Result<String, PathError> {
    match problem(text) {
        None => Ok(text.to_owned()),
        Some(problem) => Err(PathError { path: excerpt(text), problem }),
    }
}

fn problem(text: &str) -> Option<PathProblem> {
    if text.is_empty() {
        return Some(PathProblem::Empty);
    }
    if text.len() > limits::PATH_BYTES {
        return Some(PathProblem::TooLong);
    }
    if text.starts_with('/') {
        return Some(PathProblem::Absolute);
    }
    if matches!(text.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic()) {
        return Some(PathProblem::Drive);
    }
    text.chars().find_map(character_problem).or_else(|| text.split('/').find_map(component_problem)).or_else(|| {
        let normalised = is_nfc(text);
        (!normalised).then_some(PathProblem::NotNormalised)
    })
}

fn character_problem(c: char) -> Option<PathProblem> {
    match c {
        '\\' => Some(PathProblem::Backslash),
        ':' | '<' | '>' | '"' | '|' | '?' | '*' => Some(PathProblem::Character(c)),
        _ if c.is_control() => Some(PathProblem::Control(c)),
        _ if is_invisible(c) => Some(PathProblem::Invisible(c)),
        _ => None,
    }
}

fn component_problem(component: &str) -> Option<PathProblem> {
    match component {
        "" => Some(PathProblem::EmptyComponent),
        "." => Some(PathProblem::Dot),
        ".." => Some(PathProblem::DotDot),
        _ if component.len() > limits::PATH_COMPONENT_BYTES => Some(PathProblem::ComponentTooLong),
        _ if component.ends_with(['.', ' ']) => Some(PathProblem::TrailingDotOrSpace),
        _ if is_reserved(component) => Some(PathProblem::Reserved),
        _ => None,
    }
}

/// Whether Windows opens a device instead of a file: `CON`, `con.txt`, `COM1 .log`, and the ports with a superscript digit.
fn is_reserved(component: &str) -> bool {
    let stem = component.split('.').next().unwrap_or_default().trim_end_matches(' ').to_ascii_lowercase();
    let port = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt"));
    let digit = |text: &str| matches!(text, "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³");
    RESERVED.contains(&stem.as_str()) || port.is_some_and(digit)
}

/// The beginning of a text, for an error.
pub(super) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> ShardPath {
        text.parse().unwrap()
    }

    #[test]
    fn ordinary_paths_are_kept_as_they_are() {
        for good in [
            "a",
            "model-00001-of-00002.safetensors",
            "a/b/c.json",
            ".gitattributes",
            "..a",
            "a b",
            "日本語/ü.txt",
            "com10",
            "console",
            "nul-1",
            "com0",
        ] {
            assert_eq!(ShardPath::parse(good).map(String::from).as_deref(), Ok(good));
        }
        assert_eq!(path("a/b.c").file_name(), "b.c");
    }

    #[test]
    fn every_dangerous_path_is_refused_for_its_own_reason() {
        use PathProblem::*;
        let long_component = "x".repeat(256);
        let long_path = "x/".repeat(512) + "x";
        for (text, problem) in [
            ("", Empty),
            ("..", DotDot),
            ("a/../b", DotDot),
            ("a/..", DotDot),
            (".", Dot),
            ("./a", Dot),
            ("a//b", EmptyComponent),
            ("a/", EmptyComponent),
            ("/etc/passwd", Absolute),
            ("//server/share", Absolute),
            ("C:/x", Drive),
            ("c:x", Drive),
            ("C:", Drive),
            ("a\\b", Backslash),
            ("\\\\?\\C:\\x", Backslash),
            ("ab:stream", Character(':')),
            ("a<b", Character('<')),
            ("a>b", Character('>')),
            ("a\"b", Character('"')),
            ("a|b", Character('|')),
            ("a?b", Character('?')),
            ("a*b", Character('*')),
            ("a\0b", Control('\0')),
            ("a\nb", Control('\n')),
            ("a\u{7f}b", Control('\u{7f}')),
            ("a\u{85}b", Control('\u{85}')),
            ("a\u{202e}gpj.exe", Invisible('\u{202e}')),
            ("a\u{200b}b", Invisible('\u{200b}')),
            ("a\u{feff}", Invisible('\u{feff}')),
            ("a\u{2066}b", Invisible('\u{2066}')),
            ("a\u{fe0f}", Invisible('\u{fe0f}')),
            ("a.", TrailingDotOrSpace),
            ("a /b", TrailingDotOrSpace),
            ("...", TrailingDotOrSpace),
            ("CON", Reserved),
            ("x/nul", Reserved),
            ("Aux.txt", Reserved),
            ("prn.tar.gz", Reserved),
            ("COM1", Reserved),
            ("lpt9.log", Reserved),
            ("com¹", Reserved),
            ("CONIN$", Reserved),
            ("conout$.x", Reserved),
            ("nul .txt", Reserved),
            ("u\u{308}.txt", NotNormalised),
            (&long_component, ComponentTooLong),
            (&long_path, TooLong),
        ] {
            assert_eq!(ShardPath::parse(text).map_err(|error| error.problem), Err(problem), "{text:?}");
        }
    }

    #[test]
    fn the_limits_themselves_are_allowed() {
        assert!(ShardPath::parse(&"x".repeat(255)).is_ok());
        assert!(ShardPath::parse(&format!("xx/{}x", "x/".repeat(510))).is_ok());
    }

    #[test]
    fn an_error_shows_the_path_escaped_and_short() {
        let error = ShardPath::parse("a\u{202e}\n/../b").unwrap_err();
        assert_eq!(error.to_string(), "the path \"a\\u{202e}\\n/../b\" has the invisible character '\\u{202e}'");
        assert!(ShardPath::parse(&"é".repeat(1_000_000)).unwrap_err().to_string().len() < 1000);
    }

    #[test]
    fn collisions_are_found_and_named() {
        for (a, b, expected) in [
            ("a/b", "a/b", Some(Collision::Same)),
            ("README", "readme", Some(Collision::Twins)),
            ("Straße", "STRASSE", Some(Collision::Twins)),
            ("ΟΔΟΣ", "οδος", Some(Collision::Twins)),
            ("ſ", "S", Some(Collision::Twins)),
            ("Ärger", "ärger", Some(Collision::Twins)),
            ("Dir/x", "dir/y", Some(Collision::Twins)),
            ("a", "a/b", Some(Collision::FileAndFolder)),
            ("A", "a/b", Some(Collision::FileAndFolder)),
            ("x/A", "x/a/b/c", Some(Collision::FileAndFolder)),
            ("a", "a.b", None),
            ("a/b", "a/c", None),
            ("a", "b/a", None),
        ] {
            let (first, second) = (path(a), path(b));
            for pair in [[&first, &second], [&second, &first]] {
                assert_eq!(collision(&pair).map(|found| found.2), expected, "{a:?} {b:?}");
            }
        }
        let paths: Vec<ShardPath> = ["a", "a!", "a-b", "a.b/c", "a/z"].into_iter().map(path).collect();
        let (file, within, kind) = collision(&paths.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!((file, within, kind), (0, 4, Collision::FileAndFolder));
    }

    proptest! {
        #[test]
        fn what_parses_cannot_escape(text in r#"([a-cA-C.~:/\\ \u{0}-\u{20}ü*]|con|nul|\.\.){0,12}"#) {
            if let Ok(path) = ShardPath::parse(&text) {
                prop_assert_eq!(path.as_str(), text.as_str());
                let joined = std::path::Path::new("/folder").join(path.as_str());
                prop_assert!(joined.components().skip(2).all(|part| matches!(part, std::path::Component::Normal(_))));
                prop_assert!(path.components().all(|part| !part.is_empty()));
            }
        }

        /// The slow oracle: compare every pair, folder by folder.
        #[test]
        fn neighbours_tell_everything(texts in prop::collection::vec("[abAB.]{1,2}[ab](/[abAB]{1,2}){0,2}", 1..12)) {
            let paths: Vec<ShardPath> = texts.iter().filter_map(|text| ShardPath::parse(text).ok()).collect();
            let slow = paths.iter().enumerate().any(|(i, a)| paths.iter().skip(i + 1).any(|b| {
                let (mut left, mut right) = (a.components(), b.components());
                loop {
                    match (left.next(), right.next()) {
                        (Some(x), Some(y)) if x == y => {}
                        (Some(x), Some(y)) => break x.to_lowercase() == y.to_lowercase(),
                        _ => break true,
                    }
                }
            }));
            prop_assert_eq!(collision(&paths.iter().collect::<Vec<_>>()).is_some(), slow);
        }

        #[test]
        fn any_text_is_answered(text in any::<String>()) {
            let _ = ShardPath::parse(&text).map(|path| path.collision_key());
        }
    }
}
