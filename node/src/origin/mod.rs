//! Origins: HTTP(S) servers outside the swarm, such as a model hub or a mirror. Here is how they are asked, and the only user of the HTTP
//! client: deadlines for every wait, redirects followed by hand and counted, a token that goes to its own server only, and addresses that
//! may be connected to. Knows no blob and no model; nothing that comes from here is trusted.

mod answer;
mod error;
mod guard;
#[cfg(test)]
mod tests;

use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderValue, LOCATION, RANGE};
use reqwest::redirect::Policy;
use url::Url;

pub use answer::{Answer, Part};
pub use error::{OriginError, Retry, shown};
pub use guard::{Forbidden, Reach, is_public};

/// Most redirects followed for one request: a hub sends to a cache, then to a signed address of its storage.
pub const REDIRECTS: usize = 8;
/// Longest address that a redirect may lead to; signed ones have some 2 KiB.
const TARGET_BYTES: usize = 16 * 1024;

/// How to ask.
#[derive(Debug, Clone)]
pub struct OriginSettings {
    /// How far it may connect.
    pub reach: Reach,
    /// Longest time to resolve a name, and again to connect.
    pub connect_deadline: Duration,
    /// Longest silence, before the answer's head and within its body.
    pub read_deadline: Duration,
    /// What it calls itself.
    pub agent: &'static str,
}

impl OriginSettings {
    /// The defaults: 10 s to connect, as across the world on a bad line; 30 s of silence, as hubs take to find a cold file.
    pub fn new(reach: Reach, agent: &'static str) -> Self {
        Self { reach, connect_deadline: Duration::from_secs(10), read_deadline: Duration::from_secs(30), agent }
    }
}

/// A token, and the only server that sees it.
#[derive(Clone)]
pub struct Credentials {
    origin: url::Origin,
    header: HeaderValue,
}

impl Credentials {
    /// The token for whatever lies at the same scheme, host and port as this address.
    pub fn new(endpoint: &Url, token: &str) -> Result<Self, OriginError> {
        let mut header = HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(|_| OriginError::Token)?;
        header.set_sensitive(true);
        Ok(Self { origin: endpoint.origin(), header })
    }

    fn for_url(&self, url: &Url) -> Option<&HeaderValue> {
        (url.origin() == self.origin).then_some(&self.header)
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// The bytes of a file that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub first: u64,
    /// The last byte, which is included; `None` for the file's.
    pub last: Option<u64>,
}

impl ByteRange {
    /// From a byte to the file's end.
    pub fn from(first: u64) -> Self {
        Self { first, last: None }
    }
}

/// Asks origins. Clones share its connections.
#[derive(Debug, Clone)]
pub struct OriginClient {
    http: reqwest::Client,
    reach: Reach,
    read_deadline: Duration,
}

impl OriginClient {
    /// A client with these settings.
    pub fn new(settings: &OriginSettings) -> Result<Self, OriginError> {
        let &OriginSettings { reach, connect_deadline, read_deadline, agent } = settings;
        let builder = || {
            let builder = reqwest::Client::builder()
                .user_agent(agent)
                .redirect(Policy::none())
                .referer(false)
                .connect_timeout(connect_deadline)
                .dns_resolver(guard::Resolver { reach, deadline: connect_deadline });
            if reach == Reach::Public { builder.no_proxy() } else { builder }
        };
        // A system without any certificates can still be asked for what needs none.
        let built = builder().build().or_else(|_| builder().tls_certs_only([]).build());
        Ok(Self { http: built.map_err(OriginError::Client)?, reach, read_deadline })
    }

    /// Asks for a file, or a range of it, following redirects. Whatever the last server answers is returned, errors of its too. The token goes
    /// to its own server only, the range to all.
    pub async fn get(
        &self,
        url: &Url,
        range: Option<ByteRange>,
        credentials: Option<&Credentials>,
    ) -> Result<Answer, OriginError> {
        let mut at = url.clone();
        let mut first_headers = None;
        for _ in 0..=REDIRECTS {
            let response = self.ask(&at, range, credentials).await?;
            let target = response.headers().get(LOCATION).filter(|_| is_redirect(&response)).cloned();
            let Some(target) = target else {
                return Ok(Answer::new(at, response, first_headers, self.read_deadline));
            };
            let next = follow(&at, &target)?;
            first_headers.get_or_insert_with(|| response.headers().clone());
            at = next;
        }
        Err(OriginError::Redirects { shown: shown(url) })
    }

    async fn ask(
        &self,
        url: &Url,
        range: Option<ByteRange>,
        credentials: Option<&Credentials>,
    ) -> Result<reqwest::Response, OriginError> {
        check_form(url).map_err(|problem| OriginError::Address { shown: shown(url), problem })?;
        self.reach.check(url)?;
        // What was compressed has other lengths and no ranges.
        let mut request = self.http.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some(ByteRange { first, last }) = range {
            let last = last.map(|last| last.to_string()).unwrap_or_default();
            request = request.header(RANGE, format!("bytes={first}-{last}"));
        }
        if let Some(token) = credentials.and_then(|credentials| credentials.for_url(url)) {
            request = request.header(AUTHORIZATION, token);
        }
        match tokio::time::timeout(self.read_deadline, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(OriginError::of_request(url, error)),
            Err(_) => Err(OriginError::Silent { shown: shown(url), after: self.read_deadline }),
        }
    }
}

fn is_redirect(response: &reqwest::Response) -> bool {
    matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn check_form(url: &Url) -> Result<(), &'static str> {
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("it must begin with http:// or https:// and a host");
    }
    // The client would make a header of it, for whoever is there.
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user name or a password");
    }
    Ok(())
}

/// Where a redirect leads.
fn follow(from: &Url, target: &HeaderValue) -> Result<Url, OriginError> {
    let text = String::from_utf8_lossy(target.as_bytes());
    let path = text.split(['?', '#']).next().unwrap_or_default();
    let refuse = |problem| OriginError::Redirect { shown: shown(from), target: printable(path), problem };
    if text.len() > TARGET_BYTES {
        return Err(refuse("it is too long"));
    }
    let next = from.join(&text).map_err(|_| refuse("it is no address"))?;
    check_form(&next).map_err(refuse)?;
    if from.scheme() == "https" && next.scheme() == "http" {
        return Err(refuse("it leads away from https"));
    }
    Ok(next)
}

/// Longest text of a stranger's that is repeated in a message, in characters.
const PRINTED: usize = 200;

/// A stranger's text, made safe to print.
pub fn printable(text: &str) -> String {
    let plain = |c: char| !c.is_control() && !('\u{80}'..='\u{9f}').contains(&c) && !('\u{200b}'..='\u{206f}').contains(&c);
    text.chars().map(|c| if plain(c) { c } else { ' ' }).take(PRINTED).collect::<String>().trim().to_owned()
}
