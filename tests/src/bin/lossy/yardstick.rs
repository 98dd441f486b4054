//! What a plain TCP connection brings over the same link: nothing checked, nothing encrypted, one congestion control or the other.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::namespaces::{ADDRESSES, Lab};
use p2pweights_tests::processes::Running;

/// The port of the source.
const PORT: u16 = 4100;
/// Most that the source waits for the sink, or a write.
const PATIENCE: Duration = Duration::from_secs(60);

/// Payload bits a second over at most this long, from the moment of connecting.
pub fn measure(lab: &Lab, congestion: &str, lasts: Duration) -> Result<f64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let port = PORT.to_string();
    let mut source = lab.command(0, &program);
    source.args(["yardstick-source", &port, congestion]).stdout(Stdio::piped());
    let mut source = Running::spawn(source)?;
    source.line_with("listening", PATIENCE)?;
    let mut sink = lab.command(1, &program);
    sink.args(["yardstick-sink", ADDRESSES[0], &port, &lasts.as_secs().to_string()]).stdout(Stdio::piped());
    let mut sink = Running::spawn(sink)?;
    let line = sink.line_with("bits_per_s", lasts + PATIENCE)?;
    line.split_whitespace().nth(1).and_then(|rate| rate.parse().ok()).ok_or_else(|| format!("not a rate: {line}"))
}

/// The source's process: sends for as long as it is read.
pub fn source(port: u16, congestion: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("listening");
    let (mut stream, _) = listener.accept()?;
    socket2::SockRef::from(&stream).set_tcp_congestion(congestion.as_bytes())?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let block = vec![0x5a; 64 * 1024];
    while stream.write_all(&block).is_ok() {}
    Ok(())
}

/// The sink's process: reads for so long.
pub fn sink(address: &str, port: u16, seconds: u64) -> std::io::Result<()> {
    let began = Instant::now();
    let lasts = Duration::from_secs(seconds);
    let mut stream = TcpStream::connect((address, port))?;
    let mut buffer = vec![0; 256 * 1024];
    let mut bytes = 0u64;
    while let Some(left) = lasts.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => bytes += read as u64,
            Err(_) => (),
        }
    }
    println!("bits_per_s {}", bytes as f64 * 8.0 / began.elapsed().as_secs_f64());
    Ok(())
}
