//! Why a request is not answered with what it asked for, in the words that a Hub's clients understand: they go by a header, not by the text.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::model::Nameless;
use crate::report::Failure;

const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
const ERROR_MESSAGE: HeaderName = HeaderName::from_static("x-error-message");
pub(super) const REPO_COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");

/// After how many seconds it is worth asking again for what is not here yet.
const RETRY_AFTER_S: u64 = 1;
/// Longest text of an error in a header.
const MESSAGE_BYTES: usize = 512;

/// A refusal.
#[derive(Debug)]
pub enum Refusal {
    /// No model of that name, or no repository of that kind.
    NoModel,
    /// The model has no such branch or commit.
    NoRevision(String),
    /// The revision has no such file or folder.
    NoEntry {
        /// The path.
        path: String,
        /// The revision's commit, without which clients cannot remember it.
        commit: String,
    },
    /// The registry's model has no such tag.
    NoTag(String),
    /// Not one of our routes.
    Nothing,
    /// Not to be read.
    Malformed(&'static str),
    /// Called by a name that is not ours.
    WrongHost,
    /// Such a thing is not done to it.
    Method,
    /// The manifest is not here yet, and being looked for.
    NotYet,
    /// Too many ask for listings.
    Crowded,
    /// A file of it has no name that clients know.
    Nameless(Nameless),
    /// It could not be got.
    Failed(Failure),
}

impl From<Nameless> for Refusal {
    fn from(nameless: Nameless) -> Self {
        Self::Nameless(nameless)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let not_found = StatusCode::NOT_FOUND;
        let (status, code, message) = match &self {
            Self::NoModel => (not_found, Some("RepoNotFound"), "Repository not found".to_owned()),
            Self::NoRevision(revision) => (not_found, Some("RevisionNotFound"), format!("Invalid rev id: {revision}")),
            Self::NoEntry { path, .. } => (not_found, Some("EntryNotFound"), format!("{path} is not there")),
            Self::NoTag(tag) => {
                let message = format!(
                    "no .gguf file of this model ends in {tag:?}, or it is split into parts, which a registry cannot give"
                );
                (StatusCode::BAD_REQUEST, None, message)
            }
            Self::Nothing => (not_found, None, "not found".to_owned()),
            Self::Malformed(what) => (StatusCode::BAD_REQUEST, None, (*what).to_owned()),
            Self::WrongHost => {
                let message = "this gateway is not called by that name; the setting gateway.hosts names those it is called by";
                (StatusCode::MISDIRECTED_REQUEST, None, message.to_owned())
            }
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, None, "method not allowed".to_owned()),
            Self::NotYet => (StatusCode::SERVICE_UNAVAILABLE, None, "looked for among the peers; ask again".to_owned()),
            Self::Crowded => (StatusCode::SERVICE_UNAVAILABLE, None, "too many listings are being sent; ask again".to_owned()),
            Self::Nameless(nameless) => (StatusCode::UNPROCESSABLE_ENTITY, None, nameless.to_string()),
            Self::Failed(failure) => (StatusCode::GATEWAY_TIMEOUT, None, failure.message.clone()),
        };
        let mut response = (status, Json(json!({ "error": message }))).into_response();
        let headers = response.headers_mut();
        headers.insert(ERROR_MESSAGE, ascii(&message));
        if let Some(code) = code {
            headers.insert(ERROR_CODE, HeaderValue::from_static(code));
        }
        match self {
            Self::NoEntry { commit, .. } => {
                headers.insert(REPO_COMMIT, ascii(&commit));
            }
            Self::NotYet | Self::Crowded => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER_S.into());
            }
            _ => (),
        }
        response
    }
}

/// A text as a header can carry it: what is not plain ASCII becomes a question mark.
pub fn ascii(text: &str) -> HeaderValue {
    let plain: String = text.chars().take(MESSAGE_BYTES).map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
    HeaderValue::from_str(&plain).expect("printable ASCII can stand in a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_learn_what_is_missing_from_headers_that_are_ascii() {
        let response = Refusal::NoEntry { path: "ü\n.json".to_owned(), commit: "c".repeat(40) }.into_response();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()[ERROR_CODE], "EntryNotFound");
        assert_eq!(response.headers()[ERROR_MESSAGE], "??.json is not there");
        assert_eq!(response.headers()[REPO_COMMIT], "c".repeat(40).as_str());
        let response = Refusal::NoRevision("x".repeat(9000)).into_response();
        assert!(response.headers()[ERROR_MESSAGE].len() <= MESSAGE_BYTES);
        assert!(!response.headers().contains_key(REPO_COMMIT));
        assert_eq!(Refusal::NotYet.into_response().headers()[header::RETRY_AFTER], "1");
    }
}
