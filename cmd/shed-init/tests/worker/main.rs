//! The runner of a worker with its spool, its control socket and the collector, in a window of a real tmux or on a terminal.

#![expect(clippy::unwrap_used, reason = "a test fails at the first error")]

mod collector;
mod confine;
mod control;
mod runner;
mod support;
