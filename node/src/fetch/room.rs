//! Room for what is to be fetched: promised to the whole fetch before anything is asked for, so that fetches which cannot all be held do
//! not fill the quota with halves. And what is to stay of it.

use p2pweights_protocol::ids::BlobHash;

use super::{Fetching, Plan};
use crate::node::blocking;
use crate::publish::pin;
use crate::report::{Failure, FailureKind, StayEntry};
use crate::store::{Need, StoreError, WantedRecord, locked};

/// How often room is made for one fetch: others may take what was made.
const TRIES: u32 = 4;
/// Models named that stay; the others are told by `gc`.
const STAYS: usize = 5;
/// About what a file takes in the record of its model, in bytes.
const RECORD_BYTES_PER_FILE: u64 = 80;

impl Fetching<'_> {
    /// Has room promised for all files, their manifest and its record.
    pub(super) async fn take_room(&self, plan: &Plan) -> Result<(), Failure> {
        let mut needs: Vec<Need> = plan.files.iter().map(|file| Need::of(file.blob, file.bytes)).collect();
        if let Some(manifest) = &plan.manifest {
            let size = self.core.store.blob(plan.hash).map_or(0, |status| status.size);
            let record_bytes = 4096 + manifest.shards().len() as u64 * RECORD_BYTES_PER_FILE;
            needs.push(Need { blob: plan.hash, size, record_bytes });
        }
        self.take_room_for(needs).await
    }

    pub(super) async fn take_room_for(&self, needs: Vec<Need>) -> Result<(), Failure> {
        let mut tries = 0;
        loop {
            let (store, asked) = (self.core.store.clone(), needs.clone());
            match blocking(move || Ok(store.promise(&asked))).await? {
                Ok(promise) => {
                    locked(&self.room).push(promise);
                    return Ok(());
                }
                Err(StoreError::OverQuota { needed, taken, quota }) => {
                    tries += 1;
                    let stays = match self.core.make_room(needed).await? {
                        Ok(()) if tries < TRIES => continue,
                        Ok(()) => Vec::new(),
                        Err(stays) => stays,
                    };
                    let stay = |entry: &StayEntry| format!("{} ({})", entry.name.as_ref().unwrap_or(&entry.hash), entry.reason);
                    let stays = stays.iter().take(STAYS).map(stay).collect::<Vec<_>>().join(", ");
                    let stays = if stays.is_empty() {
                        stays
                    } else {
                        format!("; evicting does not bring enough, for these stay: {stays}")
                    };
                    let store = &self.core.store;
                    let held = |blob: BlobHash| store.blob(blob).map_or(0, |status| crate::inventory::held_bytes(&status));
                    let missing: u64 = needs.iter().map(|need| need.size.saturating_sub(held(need.blob))).sum();
                    let message = format!(
                        "{missing} bytes are still to be fetched, and {needed} of them do not fit the quota: {taken} of {quota} bytes are \
                         taken or promised; raise storage.quota, or make room with `p2pweights gc` or `p2pweights remove`, then run it \
                         again: what is held stays{stays}"
                    );
                    return Err(Failure::new(FailureKind::Disk, message));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes down that it is kept, and that it was of use.
    pub(super) async fn keep(&self, plan: &Plan, name: Option<&str>) -> Result<(), Failure> {
        let (store, pinned, hash) = (self.core.store.clone(), self.request.pin, plan.hash);
        let blobs: Vec<BlobHash> = plan.files.iter().map(|file| file.blob).collect();
        // What was here and withheld is now had by a model that is not.
        let withheld = self.core.withheld().await?;
        let freed: Vec<BlobHash> = blobs.iter().copied().chain([hash]).filter(|blob| withheld.contains(blob)).collect();
        let model = plan.manifest.as_ref().map(|manifest| pin(hash, manifest, name));
        let wanted = WantedRecord::new(hash, name.map(str::to_owned));
        blocking(move || {
            blobs.into_iter().for_each(|blob| store.touch(blob));
            match model {
                Some(record) => store.add_manifest(crate::store::PinRecord { pinned, ..record })?,
                None => store.add_wanted(WantedRecord { pinned, ..wanted })?,
            }
            Ok(())
        })
        .await?;
        if freed.is_empty() { Ok(()) } else { self.core.offer(freed).await }
    }
}
