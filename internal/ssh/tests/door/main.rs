//! The SSH door, asked by the OpenSSH client as it comes.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that is not so")]

mod api;
mod files;
mod forwards;
mod limits;
mod logins;
mod programs;
mod support;
mod terminals;
