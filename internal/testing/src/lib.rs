//! Test support: the process engine, servers on free ports that end with the test, terminals.

mod engine;
mod server;
mod terminal;

pub use engine::{ProcessEngine, shed_init_path};
pub use server::{TestApp, eventually};
pub use terminal::Terminal;
