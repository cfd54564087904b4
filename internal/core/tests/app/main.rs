//! The App on the process engine: real processes, real tmux, no container.
#![cfg(test)]

mod credentials;
mod exec;
mod forward;
mod life;
mod sessions;
mod support;
mod trees;
mod viewers;
mod workers;
