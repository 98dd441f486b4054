//! A small model hub on loopback, honest, or with one vice. Speaks what an import needs of Hugging Face's contract; remembers what it was
//! asked.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha1::Digest;

/// The commit of a repository here unless it has another.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What is wrong with a hub; one thing only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vice {
    /// The listing gives large files a byte more.
    WrongSize,
    /// One byte of large files is another.
    WrongBytes,
    /// One byte of small files is another.
    WrongSmallBytes,
    /// Files are those of another commit than was asked for.
    MovingCommit,
    /// Every page of the listing is followed by itself.
    LoopingPages,
    /// Bodies of large files end after two thirds, each time at the same place.
    Truncated,
    /// An HTML page with status 200 instead of large files.
    Html,
    /// A path in the listing leads out of the model's folder.
    Escape,
    /// The commit is no commit.
    NoCommit,
    /// Files have xet headers, and addresses of a service that nobody here knows.
    Xet,
    /// The first request for each file is turned away for a second.
    Busy,
    /// The body of each large file breaks off once in the middle.
    Breaks,
    /// Ranges are ignored, and the body of each large file breaks off once in the middle.
    IgnoresRanges,
}

/// How a hub behaves.
#[derive(Debug, Clone, Default)]
pub struct Manners {
    pub vice: Option<Vice>,
    /// Only for who has this token.
    pub token: Option<String>,
    pub gated: bool,
    pub private: bool,
    /// Entries on one page of a listing; 0: all.
    pub page: usize,
    /// Large files come from elsewhere, by redirects: a relative one, then one to this server.
    pub storage: Option<String>,
    /// A branch besides `main` and `v1`, and the commit of all of them.
    pub branch: Option<(String, String)>,
    /// What large files are held back by: after so many bytes of each the body waits until [`Hub::release`].
    pub holds_after: Option<usize>,
}

/// A file of a repository.
struct Stored {
    bytes: Vec<u8>,
    large: bool,
}

impl Stored {
    fn sha256(&self) -> String {
        hex(&sha2::Sha256::digest(&self.bytes))
    }

    fn git_oid(&self) -> String {
        hex(&sha1::Sha1::new_with_prefix(format!("blob {}\0", self.bytes.len())).chain_update(&self.bytes).finalize())
    }

    fn etag(&self) -> String {
        if self.large { self.sha256() } else { self.git_oid() }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct State {
    base: String,
    files: BTreeMap<String, Stored>,
    manners: Manners,
    asked: Mutex<Vec<Asked>>,
    /// Requests for each file so far.
    counts: Mutex<BTreeMap<String, usize>>,
    held: (Mutex<bool>, std::sync::Condvar),
    sent: AtomicUsize,
    private: AtomicBool,
}

/// A request that came.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub path: String,
    pub range: Option<String>,
    pub token: Option<String>,
}

/// A hub with one repository, which has whatever name it is asked by.
pub struct Hub {
    state: Arc<State>,
}

impl Hub {
    /// Serves the files of a folder.
    pub fn start(folder: &Path, manners: Manners) -> Self {
        let files = super::world::files_below(folder).into_iter().map(|(path, bytes)| {
            let path = path.to_str().expect("names in tests are text").to_owned();
            let large = [".safetensors", ".bin", ".gguf"].iter().any(|ending| path.ends_with(ending));
            (path, Stored { bytes, large })
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let base = format!("http://{}", listener.local_addr().expect("it is bound"));
        let private = AtomicBool::new(manners.private);
        let state = Arc::new(State {
            private,
            base,
            files: files.collect(),
            manners,
            asked: Mutex::default(),
            counts: Mutex::default(),
            held: (Mutex::new(true), std::sync::Condvar::new()),
            sent: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&serving);
                std::thread::spawn(move || {
                    // A client that hangs up is no error.
                    let _ = state.answer(stream);
                });
            }
        });
        Self { state }
    }

    pub fn base(&self) -> &str {
        &self.state.base
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    /// Bytes of files that went out.
    pub fn sent(&self) -> usize {
        self.state.sent.load(Ordering::SeqCst)
    }

    /// Lets bodies go on that are held back.
    pub fn release(&self) {
        *self.state.held.0.lock().unwrap() = false;
        self.state.held.1.notify_all();
    }

    /// From now on it says that its repository is for some people only.
    pub fn make_private(&self) {
        self.state.private.store(true, Ordering::SeqCst);
    }

    pub fn etag(&self, path: &str) -> String {
        self.state.files[path].etag()
    }
}

impl State {
    fn is(&self, vice: Vice) -> bool {
        self.manners.vice == Some(vice)
    }

    fn commit(&self) -> &str {
        self.manners.branch.as_ref().map_or(COMMIT, |(_, commit)| commit)
    }

    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut line, mut asked) = (String::new(), Asked::default());
        reader.read_line(&mut line)?;
        asked.path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            let (name, value) = line.trim().split_once(": ").unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "range" => asked.range = Some(value.to_owned()),
                "authorization" => asked.token = value.strip_prefix("Bearer ").map(str::to_owned),
                _ => {}
            }
        }
        self.asked.lock().unwrap().push(asked.clone());
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let mut out = stream;
        if self.manners.token.is_some() && asked.token != self.manners.token && parts.get(2) == Some(&"resolve") {
            let status = if asked.token.is_some() { "403 Forbidden" } else { "401 Unauthorized" };
            return head(&mut out, status, &["X-Error-Code: GatedRepo", "X-Error-Message: access is restricted"], 0);
        }
        match parts[..] {
            ["api", "models", org, name, "revision", revision] => self.info(&mut out, &format!("{org}/{name}"), revision),
            ["api", "models", _, _, "tree", commit] if commit == self.commit() => self.tree(&mut out, &asked.path, query),
            [_, _, "resolve", commit, ..] if commit == self.commit() => {
                self.file(&mut out, &decoded(&parts[4..].join("/")), &asked, false)
            }
            ["cached", ..] => {
                let to = format!(
                    "{}/stored/{}?signature=1",
                    self.manners.storage.as_deref().unwrap_or_default(),
                    parts[1..].join("/")
                );
                head(&mut out, "302 Found", &[&format!("Location: {to}")], 0)
            }
            ["stored", ..] => self.file(&mut out, &decoded(&parts[1..].join("/")), &asked, true),
            _ => head(&mut out, "404 Not Found", &["X-Error-Code: EntryNotFound"], 0),
        }
    }

    fn info(&self, out: &mut TcpStream, id: &str, revision: &str) -> std::io::Result<()> {
        let branch = self.manners.branch.as_ref().map_or("main", |(branch, _)| branch);
        if !["main", "v1", branch, self.commit()].contains(&revision) {
            return head(out, "404 Not Found", &["X-Error-Code: RevisionNotFound"], 0);
        }
        let sha = if self.is(Vice::NoCommit) { "main" } else { self.commit() };
        let gated = if self.manners.gated { json!("manual") } else { json!(false) };
        let card = json!({"license": "mit"});
        let info = json!({"id": id, "sha": sha, "gated": gated, "private": self.private.load(Ordering::SeqCst), "cardData": card, "siblings": []});
        self.json(out, &info, &[])
    }

    fn tree(&self, out: &mut TcpStream, path: &str, query: &str) -> std::io::Result<()> {
        let mut entries = vec![json!({"type": "directory", "oid": "0".repeat(40), "size": 0, "path": "onnx"})];
        for (path, file) in &self.files {
            let size = file.bytes.len() + usize::from(self.is(Vice::WrongSize) && file.large);
            let mut entry = json!({"type": "file", "oid": file.git_oid(), "size": size, "path": path});
            if file.large {
                entry["lfs"] = json!({"oid": file.sha256(), "size": size, "pointerSize": 134});
                if self.is(Vice::Xet) {
                    entry["xetHash"] = json!("1".repeat(64));
                }
            }
            entries.push(entry);
        }
        if self.is(Vice::Escape) {
            entries.push(json!({"type": "file", "oid": "0".repeat(40), "size": 1, "path": "../outside.txt"}));
        }
        let cursor = query.split('&').find_map(|pair| pair.strip_prefix("cursor=")).and_then(|text| text.parse().ok());
        let at: usize = cursor.unwrap_or(0);
        let end = if self.manners.page > 0 { entries.len().min(at + self.manners.page) } else { entries.len() };
        let route = path.split('?').next().unwrap_or_default();
        let mut link = Vec::new();
        if self.is(Vice::LoopingPages) {
            link.push(format!("Link: <{}{path}>; rel=\"next\"", self.base));
        } else if end < entries.len() {
            // Another host than the one that was asked: which one is not for a page to say.
            link.push(format!("Link: <http://elsewhere.invalid{route}?recursive=true&cursor={end}>; rel=\"next\""));
        }
        let link: Vec<&str> = link.iter().map(String::as_str).collect();
        self.json(out, &Value::Array(entries[at..end].to_vec()), &link)
    }

    fn file(&self, out: &mut TcpStream, path: &str, asked: &Asked, stored: bool) -> std::io::Result<()> {
        let Some(file) = self.files.get(path) else {
            return head(out, "404 Not Found", &["X-Error-Code: EntryNotFound"], 0);
        };
        let count = {
            let mut counts = self.counts.lock().unwrap();
            let count = counts.entry(path.to_owned()).or_default();
            *count += 1;
            *count
        };
        let commit = if self.is(Vice::MovingCommit) { "9".repeat(40) } else { self.commit().to_owned() };
        let mut headers = vec![format!("ETag: \"{}\"", file.etag()), format!("X-Repo-Commit: {commit}")];
        if file.large {
            headers.push(format!("X-Linked-Size: {}", file.bytes.len()));
        }
        if self.is(Vice::Xet) {
            headers.extend([format!("X-Xet-Hash: {}", "1".repeat(64)), format!("Link: <{}/xet>; rel=\"xet-auth\"", self.base)]);
        }
        if self.is(Vice::Busy) && count == 1 {
            return head(out, "429 Too Many Requests", &["Retry-After: 1"], 0);
        }
        if self.manners.storage.is_some() && file.large && !stored {
            headers.push(format!("Location: /cached/{}", path.replace(' ', "%20")));
            return head(out, "307 Temporary Redirect", &borrowed(&headers), 0);
        }
        if self.is(Vice::Html) && file.large {
            let page = b"<html><body>Please log in</body></html>";
            head(out, "200 OK", &["Content-Type: text/html"], page.len())?;
            return out.write_all(page);
        }
        let from = asked.range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok());
        let from: usize = from.filter(|_| !self.is(Vice::IgnoresRanges)).unwrap_or(0);
        let mut bytes = file.bytes[from.min(file.bytes.len())..].to_vec();
        let wrong = self.is(Vice::WrongBytes) && file.large || self.is(Vice::WrongSmallBytes) && !file.large;
        if let Some(last) = bytes.last_mut().filter(|_| wrong) {
            *last ^= 1;
        }
        let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
        if from > 0 {
            headers.push(format!("Content-Range: bytes {from}-{}/{}", file.bytes.len() - 1, file.bytes.len()));
        }
        head(out, status, &borrowed(&headers), bytes.len())?;
        if file.large {
            let breaks = self.is(Vice::Truncated) || (self.is(Vice::Breaks) || self.is(Vice::IgnoresRanges)) && count == 1;
            if breaks {
                bytes.truncate((file.bytes.len() * 2 / 3).saturating_sub(from));
            }
            if let Some(after) = self.manners.holds_after {
                self.send(out, &bytes[..after.min(bytes.len())])?;
                bytes.drain(..after.min(bytes.len()));
                let held = self.held.0.lock().unwrap();
                drop(self.held.1.wait_while(held, |held| *held).unwrap());
            }
        }
        self.send(out, &bytes)
    }

    fn send(&self, out: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
        out.write_all(bytes)?;
        self.sent.fetch_add(bytes.len(), Ordering::SeqCst);
        Ok(())
    }

    fn json(&self, out: &mut TcpStream, value: &Value, headers: &[&str]) -> std::io::Result<()> {
        let text = value.to_string();
        let headers = [headers, &["Content-Type: application/json"]].concat();
        head(out, "200 OK", &headers, text.len())?;
        out.write_all(text.as_bytes())
    }
}

fn borrowed(headers: &[String]) -> Vec<&str> {
    headers.iter().map(String::as_str).collect()
}

fn head(out: &mut TcpStream, status: &str, headers: &[&str], length: usize) -> std::io::Result<()> {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(out, "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n")
}

fn decoded(path: &str) -> String {
    path.replace("%20", " ")
}

/// A folder with a model of the usual kind: a card, a small file with an odd name, weights of these sizes.
pub fn repository(folder: &Path, weights: &[usize]) {
    fs::create_dir_all(folder.join("onnx")).unwrap();
    fs::write(folder.join("README.md"), "---\nlicense: apache-2.0\nbase_model: org/base\n---\n# A model\n").unwrap();
    fs::write(folder.join("config.json"), "{\"model_type\":\"test\"}\n").unwrap();
    fs::write(folder.join("onnx").join("notes with spaces.txt"), "below\n").unwrap();
    fs::write(folder.join("empty.txt"), "").unwrap();
    for (index, bytes) in weights.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", index + 1, weights.len());
        fs::write(folder.join(name), super::world::noise(77 + index as u64, *bytes)).unwrap();
    }
}
