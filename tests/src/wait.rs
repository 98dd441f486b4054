//! Waits that end. A test that waits for something which does not come fails and says what it was.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

/// Any one thing that a test waits for happens within this, also on a machine under load.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often something is looked at of whose changes nobody is told.
const LOOK: Duration = Duration::from_millis(20);

/// Waits for a future, but not for ever.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Looks again and again until the look brings something.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looking = async {
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    timeout_at(deadline, looking).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}
