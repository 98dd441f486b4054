//! Serving HTTP to whoever can reach an address: connections with limits and deadlines. Knows nothing of what is answered.

mod connections;
mod patience;
mod seats;

pub use connections::{Answers, Manners, serve};
