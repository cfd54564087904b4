//! The App on the process engine: real processes, real tmux, no container.
#![cfg(test)]

mod adopted;
mod agents;
mod credentials;
mod exec;
mod forward;
mod hostile;
mod life;
mod many;
mod reader;
mod removal;
mod repairs;
mod sessions;
mod support;
mod tidy;
mod tmux_socket;
mod trees;
mod turns;
mod viewers;
mod ways_in;
mod workers;
