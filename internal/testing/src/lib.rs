//! Test support: the process engine, servers that end with the test or are killed by it, terminals, waiting, and the removal of
//! what tests make on Docker.

mod docker;
mod engine;
mod host;
mod noise;
mod server;
mod terminal;
pub mod wait;

pub use docker::{DockerRun, docker, try_docker};
pub use engine::{ProcessEngine, shed_init_path};
pub use noise::noise;
pub use server::TestApp;
pub use terminal::Terminal;
pub use wait::eventually;
