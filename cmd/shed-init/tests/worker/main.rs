//! A worker in a window: its runner, its spool, the collector and the control socket, with a real tmux.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that is not so")]

mod collector;
mod confine;
mod control;
mod runner;
mod support;
