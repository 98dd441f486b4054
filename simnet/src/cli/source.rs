//! Where scenarios come from: a file, or the program itself.

use std::fs;
use std::path::Path;

use p2pweights_simnet::file::{FileError, Form, STANDING, ScenarioFile};

use super::failure::Failure;

/// A scenario and what it is called on the command line.
#[derive(Debug, Clone)]
pub struct Source {
    /// As it was given, to be given again.
    pub given: String,
    /// In which form.
    pub form: Form,
    /// What it says.
    pub file: ScenarioFile,
}

impl Source {
    /// The file of this path, or else the standing scenario of this name.
    pub fn load(given: &str, form: Form) -> Result<Self, Failure> {
        let standing =
            STANDING.iter().find(|(name, _)| *name == given || name.split_once('-').is_some_and(|(_, rest)| rest == given));
        let text = match (fs::read_to_string(Path::new(given)), standing) {
            (Ok(text), _) => text,
            (Err(_), Some((_, text))) => (*text).to_owned(),
            (Err(error), None) => {
                let message = format!("cannot read {given}: {error}; standing scenarios are listed by `simnet list`");
                return Err(Failure::Usage(message));
            }
        };
        Ok(Self { given: given.into(), form, file: ScenarioFile::parse(given, &text, form)? })
    }

    /// All standing scenarios.
    pub fn standing(form: Form) -> Result<Vec<Self>, FileError> {
        let source =
            |(name, text): &(&str, &str)| Ok(Self { given: (*name).into(), form, file: ScenarioFile::parse(name, text, form)? });
        STANDING.iter().map(source).collect()
    }

    /// The command that runs one of its seeds again.
    pub fn command(&self, verb: &str, seed: u64) -> String {
        let form = if self.form == Form::Short { " --short" } else { "" };
        format!("simnet {verb} {} --seed {seed}{form}", self.given)
    }
}
