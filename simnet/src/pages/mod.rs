//! From finished runs to something that one wants to look at. For now: records in JSON.
//!
//! [`RunRecord::of`] keeps a run. This is the one place in the crate that counts in floating point.

mod facts;
mod record;

pub use facts::Facts;
pub use record::{Baseline, Expectation, GroupRecord, LinkRecord, MomentRecord, RecordError, RunRecord, SCHEMA};
