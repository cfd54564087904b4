//! The container engine on Docker's API: the life cycle of containers, and nothing of what happens inside them.
//!
//! The only crate that knows Docker. Decisions are pure and in modules of their own (`config`, `failure`,
//! `firewall::rules`, `found`, `labels`, `passwd`, `usage`); requests go through `client`, which reconnects after each loss. This crate never runs a
//! command in a container: that goes over the link.

mod changes;
mod client;
mod config;
mod containers;
mod create;
mod engine;
mod failure;
mod firewall;
mod found;
mod image;
mod labels;
mod mounts;
mod network;
mod passwd;
mod peer;
mod pull;
mod usage;

pub use engine::{DockerEngine, Options};
pub use firewall::{Gap, Protection, Tool};
