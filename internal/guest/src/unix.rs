//! The transport for containers that share the server's kernel.
//!
//! The server listens on a unix socket in a directory that is mounted into the container. It makes pipes and socket pairs
//! and passes their far ends with the request; the master side of a terminal comes back the same way. So the server and the
//! process use the same pipe, and the kernel provides the back-pressure. Sockets and terminals are used on a thread of the
//! shed ([`ShedThread`]), because a container can make any system call on them block.

mod listener;
mod relay;
mod shed_thread;
mod streams;
mod terminal;
mod wire;

use std::os::fd::OwnedFd;

pub use listener::UnixTransport;
pub(crate) use shed_thread::ShedThread;
pub(crate) use streams::pipe_pair;
#[cfg(test)]
pub(crate) use wire::start as start_wire;

/// The far ends of streams: descriptors that go with a request.
type Descriptors = Vec<OwnedFd>;
