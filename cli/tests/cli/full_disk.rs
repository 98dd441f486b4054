//! A disk that fills up in the middle of a fetch, for real: a small file system in a mount namespace of the program's own.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::world::{NodeUp, Running, World, files_below, noise};

const MIB: u64 = 1 << 20;
const FILE_BYTES: u64 = 48 * MIB;
const DISK_BYTES: u64 = 96 * MIB;
const RESERVE_BYTES: u64 = 8 * MIB;

/// A fetch whose data dir is on a disk of its own. The disk is reached through the process, and gone with it.
struct OnSmallDisk {
    fetch: Running,
    disk: PathBuf,
}

impl OnSmallDisk {
    /// Starts it; `None` where the system lets nobody have a mount namespace.
    fn start(world: &World, source: &NodeUp, hash: &str) -> Option<Self> {
        let disk = world.path("disk");
        fs::create_dir_all(&disk).unwrap();
        let script = format!(r#"mount -t tmpfs -o size={DISK_BYTES} none "$1" && shift && exec "$@""#);
        let unshare = |command: &mut Command| {
            command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]).arg(&disk);
        };
        let mut trial = Command::new("unshare");
        unshare(&mut trial);
        if !trial.arg("true").output().is_ok_and(|output| output.status.success()) {
            return None;
        }
        let program = world.command("disk/data");
        let mut command = Command::new("unshare");
        unshare(&mut command);
        command.arg(program.get_program()).args(program.get_args());
        command.args(["--json", "fetch", hash, "--peer", &source.address(), "--max-download", "8MB/s", "-o", "out"]);
        command.current_dir(program.get_current_dir().expect("tests run in a folder of their own"));
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("P2PWEIGHTS_STORAGE_RESERVE", RESERVE_BYTES.to_string());
        let fetch = Running::spawn(command);
        Some(Self { disk: PathBuf::from(format!("/proc/{}/root{}", fetch.pid(), disk.display())), fetch })
    }

    fn free_bytes(&self) -> u64 {
        let disk = rustix::fs::statvfs(&self.disk).unwrap();
        disk.f_bavail * disk.f_frsize
    }

    fn wait_bytes(&mut self, least: u64) {
        self.fetch.wait_line("progress", |line| {
            let event: Value = serde_json::from_str(line).unwrap_or_default();
            event["event"] == "progress" && event["bytes"].as_u64().is_some_and(|bytes| bytes >= least)
        });
    }

    /// Writes so much to the disk, or all that it takes.
    fn fill(&self, bytes: u64) -> PathBuf {
        let hog = self.disk.join("hog");
        let mut file = File::create(&hog).unwrap();
        let block = vec![1; 64 * 1024];
        for _ in 0..bytes / block.len() as u64 {
            if file.write_all(&block).is_err() {
                break;
            }
        }
        hog
    }
}

/// Fetches while somebody else fills the disk to where so much is free, waits for the pause, makes room, and waits for the end.
fn fill_up(leaves: u64, check: impl FnOnce(&OnSmallDisk)) {
    let world = World::new();
    let file = world.write("weights.bin", noise(1, FILE_BYTES as usize));
    let hash = world.publish("source", &file, &[]);
    let source = world.node("source", &[]);
    let Some(mut small) = OnSmallDisk::start(&world, &source, &hash) else {
        eprintln!("not run: this system allows no mount namespace");
        return;
    };
    small.wait_bytes(FILE_BYTES / 8);
    let hog = small.fill(small.free_bytes().saturating_sub(leaves));
    let paused = small.fetch.wait_event("paused");
    assert!(paused["reason"].as_str().unwrap().contains("is full"), "{paused}");
    check(&small);
    fs::remove_file(hog).unwrap();
    small.fetch.wait_event("resumed");
    let ended = small.fetch.end().expect_code(0);
    let done = ended.event("done");
    assert_eq!(done["bytes"], FILE_BYTES);
    // What was verified but could not be made durable comes again, and nothing else.
    let again = done["fetched"].as_u64().unwrap() - FILE_BYTES;
    assert!(again <= FILE_BYTES / 4, "{again} bytes came again");
    let [(_, bytes)] = &files_below(&world.path("out"))[..] else { panic!("one file was asked for") };
    assert!(*bytes == fs::read(file).unwrap());
}

#[test]
fn a_disk_that_others_fill_up_is_waited_for() {
    fill_up(0, |_| ());
}

#[test]
fn the_reserve_is_left_alone() {
    // A little more than the reserve is left: payload uses that up, and stops.
    fill_up(RESERVE_BYTES + 4 * MIB, |small| {
        let free = small.free_bytes();
        assert!(free >= RESERVE_BYTES - MIB, "{free} bytes are left");
    });
}
