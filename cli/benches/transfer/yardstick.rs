//! What everything is compared with, measured in the same round: a plain copy over TCP by two processes, `tar` at both ends of one, and
//! each hash alone.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use sha2::Digest;

use crate::lab::{Lab, text};
use crate::process::Process;
use crate::{MIB, Outcome};

/// What one read or write of a copy moves.
const COPY_BYTES: usize = 128 * 1024;

/// Seconds that a plain copy of a file takes: one connection, nothing checked, nothing encrypted, one thread a side.
pub fn copy(lab: &Lab, file: &Path) -> Outcome<f64> {
    copies(lab, file, 1)
}

/// Seconds that so many plain copies of one file at once take.
pub fn copies(lab: &Lab, file: &Path, count: usize) -> Outcome<f64> {
    let mut sources = Vec::new();
    for _ in 0..count {
        let mut source = lab.role(&["tcp-source", text(file)?])?;
        let (_, address) = source.line()?;
        sources.push((source, address));
    }
    let began = Instant::now();
    let mut sinks = Vec::new();
    for (index, (_, address)) in sources.iter().enumerate() {
        let path = lab.path(&format!("copy-{index}.bin"));
        sinks.push((lab.role(&["tcp-sink", address, text(&path)?])?, path));
    }
    let mut ended = began;
    let mut copied = Vec::new();
    for (sink, path) in sinks {
        ended = ended.max(sink.end()?.ended);
        copied.push(path);
    }
    sources.into_iter().try_for_each(|(source, _)| source.end().map(|_| ()))?;
    for path in copied {
        if fs::metadata(&path)?.len() != fs::metadata(file)?.len() {
            return Err("a plain copy is not whole".into());
        }
        fs::remove_file(path)?;
    }
    Ok((ended - began).as_secs_f64())
}

/// Seconds that a folder takes through `tar`, TCP and `tar`.
pub fn tar(lab: &Lab, folder: &Path) -> Outcome<f64> {
    let mut source: Process = lab.role(&["tar-source", text(folder)?])?;
    let (_, address) = source.line()?;
    let out = lab.path("tar.out");
    fs::create_dir(&out)?;
    let began = Instant::now();
    let sink = lab.role(&["tar-sink", &address, text(&out)?])?;
    let ended = sink.end()?.ended;
    source.end()?;
    lab.forget("tar.out")?;
    Ok((ended - began).as_secs_f64())
}

/// Seconds that SHA-256 of a file takes on one core.
pub fn sha256(file: &Path) -> Outcome<f64> {
    let mut hasher = sha2::Sha256::new();
    read_all(file, |bytes| Digest::update(&mut hasher, bytes))
}

/// Seconds that BLAKE3 of a file takes on one core.
pub fn blake3(file: &Path) -> Outcome<f64> {
    let mut hasher = blake3::Hasher::new();
    read_all(file, |bytes| {
        hasher.update(bytes);
    })
}

/// Seconds that BLAKE3 of a file takes on all cores: each hashes its share of it.
pub fn blake3_on_all_cores(file: &Path) -> Outcome<f64> {
    let began = Instant::now();
    let cores = std::thread::available_parallelism()?.get() as u64;
    let (file, bytes) = (File::open(file)?, fs::metadata(file)?.len());
    let share = bytes.div_ceil(cores);
    let hash = |from: u64, until: u64| -> std::io::Result<()> {
        let (mut hasher, mut buffer, mut at) = (blake3::Hasher::new(), vec![0; MIB as usize], from);
        while at < until {
            let count = file.read_at(&mut buffer[..MIB.min(until - at) as usize], at)?;
            hasher.update(&buffer[..count]);
            at += count as u64;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..cores).map(|core| scope.spawn(move || hash(core * share, bytes.min((core + 1) * share)))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread failed")?.map_err(crate::Failure::from))
    })?;
    Ok(began.elapsed().as_secs_f64())
}

fn read_all(file: &Path, mut take: impl FnMut(&[u8])) -> Outcome<f64> {
    let began = Instant::now();
    let (mut file, mut buffer) = (File::open(file)?, vec![0; MIB as usize]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(began.elapsed().as_secs_f64()),
            count => take(&buffer[..count]),
        }
    }
}

/// Plays one end of a copy; `None` if there is no such role.
pub fn play(role: &[&str]) -> Option<Outcome> {
    Some(match role {
        ["tcp-source", file] => accept().and_then(|mut stream| pass(&mut File::open(file)?, &mut stream)),
        ["tcp-sink", address, file] => connect(address).and_then(|mut stream| pass(&mut stream, &mut File::create(file)?)),
        ["tar-source", folder] => accept().and_then(|mut stream| {
            let mut tar = Command::new("tar").args(["-cf", "-", "-C", folder, "."]).stdout(Stdio::piped()).spawn()?;
            pass(tar.stdout.as_mut().ok_or("no stdout")?, &mut stream)?;
            good(tar.wait()?)
        }),
        ["tar-sink", address, folder] => connect(address).and_then(|mut stream| {
            let mut tar = Command::new("tar").args(["-xf", "-", "-C", folder]).stdin(Stdio::piped()).spawn()?;
            pass(&mut stream, &mut tar.stdin.take().ok_or("no stdin")?)?;
            good(tar.wait()?)
        }),
        _ => return None,
    })
}

fn accept() -> Outcome<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    Ok(listener.accept()?.0)
}

fn connect(address: &str) -> Outcome<TcpStream> {
    Ok(TcpStream::connect(address)?)
}

fn good(status: std::process::ExitStatus) -> Outcome {
    if status.success() { Ok(()) } else { Err(format!("tar failed: {status}").into()) }
}

fn pass(from: &mut impl Read, to: &mut impl Write) -> Outcome {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(to.flush()?),
            count => to.write_all(&buffer[..count])?,
        }
    }
}
