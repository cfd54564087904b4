//! What a shed, a session and a worker is, and what may happen to it.
//!
//! Everything here is a value or a function of values: nothing waits, reads a clock, a file or a socket. The manifest
//! keeps it so: this crate uses `shed-api` and no runtime, store or link.

pub mod access;
pub mod admission;
pub mod conversation;
pub mod env;
pub mod event;
pub mod lane;
pub mod patch;
mod rejection;
pub mod session;
pub mod shed;
pub mod tag;
pub mod viewers;
pub mod worker;

pub use event::NewEvent;
pub use rejection::{Rejection, at_risk, unsaved};
