//! The programs `shed-server`, `shed` and `ssh` together, on a real Docker engine.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that is not so")]

mod beside;
mod document;
mod engine;
mod firewall;
mod full;
mod kills;
mod operation_kills;
mod refusals;
mod scripts;
mod support;
mod walk;
mod worker_kills;
