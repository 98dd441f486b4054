//! The reserve: how much may be written before free space is looked at again. One account for all who write, so that together they stop
//! short of the reserve, however many they are. Pure book-keeping; what is free is an argument.

use std::sync::Mutex;

use super::slot::locked;

/// Most that is written between two looks, in bytes. Others may fill the disk meanwhile; to ask the system takes a few microseconds.
const LOOK_BYTES: u64 = 1024 * 1024;

/// What was found free beside the reserve and has not been used up.
#[derive(Debug, Default)]
pub(super) struct Headroom {
    left: Mutex<u64>,
}

impl Headroom {
    /// Before so many bytes are written; `look` tells what is free beside the reserve. The error is how many bytes are missing.
    pub(super) fn take<E>(&self, bytes: u64, look: impl FnOnce() -> Result<u64, E>) -> Result<Result<(), u64>, E> {
        let mut left = locked(&self.left);
        if *left < bytes {
            let room = look()?;
            if room < bytes {
                *left = 0;
                return Ok(Err(bytes - room));
            }
            *left = room.min(LOOK_BYTES.max(bytes));
        }
        *left -= bytes;
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_taken_is_never_more_than_there_is(room in 0..200_000_000_u64, takes in prop::collection::vec(0..30_000_000_u64, 1..100)) {
            let headroom = Headroom::default();
            let (mut free, mut looks) = (room, 0);
            for bytes in takes {
                let taken = headroom.take(bytes, || { looks += 1; Ok::<_, Infallible>(free) });
                match taken {
                    Ok(Ok(())) => free = free.checked_sub(bytes).expect("not more than was free"),
                    Ok(Err(missing)) => prop_assert_eq!(missing, bytes - free, "refused only if it does not fit"),
                    Err(never) => match never {},
                }
            }
        }
    }

    #[test]
    fn free_space_is_seldom_looked_at() {
        let (headroom, mut looks) = (Headroom::default(), 0);
        for _ in 0..4096 {
            let taken = headroom.take(256 * 1024, || {
                looks += 1;
                Ok::<_, Infallible>(1 << 40)
            });
            assert_eq!(taken, Ok(Ok(())));
        }
        assert_eq!(looks, 1024);
    }
}
