//! The public API of shed as types: names, resources, requests, events and problems.
//!
//! Data only: no I/O, no clock, no defaults that depend on a machine. All programs of shed and both doors use these types.
//! Their JSON form is the public contract, described in `docs/API.md` and `docs/openapi.json`.

#[macro_use]
mod words;

pub mod access;
mod env;
pub mod event;
pub mod git;
mod home;
pub mod name;
pub mod problem;
pub mod redact;
pub mod server;
pub mod session;
pub mod shed;
pub mod size;
pub mod stream;
pub mod work;
pub mod worker;

pub use access::{Actor, Scope};
pub use env::read_env;
pub use event::{Event, EventKind};
pub use home::{DEFAULT_HOME, can_be_home};
pub use name::{SessionName, SessionRef, ShedName};
pub use problem::{Code, Problem};
pub use session::Session;
pub use shed::{Shed, ShedStatus};
