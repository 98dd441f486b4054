//! The other end of the gateway's benches: a client that throws away what it reads, and nginx to compare with.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::lab::{Lab, text};

/// What one read of the client takes.
const READ_BYTES: usize = 256 * 1024;
/// nginx listens within this.
const NGINX_PATIENCE: Duration = Duration::from_secs(20);

/// What a request took.
#[derive(Debug, Clone, Copy)]
pub struct Got {
    /// Seconds until the first byte of the body.
    pub first_s: f64,
    /// Seconds until the last.
    pub whole_s: f64,
}

/// Gets a file of so many bytes, in a process of its own.
pub fn get(lab: &Lab, address: &str, target: &str, bytes: u64) -> Outcome<Got> {
    let mut client = lab.role(&["http-get", address, target, &bytes.to_string()])?;
    let (_, line) = client.line()?;
    client.end()?;
    let mut numbers = line.split(' ').map(str::parse::<f64>);
    let (Some(Ok(first_s)), Some(Ok(whole_s))) = (numbers.next(), numbers.next()) else {
        return Err(format!("the client says {line:?}").into());
    };
    Ok(Got { first_s, whole_s })
}

/// So many clients at once read so many bytes each of a file of that size, from places all over it.
pub fn crowd(lab: &Lab, address: &str, target: &str, clients: usize, bytes: u64, size: u64) -> Outcome {
    let numbers = [clients.to_string(), bytes.to_string(), size.to_string()];
    lab.role(&["http-crowd", address, target, &numbers[0], &numbers[1], &numbers[2]])?.end().map(drop)
}

/// Plays a client; `None` if there is no such role.
pub fn play(role: &[&str]) -> Option<Outcome> {
    Some(match *role {
        ["http-get", address, target, bytes] => (|| {
            let began = Instant::now();
            let mut stream = request(address, target, "")?;
            let expected: u64 = bytes.parse()?;
            let (mut buffer, mut read, mut first_s) = (vec![0; READ_BYTES], 0, None);
            while read < expected {
                match stream.read(&mut buffer)? {
                    0 => return Err(format!("cut off after {read} bytes").into()),
                    count => read += count as u64,
                }
                first_s.get_or_insert_with(|| began.elapsed().as_secs_f64());
            }
            println!("{} {}", first_s.unwrap_or(0.0), began.elapsed().as_secs_f64());
            Ok(())
        })(),
        ["http-crowd", address, target, clients, bytes, size] => (|| {
            let (clients, bytes, size): (u64, u64, u64) = (clients.parse()?, bytes.parse()?, size.parse()?);
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..clients)
                    .map(|client| {
                        scope.spawn(move || -> Outcome {
                            let from = client * bytes % (size - bytes + 1);
                            let stream = request(address, target, &format!("Range: bytes={from}-{}\r\n", from + bytes - 1))?;
                            std::io::copy(&mut stream.take(bytes), &mut std::io::sink())?;
                            Ok(())
                        })
                    })
                    .collect();
                threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a client failed")?)
            })
        })(),
        _ => return None,
    })
}

/// Sends a request, and reads the head of the answer.
fn request(address: &str, target: &str, headers: &str) -> Outcome<BufReader<TcpStream>> {
    let mut stream = BufReader::with_capacity(READ_BYTES, TcpStream::connect(address)?);
    write!(stream.get_mut(), "GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")?;
    let mut line = String::new();
    stream.read_line(&mut line)?;
    if !line.contains(" 200 ") && !line.contains(" 206 ") {
        return Err(format!("{address} answers {target} with {line:?}").into());
    }
    while line.trim() != "" {
        line.clear();
        stream.read_line(&mut line)?;
    }
    Ok(stream)
}

/// nginx that serves a folder. Ends when dropped.
pub struct Nginx {
    child: Child,
    /// Where it listens.
    pub address: String,
}

impl Nginx {
    /// Starts it; `None` if it is not installed.
    pub fn start(lab: &Lab, folder: &Path) -> Outcome<Option<Self>> {
        // It does not say which free port it took, so one is chosen for it.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let (home, config) = (lab.path("nginx"), lab.path("nginx/nginx.conf"));
        fs::create_dir_all(&home)?;
        let (home, folder) = (text(&home)?, text(folder)?);
        let temps: String =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {home}/{kind};")).concat();
        fs::write(
            &config,
            format!(
                "daemon off; master_process off; pid {home}/pid; error_log {home}/error.log; events {{ }}\n\
                 http {{ access_log off; sendfile on; tcp_nopush on; {temps} server {{ listen {address}; root {folder}; }} }}\n"
            ),
        )?;
        let mut command = Command::new("nginx");
        command.args(["-p", home, "-c", text(&config)?]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let nginx = Self { child, address };
        let deadline = Instant::now() + NGINX_PATIENCE;
        while TcpStream::connect(&nginx.address).is_err() {
            if Instant::now() > deadline {
                return Err(format!("nginx does not listen: {home}/error.log may say why").into());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(Some(nginx))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
