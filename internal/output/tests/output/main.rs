//! The log, its readers and the screen, on real files.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that is not so")]

mod crash;
mod drawing;
mod model;
mod reading;
mod support;
