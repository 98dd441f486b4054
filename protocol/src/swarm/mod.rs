//! One blob and its providers: what is wanted, how rare it is, what is asked of whom, what to ask next.
//!
//! Each file is one noun without a clock or a side effect; `engine` puts them together.

pub mod availability;
pub mod download;
pub mod holders;
pub mod ledger;
pub mod piece_picker;
pub mod rate;
pub mod readers;
pub mod rescue;
pub mod source;

#[cfg(test)]
pub(crate) mod drawing;
