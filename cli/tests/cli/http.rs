//! HTTP by hand, for tests of the gateway: requests as they go over the wire, and what comes back, also when it breaks off.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::world::DEADLINE;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// Whether the body ended before its announced length.
    pub cut: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, String::from_utf8_lossy(&self.body));
        self
    }
}

/// A connection to a gateway.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub fn open(endpoint: &str) -> Self {
        let stream = TcpStream::connect(endpoint.trim_start_matches("http://")).expect("the gateway listens");
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Sends bytes as they are; an error if the other side does not take them any more.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// Sends a request with these further headers, each with its end of line.
    pub fn request(&mut self, method: &str, target: &str, headers: &str, body: &str) {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let host = if headers.contains("Host:") { "" } else { "Host: localhost\r\n" };
        let request = format!("{method} {target} HTTP/1.1\r\n{host}{headers}{length}\r\n{body}");
        self.send(request.as_bytes()).expect("the gateway takes a request");
    }

    /// Reads the head of an answer, and gives the length of what follows.
    pub fn head(&mut self) -> (Answer, u64) {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer");
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{line:?}"));
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            self.0.read_line(&mut line).expect("a header");
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().expect("a length"));
        (Answer { status, headers, body: Vec::new(), cut: false }, length)
    }

    /// Reads so many bytes of a body, fewer if it breaks off.
    pub fn read(&mut self, bytes: u64) -> Vec<u8> {
        let mut body = Vec::new();
        // Broken off counts as ended: how much there is tells.
        let _ = (&mut self.0).take(bytes).read_to_end(&mut body);
        body
    }

    pub fn answer(&mut self, method: &str) -> Answer {
        let (mut answer, length) = self.head();
        if method != "HEAD" && answer.status != 304 && answer.status != 204 {
            answer.body = self.read(length);
            answer.cut = (answer.body.len() as u64) < length;
        }
        answer
    }

    pub fn ask(&mut self, method: &str, target: &str, headers: &str) -> Answer {
        self.request(method, target, headers, "");
        self.answer(method)
    }

    /// Whether the other side has closed it.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0) | Err(_))
    }
}

/// One request over a connection of its own.
pub fn ask(endpoint: &str, method: &str, target: &str, headers: &str) -> Answer {
    Connection::open(endpoint).ask(method, target, headers)
}

pub fn get(endpoint: &str, target: &str) -> Answer {
    ask(endpoint, "GET", target, "")
}

/// The same, redirects followed as every client does.
pub fn follow(endpoint: &str, method: &str, target: &str, headers: &str) -> Answer {
    let answer = ask(endpoint, method, target, headers);
    if answer.status != 307 {
        return answer;
    }
    assert!(answer.header("location").starts_with('/') && !answer.header("x-repo-commit").is_empty(), "{answer:?}");
    ask(endpoint, method, answer.header("location"), headers)
}
