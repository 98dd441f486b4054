//! Real engines in virtual time: one seed, one world. The same [`Engine`](p2pweights_protocol::engine::Engine) that a node runs is driven
//! here by simulated links, stores, a directory and hostile peers; nothing reads a clock, opens a file or starts a thread, but for
//! [`pages`], which writes what runs have shown.
//!
//! Describe a world as a [`Scenario`], run it with [`World::run`], judge it by its [`Report`]. How it is modelled, and what is not:
//! `docs/simnet.md`. The floors, from the ground up: `agenda link frame_length group_set small_map network units` ← `store directory names
//! transfers books copies` ← `hostile scenario` ← `routes cuts drive` ← `fold trace recording check report` ← `host sites` ← `world` ←
//! `expect` ← `file`; beside them, above `report`: `pages`; beside the world, on `agenda link network scenario routes`: [`baseline`], how
//! others distribute; and `flight`, which needs none of them: what a real node's engine saw, gone through again. Scenario files are read
//! from text: opening them is the program's business, in `main` and `cli`.

mod agenda;
pub mod baseline;
mod check;
mod copies;
mod cuts;
mod directory;
mod drive;
pub mod expect;
pub mod file;
pub mod flight;
mod fold;
mod frame_length;
mod group_set;
mod host;
mod hostile;
mod link;
mod names;
mod network;
pub mod pages;
mod recording;
mod report;
mod routes;
mod scenario;
mod sites;
mod small_map;
mod store;
mod trace;
mod transfers;
pub mod units;
mod world;

pub use check::{Rule, Violation};
pub use hostile::Vice;
pub use link::Link;
pub use network::HostId;
pub use recording::Recording;
pub use report::{HostReport, Moment, Report, SiteReport, Traffic};
pub use scenario::{Disk, Fault, Holding, HostPlan, Nat, Scenario, Site, SiteId, Stay, Timing, Trouble};
pub use world::{Progress, World};

/// 2^10 bytes.
pub const KIB: u64 = 1024;
/// 2^20 bytes.
pub const MIB: u64 = 1024 * KIB;
