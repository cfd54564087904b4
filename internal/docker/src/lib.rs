//! The container engine on Docker's API: the life of a box, and nothing of what happens in it.
//!
//! The one crate that knows Docker. What it decides is pure and in files of its own (`config`, `found`, `labels`,
//! `passwd`, `usage`, `words`); what it asks goes through `client`, which finds the engine again after each loss. No
//! command is ever run in a box from here: that is the link's.

mod boxes;
mod changes;
mod client;
mod config;
mod create;
mod engine;
mod found;
mod image;
mod labels;
mod mounts;
mod passwd;
mod peer;
mod pull;
mod usage;
mod words;

pub use engine::{DockerEngine, Options};
