//! Transfers over links that lose packets: `cargo run --release -p p2pweights-tests --bin lossy`. The real program, two network namespaces,
//! an emulated link between them, and plain TCP over the same link as a yardstick. Needs root on Linux; takes about 25 minutes, with
//! `--quick` four.

#[cfg(target_os = "linux")]
mod bench;
#[cfg(target_os = "linux")]
mod emulator;
mod link;
#[cfg(target_os = "linux")]
mod namespaces;
#[cfg(target_os = "linux")]
mod transfer;
#[cfg(target_os = "linux")]
mod yardstick;

use std::process::ExitCode;

/// Something could not be measured.
const FAILED: u8 = 1;
/// The order makes no sense.
const USAGE: u8 = 2;
/// This machine or user cannot make network namespaces.
const NOT_HERE: u8 = 77;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match words.as_slice() {
        ["yardstick-source", port, congestion] => {
            port.parse().map_err(|_| "not a port".to_owned()).and_then(|port| text(yardstick::source(port, congestion)))
        }
        ["yardstick-sink", address, port, seconds] => match (port.parse(), seconds.parse()) {
            (Ok(port), Ok(seconds)) => text(yardstick::sink(address, port, seconds)),
            _ => Err("not numbers".to_owned()),
        },
        words => {
            let order = match bench::Order::parse(words) {
                Ok(order) => order,
                Err(message) => {
                    eprintln!("error: {message}\n\n{}", bench::USAGE);
                    return ExitCode::from(USAGE);
                }
            };
            if !rustix::process::geteuid().is_root() {
                eprintln!("error: only root may make network namespaces and TUN devices; run this as root");
                return ExitCode::from(NOT_HERE);
            }
            bench::run(&order)
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(FAILED)
        }
    }
}

#[cfg(target_os = "linux")]
fn text(result: std::io::Result<()>) -> Result<(), String> {
    result.map_err(|error| error.to_string())
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("error: network namespaces are there on Linux only");
    ExitCode::from(NOT_HERE)
}
