//! Which files of a model the user wants: `--include` and `--exclude`.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::report::{Failure, FailureKind};

/// Which files the user wants.
pub(crate) struct Chosen {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Chosen {
    /// Whether this file is wanted.
    pub(crate) fn wants(&self, path: &str) -> bool {
        self.include.as_ref().is_none_or(|include| include.is_match(path)) && !self.exclude.is_match(path)
    }
}

/// Reads the globs of a request: only what matches one of the first, if there are any, and none of the second.
pub(crate) fn chosen(include: &[String], exclude: &[String]) -> Result<Chosen, Failure> {
    let set = |flag: &str, globs: &[String]| {
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            let usage = |error: globset::Error| Failure::new(FailureKind::Usage, format!("{flag} {glob:?}: {}", error.kind()));
            set.add(GlobBuilder::new(glob).build().map_err(usage)?);
        }
        set.build().map_err(|error| Failure::new(FailureKind::Usage, format!("{flag}: {error}")))
    };
    let chosen = set("--include", include)?;
    Ok(Chosen { include: (!include.is_empty()).then_some(chosen), exclude: set("--exclude", exclude)? })
}
