//! `shed-server service` with real processes: a server, its supervisor, and what is left when one of them is killed. The
//! container engine cannot be reached; the server serves without it.

#![expect(clippy::unwrap_used, reason = "a failed step ends the test")]

mod data;
mod lifecycle;
mod mistakes;
mod support;
