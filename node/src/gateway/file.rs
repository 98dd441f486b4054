//! A file as a response: its headers, the part asked for, and whether the client has it already. Knows no store: the body is made by whoever
//! asks for the response.

use std::ops::Range;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use p2pweights_protocol::manifest::Shard;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::range::{Asked, asked};
use super::refusal::{REPO_COMMIT, ascii};

const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");

/// Files above this are refused by `huggingface_hub` when their size is told beforehand, unless another transfer protocol is offered;
/// 50 GB, its own limit.
const UNTOLD_BYTES: u64 = 50_000_000_000;
/// The first version of `huggingface_hub` that takes such a file if its size is not told; older ones refuse it then, too.
const UNTOLD_SINCE: (u64, u64) = (1, 31);

/// What a file's name keeps in a header (RFC 8187).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a response is about.
pub struct Parts<'a> {
    /// The request's method: `GET` or `HEAD`.
    pub method: &'a Method,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The commit that the file belongs to.
    pub commit: &'a str,
    /// The file.
    pub shard: &'a Shard,
    /// What it goes by.
    pub etag: &'a str,
}

/// The response; `body` makes the bytes of a range.
pub fn respond(parts: &Parts<'_>, body: impl FnOnce(Range<u64>) -> Body) -> Response {
    let Parts { method, headers, commit, shard, etag } = *parts;
    let (size, etag) = (shard.size(), format!("\"{etag}\""));
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let mut response = Response::new(Body::empty());
    let large = shard.git_oid().is_none();
    let out = response.headers_mut();
    out.insert(header::ETAG, ascii(&etag));
    out.insert(REPO_COMMIT, ascii(commit));
    out.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let kind = if large { "application/octet-stream" } else { "text/plain; charset=utf-8" };
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    out.insert(header::CONTENT_DISPOSITION, disposition(shard.path().file_name()));
    let untold = method == Method::HEAD && size > UNTOLD_BYTES && text(header::USER_AGENT).is_some_and(takes_untold);
    if large {
        out.insert(LINKED_ETAG, ascii(&etag));
        if !untold {
            out.insert(LINKED_SIZE, size.into());
        }
    }
    if text(header::IF_NONE_MATCH).is_some_and(|known| matches(known, &etag)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    let same = text(header::IF_RANGE).is_none_or(|known| known.trim() == etag);
    let range = text(header::RANGE).filter(|_| same);
    let (status, bytes) = match asked(range, size) {
        // What clients that ask for a range take the size of an empty file from; 416 is an error to them.
        _ if size == 0 && range.is_some() => {
            out.insert(header::CONTENT_RANGE, HeaderValue::from_static("bytes */0"));
            (StatusCode::OK, 0..0)
        }
        Asked::Part(bytes) if method == Method::GET => {
            let (first, last) = (bytes.start, bytes.end - 1);
            out.insert(header::CONTENT_RANGE, ascii(&format!("bytes {first}-{last}/{size}")));
            (StatusCode::PARTIAL_CONTENT, bytes)
        }
        Asked::Nothing if method == Method::GET => {
            out.insert(header::CONTENT_RANGE, ascii(&format!("bytes */{size}")));
            (StatusCode::RANGE_NOT_SATISFIABLE, 0..0)
        }
        _ => (StatusCode::OK, 0..size),
    };
    if !untold {
        out.insert(header::CONTENT_LENGTH, (bytes.end - bytes.start).into());
    }
    *response.status_mut() = status;
    if method == Method::GET && !bytes.is_empty() {
        *response.body_mut() = body(bytes);
    }
    response
}

/// Whether an `If-None-Match` names this tag.
fn matches(known: &str, etag: &str) -> bool {
    known.split(',').map(str::trim).any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag)
}

/// Whether this is a client that takes a file whose size is not told.
fn takes_untold(agent: &str) -> bool {
    let version = agent.split("hf_hub/").nth(1).unwrap_or_default();
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u64>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= UNTOLD_SINCE
}

fn disposition(name: &str) -> HeaderValue {
    let plain: String = name.chars().map(|c| if matches!(c, ' '..='~') && !matches!(c, '"' | '\\') { c } else { '?' }).collect();
    let encoded = utf8_percent_encode(name, PLAIN);
    HeaderValue::from_str(&format!("inline; filename*=UTF-8''{encoded}; filename=\"{plain}\";"))
        .unwrap_or_else(|_| HeaderValue::from_static("inline"))
}

#[cfg(test)]
mod tests {
    use p2pweights_protocol::ids::{BlobHash, Sha256};

    use super::*;

    fn answer(method: Method, size: u64, request: &[(HeaderName, &str)]) -> Response {
        let hash = if size == 0 { BlobHash::of(b"") } else { BlobHash([1; 32]) };
        let shard = Shard::new("a/ü x.bin".parse().unwrap(), size, hash, Some(Sha256([2; 32]))).unwrap();
        let headers: HeaderMap =
            request.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect();
        let parts = Parts { method: &method, headers: &headers, commit: "c0", shard: &shard, etag: "e7" };
        respond(&parts, |bytes| Body::from(format!("{bytes:?}")))
    }

    fn get(size: u64, range: &str) -> Response {
        answer(Method::GET, size, &[(header::RANGE, range)])
    }

    fn shown(response: &Response) -> (u16, &str, &str) {
        let text = |name| response.headers().get(name).map_or("", |value: &HeaderValue| value.to_str().unwrap());
        (response.status().as_u16(), text(header::CONTENT_LENGTH), text(header::CONTENT_RANGE))
    }

    #[test]
    fn every_answer_says_what_the_file_is() {
        for response in
            [answer(Method::HEAD, 100, &[]), answer(Method::GET, 100, &[]), get(100, "bytes=3-"), get(100, "bytes=100-")]
        {
            assert_eq!(response.headers()[header::ETAG], "\"e7\"");
            assert_eq!(
                (&response.headers()[LINKED_ETAG], &response.headers()[LINKED_SIZE]),
                (&"\"e7\"".parse().unwrap(), &100.into())
            );
            assert_eq!(response.headers()[REPO_COMMIT], "c0");
            assert_eq!(response.headers()[header::ACCEPT_RANGES], "bytes");
            assert!(response.headers()[header::CONTENT_DISPOSITION].to_str().unwrap().is_ascii());
        }
    }

    #[test]
    fn parts_and_the_whole() {
        assert_eq!(shown(&answer(Method::HEAD, 100, &[])), (200, "100", ""));
        assert_eq!(shown(&answer(Method::GET, 100, &[])), (200, "100", ""));
        assert_eq!(shown(&get(100, "bytes=0-0")), (206, "1", "bytes 0-0/100"));
        assert_eq!(shown(&get(100, "bytes=90-200")), (206, "10", "bytes 90-99/100"));
        assert_eq!(shown(&get(100, "bytes=100-")), (416, "0", "bytes */100"));
        assert_eq!(shown(&get(0, "bytes=0-0")), (200, "0", "bytes */0"), "what clients learn from");
        assert_eq!(shown(&answer(Method::GET, 0, &[])), (200, "0", ""));
        assert_eq!(shown(&answer(Method::HEAD, 100, &[(header::RANGE, "bytes=0-0")])), (200, "100", ""));
    }

    #[test]
    fn conditions() {
        let none = |tag| answer(Method::GET, 100, &[(header::IF_NONE_MATCH, tag)]).status().as_u16();
        assert_eq!((none("\"e7\""), none("\"x\", W/\"e7\""), none("*"), none("\"x\"")), (304, 304, 304, 200));
        let ranged = |tag| answer(Method::GET, 100, &[(header::IF_RANGE, tag), (header::RANGE, "bytes=1-2")]).status().as_u16();
        assert_eq!((ranged("\"e7\""), ranged("\"x\"")), (206, 200));
    }

    #[test]
    fn sizes_that_a_client_would_refuse_are_not_told_to_it() {
        let told = |size, agent| {
            let response = answer(Method::HEAD, size, &[(header::USER_AGENT, agent)]);
            (response.headers().contains_key(header::CONTENT_LENGTH), response.headers().contains_key(LINKED_SIZE))
        };
        assert_eq!(told(UNTOLD_BYTES + 1, "unknown/None; hf_hub/1.31.0; python/3.12"), (false, false));
        assert_eq!(told(UNTOLD_BYTES + 1, "x; hf_hub/2.4.0"), (false, false));
        for agent in ["x; hf_hub/1.30.9", "x; hf_hub/0.36.2", "llama-cpp/b1", ""] {
            assert_eq!(told(UNTOLD_BYTES + 1, agent), (true, true), "{agent}");
        }
        assert_eq!(told(UNTOLD_BYTES, "x; hf_hub/2.4.0"), (true, true));
    }
}
