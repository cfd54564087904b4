//! The HTTP door on real sockets: a unix socket and TCP, over the process engine and real tmux.
#![cfg(test)]

mod access;
mod aliases;
mod drain;
mod events;
mod exec;
mod frames;
mod hostile;
mod limits;
mod many;
mod names;
mod previews;
mod routes;
mod server;
mod sessions;
mod sheds;
mod streams;
mod support;
mod tls;
mod trees;
mod walk;
mod worker_ws;
mod workers;
