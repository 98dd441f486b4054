//! The program as a user meets it: its real binary, real processes, free ports on loopback.

// The whole crate is a test, the functions that its tests share included; clippy's own exemption stops at `#[test]`.
#![allow(clippy::unwrap_used)]

mod clients;
mod failures;
mod full_disk;
mod gateway;
mod http;
mod hub;
mod import;
mod journey;
mod keeping;
mod metrics;
mod mirror;
mod publish;
mod settings;
mod small_files;
mod usage;
mod verify;
mod web;
mod world;
mod zoo;
