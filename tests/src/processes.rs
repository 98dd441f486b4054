//! Processes that are read line by line, within a time, and end with whoever started them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// A process that prints lines. Killed when dropped.
pub struct Running {
    /// Its standard input, if it is a pipe, stays open as long as this lives.
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// Starts it; its standard output must be a pipe.
    pub fn spawn(mut command: Command) -> Result<Self, String> {
        let mut child = command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let output = child.stdout.take().ok_or("no pipe")?;
        let (sender, lines) = sync_channel(1024);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// The next line, within this time; `None` when the time is over or the process has ended.
    pub fn line(&self, within: Duration) -> Result<Option<String>, String> {
        match self.lines.recv_timeout(within) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err("it ended".to_owned()),
        }
    }

    /// The first line, from now on, with this text in it.
    pub fn line_with(&mut self, text: &str, within: Duration) -> Result<String, String> {
        let deadline = Instant::now() + within;
        loop {
            match self.line(deadline.saturating_duration_since(Instant::now())) {
                Ok(Some(line)) if line.contains(text) => return Ok(line),
                Ok(Some(_)) => (),
                Ok(None) => return Err(format!("no {text:?} within {} s", within.as_secs())),
                Err(error) => return Err(format!("no {text:?}: {error}")),
            }
        }
    }
}

impl Running {
    /// SIGKILL, and its end.
    pub fn kill(self) {}

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
