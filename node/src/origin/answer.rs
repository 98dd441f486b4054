//! An origin's answer: its head, judged against what was asked, and its body, taken in portion by portion with a deadline for each.

use std::time::{Duration, Instant, SystemTime};

use hyper::body::Bytes;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE, HeaderMap, RETRY_AFTER};
use url::Url;

use super::error::{OriginError, shown};
use super::{ByteRange, printable};
use crate::least_rate::LeastRate;

/// Longest wait that an origin can ask for: beyond it the attempt is given up instead.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// What an origin answered; its body is still on its way.
#[derive(Debug)]
pub struct Answer {
    url: Url,
    response: reqwest::Response,
    first_headers: Option<HeaderMap>,
    read_deadline: Duration,
    rate: LeastRate,
}

/// Which part of a file a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Where it begins: 0 when the origin ignored the range.
    pub first: u64,
    /// Bytes in the body, if the origin says so.
    pub bytes: Option<u64>,
    /// Bytes in the whole file, if the origin says so.
    pub size: Option<u64>,
}

impl Answer {
    pub(super) fn new(url: Url, response: reqwest::Response, first_headers: Option<HeaderMap>, read_deadline: Duration) -> Self {
        Self { url, response, first_headers, read_deadline, rate: LeastRate::new(read_deadline) }
    }

    /// Who answered in the end.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The headers of whoever answered in the end.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The headers of whoever was asked first: a hub says there what it knows of a file that it redirects for.
    pub fn first_headers(&self) -> &HeaderMap {
        self.first_headers.as_ref().unwrap_or(self.headers())
    }

    /// One of these headers as text, from whoever was asked first.
    pub fn first_header(&self, name: &str) -> Option<&str> {
        self.first_headers().get(name)?.to_str().ok()
    }

    /// How long it wants to be left alone: seconds or a date, as it pleases; bounded.
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
        let wait = match text.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).unwrap_or_default(),
        };
        Some(wait.min(RETRY_AFTER_MAX))
    }

    /// The status as an error.
    pub fn refusal(&self) -> OriginError {
        let said = self.headers().get("x-error-message").and_then(|said| said.to_str().ok()).map(printable);
        let said = said.filter(|said| !said.is_empty());
        OriginError::Status { shown: shown(&self.url), status: self.status(), said, retry_after: self.retry_after() }
    }

    /// Which part of the file the body is. A range must begin where it was asked to and not go beyond; an origin may also ignore it and send
    /// the whole file.
    pub fn part(&self, asked: ByteRange) -> Result<Part, OriginError> {
        let wrong = |problem: String| OriginError::Part { shown: shown(&self.url), problem };
        if let Some(encoding) = self.headers().get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
            let encoding = printable(&String::from_utf8_lossy(encoding.as_bytes()));
            return Err(wrong(format!("it is encoded as {encoding:?}")));
        }
        let bytes = self.response.content_length();
        match self.status() {
            StatusCode::OK => Ok(Part { first: 0, bytes, size: bytes }),
            StatusCode::PARTIAL_CONTENT => {
                let header = self.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
                let (first, last, size) =
                    content_range(header).ok_or_else(|| wrong(format!("Content-Range is {:?}", printable(header))))?;
                if first != asked.first || asked.last.is_some_and(|asked| last > asked) {
                    return Err(wrong(format!("bytes {first} to {last}")));
                }
                let length = last - first + 1;
                if bytes.is_some_and(|bytes| bytes != length) {
                    return Err(wrong("Content-Length and Content-Range disagree".to_owned()));
                }
                Ok(Part { first, bytes: Some(length), size })
            }
            _ => Err(self.refusal()),
        }
    }

    /// The next portion of the body; `None` at its end. A body shorter than its head said is an error.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, OriginError> {
        let began = Instant::now();
        match tokio::time::timeout(self.read_deadline, self.response.chunk()).await {
            Ok(Ok(None)) => Ok(None),
            Ok(Ok(Some(chunk))) => match self.rate.passed(began.elapsed(), chunk.len() as u64) {
                Ok(()) => Ok(Some(chunk)),
                Err(after) => Err(OriginError::Silent { shown: shown(&self.url), after }),
            },
            Ok(Err(error)) => Err(OriginError::Body { shown: shown(&self.url), source: error.without_url() }),
            Err(_) => Err(OriginError::Silent { shown: shown(&self.url), after: self.read_deadline }),
        }
    }

    /// The whole body, which must have at most `limit` bytes, of an answer that must be 200.
    pub async fn whole(mut self, limit: u64) -> Result<Vec<u8>, OriginError> {
        if self.status() != StatusCode::OK {
            return Err(self.refusal());
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if body.len() as u64 + chunk.len() as u64 > limit {
                return Err(OriginError::TooLarge { shown: shown(&self.url), limit });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// First and last byte and size of a `bytes 0-9/10`; the size may be `*`.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let size = if size == "*" { None } else { Some(size.parse::<u64>().ok()?) };
    let ordered = first <= last && last < u64::MAX && size.is_none_or(|size| last < size);
    ordered.then_some((first, last, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_exactly() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(content_range("bytes 0-0/*"), Some((0, 0, None)));
        for bad in [
            "",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "bytes */10",
            "items 0-1/2",
            "bytes 0-1",
            "bytes -1/2",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
