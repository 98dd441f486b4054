//! Ctrl-C and SIGTERM: the first asks a command to end in order, the second ends the process at once.

use tokio::sync::watch;

use crate::exit_code;
use crate::failure::CommandError;

/// The user's wish to stop.
#[derive(Debug, Clone)]
pub struct Interrupts {
    stopped: watch::Receiver<bool>,
}

impl Interrupts {
    /// Takes over both signals, for the rest of the process's life.
    pub fn listen() -> Result<Self, CommandError> {
        let mut signals =
            Signals::install().map_err(|error| CommandError::internal(format!("cannot handle signals: {error}")))?;
        let (sender, stopped) = watch::channel(false);
        tokio::spawn(async move {
            signals.next().await;
            // Nobody waits any more when the command is over already.
            let _ = sender.send(true);
            signals.next().await;
            std::process::exit(i32::from(exit_code::INTERRUPTED));
        });
        Ok(Self { stopped })
    }

    /// Returns when the user wants to stop; at once if that was said before.
    pub async fn wait(&mut self) {
        // The sender lives as long as the runtime: an error means that this is ending too.
        let _ = self.stopped.wait_for(|stopped| *stopped).await;
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn install() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn install() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
