//! Test support: the process engine, and servers on free ports that end with the test.

mod engine;
mod server;

pub use engine::{ProcessEngine, shed_init_path};
pub use server::{TestApp, eventually};
