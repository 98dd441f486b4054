//! A plain web server over a folder, as anybody might have one: GET and one range, on a port that the system chooses.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

/// Serves a folder until the test ends; gives its address.
pub fn serve(folder: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let folder = folder.clone();
            // A connection that breaks is the client's affair.
            std::thread::spawn(move || _ = answer_all(stream, folder));
        }
    });
    url
}

fn answer_all(stream: TcpStream, folder: PathBuf) -> std::io::Result<()> {
    let (mut reader, mut stream) = (BufReader::new(stream.try_clone()?), stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end() {
                "" => break,
                line => head.push(line.to_owned()),
            }
        }
        let target = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().trim_start_matches('/').to_owned();
        let range = head.iter().find_map(|line| {
            let line = line.to_ascii_lowercase();
            let (first, last) = line.strip_prefix("range: bytes=")?.split_once('-')?;
            Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?))
        });
        let Ok(mut file) = File::open(folder.join(target.replace("%20", " "))) else {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        };
        let length = file.metadata()?.len();
        let (first, end) = range.map_or((0, length), |(first, last)| (first, (last + 1).min(length)));
        let status = match range {
            Some(_) => format!("206 Partial Content\r\nContent-Range: bytes {first}-{}/{length}", end - 1),
            None => "200 OK".to_owned(),
        };
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", end - first)?;
        file.seek(SeekFrom::Start(first))?;
        std::io::copy(&mut file.take(end - first), &mut stream)?;
    }
}
