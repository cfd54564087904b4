//! The SSH door: turns SSH requests into calls of the App and copies bytes between channels and pipes.
//!
//! It does not decide who may do what, and it opens no file, port or connection of the host for a client: forwards and files
//! belong to the shed. `server` accepts connections, `gate` limits them, `connection` is one connection from accept to
//! close, `handler` answers the client's requests, `program` and `forward` serve a channel, `inbox` does flow control.

mod advice;
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
mod signals;
mod socket;
mod terminal;
mod visitor;

pub use host_key::{HostKey, HostKeyError};
pub use server::{ApiPipe, BindError, Options, SshServer};
