//! What an origin's fault says about a mirror. Pure.

use std::time::Duration;

use crate::failure::phrase;
use crate::origin::{OriginError, Retry};

/// What follows from a fault.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The connection broke: it may be tried again.
    Broken,
    /// It wants to be left alone, for so long if it said so.
    Busy(Option<Duration>),
    /// This file is not there, or another one is.
    Lacks,
    /// It leads where we do not go, or is no web server.
    Useless(String),
}

impl Verdict {
    /// Of a fault.
    pub fn of(error: &OriginError) -> Self {
        match error {
            OriginError::Connect { .. } | OriginError::Body { .. } | OriginError::Short { .. } | OriginError::Silent { .. } => {
                Self::Broken
            }
            OriginError::Status { .. } => match error.retry() {
                Retry::After(wait) => Self::Busy(wait),
                Retry::Never => Self::Lacks,
            },
            OriginError::Part { .. } | OriginError::TooLarge { .. } => Self::Lacks,
            OriginError::Client(_)
            | OriginError::Address { .. }
            | OriginError::Token
            | OriginError::Forbidden(_)
            | OriginError::Redirects { .. }
            | OriginError::Redirect { .. } => Self::Useless(phrase(error)),
        }
    }
}
