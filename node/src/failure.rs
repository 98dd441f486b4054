//! From errors to what a person or a script is told: one phrase, and a kind with an exit code.

use std::error::Error;

use p2pweights_protocol::link::LinkError;
use p2pweights_protocol::manifest::ManifestError;

use crate::driver::FlightError;
use crate::identity::IdentityError;
use crate::net::NetError;
use crate::report::{Failure, FailureKind};
use crate::store::{ExportError, PublishError, StoreError};

/// An error and its causes as one phrase. Errors here do not repeat their sources, so each is added once.
pub fn phrase(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // A transparent error shows its source's text as its own.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A failure of ours, caused by an error.
    pub fn internal(error: &(dyn Error + 'static)) -> Self {
        Self::new(FailureKind::Internal, phrase(error))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::Missing(_) => FailureKind::NotFound,
            StoreError::DiskFull { .. }
            | StoreError::OverQuota { .. }
            | StoreError::Io { .. }
            | StoreError::SyncLost(_)
            | StoreError::Damaged { .. } => FailureKind::Disk,
            StoreError::InUse { .. }
            | StoreError::NoLock { .. }
            | StoreError::Newer { .. }
            | StoreError::NotAStore { .. }
            | StoreError::Changed { .. }
            | StoreError::WrongSize { .. }
            | StoreError::TooLarge { .. } => FailureKind::Refused,
            StoreError::Busy(_) | StoreError::AlreadyComplete(_) => FailureKind::Internal,
        };
        Self::new(kind, phrase(&error))
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Store(error) => error.into(),
            error => Self::new(FailureKind::Refused, phrase(&error)),
        }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Store(error) => error.into(),
            error => Self::new(FailureKind::Refused, phrase(&error)),
        }
    }
}

impl From<NetError> for Failure {
    fn from(error: NetError) -> Self {
        let kind = match &error {
            NetError::Network(_) | NetError::PeerAddress { .. } => FailureKind::Usage,
            _ => FailureKind::Network,
        };
        Self::new(kind, phrase(&error))
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        Self::new(FailureKind::Disk, phrase(&error))
    }
}

impl From<FlightError> for Failure {
    fn from(error: FlightError) -> Self {
        let kind = match &error {
            FlightError::Taken { .. } => FailureKind::Refused,
            FlightError::Write { .. } => FailureKind::Disk,
        };
        Self::new(kind, phrase(&error))
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Self::new(FailureKind::Usage, phrase(&error))
    }
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        Self::new(FailureKind::Refused, format!("the manifest is refused: {}", phrase(&error)))
    }
}
