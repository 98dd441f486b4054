//! Ctrl-C: the first asks the command to end with what it has, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::failure::Failure;

/// The user's wish to stop.
#[derive(Debug, Clone)]
pub struct Interrupts {
    stopped: Arc<AtomicBool>,
}

impl Interrupts {
    /// Takes the signal over for the rest of the process's life.
    pub fn listen() -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(|error| Failure::Disk("wait for signals".into(), error))?;
        let stopped = Arc::new(AtomicBool::new(false));
        let flag = stopped.clone();
        std::thread::spawn(move || {
            runtime.block_on(async {
                // Where signals can't be had, Ctrl-C ends the process as it always did.
                if tokio::signal::ctrl_c().await.is_ok() {
                    flag.store(true, Ordering::Relaxed);
                    if tokio::signal::ctrl_c().await.is_ok() {
                        std::process::exit(130);
                    }
                }
            });
        });
        Ok(Self { stopped })
    }

    /// Whether the user wants to stop.
    pub fn wanted(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
