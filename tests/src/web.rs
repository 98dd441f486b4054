//! A web server over a folder, on a port that the system chooses, with at most one vice. Knows HTTP as far as a mirror needs it: GET,
//! one range, connections that stay.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What is wrong with a server. Files of the sidecar are spared, unless it is said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vice {
    /// Nothing.
    None,
    /// The first bit of each body is the wrong one.
    FlipsABit,
    /// The last bit of each large file is the wrong one.
    SpoilsTheEnd,
    /// Each file is sent whole, whatever range was asked for.
    IgnoresRanges,
    /// Wants to be left alone for an hour.
    Busy,
    /// Each body ends half-way.
    Truncates,
    /// A page says sorry, with status 200.
    Apologises,
    /// After the head nothing comes.
    Stalls,
    /// Leads round and round.
    Circles,
    /// Has no large files.
    Lacks,
    /// Has no sidecar.
    NoSidecar,
    /// Its outboards are wrong.
    WrongSidecar,
    /// Its manifests are others.
    WrongManifest,
}

/// A request that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The path, without the first `/`.
    pub path: String,
    /// The range, if one was asked for.
    pub range: Option<Range<u64>>,
}

#[derive(Debug)]
struct Site {
    folder: PathBuf,
    vice: Vice,
    asked: Mutex<Vec<Asked>>,
    open: watch::Sender<bool>,
}

/// A running server; it ends when it is dropped.
#[derive(Debug)]
pub struct Web {
    /// Its address, without a final `/`.
    pub url: String,
    site: Arc<Site>,
    _tasks: JoinSet<()>,
}

impl Web {
    /// Serves a folder.
    pub async fn start(folder: &Path, vice: Vice) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let site = Arc::new(Site { folder: folder.to_owned(), vice, asked: Mutex::default(), open: watch::Sender::new(true) });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&site)));
        Self { url, site, _tasks: tasks }
    }

    /// Takes requests, and answers none until it opens again.
    pub fn close(&self) {
        self.site.open.send_replace(false);
    }

    /// Answers.
    pub fn open(&self) {
        self.site.open.send_replace(true);
    }

    /// What was asked for so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.site.asked.lock().expect("no panic").clone()
    }

    /// Of that, what was asked of files, the sidecar left out.
    pub fn asked_of_files(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| !asked.path.starts_with(".p2pweights/")).collect()
    }
}

async fn accept(listener: TcpListener, site: Arc<Site>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let site = Arc::clone(&site);
        connections.spawn(async move { _ = serve(stream, &site).await });
    }
}

async fn serve(stream: TcpStream, site: &Site) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut target, mut range, mut first) = (String::new(), None, true);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            if std::mem::take(&mut first) {
                target = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
            } else if line.is_empty() {
                break;
            } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                range = value.split_once('-').and_then(|(first, last)| {
                    let first: u64 = first.parse().ok()?;
                    Some(first..last.parse::<u64>().map_or(u64::MAX, |last| last + 1))
                });
            }
        }
        site.asked.lock().expect("no panic").push(Asked { path: target.clone(), range: range.clone() });
        site.open.subscribe().wait_for(|open| *open).await.map_err(std::io::Error::other)?;
        if !answer(stream.get_mut(), site, &target, range).await? {
            return Ok(());
        }
    }
}

/// Answers one request; says whether the connection stays.
async fn answer(stream: &mut TcpStream, site: &Site, target: &str, range: Option<Range<u64>>) -> std::io::Result<bool> {
    let sidecar = target.starts_with(".p2pweights/");
    let vice = |vice| site.vice == vice && !sidecar;
    let refuse = |head: &str| format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n").into_bytes();
    if vice(Vice::Busy) {
        stream.write_all(&refuse("429 Too Many Requests\r\nRetry-After: 3600")).await?;
        return Ok(true);
    }
    if vice(Vice::Circles) {
        stream.write_all(&refuse(&format!("302 Found\r\nLocation: /{target}"))).await?;
        return Ok(true);
    }
    if vice(Vice::Apologises) {
        let page = "<!doctype html><title>Sorry</title>";
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n", page.len());
        stream.write_all(format!("{head}{page}").as_bytes()).await?;
        return Ok(true);
    }
    let path = site.folder.join(unescaped(target));
    let length = tokio::fs::metadata(&path).await.map_or(0, |metadata| metadata.len());
    let missing = length == 0 || (vice(Vice::Lacks) && length > 1 << 20) || (sidecar && site.vice == Vice::NoSidecar);
    if missing {
        stream.write_all(&refuse("404 Not Found")).await?;
        return Ok(true);
    }
    let range = range.filter(|_| !vice(Vice::IgnoresRanges));
    let part = range.clone().map_or(0..length, |range| range.start.min(length)..range.end.min(length));
    let mut file = tokio::fs::File::open(&path).await?;
    file.seek(std::io::SeekFrom::Start(part.start)).await?;
    let mut body = vec![0; (part.end - part.start) as usize];
    file.read_exact(&mut body).await?;
    let wrong = (site.vice == Vice::WrongSidecar && target.ends_with(".outboard"))
        || (site.vice == Vice::WrongManifest && target.ends_with(".json") && sidecar)
        || vice(Vice::FlipsABit);
    if vice(Vice::SpoilsTheEnd) && part.end == length && length > 1 << 20 {
        *body.last_mut().expect("its end") ^= 0x80;
    }
    if wrong && !body.is_empty() {
        body[0] ^= 1;
    }
    let status = match range {
        Some(_) => format!("206 Partial Content\r\nContent-Range: bytes {}-{}/{length}", part.start, part.end.max(1) - 1),
        None => "200 OK".to_owned(),
    };
    stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes()).await?;
    if vice(Vice::Stalls) {
        std::future::pending::<()>().await;
    }
    if vice(Vice::Truncates) {
        stream.write_all(&body[..body.len() / 2]).await?;
        return Ok(false);
    }
    stream.write_all(&body).await?;
    Ok(true)
}

/// Percent-encoding undone.
fn unescaped(target: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = target.as_bytes();
    while let [first, after @ ..] = rest {
        let code =
            after.get(..2).filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
