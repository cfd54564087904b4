//! The link: the protocol between shed-server and shed-init.
//!
//! shed-init connects to a unix socket that the server listens on. One connection carries requests and messages as frames
//! ([`Conn`]). File descriptors are passed with them (`SCM_RIGHTS`), so that the bytes of a stream never pass through
//! shed-init. Data from a shed is not trusted: frames have a size limit, descriptors are counted, and no path is used on the
//! host.
//!
//! ```text
//! shed-init                                   shed-server
//!   Hello {version, user, tmux}      ──────▶
//!                                    ◀──────  Welcome {shed}
//!                                    ◀──────  Request {id, Spawn} + descriptors
//!   Started {id, pid}                ──────▶
//!   TmuxSnapshot {…}  whenever tmux changes ───▶
//!   Exited {id, status}              ──────▶
//! ```

pub mod conn;
pub mod control;
pub mod frame;
pub mod git;
pub mod leftover;
pub mod message;
pub mod output_socket;
mod piece;
pub mod spool;

pub use conn::{Conn, LinkError, recv_blocking, send_blocking};
pub use message::*;
