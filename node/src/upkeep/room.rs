//! Whether the disk has room for what is about to come.

use crate::node::{Core, blocking};
use crate::report::{Failure, FailureKind};

impl Core {
    /// Refuses so many bytes, still to be fetched or imported (`come` says which), if the disk has no room for them beside the reserve.
    pub(crate) async fn check_room(&self, needed: u64, come: &'static str) -> Result<(), Failure> {
        let store = self.store.clone();
        blocking(move || {
            let room = store.room()?;
            if needed <= room {
                return Ok(());
            }
            let message = format!(
                "{needed} bytes are still to be {come}, the disk of {} has room for {room}; \
                 make room or choose another --data-dir, then run it again: what is held stays",
                store.dir().display()
            );
            Err(Failure::new(FailureKind::Disk, message))
        })
        .await
    }
}
