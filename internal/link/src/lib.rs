//! The link: what shed-server and shed-init say to each other.
//!
//! shed-init dials a unix socket the server listens on. One connection carries requests and news as frames
//! ([`Conn`]); file descriptors ride along (`SCM_RIGHTS`), so the bytes of a stream never pass through shed-init.
//! Whatever comes from a shed is hostile: frames are bounded, descriptors are counted, and nothing here trusts a path.
//!
//! ```text
//! shed-init                                   shed-server
//!   Hello {version, user, tmux}      ──────▶
//!                                    ◀──────  Welcome {shed}
//!                                    ◀──────  Request {id, Spawn} + descriptors
//!   Started {id, pid}                ──────▶
//!   Picture {…}  whenever tmux changes ────▶
//!   Exited {id, status}              ──────▶
//! ```

pub mod conn;
pub mod control;
pub mod frame;
pub mod git;
pub mod leftover;
pub mod message;
mod piece;
pub mod spool;
pub mod tap;

pub use conn::{Conn, LinkError, recv_blocking, send_blocking};
pub use message::*;
