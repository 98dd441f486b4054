//! From finished runs to something that one wants to look at: records in JSON, plots in SVG and PNG.
//!
//! [`RunRecord::of`] keeps a run, [`Plot::of`] draws it. This is the one place in the crate that counts in floating point. From the ground
//! up: `markup figures record` ← `facts plot`.

mod facts;
mod figures;
mod markup;
mod plot;
mod record;

pub use facts::Facts;
pub use plot::{Kind, Plot, Shape};
pub use record::{Baseline, Expectation, GroupRecord, LinkRecord, MomentRecord, RecordError, RunRecord, SCHEMA};
