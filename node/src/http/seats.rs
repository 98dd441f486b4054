//! How many clients there may be. When all seats are taken, whoever has been idle the longest has to go: connections that only sit there keep
//! nobody out. Pure but for a lock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use crate::store::locked;

/// All seats.
#[derive(Debug)]
pub struct Seats {
    limit: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// By the number that each got when it came.
    seats: BTreeMap<u64, Occupant>,
    /// Counts arrivals and moments at which somebody became idle.
    count: u64,
}

#[derive(Debug)]
struct Occupant {
    /// Since when it is idle; `None` while it is served.
    idle_since: Option<u64>,
    leave: CancellationToken,
}

/// A seat, given back when dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    number: u64,
    leave: CancellationToken,
}

/// While it is there, somebody is served.
#[derive(Debug)]
pub struct Served {
    seats: Arc<Seats>,
    number: u64,
}

impl Seats {
    /// So many.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::default() })
    }

    /// A seat for one more; `None` if all are taken, and all who sit there are served.
    pub fn take(self: &Arc<Self>) -> Option<Seat> {
        let mut taken = locked(&self.taken);
        let taken = &mut *taken;
        if taken.seats.len() >= self.limit {
            let idle = taken.seats.iter().filter_map(|(number, seat)| Some((seat.idle_since?, *number)));
            let (_, longest) = idle.min()?;
            taken.seats.remove(&longest)?.leave.cancel();
        }
        taken.count += 1;
        let (number, leave) = (taken.count, CancellationToken::new());
        taken.seats.insert(number, Occupant { idle_since: Some(number), leave: leave.clone() });
        Some(Seat { seats: Arc::clone(self), number, leave })
    }

    fn set_idle(&self, number: u64, idle: bool) {
        let mut taken = locked(&self.taken);
        taken.count += 1;
        let now = taken.count;
        if let Some(seat) = taken.seats.get_mut(&number) {
            seat.idle_since = idle.then_some(now);
        }
    }
}

impl Seat {
    /// Its occupant is served from now on.
    pub fn serve(&self) -> Served {
        self.seats.set_idle(self.number, false);
        Served { seats: Arc::clone(&self.seats), number: self.number }
    }

    /// Waits until the occupant has to go.
    pub async fn left(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        locked(&self.seats.taken).seats.remove(&self.number);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.seats.set_idle(self.number, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_has_been_idle_the_longest_goes() {
        let seats = Seats::new(3);
        let [one, two, three] = [(); 3].map(|()| seats.take().unwrap());
        drop(one.serve());
        let busy = two.serve();
        let four = seats.take().unwrap();
        assert_eq!([&one, &two, &three, &four].map(|seat| seat.leave.is_cancelled()), [false, false, true, false]);
        drop(three);
        let five = seats.take().unwrap();
        assert!(one.leave.is_cancelled() && !two.leave.is_cancelled());
        let all = [four.serve(), five.serve()];
        assert!(seats.take().is_none(), "all three are served");
        drop((busy, all));
        assert!(seats.take().is_some());
        drop((one, two, four, five));
        assert!(locked(&seats.taken).seats.is_empty());
    }
}
