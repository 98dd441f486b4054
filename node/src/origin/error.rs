//! What can go wrong with an origin, and whether it is worth asking again. Texts never show an address's query: it may be a signature.

use std::error::Error;
use std::time::Duration;

use reqwest::StatusCode;
use thiserror::Error;
use url::Url;

use super::guard::Forbidden;

/// Why an origin gave nothing.
#[derive(Debug, Error)]
pub enum OriginError {
    /// The HTTP client could not be made: the system's certificates, usually.
    #[error("no HTTP client could be made")]
    Client(#[source] reqwest::Error),
    /// Not an address that can be asked.
    #[error("{shown:?} is no address of an origin: {problem}")]
    Address {
        /// The address, without its query.
        shown: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A token that cannot stand in a header.
    #[error("the token has characters that no token has")]
    Token,
    /// Within this machine or its network.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// One redirect after the other.
    #[error("{shown} redirects more than {} times", super::REDIRECTS)]
    Redirects {
        /// Where it began.
        shown: String,
    },
    /// A redirect that is not followed.
    #[error("{shown} redirects to {target:?}: {problem}")]
    Redirect {
        /// Who redirects.
        shown: String,
        /// Where to.
        target: String,
        /// Why it is not followed.
        problem: &'static str,
    },
    /// It did not answer at all.
    #[error("{shown} cannot be reached")]
    Connect {
        /// The address.
        shown: String,
        /// What the system said.
        source: reqwest::Error,
    },
    /// It answered with something else than what was asked for.
    #[error("{shown} answers {status}{}", said.as_ref().map(|said| format!(" ({said})")).unwrap_or_default())]
    Status {
        /// The address.
        shown: String,
        /// Its answer.
        status: StatusCode,
        /// What it says of it, for a person: a stranger's text, made safe to print.
        said: Option<String>,
        /// When to ask again, if it says so.
        retry_after: Option<Duration>,
    },
    /// A header that contradicts what was asked for.
    #[error("{shown} gives another part than was asked for: {problem}")]
    Part {
        /// The address.
        shown: String,
        /// What is wrong.
        problem: String,
    },
    /// The body broke off.
    #[error("{shown} broke off")]
    Body {
        /// The address.
        shown: String,
        /// What the connection said.
        source: reqwest::Error,
    },
    /// The body ended early, and its head had not said how long it would be.
    #[error("{shown} ended {missing} bytes early")]
    Short {
        /// The address.
        shown: String,
        /// How much is missing.
        missing: u64,
    },
    /// More than is taken into memory.
    #[error("{shown} sends more than {limit} bytes")]
    TooLarge {
        /// The address.
        shown: String,
        /// The limit.
        limit: u64,
    },
    /// Nothing came for too long, or next to nothing.
    #[error("{shown} was silent for {} s, or nearly so", after.as_secs())]
    Silent {
        /// The address.
        shown: String,
        /// How long.
        after: Duration,
    },
}

/// Whether to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The answer will not change.
    Never,
    /// The next attempt may do better; not before this time, if the origin gave one.
    After(Option<Duration>),
}

impl OriginError {
    /// Whether to ask again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Connect { .. } | Self::Body { .. } | Self::Short { .. } | Self::Silent { .. } => Retry::After(None),
            Self::Status { status, retry_after, .. } => match status.as_u16() {
                408 | 425 | 429 | 500 | 502..=504 => Retry::After(*retry_after),
                _ => Retry::Never,
            },
            _ => Retry::Never,
        }
    }

    /// Sorts what the HTTP client says: it hides whom the resolver refused in its causes.
    pub(super) fn of_request(url: &Url, error: reqwest::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = error.source();
        while let Some(inner) = cause {
            if let Some(forbidden) = inner.downcast_ref::<Forbidden>() {
                return Self::Forbidden(forbidden.clone());
            }
            cause = inner.source();
        }
        Self::Connect { shown: shown(url), source: error.without_url() }
    }
}

/// An address as it may be shown: without query, user and fragment.
pub fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}
