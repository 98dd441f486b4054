//! Tests only: a disk that is as slow as a test wants it.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::store::locked;

/// A write waits no longer than this, and then nothing is held any more: a test that failed must not hang as well.
const PATIENCE: Duration = Duration::from_secs(60);

/// Holds writes of payload back until they are let through.
#[derive(Debug, Default)]
pub(crate) struct Brake {
    state: Mutex<State>,
    eased: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes that may still be written; nothing while the brake is off.
    allowed: Option<u64>,
    /// Writes that wait.
    waiting: usize,
}

impl Brake {
    /// From now on, only what is let through is written.
    pub(crate) fn hold(&self) {
        locked(&self.state).allowed = Some(0);
    }

    /// Lets about so many bytes through, whole writes.
    pub(crate) fn let_through(&self, bytes: u64) {
        if let Some(allowed) = &mut locked(&self.state).allowed {
            *allowed += bytes;
        }
        self.eased.notify_all();
    }

    /// The disk is as fast as it is.
    pub(crate) fn release(&self) {
        locked(&self.state).allowed = None;
        self.eased.notify_all();
    }

    /// Writes that wait.
    pub(crate) fn waiting(&self) -> usize {
        locked(&self.state).waiting
    }

    /// Before a write of so many bytes.
    pub(in crate::store::disk) fn pass(&self, bytes: u64) {
        let mut state = locked(&self.state);
        state.waiting += 1;
        let waited = self.eased.wait_timeout_while(state, PATIENCE, |state| state.allowed == Some(0));
        let (mut state, late) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        state.waiting -= 1;
        if late.timed_out() {
            state.allowed = None;
        }
        state.allowed = state.allowed.map(|allowed| allowed.saturating_sub(bytes));
    }
}
