//! The emulator: packets from one TUN device to the other, delayed and lost as a [`Link`] says. Two threads for each direction.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tun_rs::{DeviceBuilder, InterruptEvent, SyncDevice};

use super::link::{Fate, Link, LinkKind};

/// Packets on their way in one direction: 600 ms at 1 Gbit/s.
const UNDER_WAY: usize = 65_536;
/// Larger than any packet of a device with the usual MTU.
const PACKET: usize = 2048;

/// What a direction has done.
#[derive(Debug, Default)]
pub struct Counts {
    /// Packets that came out.
    pub delivered: AtomicU64,
    /// Lost at random.
    pub lost: AtomicU64,
    /// Dropped by the queue.
    pub dropped: AtomicU64,
}

/// A running link between two devices. Dropping it ends it.
pub struct Emulator {
    /// From the first device to the second, and back.
    pub counts: [Arc<Counts>; 2],
    cut: Arc<AtomicBool>,
    stop: Arc<InterruptEvent>,
    threads: Vec<JoinHandle<()>>,
}

/// Makes a TUN device, in the namespace of this process and down.
pub fn device(name: &str) -> io::Result<SyncDevice> {
    let device = DeviceBuilder::new().name(name).enable(false).build_sync()?;
    device.set_nonblocking(true)?;
    Ok(device)
}

impl Emulator {
    /// Joins two devices by a link of this kind.
    pub fn start(devices: [SyncDevice; 2], kind: LinkKind, seed: u64) -> io::Result<Self> {
        let devices = devices.map(Arc::new);
        let cut = Arc::new(AtomicBool::new(false));
        let stop = Arc::new(InterruptEvent::new()?);
        let counts = [Arc::new(Counts::default()), Arc::new(Counts::default())];
        let mut threads = Vec::new();
        for (from, counts) in counts.iter().enumerate() {
            let (sender, receiver) = sync_channel(UNDER_WAY);
            let direction = Direction { counts: Arc::clone(counts), cut: Arc::clone(&cut) };
            let (other, link) = (Arc::clone(&devices[1 - from]), Mutex::new(Link::new(kind, seed + from as u64)));
            let (source, stop) = (Arc::clone(&devices[from]), Arc::clone(&stop));
            let reading = Direction { counts: Arc::clone(counts), cut: Arc::clone(&cut) };
            threads.push(thread::spawn(move || reading.take_in(&source, &stop, &link, &sender)));
            threads.push(thread::spawn(move || direction.give_out(&other, &receiver)));
        }
        Ok(Self { counts, cut, stop, threads })
    }

    /// Makes the link vanish, with all that is on its way, or come back.
    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        if self.stop.trigger().is_ok() {
            for thread in self.threads.drain(..) {
                // A panic in it has been printed already.
                let _ = thread.join();
            }
        }
    }
}

type Packet = (Instant, Vec<u8>);

struct Direction {
    counts: Arc<Counts>,
    cut: Arc<AtomicBool>,
}

impl Direction {
    fn take_in(&self, device: &SyncDevice, stop: &InterruptEvent, link: &Mutex<Link>, sender: &SyncSender<Packet>) {
        let start = Instant::now();
        let mut buffer = [0; PACKET];
        // Ends with the device, or when it is told to.
        while let Ok(bytes) = device.recv_intr(&mut buffer, stop) {
            if self.cut.load(Ordering::Relaxed) {
                continue;
            }
            let fate = link.lock().unwrap_or_else(PoisonError::into_inner).send(start.elapsed(), bytes);
            match fate {
                Fate::Lost => drop(self.counts.lost.fetch_add(1, Ordering::Relaxed)),
                Fate::Dropped => drop(self.counts.dropped.fetch_add(1, Ordering::Relaxed)),
                Fate::Delivered(at) => {
                    if sender.send((start + at, buffer[..bytes].to_vec())).is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn give_out(&self, device: &SyncDevice, receiver: &Receiver<Packet>) {
        // Waits for a time by waiting for a message that nobody sends.
        let (_nobody, never) = sync_channel::<()>(0);
        while let Ok((due, packet)) = receiver.recv() {
            let left = due.saturating_duration_since(Instant::now());
            if left > Duration::ZERO {
                let _ = never.recv_timeout(left);
            }
            if !self.cut.load(Ordering::Relaxed) && device.send(&packet).is_ok() {
                self.counts.delivered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
