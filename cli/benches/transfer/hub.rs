//! A hub to import from: one repository, its listing, its files, sent by the kernel. It costs as little as a server can, so that what is
//! measured is the client.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use sha2::Digest;

use crate::{MIB, Outcome};

/// The commit of the repository.
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The repository's name.
pub const REPOSITORY: &str = "bench/model";

/// Where a file lies on a hub.
pub fn address(hub: &str, name: &str) -> String {
    format!("{hub}/{REPOSITORY}/resolve/{COMMIT}/{name}")
}

struct Hub {
    folder: std::path::PathBuf,
    listing: String,
}

/// Serves the files of a folder until it is killed; prints its address.
pub fn serve(folder: &Path) -> Outcome {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let (mut hasher, mut file, mut buffer, mut size) = (sha2::Sha256::new(), File::open(&path)?, vec![0; MIB as usize], 0);
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => {
                    hasher.update(&buffer[..count]);
                    size += count as u64;
                }
            }
        }
        let sha256: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("a name that is no text")?;
        let lfs = json!({"oid": sha256, "size": size, "pointerSize": 134});
        entries.push(json!({"type": "file", "oid": "0".repeat(40), "size": size, "path": name, "lfs": lfs}));
    }
    let hub = Arc::new(Hub { folder: folder.to_owned(), listing: json!(entries).to_string() });
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("http://{}", listener.local_addr()?);
    for stream in listener.incoming() {
        let (stream, hub) = (stream?, Arc::clone(&hub));
        // A client that hangs up is no error.
        std::thread::spawn(move || drop(hub.converse(stream)));
    }
    Ok(())
}

impl Hub {
    /// Answers requests, one after the other, until the client goes.
    fn converse(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (mut out, mut reader, mut line) = (stream.try_clone()?, BufReader::new(stream), String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut from = 0;
            loop {
                line.clear();
                if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                    break;
                }
                let lower = line.to_ascii_lowercase();
                if let Some(range) = lower.strip_prefix("range: bytes=") {
                    from = range.split('-').next().and_then(|first| first.parse().ok()).unwrap_or(0);
                }
            }
            if path.contains("/revision/") {
                text(&mut out, &json!({"sha": COMMIT}).to_string())?;
            } else if path.contains("/tree/") {
                text(&mut out, &self.listing)?;
            } else {
                self.file(&mut out, path.rsplit('/').next().unwrap_or_default(), from)?;
            }
        }
    }

    fn file(&self, out: &mut TcpStream, name: &str, from: u64) -> io::Result<()> {
        let mut file = File::open(self.folder.join(name))?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(from))?;
        let (status, range) = match from {
            0 => ("200 OK", String::new()),
            _ => ("206 Partial Content", format!("Content-Range: bytes {from}-{}/{size}\r\n", size - 1)),
        };
        write!(out, "HTTP/1.1 {status}\r\n{range}Content-Length: {}\r\n\r\n", size - from)?;
        io::copy(&mut file, out).map(drop)
    }
}

fn text(out: &mut TcpStream, text: &str) -> io::Result<()> {
    write!(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

/// Plays the hub; `None` if there is no such role.
pub fn play(role: &[&str]) -> Option<Outcome> {
    match role {
        ["hub", folder] => Some(serve(Path::new(folder))),
        _ => None,
    }
}
