//! Why a command ended badly: a kind for the exit code, a phrase, and a hint what to do.

use std::io;

use p2pweights_node::report::{Failure, FailureKind};

/// Why a command ended badly.
#[derive(Debug, Clone)]
pub enum CommandError {
    /// It failed.
    Failed {
        /// The kind and the phrase.
        failure: Failure,
        /// What to do about it, where the phrase does not say.
        hint: Option<String>,
    },
    /// Whoever read our output has gone (`… | head`): nothing left to do, and nobody to tell.
    OutputClosed,
}

impl CommandError {
    /// A failure of this kind.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self::from(Failure { kind, message: message.into() })
    }

    /// The order makes no sense as given.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Usage, message)
    }

    /// Our fault, or nobody's.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Internal, message)
    }

    /// The disk's fault: what was being done there, and what came of it.
    pub fn disk(doing: &str, error: &io::Error) -> Self {
        Self::new(FailureKind::Disk, format!("cannot {doing}: {error}"))
    }

    /// The same with a hint, unless there is one already.
    pub fn or_hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Failed { hint, .. } = &mut self {
            hint.get_or_insert(text.into());
        }
        self
    }

    /// The kind, if it failed.
    pub fn kind(&self) -> Option<FailureKind> {
        match self {
            Self::Failed { failure, .. } => Some(failure.kind),
            Self::OutputClosed => None,
        }
    }
}

impl From<Failure> for CommandError {
    fn from(failure: Failure) -> Self {
        Self::Failed { failure, hint: None }
    }
}
