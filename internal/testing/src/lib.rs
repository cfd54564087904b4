//! Test support: the process engine, servers that end with the test, terminals, and what is left on Docker.

mod docker;
mod engine;
mod noise;
mod server;
mod terminal;

pub use docker::{DockerRun, docker, try_docker};
pub use engine::{ProcessEngine, shed_init_path};
pub use noise::noise;
pub use server::{TestApp, eventually};
pub use terminal::Terminal;
