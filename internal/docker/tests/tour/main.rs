//! The App on a real Docker engine: what only containers show. Images: `docker/image.sh base` and `test-images`.
#![cfg(test)]

mod firewall;
mod foreign;
mod hands;
mod hardening;
mod images;
mod life;
mod loss;
mod network;
mod pressure;
mod stopping;
mod support;
mod usage;
mod ways_in;
mod workers;
mod worktrees;
