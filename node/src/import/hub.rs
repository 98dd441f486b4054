//! A hub's API as an import needs it: the commit behind a revision, the listing of a commit, the address of a file. Everything in it is a
//! stranger's word, read into types that cannot be wrong. Knows no store; the contract is Hugging Face's.

use std::collections::BTreeSet;
use std::fmt;

use p2pweights_protocol::ids::GitOid;
use p2pweights_protocol::limits;
use p2pweights_protocol::manifest::ShardPath;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::retry::Pauses;
use crate::failure::phrase;
use crate::fetch::Chosen;
use crate::origin::{Answer, ByteRange, Credentials, OriginClient, OriginError, printable, shown};
use crate::report::{Failure, FailureKind, ImportRequest};
use crate::store::FileId;

/// Longest answer of the API: a page of a thousand files takes some 400 KiB, a repository without pages is all one.
const ANSWER_BYTES: u64 = 64 << 20;
/// Most pages of one listing: of the usual thousand files each, more than a manifest holds.
const PAGES: usize = 1024;
/// Longest revision: what git allows in a file name.
const REVISION_BYTES: usize = 255;

/// What stays as it is in a segment of an address.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same in a path.
const PATH: &AsciiSet = &SEGMENT.remove(b'/');

/// A repository of a hub, at one revision.
#[derive(Debug)]
pub(super) struct Hub {
    client: OriginClient,
    credentials: Option<Credentials>,
    /// Without a slash at its end.
    endpoint: String,
    repo: String,
    revision: String,
}

/// What a revision is.
#[derive(Debug)]
pub(super) struct Info {
    /// The commit.
    pub(super) commit: Commit,
    pub(super) gated: bool,
    pub(super) private: bool,
    /// What the hub has read in the model's card.
    pub(super) card: Value,
    /// What it has made of that.
    pub(super) tags: Vec<String>,
}

/// A commit's id: 40 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit(GitOid);

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A file in a listing.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) path: ShardPath,
    pub(super) id: FileId,
    pub(super) size: u64,
}

/// An entry of a listing as it comes.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

fn refused(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Refused, message)
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Usage, message)
}

/// The endpoint as an address.
pub(super) fn endpoint(text: &str) -> Result<Url, Failure> {
    let wrong = || usage(format!("{text:?} is no endpoint such as https://huggingface.co"));
    let url: Url = text.parse().map_err(|_| wrong())?;
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) || !plain {
        return Err(wrong());
    }
    Ok(url)
}

/// A repository's name, as hubs allow it: it becomes part of addresses and names of folders.
fn check_repo(repo: &str) -> Result<(), Failure> {
    let good = |part: &str| {
        (1..=96).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
            && !part.contains("..")
            && !part.contains("--")
            && !part.starts_with(['.', '-'])
            && !part.ends_with(['.', '-'])
    };
    let parts: Vec<&str> = repo.split('/').collect();
    if parts.len() <= 2 && parts.iter().all(|part| good(part)) {
        return Ok(());
    }
    Err(usage(format!("{repo:?} is no repository such as ORG/MODEL")))
}

impl Hub {
    /// The repository that a request names.
    pub(super) fn new(client: OriginClient, request: &ImportRequest) -> Result<Self, Failure> {
        let url = endpoint(&request.endpoint)?;
        check_repo(&request.repo)?;
        let revision = &request.revision;
        if revision.is_empty() || revision.len() > REVISION_BYTES || revision.chars().any(char::is_control) {
            return Err(usage(format!("{revision:?} is no branch, tag or commit")));
        }
        let credentials = request.token.as_ref().map(|token| Credentials::new(&url, &token.0)).transpose();
        let credentials = credentials.map_err(|error| usage(phrase(&error)))?;
        let endpoint = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { client, credentials, endpoint, repo: request.repo.clone(), revision: revision.clone() })
    }

    /// Where the repository is, for people and for the manifest.
    pub(super) fn address(&self) -> String {
        format!("{}/{}", self.endpoint, self.repo)
    }

    fn url(&self, rest: &str) -> Result<Url, Failure> {
        format!("{}/{rest}", self.endpoint).parse().map_err(|_| usage(format!("{:?} is no endpoint", self.endpoint)))
    }

    /// The commit that the revision is at.
    pub(super) async fn info(&self) -> Result<Info, Failure> {
        let revision = utf8_percent_encode(&self.revision, SEGMENT);
        let url = self.url(&format!("api/models/{}/revision/{revision}", self.repo))?;
        let (info, _) = self.json(&url).await?;
        let Value::Object(mut info) = info else { return Err(self.nonsense(&url, "it is no object")) };
        let commit = info.get("sha").and_then(Value::as_str).and_then(|sha| sha.parse().ok()).map(Commit);
        let commit = commit.ok_or_else(|| self.nonsense(&url, "it names no commit of 40 hexadecimal digits"))?;
        if self.revision.parse::<GitOid>().is_ok_and(|asked| asked != commit.0) {
            return Err(refused(format!(
                "{}: asked for commit {}, the hub answers with commit {commit}",
                self.address(),
                self.revision
            )));
        }
        let flag = |value: Option<&Value>| value.is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false)));
        let tags = info.get("tags").and_then(Value::as_array).into_iter().flatten();
        Ok(Info {
            commit,
            gated: flag(info.get("gated")),
            private: flag(info.get("private")),
            tags: tags.filter_map(Value::as_str).map(str::to_owned).collect(),
            card: info.remove("cardData").unwrap_or(Value::Null),
        })
    }

    /// The files of a commit that are wanted, page by page.
    pub(super) async fn listing(&self, commit: &Commit, chosen: &Chosen) -> Result<Vec<Listed>, Failure> {
        let mut url = self.url(&format!("api/models/{}/tree/{commit}?recursive=true&expand=false", self.repo))?;
        let (mut seen, mut files) = (BTreeSet::new(), Vec::new());
        loop {
            if !seen.insert(url.clone()) || seen.len() > PAGES {
                return Err(self.nonsense(&url, "its pages go round in circles"));
            }
            let (page, next) = self.json(&url).await?;
            let page: Vec<Entry> =
                serde_json::from_value(page).map_err(|error| self.nonsense(&url, &format!("it is no listing: {error}")))?;
            for entry in page.into_iter().filter(|entry| entry.kind == "file" && chosen.wants(&entry.path)) {
                if files.len() == limits::MANIFEST_FILES {
                    return Err(refused(format!("{} has more than {} files", self.address(), limits::MANIFEST_FILES)));
                }
                files.push(self.listed(entry)?);
            }
            match next {
                None => return Ok(files),
                // Only where on the host: which host is not for a page to say.
                Some(next) => {
                    url.set_path(next.path());
                    url.set_query(next.query());
                }
            }
        }
    }

    fn listed(&self, entry: Entry) -> Result<Listed, Failure> {
        let shown = printable(&entry.path);
        let wrong = |why: String| refused(format!("{}: {shown:?} in the listing: {why}", self.address()));
        if entry.path.split('/').any(|part| part == ".git") {
            return Err(wrong("a file of git's own".to_owned()));
        }
        let path = ShardPath::parse(&entry.path).map_err(|error| refused(format!("{}: {}", self.address(), phrase(&error))))?;
        let (id, size) = match entry.lfs {
            Some(lfs) => (lfs.oid.parse().map(FileId::Sha256), lfs.size),
            None => (entry.oid.parse().map(FileId::Git), entry.size),
        };
        let id = id.map_err(|error| wrong(phrase(&error)))?;
        if size > limits::BLOB_BYTES {
            return Err(wrong(format!("{size} bytes are more than a file may have")));
        }
        Ok(Listed { path, id, size })
    }

    /// Asks for a file from a byte on. What answers in the end, if it answers with bytes of this file, of this size, at this commit.
    pub(super) async fn file(&self, commit: &Commit, file: &Listed, first: u64) -> Result<(Answer, u64), FileTrouble> {
        let path = utf8_percent_encode(file.path.as_str(), PATH);
        let url = self.url(&format!("{}/resolve/{commit}/{path}", self.repo)).map_err(FileTrouble::Lie)?;
        let range = ByteRange::from(first);
        let answer = self.client.get(&url, (first > 0).then_some(range), self.credentials.as_ref()).await?;
        let lie = |what: String| FileTrouble::Lie(refused(format!("{}: {what}", file.path)));
        if let Some(other) = answer.first_header("x-repo-commit").filter(|other| *other != commit.to_string()) {
            return Err(lie(format!("the hub answers with commit {:?}, asked for was {commit}", printable(other))));
        }
        if answer.status() == 416 {
            return Err(lie(format!("the hub says that it ends before byte {first}, the listing gives it {} bytes", file.size)));
        }
        let part = answer.part(range)?;
        let linked = answer.first_header("x-linked-size").and_then(|size| size.parse().ok());
        if let Some(size) = [part.size, linked].into_iter().flatten().find(|size| *size != file.size) {
            let page = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok());
            let page = if page.is_some_and(|kind| kind.starts_with("text/html")) { "an HTML page of " } else { "" };
            return Err(lie(format!("the hub sends {page}{size} bytes, its listing says {}", file.size)));
        }
        Ok((answer, part.first))
    }

    /// Whether an address, as it is shown, is the hub's own.
    pub(super) fn is_own(&self, shown: &str) -> bool {
        shown.strip_prefix(&self.endpoint).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Asks the API, patiently; gives the next page's address, too.
    async fn json(&self, url: &Url) -> Result<(Value, Option<Url>), Failure> {
        let mut pauses = Pauses::default();
        loop {
            let error = match self.json_once(url).await {
                Ok(answer) => return answer,
                Err(error) => error,
            };
            match pauses.next(error.retry()) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(self.failure(error)),
            }
        }
    }

    async fn json_once(&self, url: &Url) -> Result<Result<(Value, Option<Url>), Failure>, OriginError> {
        let answer = self.client.get(url, None, self.credentials.as_ref()).await?;
        let next = answer.headers().get("link").and_then(|link| next_page(url, link.to_str().ok()?));
        let body = answer.whole(ANSWER_BYTES).await?;
        Ok(match serde_json::from_slice(&body) {
            Ok(value) => Ok((value, next)),
            Err(_) => Err(self.nonsense(url, "it is no JSON")),
        })
    }

    fn nonsense(&self, url: &Url, why: &str) -> Failure {
        refused(format!("{} does not answer as a hub does: {why}", shown(url)))
    }

    /// What the user is told of an answer that is none.
    pub(super) fn failure(&self, error: OriginError) -> Failure {
        let OriginError::Status { status, .. } = &error else {
            let kind = match &error {
                OriginError::Connect { .. }
                | OriginError::Silent { .. }
                | OriginError::Body { .. }
                | OriginError::Short { .. } => FailureKind::Network,
                _ => FailureKind::Refused,
            };
            return Failure::new(kind, phrase(&error));
        };
        let advice = match (status.as_u16(), &self.credentials) {
            (401 | 403, None) => "; it is gated or private: ask the hub for access and give a token with --token-env",
            (401 | 403, Some(_)) => "; the token has no access: ask the hub for it",
            (404, None) => "; check name and revision, and give a token with --token-env if it is private",
            _ => "",
        };
        let kind = match status.as_u16() {
            404 => FailureKind::NotFound,
            401 | 403 => FailureKind::Refused,
            _ => FailureKind::Network,
        };
        Failure::new(kind, format!("{}{advice}", phrase(&error)))
    }
}

/// Why a file did not come.
#[derive(Debug)]
pub(super) enum FileTrouble {
    /// It may come the next time.
    Origin(OriginError),
    /// The hub contradicts itself: it is not to be believed the next time either.
    Lie(Failure),
}

impl From<OriginError> for FileTrouble {
    fn from(error: OriginError) -> Self {
        Self::Origin(error)
    }
}

/// The address after `rel="next"` in a `Link` header.
fn next_page(base: &Url, header: &str) -> Option<Url> {
    let link = header.split(',').find(|link| link.contains("rel=\"next\"") || link.contains("rel=next"))?;
    let (_, rest) = link.split_once('<')?;
    base.join(rest.split_once('>')?.0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_repositories_are_plain() {
        for good in ["org/model", "gpt2", "Qwen/Qwen2.5-0.5B_x"] {
            assert!(check_repo(good).is_ok(), "{good}");
        }
        for bad in ["", "a/b/c", "../x", "a/..", "a//b", "a b/c", "a--b/c", "/a", "a/", "a/b?x", "é/b", ".a/b"] {
            assert!(check_repo(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_next_page_is_found() {
        let base: Url = "http://hub/api?x=1".parse().unwrap();
        let next = |header| next_page(&base, header).map(String::from);
        assert_eq!(next(r#"<http://other/p?cursor=2>; rel="next""#).as_deref(), Some("http://other/p?cursor=2"));
        assert_eq!(next(r#"</q>; rel="prev", </p?c=2>; rel="next""#).as_deref(), Some("http://hub/p?c=2"));
        assert_eq!(next(r#"<http://other/p>; rel="prev""#), None);
        assert_eq!(next("nonsense; rel=next"), None);
    }

    #[test]
    fn an_endpoint_is_a_plain_address() {
        assert!(endpoint("https://huggingface.co").is_ok() && endpoint("http://127.0.0.1:8787/prefix/").is_ok());
        for bad in ["huggingface.co", "ftp://x", "http://", "http://u:p@x", "http://x/?q", "file:///etc"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }
}
