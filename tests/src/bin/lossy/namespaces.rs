//! Two network namespaces with a link between them and nothing else: the machines of the bench. Gone when dropped.

use std::fs;
use std::process::{Command, Stdio};

use super::emulator::{Emulator, device};
use super::link::LinkKind;

/// Where the two sides are. Addresses set aside for such benches (RFC 2544): public to every program, routed nowhere.
pub const ADDRESSES: [&str; 2] = ["198.18.0.1", "198.18.0.2"];
/// Namespaces of this bench; the process that made each follows.
const PREFIX: &str = "p2pwlossy-";
/// Packets that a device may hold for the emulator: it takes them out at once, and drops by its own rules.
const DEVICE_QUEUE: &str = "10000";

/// Which congestion controls a namespace may default to; changed in the initial namespace only.
const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

/// Cubic may be the default of a namespace. What was allowed before is restored when this is dropped.
pub struct CubicAllowed(Option<String>);

impl CubicAllowed {
    /// Allows it.
    pub fn new() -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{ALLOWED}: {error}");
        let before = fs::read_to_string(ALLOWED).map_err(failed)?;
        if before.split_whitespace().any(|name| name == "cubic") {
            return Ok(Self(None));
        }
        fs::write(ALLOWED, format!("{} cubic", before.trim())).map_err(failed)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for CubicAllowed {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Nothing depends on it any more.
            let _ = fs::write(ALLOWED, before);
        }
    }
}

/// Two sides and the link between them.
pub struct Lab {
    /// Stopped before its devices go.
    pub emulator: Option<Emulator>,
    names: [String; 2],
}

impl Lab {
    /// Sets up both sides. Their TCP defaults to Cubic, as users' machines do.
    pub fn new(kind: LinkKind, seed: u64) -> Result<Self, String> {
        remove_abandoned();
        let id = std::process::id();
        let mut lab = Self { emulator: None, names: [format!("{PREFIX}{id}-a"), format!("{PREFIX}{id}-b")] };
        let mut devices = Vec::new();
        for (side, name) in lab.names.iter().enumerate() {
            let wire = format!("p2pw{id}{}", ["a", "b"][side]);
            ip(&["netns", "add", name])?;
            devices.push(device(&wire).map_err(|error| format!("cannot make a TUN device: {error}"))?);
            ip(&["link", "set", &wire, "netns", name])?;
            let inside = |arguments: &[&str]| ip(&[&["-n", name], arguments].concat());
            inside(&["link", "set", "lo", "up"])?;
            inside(&["addr", "add", ADDRESSES[side], "peer", ADDRESSES[1 - side], "dev", &wire])?;
            inside(&["link", "set", &wire, "mtu", "1500", "txqueuelen", DEVICE_QUEUE, "up"])?;
            let cubic = lab.command(side, "sysctl").args(["-qw", "net.ipv4.tcp_congestion_control=cubic"]).status();
            if !cubic.is_ok_and(|status| status.success()) {
                return Err("cannot make Cubic the default of a namespace".to_owned());
            }
        }
        let devices = devices.try_into().map_err(|_| "two devices")?;
        lab.emulator = Some(Emulator::start(devices, kind, seed).map_err(|error| format!("cannot start the emulator: {error}"))?);
        Ok(lab)
    }

    /// A program on one side.
    pub fn command(&self, side: usize, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[side]]).arg(program).stdin(Stdio::null());
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.emulator = None;
        for name in &self.names {
            // Fails if the set-up did not come so far.
            let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
        }
    }
}

/// Removes the namespaces of benches that were killed.
fn remove_abandoned() {
    let Ok(output) = Command::new("ip").args(["netns", "list"]).output() else { return };
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        let id = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if id.is_some_and(|id| !fs::exists(format!("/proc/{id}")).unwrap_or(true)) {
            // Somebody else may have been faster.
            let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| format!("cannot run `ip`: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("`ip {}`: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
