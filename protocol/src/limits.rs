//! Every number that a peer, a manifest or a config can influence has its bound here, with the reason for it.

use std::time::Duration;

/// Longest control frame, length prefix excluded. The largest honest one is a have-map of [`BLOB_BYTES`] (32 KiB) or a list of
/// [`BLOBS_PER_MESSAGE`] hashes (32 KiB); twice that leaves room to grow.
pub const FRAME_BYTES: usize = 64 * 1024;
/// Largest blob: 16 TiB. At 64 MiB a piece this is 262,144 pieces, a have-map of 32 KiB, which fits one frame.
pub const BLOB_BYTES: u64 = 1 << 44;
/// Largest manifest. 65,536 files at about 400 bytes each; parsed in memory, so this also bounds the memory a hash can cost.
pub const MANIFEST_BYTES: u64 = 32 * 1024 * 1024;
/// Most files in a manifest. The largest models have about a thousand; datasets beside them, tens of thousands.
pub const MANIFEST_FILES: usize = 65_536;
/// Largest sum of file sizes in a manifest: integers above 2^53 are not exact in other people's JSON.
pub const MANIFEST_TOTAL_BYTES: u64 = 1 << 53;
/// Longest path in a manifest, in bytes of UTF-8; common file systems allow 4,096 with the folder it is put in.
pub const PATH_BYTES: usize = 1024;
/// Longest component of such a path: the limit of ext4, APFS and NTFS.
pub const PATH_COMPONENT_BYTES: usize = 255;
/// Longest name of a network: it stands in every protocol name. Lower-case letters, digits and `-`.
pub const NETWORK_NAME_BYTES: usize = 32;
/// Longest agent text in a greeting; it ends up in logs.
pub const AGENT_BYTES: usize = 64;

/// Hashes in one message about several blobs.
pub const BLOBS_PER_MESSAGE: usize = 1024;
/// Blobs that one peer may be interested in at a time: one whole manifest and the manifest itself.
pub const INTERESTS_PER_PEER: usize = MANIFEST_FILES + 1;
/// Runs in one have-delta. A delta is sent every fraction of a second; more runs than this travel in the next one.
pub const RUNS_PER_MESSAGE: usize = 1024;
/// Control messages of one peer that are heeded in a second, or at once after a second of silence, answers to our questions aside. One
/// grant for each block of 256 KiB at 10 Gbit/s makes 5,000; a thread decodes and weighs some 100,000.
pub const MESSAGES_PER_S: u32 = 16_384;
/// Peers named in one introduction: twice what we name, and little more than a neighbourhood has room for.
pub const CONTACTS_PER_MESSAGE: usize = 16;
/// Addresses of each of them: two transports, two IP versions.
pub const ADDRESSES_PER_CONTACT: usize = 4;
/// Longest address accepted from a peer, in bytes; an honest one takes at most 64.
pub const ADDRESS_BYTES: usize = 128;

/// Smallest block: below it the proof's path and the request cost more than 1 %.
pub const BLOCK_MIN_BYTES: u32 = 256 * 1024;
/// Largest block: what one credit can make a sender read, and the most a receiver loses when a source dies.
pub const BLOCK_MAX_BYTES: u32 = 4 * 1024 * 1024;
/// Credits one sender may have given to one peer at a time; 64 blocks of 4 MiB cover 10 Gbit/s at 200 ms.
pub const CREDITS_PER_PEER: u16 = 64;
/// Requests a peer may have open at a time. One per credit; anything above is refused without work.
pub const REQUESTS_PER_PEER: usize = CREDITS_PER_PEER as usize;
/// Groups to which the parents of one answer may lead: 1 GiB, whose parents take 4 MiB, as much as the largest block.
pub const PARENTS_GROUPS: u64 = BLOCK_MAX_BYTES as u64 / 64;
/// Payload asked for and not yet arrived, over all sources. Bounds what a crash or a lie can cost.
pub const IN_FLIGHT_BYTES: u64 = 64 * 1024 * 1024;

/// Peers the engine talks to at a time; each costs at most a few have-maps.
pub const PEERS: usize = 512;
/// Providers asked for one swarm at a time: more neighbours bring nothing (30 were as good as 60 in simulation).
pub const PROVIDERS_PER_SWARM: usize = 30;
/// Peers whose misdeeds are remembered; the oldest are forgotten first. Identities are free to mint, so this must be bounded.
pub const REMEMBERED_PEERS: usize = 4096;

/// Readers of one blob that is still being fetched whose positions are heeded: more than a client reads with at a time.
pub const READERS_PER_BLOB: usize = 16;
/// Blobs of which that is heeded: a client reads eight files at a time; at every choice all readers are looked at.
pub const BLOBS_READ: usize = 64;

/// Shortest time a request is given. Below this a busy disk looks like a dead peer.
pub const DEADLINE_MIN: Duration = Duration::from_secs(2);
/// Longest time a request is given.
pub const DEADLINE_MAX: Duration = Duration::from_secs(60);

const _: () = {
    assert!(BLOCK_MIN_BYTES as u64 >= 16 * crate::geometry::GROUP_BYTES);
    assert!(BLOCK_MIN_BYTES <= BLOCK_MAX_BYTES);
    assert!(BLOBS_PER_MESSAGE * 32 < FRAME_BYTES);
    assert!(BLOB_BYTES.div_ceil(64 << 20) / 8 < FRAME_BYTES as u64);
    assert!(RUNS_PER_MESSAGE * 10 < FRAME_BYTES);
    assert!(CONTACTS_PER_MESSAGE * (40 + ADDRESSES_PER_CONTACT * (ADDRESS_BYTES + 2)) < FRAME_BYTES);
    assert!(IN_FLIGHT_BYTES >= 8 * BLOCK_MAX_BYTES as u64);
};
