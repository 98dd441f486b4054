//! Where else than into a folder of the user's choice a fetch can put things.

use std::path::PathBuf;

/// The cache of Hugging Face's clients as a place to fetch to.
const HF_CACHE: &str = "hf-cache";

/// A cache that another program keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// That of Hugging Face's clients, in this folder; `None`: where they have it.
    HfCache(Option<PathBuf>),
}

/// Reads a place.
pub(super) fn parse(text: &str) -> Result<Place, String> {
    match text.split_once('=') {
        None if text == HF_CACHE => Ok(Place::HfCache(None)),
        Some((HF_CACHE, folder)) if !folder.is_empty() => Ok(Place::HfCache(Some(PathBuf::from(folder)))),
        _ => Err(format!("{text:?} is no place; there is {HF_CACHE}, or {HF_CACHE}=DIR")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_cache_and_perhaps_its_folder() {
        assert_eq!(parse("hf-cache"), Ok(Place::HfCache(None)));
        assert_eq!(parse("hf-cache=/a=b"), Ok(Place::HfCache(Some(PathBuf::from("/a=b")))));
        for bad in ["", "hf-cache=", "cache", "=x", "HF-CACHE"] {
            assert!(parse(bad).unwrap_err().contains("hf-cache=DIR"), "{bad}");
        }
    }
}
