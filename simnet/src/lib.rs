//! Real engines in virtual time: one seed, one world. The same [`Engine`](p2pweights_protocol::engine::Engine) that a node runs is driven
//! here by simulated links, stores, a directory and hostile peers; nothing reads a clock, opens a file or starts a thread.
//!
//! Describe a world as a [`Scenario`], run it with [`World::run`], judge it by its [`Report`]. How it is modelled, and what is not:
//! `docs/simnet.md`. The floors, from the ground up: `agenda link trace store directory network copies` ← `hostile scenario` ←
//! `routes cuts drive` ← `check report` ← `host sites` ← `world` ← `expect` ← `file`; `units` is on the ground too. Scenario files are read from
//! text: opening them is the program's business, in `main` and `cli`.

mod agenda;
mod check;
mod copies;
mod cuts;
mod directory;
mod drive;
pub mod expect;
pub mod file;
mod host;
mod hostile;
mod link;
mod network;
mod report;
mod routes;
mod scenario;
mod sites;
mod store;
mod trace;
mod transfers;
pub mod units;
mod world;

pub use check::Violation;
pub use hostile::Vice;
pub use link::Link;
pub use network::HostId;
pub use report::{HostReport, Moment, Report, SiteReport, Traffic};
pub use scenario::{Disk, Fault, Holding, HostPlan, Nat, Scenario, Site, SiteId, Stay, Timing, Trouble};
pub use world::{Progress, World};

/// 2^10 bytes.
pub const KIB: u64 = 1024;
/// 2^20 bytes.
pub const MIB: u64 = 1024 * KIB;
