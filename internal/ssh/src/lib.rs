//! The SSH door: what SSH asks for becomes calls of the App, and bytes pass between channels and pipes.
//!
//! Nothing here decides who may do what, and nothing here opens a file, a port or a connection of this machine for
//! somebody: forwards and files are the shed's. `server` accepts, `gate` says whom and how many, `connection` is one
//! life from socket to goodbye, `handler` hears what the client asks; `program` and `forward` are what stands behind a
//! channel, `inbox` is what keeps uploads from a deadlock.

mod algorithms;
mod channels;
mod connection;
mod forward;
mod gate;
mod handler;
mod host_key;
mod inbox;
mod login;
mod program;
mod pump;
mod server;
mod socket;
mod terminal;
mod visitor;

pub use host_key::{HostKey, HostKeyError};
pub use server::{ApiPipe, BindError, Options, SshServer};
